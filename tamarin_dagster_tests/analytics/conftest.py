"""A bucket of its own for each test, in one database."""

import itertools
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tamarin_dagster_tests.analytics.traffic_rows import Traffic

_numbers = itertools.count(1)


@pytest.fixture
def traffic(shared_engine: sa.Engine) -> Traffic:
    """Return a writer for the traffic of a bucket that no other test uses."""
    return Traffic(shared_engine, f"media-{next(_numbers)}")


@pytest.fixture
def connection(shared_engine: sa.Engine) -> Iterator[sa.Connection]:
    with shared_engine.connect() as connection:
        yield connection
