import pytest

pytest.register_assert_rewrite("tamarin_dagster_tests.docs.tamarin")
