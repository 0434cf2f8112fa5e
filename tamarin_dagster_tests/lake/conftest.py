"""A lake in a folder, with its catalog in the test's database."""

from datetime import UTC, datetime, timedelta

import pytest

from tamarin_dagster.lake.place import LakePlace
from tamarin_dagster.pipeline import archive as archiving
from tamarin_dagster.pipeline.archive import archive_bucket
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster.settings import Lake


def later() -> datetime:
    """Return a time when late log keys that were loaded now have waited long enough."""
    return datetime.now(UTC) + timedelta(hours=archiving.LATE_KEYS_WAIT_HOURS, minutes=1)


@pytest.fixture
def lake(tmp_path):
    """A lake in a folder whose name has a blank."""
    return LakePlace(Lake(warehouse=str(tmp_path / "a lake")))


@pytest.fixture
def load(folder_place, engine):
    """load({name: body}): put log keys and load what is new."""

    def load(keys):
        for key, body in keys.items():
            folder_place.put(key, body)
        assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []

    return load


@pytest.fixture
def archived(folder_place, lake, engine):
    """archived(now=…): archive, then purge what is archived; return both."""

    def run(**options):
        done = archive_bucket(folder_place.bucket, lake, engine, **options)
        return done, purge_bucket(folder_place.bucket, folder_place.store, engine, archive=lake)

    return run
