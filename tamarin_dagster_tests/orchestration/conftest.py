"""Definitions for a bucket in a folder, on the test's own database, with a Dagster instance in memory."""

from collections.abc import Iterator

import dagster as dg
import pytest

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.settings import LoggedBucket, Settings


@pytest.fixture
def settings(database_url: str, folder_bucket: LoggedBucket) -> Settings:
    return Settings(database_url=database_url, minutes_between_runs=0, buckets=(folder_bucket,))


@pytest.fixture
def definitions(settings: Settings) -> dg.Definitions:
    return build_definitions(settings)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def stored_instance() -> Iterator[dg.DagsterInstance]:
    """One on SQLite: schedules ask it which sensors are stopped, and cannot be handed one that is in memory."""
    with dg.instance_for_test() as instance:
        yield instance
