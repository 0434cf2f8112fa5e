"""List, fetch and delete log keys. The only package that talks to S3, or to a local folder of log keys.

Two stores implement one small protocol: `FolderLogStore`, and `S3LogStore`, which is imported from `logstore.s3` where
it is used, because boto3 takes a fifth of a second to import. Both list names in byte order, page by page, so that no
listing is in memory as a whole.
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
    find_first_object,
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
    "find_first_object",
]
