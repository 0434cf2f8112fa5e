"""Find where the trees of the date-partitioned layout begin, by jumping from name to name."""

import re
from collections.abc import Iterator

from tamarin_dagster.logformat import dated_folders, parse_key_name
from tamarin_dagster.logkey import LogObject, make_printable
from tamarin_dagster.logstore import LIST_PAGE_KEYS, LogStore, find_first_object
from tamarin_dagster.settings import LoggedBucket

# The maximum number of strays that are named; there may be more.
MAX_STRAYS_NAMED = 50
# Full pages without a log key, in one folder below the log prefix: 50,000 names, about five seconds. The rest of the
# folder is not searched, because it may hold millions of unrelated objects.
MAX_PAGES_WITHOUT_LOG_KEYS = 50

_SIMPLE_YEAR = re.compile(r"[0-9]{4}-(?=[0-9]{2}-)")
_REGION = re.compile(r"[0-9]{12}/[a-z0-9-]+/")


class RootSearch:
    """A search for a bucket's trees. It skips everything that a log key lies in, a year at a time.

    It takes one request for each year in the simple layout, two for each account and region of S3's, one for each year
    of each other tree, and one for each page of other names. It reads one page of a year without a log key among its
    first names, and MAX_PAGES_WITHOUT_LOG_KEYS pages of a folder without any.

    Attributes:
        roots: `<prefix><folders>/` of each tree, in order.
        strays: names outside of days that are not log keys, at most MAX_STRAYS_NAMED.
        unsearched: folders that were not read to their end, at most MAX_STRAYS_NAMED.
    """

    def __init__(self, store: LogStore, bucket: LoggedBucket) -> None:
        self.roots: dict[str, None] = {}
        self.strays: list[str] = []
        self.unsearched: list[str] = []
        self._store = store
        self._bucket = bucket
        self._prefix = bucket.log_prefix
        self._folder: str | None = None
        self._pages = 0

    def run(self) -> None:
        """Search the whole log prefix. Raises LogStoreError."""
        after, page_keys = self._prefix, 1
        while page := next(self._store.pages(self._prefix, after, page_keys), None):
            passed = next(filter(None, map(self._visit, page)), None) or self._give_up(page)
            after, page_keys = (make_name_after(passed), 1) if passed else (page[-1].key, LIST_PAGE_KEYS)

    def _visit(self, item: LogObject) -> str | None:
        """Note what the name says; return the prefix of the names that say nothing new."""
        if is_folder_marker(item):
            return None
        if year := _SIMPLE_YEAR.match(item.key, len(self._prefix)):
            return item.key[: year.end()]
        dated = dated_folders(item.key, self._prefix)
        region = _REGION.match(item.key, len(self._prefix))
        if region and (dated is None or dated.is_of_s3):
            folder = item.key[: region.end()]
            if find_first_object(self._store, root := f"{folder}{self._bucket.name}/"):
                self.roots[root] = None
            return folder
        if dated and parse_key_name(item.key, self._prefix):
            if dated.source_bucket not in (None, self._bucket.name):
                self._add_stray(item)  # S3's folders say whose it is
            elif self._bucket.is_owner_of_tree(dated.root):
                self.roots[dated.root] = None
            return dated.year
        self._add_stray(item)
        return None

    def _give_up(self, page: list[LogObject]) -> str | None:
        """Return the year or the folder to stop reading after a page without a log key; None to read on."""
        if len(page) < LIST_PAGE_KEYS:
            return None
        first, last = page[0].key, page[-1].key
        folder = last[: last.find("/", len(self._prefix)) + 1]
        if folder != self._folder:
            self._folder, self._pages = folder, 0
        self._pages += first.startswith(folder)
        dated = dated_folders(first, self._prefix)
        if len(folder) > len(self._prefix) and self._pages >= MAX_PAGES_WITHOUT_LOG_KEYS:
            passed = folder
        elif dated and last.startswith(dated.year):
            passed = dated.year
        else:
            return None
        if len(self.unsearched) < MAX_STRAYS_NAMED:
            self.unsearched.append(make_printable(passed))
        return passed

    def _add_stray(self, item: LogObject) -> None:
        if len(self.strays) < MAX_STRAYS_NAMED:
            self.strays.append(make_printable(item.key))


def find_groups(
    store: LogStore, base: str, start_after: str, pattern: re.Pattern[str]
) -> Iterator[tuple[LogObject, re.Match[str] | None]]:
    """Yield the names under `base` after `start_after`; of names that begin alike by `pattern`, only the first.

    One request jumps over the others of such a group. Names that do not match are all yielded, and read in full pages.
    """
    after, page_keys = start_after, 1
    while page := next(store.pages(base, after, page_keys), None):
        for found in page:
            group = pattern.match(found.key, len(base))
            yield found, group
            if group:
                after, page_keys = make_name_after(base + group[0]), 1
                break
        else:
            after, page_keys = page[-1].key, LIST_PAGE_KEYS


def make_name_after(prefix: str) -> str:
    """Return a name that sorts after all names that begin with `prefix`."""
    return prefix + "\U0010ffff"


def is_folder_marker(item: LogObject) -> bool:
    """Return whether it is one of the empty objects that consoles and sync tools create for a folder."""
    return item.size == 0 and item.key.endswith("/")
