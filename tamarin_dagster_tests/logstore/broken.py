"""A store that fails in one place."""

from collections.abc import Iterator

from tamarin_dagster.logstore import LogStoreError


class Broken:
    """A store that fails in one place; all else is the store's."""

    def __init__(self, store, *, listing: str | None = None, before_fetch=None) -> None:
        self._store = store
        self._listing = listing
        self._before_fetch = before_fetch
        self.name = store.name

    def pages(self, prefix: str, start_after: str = "", page_keys: int = 1000) -> Iterator:
        if page_keys > 1 and self._listing and prefix.startswith(self._listing):
            raise LogStoreError("log bucket x: access denied")
        return self._store.pages(prefix, start_after, page_keys)

    def fetch(self, objects):
        if self._before_fetch:
            self._before_fetch(objects)
        return self._store.fetch(objects)

    def open(self, item):
        return self._store.open(item)
