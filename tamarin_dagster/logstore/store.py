"""What the project needs of a log bucket: the protocol of all stores, its values and its errors."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tamarin_dagster.logkey import LogObject

# S3's own limit for a page of a listing.
LIST_PAGE_KEYS = 1000
# A chunk of a large object: S3 advises ranges of 8 to 16 MiB.
CHUNK_BYTES = 8 * 1024 * 1024

CHANGED_SINCE_LISTED = "it was deleted or overwritten since it was listed; the next run takes what is there"


class LogStoreError(Exception):
    """The log bucket cannot be listed. Its text names bucket, cause and remedy.

    `transient` says whether it may go away by itself.
    """

    def __init__(self, text: str, *, transient: bool = False) -> None:
        super().__init__(text)
        self.transient = transient


class FetchError(Exception):
    """An object's bytes cannot be had; its text is what `Fetched.error` says."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object's bytes, or why they could not be had. `object` has the version id once it was read."""

    object: LogObject
    body: bytes
    error: str | None = None


def _nothing_to_close() -> None:
    """What is read by requests holds nothing open."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An object that is read in order, once, and then closed. `object` has the version id.

    Each of the `chunks` has at most CHUNK_BYTES; iterating raises FetchError, also at the end if they are too few.
    """

    object: LogObject
    chunks: Iterator[bytes]
    close: Callable[[], None] = _nothing_to_close


@dataclass(frozen=True, slots=True)
class Deleted:
    """Outcome of one deletion: `error` is None when the generation is gone, by us or by somebody before."""

    object: LogObject
    error: str | None = None


class LogStore(Protocol):
    """What the project needs of a log bucket."""

    @property
    def name(self) -> str:
        """The log bucket's name as in the settings."""
        ...

    def pages(self, prefix: str, start_after: str = "", page_keys: int = LIST_PAGE_KEYS) -> Iterator[list[LogObject]]:
        """The objects whose names begin with `prefix` and lie behind `start_after`, in the names' byte order.

        Raises LogStoreError.
        """
        ...

    def fetch(self, objects: Sequence[LogObject]) -> list[Fetched]:
        """The bodies of exactly these generations, in this order. What fails is told per object, nothing is raised."""
        ...

    def open(self, item: LogObject) -> Opened:
        """Begins to read exactly this generation, of any size, a chunk at a time. Raises FetchError."""
        ...

    def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
        """Deletes exactly these generations. What fails is told per object, nothing is raised."""
        ...


def first_object(store: LogStore, prefix: str, start_after: str = "") -> LogObject | None:
    """The first object with that prefix behind `start_after`: one cheap request."""
    for page in store.pages(prefix, start_after, page_keys=1):
        return page[0]
    return None


def wrong_size(read: int, listed: int) -> str:
    """What is said of a body whose length (bytes) is not the listed one."""
    return f"{read:,} bytes were read where {listed:,} are listed"
