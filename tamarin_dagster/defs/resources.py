"""What assets, checks and sensors are handed: the records' database, and the log buckets' stores.

Nothing connects before its first use: definitions must load without a database and without S3.
"""

import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tamarin_dagster.logstore import LogStore
from tamarin_dagster.logstore.archiving import ArchivePlace
from tamarin_dagster.logstore.opening import open_archive, open_client, open_log_store
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.settings import LoggedBucket, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_STORES: dict[tuple[object, LoggedBucket], LogStore] = {}
_OPENING = threading.Lock()


class RecordDatabase:
    """The database of the records. One engine per process, opened (and migrated) at first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._engine: sa.Engine | None = None

    @property
    def engine(self) -> sa.Engine:
        """A working engine; a database that has gone away is opened again. Raises DatabaseError."""
        with self._lock:
            if self._engine is None or not _answers(self._engine):
                self._engine = open_database(self._settings)
            return self._engine


class LogBuckets:
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

    def archive(self, bucket: LoggedBucket, url: str) -> ArchivePlace:
        """Return the archive of the bucket's records. Raises ArchiveError."""
        return open_archive(bucket, url, self.client)

    def _identity(self) -> object:
        """Return what tells these clients apart from those of another resource; Dagster makes a copy for each run."""
        return None


def _answers(engine: sa.Engine) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(sa.select(1))
    except sa.exc.OperationalError:
        return False
    return True
