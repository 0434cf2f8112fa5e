"""What assets, checks and sensors are handed: the records' database, and the log buckets' stores.

Nothing connects before its first use: definitions must load without a database and without S3.
"""

import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import dagster as dg
import sqlalchemy as sa
from pydantic import Field

from tamarin_dagster.lake.place import LakePlace
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.logstore.archiving import ArchivePlace
from tamarin_dagster.logstore.opening import open_client, open_log_store
from tamarin_dagster.pipeline.archive import open_place
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.settings import LoggedBucket, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Dagster makes a copy of a resource for each run and tick; what a process has opened is kept here.
_STORES: dict[tuple[object, LoggedBucket], LogStore] = {}
_ENGINES: "WeakKeyDictionary[Settings, dict[str | None, sa.Engine]]" = WeakKeyDictionary()
_OPENING = threading.Lock()


class RecordDatabase(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The database of the records. One engine per process, opened (and migrated) at first use."""

    database_url: str | None = Field(
        default=None,
        description="URL of the Postgres of the records. Give it by EnvVar: the Dagster UI shows what is written here."
        " If it is not set, it is `database_url` of the settings.",
    )

    def open(self, settings: Settings) -> sa.Engine:
        """Return a working engine; a database that has gone away is opened again. Raises DatabaseError."""
        with _OPENING:
            engines = _ENGINES.setdefault(settings, {})
            engine = engines.get(self.database_url)
            if engine is None or not _answers(engine):
                own = {"database_url": self.database_url} if self.database_url else {}
                engine = engines[self.database_url] = open_database(_with_url(settings, **own))
            return engine


class LogBuckets(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The stores of the configured buckets, each made at its first use in this process."""

    def client(self, bucket: LoggedBucket) -> "S3Client":
        """Return a boto3 client for the bucket's log bucket. Raises BotoCoreError, ValueError and LogStoreError."""
        return open_client(bucket)

    def store(self, bucket: LoggedBucket) -> LogStore:
        """Return the store that holds the bucket's log keys. Raises LogStoreError."""
        place = (self._identity(), bucket)
        with _OPENING:
            if place not in _STORES:
                _STORES[place] = open_log_store(bucket, self.client)
            return _STORES[place]

    def archive(self, bucket: LoggedBucket, settings: Settings) -> ArchivePlace | LakePlace | None:
        """Return the archive of the bucket's records; None if it has none. Raises ArchiveError."""
        return open_place(settings, bucket, self.client)

    def _identity(self) -> object:
        """Return what distinguishes these clients from those of another resource; Dagster copies it for each run."""
        return None


def _with_url(settings: Settings, **own: str) -> Settings:
    """Return the settings with this database_url, which is held to the same rules as that of the settings."""
    return Settings.model_validate(dict(settings) | own) if own else settings


# Shared, so that two sets of definitions can be merged: Dagster refuses different resources of one key.
RECORD_DATABASE = RecordDatabase()
FOLDERS_ONLY = LogBuckets()


def _answers(engine: sa.Engine) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(sa.select(1))
    except sa.exc.OperationalError:
        return False
    return True
