"""A log bucket of either kind, for tests that write to it and read from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tamarin_dagster.logstore import LogStore
from tamarin_dagster.settings import LoggedBucket


@dataclass
class Place:
    """A logged bucket of either kind, its store, and how a test writes to its log bucket."""

    bucket: LoggedBucket
    store: LogStore
    put: Callable[[str, bytes], Any]
    remove: Callable[[str], Any]
    another_second: Callable[[], None] = lambda: None
    """Wait until new objects have a later time, even if the store counts in seconds, as S3 does."""

    def names(self) -> list[str]:
        """Return the names in the log bucket."""
        return [item.key for page in self.store.pages("") for item in page]
