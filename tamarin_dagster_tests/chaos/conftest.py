"""Fixtures of the tests of faults."""

from collections.abc import Iterator

import pytest

from tamarin_dagster_tests.chaos.worlds import Bench, bench


@pytest.fixture(scope="session")
def shared() -> Iterator[Bench]:
    """The resources that all worlds share: a server, an S3 endpoint, and a process that forks programs."""
    with bench() as made:
        yield made
