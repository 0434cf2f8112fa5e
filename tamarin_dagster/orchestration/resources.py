"""The resources of assets, checks and sensors: the records' database, and the stores of the log buckets.

Nothing connects before its first use, since definitions must load without a database and without S3.
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

# Dagster copies a resource for each run and tick, so a process keeps its open stores and engines here.
_STORES: dict[tuple[object, LoggedBucket], LogStore] = {}
_ENGINES: "WeakKeyDictionary[Settings, dict[str | None, sa.Engine]]" = WeakKeyDictionary()
_OPENING = threading.Lock()


class RecordDatabase(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The database of the records. A process has one engine, which is opened (and migrated) at its first use."""

    database_url: str | None = Field(
        default=None,
        description="URL of the records' Postgres. Use an EnvVar, since the Dagster UI shows a literal value. The"
        " default is `database_url` of the settings.",
    )

    def open(self, settings: Settings) -> sa.Engine:
        """Return a working engine. Open the database again if it has gone away. Raises DatabaseError."""
        with _OPENING:
            engines = _ENGINES.setdefault(settings, {})
            engine = engines.get(self.database_url)
            if engine is None or not _is_answering(engine):
                own = {"database_url": self.database_url} if self.database_url else {}
                engine = engines[self.database_url] = open_database(_with_url(settings, **own))
            return engine


class LogBuckets(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The stores of the configured buckets. A process opens each at its first use."""

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
        """Return a value that differs for different clients, since Dagster copies a resource for each run."""
        return None


def _with_url(settings: Settings, **own: str) -> Settings:
    """Return the settings with this database_url. It is validated like the one of the settings."""
    return Settings.model_validate(dict(settings) | own) if own else settings


# Shared, so that two sets of definitions can be merged: Dagster refuses different resources of one key.
RECORD_DATABASE = RecordDatabase()
FOLDERS_ONLY = LogBuckets()


def _is_answering(engine: sa.Engine) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(sa.select(1))
    except sa.exc.OperationalError:
        return False
    return True
