"""What assets, checks and sensors are handed: the records' database, and the log buckets' stores.

Nothing connects before its first use: definitions must load without a database and without S3.
"""

import threading

import sqlalchemy as sa

from tamarin_dagster.logstore import FolderLogStore, LogStore
from tamarin_dagster.logstore.archiving import ArchivePlace, FolderArchive
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.settings import LoggedBucket, Settings


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
    """The stores of the configured buckets, each made at first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[LoggedBucket, LogStore] = {}

    def store(self, bucket: LoggedBucket) -> LogStore:
        """The store that holds the bucket's log keys."""
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = open_log_store(bucket)
            return self._stores[bucket]


def open_log_store(bucket: LoggedBucket) -> LogStore:
    """The store of the bucket's log keys: a folder, or a bucket in S3. Raises LogStoreError."""
    if bucket.log_folder is not None:
        return FolderLogStore(bucket.log_folder, bucket.log_bucket_name, quiet_seconds=bucket.quiet_seconds or 0)
    from tamarin_dagster.defs.s3_resource import open_s3_log_store  # noqa: PLC0415 - a folder needs none of it

    return open_s3_log_store(bucket)


def open_archive(bucket: LoggedBucket, url: str) -> ArchivePlace:
    """Where the bucket's records are archived: a folder, or a prefix in S3. Raises ArchiveError."""
    if not url.startswith("s3:"):
        return FolderArchive(url)
    from tamarin_dagster.defs.s3_resource import open_s3_archive  # noqa: PLC0415 - a folder needs none of it

    return open_s3_archive(bucket, url)


def _answers(engine: sa.Engine) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(sa.select(1))
    except sa.exc.OperationalError:
        return False
    return True
