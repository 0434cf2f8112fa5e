"""A log bucket of either kind, as its store shows it."""

from collections.abc import Callable
from dataclasses import dataclass

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import LogStore


@dataclass
class World:
    """A log bucket of either kind, and how a test writes to it."""

    store: LogStore
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]

    def names(self, prefix: str = "", start_after: str = "") -> list[str]:
        return [item.key for page in self.store.pages(prefix, start_after) for item in page]

    def listed(self, prefix: str = "") -> list[LogObject]:
        return [item for page in self.store.pages(prefix) for item in page]
