"""One round through PgBouncer. `python -m tamarin_dagster_tests.chaos.pooling` plays five."""

import pytest

from tamarin_dagster_tests import pgbouncer
from tamarin_dagster_tests.chaos.pooling import at_once, one_after_the_other, undisturbed
from tamarin_dagster_tests.chaos.worlds import Bench

pytestmark = pytest.mark.skipif(pgbouncer.PROGRAM is None, reason=pgbouncer.NOT_INSTALLED)


@pytest.mark.slow
def test_two_pulls_and_three_roll_ups_at_once_leave_the_same_tables_behind_a_pooler(shared: Bench) -> None:
    """`prepared statement "_pg3_0" already exists`; locks of sessions that leaked; three roll-ups that hung."""
    assert "exit 0; the same tables, the same log bucket, the same rollups" in at_once(shared, undisturbed(shared))


@pytest.mark.slow
def test_each_command_works_behind_a_pooler(shared: Bench) -> None:
    assert "commands exit 0" in one_after_the_other(shared)
