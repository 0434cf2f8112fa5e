"""The protocol of all stores of log keys, its values and its errors."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.plurals import count_noun

# S3's own limit for a page of a listing.
LIST_PAGE_KEYS = 1000
# A chunk of a large object; S3 recommends ranges of 8 to 16 MiB.
CHUNK_BYTES = 8 * 1024 * 1024

CHANGED_SINCE_LISTED = "it was deleted or overwritten after it was listed; the next run takes what is there then"


class LogStoreError(Exception):
    """The log bucket cannot be listed. The text names the bucket, the cause and the remedy.

    `transient` says whether the cause may go away by itself.
    """

    def __init__(self, text: str, *, transient: bool = False) -> None:
        super().__init__(text)
        self.transient = transient


class FetchError(Exception):
    """An object's bytes cannot be read; the text becomes `Fetched.error`."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object's bytes, or why they could not be read. After reading, `object` has the version ID."""

    object: LogObject
    body: bytes
    error: str | None = None


def _nothing_to_close() -> None:
    """Do nothing: a store that reads by requests holds nothing open."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An object that is read once, in order, and then closed. `object` has the version ID.

    Each of the `chunks` has at most CHUNK_BYTES. Iterating raises FetchError, also at the end if bytes are missing.
    """

    object: LogObject
    chunks: Iterator[bytes]
    close: Callable[[], None] = _nothing_to_close


@dataclass(frozen=True, slots=True)
class Deleted:
    """The result of one deletion: `error` is None if the generation is gone, even if another process deleted it."""

    object: LogObject
    error: str | None = None


class LogStore(Protocol):
    """What the project needs from a log bucket."""

    @property
    def name(self) -> str:
        """The log bucket's name in the settings."""
        ...

    def pages(self, prefix: str, start_after: str = "", page_keys: int = LIST_PAGE_KEYS) -> Iterator[list[LogObject]]:
        """Yield pages of the objects whose names begin with `prefix` and sort after `start_after`, in byte order.

        Raises LogStoreError.
        """
        ...

    def fetch(self, objects: Sequence[LogObject]) -> list[Fetched]:
        """Return the bodies of exactly these generations, in this order. A failure is reported on its object, not
        raised.
        """
        ...

    def open(self, item: LogObject) -> Opened:
        """Start reading exactly this generation, of any size, a chunk at a time. Raises FetchError."""
        ...

    def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
        """Delete exactly these generations. A failure is reported on its object, not raised."""
        ...


def find_first_object(store: LogStore, prefix: str, start_after: str = "") -> LogObject | None:
    """Return the first object with that prefix after `start_after`, with one cheap request."""
    for page in store.pages(prefix, start_after, page_keys=1):
        return page[0]
    return None


def explain_wrong_size(read: int, listed: int) -> str:
    """Return the error for a body whose length in bytes is not the listed one."""
    return f"read {count_noun(read, 'byte')}, but {listed:,} are listed"
