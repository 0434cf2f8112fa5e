"""Listing, fetching and deleting log keys. The only package that talks to S3, or to a local folder of log keys.

Two stores behind one small interface: `FolderLogStore`, and `S3LogStore`, which is imported from `logstore.s3` where it
is used, since boto3 takes a fifth of a second. Both list in the order of the names' bytes, page by page, so that no
listing is ever held whole.
"""

from tamarin_dagster.logstore.folder import FolderLogStore
from tamarin_dagster.logstore.store import (
    CHANGED_SINCE_LISTED,
    CHUNK_BYTES,
    LIST_PAGE_KEYS,
    Deleted,
    Fetched,
    FetchError,
    LogStore,
    LogStoreError,
    Opened,
    first_object,
)

__all__ = [
    "CHANGED_SINCE_LISTED",
    "CHUNK_BYTES",
    "LIST_PAGE_KEYS",
    "Deleted",
    "FetchError",
    "Fetched",
    "FolderLogStore",
    "LogStore",
    "LogStoreError",
    "Opened",
    "first_object",
]
