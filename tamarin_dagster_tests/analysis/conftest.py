"""One database for the tests of rollups in a file, and a bucket of its own for each of them."""

import itertools
from collections.abc import Iterator
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tamarin_dagster_tests.analysis.traffic_rows import Traffic

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def rollups(server_url: sa.URL, template: str) -> Iterator[sa.Engine]:
    """An engine on a database that this file's tests share."""
    name = f"tamarin_test_{uuid4().hex[:8]}"
    server = sa.create_engine(server_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    engine = sa.create_engine(server_url.set(database=name))
    yield engine
    engine.dispose()
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture
def traffic(rollups: sa.Engine) -> Traffic:
    """Writes the traffic of a bucket that no other test has."""
    return Traffic(rollups, f"media-{next(_numbers)}")


@pytest.fixture
def connection(rollups: sa.Engine) -> Iterator[sa.Connection]:
    with rollups.connect() as connection:
        yield connection
