"""Open what the settings name: the store of a bucket's log keys, and the archive of its records."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tamarin_dagster.logstore.archiving import ArchiveError, ArchivePlace, FolderArchive, S3Archive
from tamarin_dagster.logstore.folder import FolderLogStore
from tamarin_dagster.logstore.store import LogStore, LogStoreError
from tamarin_dagster.settings import LoggedBucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    ClientOf = Callable[[LoggedBucket], S3Client]


def open_client(bucket: LoggedBucket) -> "S3Client":
    """Return a boto3 client for the bucket's log bucket. Raises BotoCoreError, ValueError and LogStoreError."""
    from tamarin_dagster.logstore.client import client_of  # noqa: PLC0415 - boto3 takes a quarter of a second

    return client_of(bucket)


def open_log_store(bucket: LoggedBucket, client_of: "ClientOf" = open_client) -> LogStore:
    """Return the store of the bucket's log keys: a folder, or a bucket in S3 with a client from `client_of`.

    Raises LogStoreError.
    """
    if bucket.log_folder is not None:
        return FolderLogStore(bucket.log_folder, bucket.log_bucket_name, quiet_seconds=bucket.quiet_seconds or 0)
    from tamarin_dagster.logstore.s3 import S3LogStore  # noqa: PLC0415 - a folder needs neither boto3 nor obstore

    with _explain_errors(LogStoreError, f"log bucket {bucket.log_bucket_name} (bucket '{bucket.name}')"):
        return S3LogStore(client_of(bucket), bucket.log_bucket_name)


def open_archive(bucket: LoggedBucket, url: str, client_of: "ClientOf" = open_client) -> ArchivePlace:
    """Return the archive of the bucket's records: a folder, or a prefix in S3 reached with the log bucket's settings.

    Raises ArchiveError.
    """
    if not url.startswith("s3:"):
        return FolderArchive(url)
    with _explain_errors(ArchiveError, f"archive {url} (bucket '{bucket.name}')"):
        return S3Archive(client_of(bucket), url)


@contextmanager
def _explain_errors(kind: type[LogStoreError], place: str) -> Iterator[None]:
    """Add to an error which place has no client."""
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - a folder does not need it

    from tamarin_dagster.logstore.errors import summarize_error  # noqa: PLC0415

    try:
        yield
    except (BotoCoreError, ValueError, LogStoreError) as error:
        raise kind(f"{place}: {summarize_error(error)}") from error
