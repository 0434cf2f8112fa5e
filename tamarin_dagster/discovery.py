"""Which keys of a bucket are unseen, by delivery day or hour: list, subtract the ledger.

The one question that sensor, ingest and checks share. A period's keys share a prefix, in either layout, so that a look
at it never walks the whole log bucket; which days have keys at all is found by jumping from name to name.
"""

import heapq
import itertools
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from tamarin_dagster.failpoints import FailPoint, reached
from tamarin_dagster.logformat import DeliveryPeriod, parse_key_name, partitioned_prefix, simple_prefix
from tamarin_dagster.logkey import LogKey, LogObject, shown
from tamarin_dagster.logstore import LIST_PAGE_KEYS, LogStore, first_object
from tamarin_dagster.pipeline import ahead
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.settings import LoggedBucket

# So many strays are named; there may be more.
MAX_STRAYS_NAMED = 50
# Log keys are named by UTC time of delivery; a clock that runs ahead may write tomorrow's date.
DAYS_AHEAD = 1
# So many skipped keys are named of a period.
MAX_OUTDATED_NAMED = 50

_YEAR = re.compile(r"\d{4}-(?=\d\d-)")
_ACCOUNT = re.compile(r"\d{12}/")
_REGION = re.compile(r"[a-z0-9-]+/")
_SIMPLE_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)-|\d{12}/")
_PARTITIONED_DAY = re.compile(r"(\d{4})/(\d\d)/(\d\d)/")


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies under a bucket's log prefix, in the large.

    Attributes:
        roots: prefixes of the partitioned layout's trees of this bucket: `<prefix><account>/<region>/<bucket>/`.
        strays: names that belong to no day in either layout; at most MAX_STRAYS_NAMED of them.
    """

    roots: tuple[str, ...]
    strays: tuple[str, ...]


def waiting_files(bucket: LoggedBucket, count: int) -> str:
    """What to say of files that may still be written."""
    what = "1 file" if count == 1 else f"{count:,} files"
    return (
        f"{what} of bucket {bucket.name} changed less than {bucket.quiet_seconds or 0:g} s ago; the next pull takes"
        f" {'it' if count == 1 else 'them'}; set quiet_seconds: 0 if {'it is' if count == 1 else 'they are'} complete"
    )


def outdated_keys(count: int, example: str) -> str:
    """What to say of keys that were skipped for their age. `example` is the name of one."""
    what = "1 log key was" if count == 1 else f"{count:,} log keys were"
    return (
        f"{what} skipped as outdated, for example '{example}': a newer generation of the same name is loaded and was"
        " purged; delete what is not needed, or copy it to a new name to have it loaded"
    )


def count_strays(outside: Sequence[str], within: int = 0) -> str:
    """Say how many strays there are: those outside of days, which are cut at MAX_STRAYS_NAMED, and those within."""
    return "at least " * (len(outside) >= MAX_STRAYS_NAMED) + f"{within + len(outside):,}"


def survey(store: LogStore, bucket: LoggedBucket) -> Survey:
    """Looks what is there by jumping over each year and each account: a request per year, account and page of strays.

    Raises LogStoreError.
    """
    prefix = bucket.log_prefix
    roots: list[str] = []
    strays: list[str] = []
    for found, group in _groups(store, prefix, prefix, re.compile(f"{_ACCOUNT.pattern}|{_YEAR.pattern}")):
        if group is None:
            if len(strays) < MAX_STRAYS_NAMED and not _is_folder_marker(found):
                strays.append(shown(found.key))
        elif group[0].endswith("/"):
            roots += _roots(store, prefix + group[0], bucket.name)
    return Survey(tuple(roots), tuple(strays))


def _roots(store: LogStore, account: str, bucket: str) -> Iterator[str]:
    for _, region in _groups(store, account, account, _REGION):
        if region and first_object(store, root := f"{account}{region[0]}{bucket}/"):
            yield root


def _groups(
    store: LogStore, base: str, start_after: str, pattern: re.Pattern[str]
) -> Iterator[tuple[LogObject, re.Match[str] | None]]:
    """The names under `base` behind `start_after`: of those whose rest begins alike by `pattern` only the first.

    It jumps over the others of such a group with one request. Names that do not match come each, read in full pages.
    """
    after, page_keys = start_after, 1
    while page := next(store.pages(base, after, page_keys), None):
        for found in page:
            group = pattern.match(found.key, len(base))
            yield found, group
            if group:
                after, page_keys = _behind(base + group[0]), 1
                break
        else:
            after, page_keys = page[-1].key, LIST_PAGE_KEYS


def days_with_keys(
    store: LogStore,
    bucket: LoggedBucket,
    roots: tuple[str, ...],
    first: date,
    last: date,
    strays: list[str] | None = None,
) -> Iterator[date]:
    """The days from `first` to `last` that have any name under their prefix, in order.

    Each is found, with one request, when it is asked for. What stands between them and is no day's is put into
    `strays`: of names that share an impossible date one. Raises LogStoreError.
    """
    between: list[str] = [] if strays is None else strays
    found = [_days(store, bucket.log_prefix, simple_prefix, _SIMPLE_DAY, first, last, between)]
    found += [_days(store, root, partitioned_prefix, _PARTITIONED_DAY, first, last, between) for root in roots]
    for day, _ in itertools.groupby(heapq.merge(*found)):
        yield day


def _days(
    store: LogStore,
    base: str,
    day_prefix: Callable[[str, date], str],
    pattern: re.Pattern[str],
    first: date,
    last: date,
    strays: list[str],
) -> Iterator[date]:
    end = _behind(day_prefix(base, last))
    for found, group in _groups(store, base, day_prefix(base, first), pattern):
        if found.key >= end:
            return
        if day := _date_of(group):
            yield day
        elif _is_between_days(group, pattern) and len(strays) < MAX_STRAYS_NAMED and not _is_folder_marker(found):
            strays.append(shown(found.key))


class Listing:
    """The log keys of one delivery period of a bucket: iterating yields those of each page of the listing.

    Attributes:
        strays: names under the period's prefix that are no log key's.
        waiting: log keys of a folder that are left out, since they may still be written.

    Iterating raises LogStoreError.
    """

    def __init__(self, store: LogStore, bucket: LoggedBucket, roots: tuple[str, ...], period: DeliveryPeriod) -> None:
        self.period = period
        self.strays: list[str] = []
        self.waiting = 0
        self._store = store
        self._log_prefix = bucket.log_prefix
        self._prefixes = [simple_prefix(bucket.log_prefix, period), *(partitioned_prefix(r, period) for r in roots)]

    def __iter__(self) -> Iterator[list[LogObject]]:
        for prefix in self._prefixes:
            reached(FailPoint.LIST_BEFORE)
            for page in self._store.pages(prefix):
                reached(FailPoint.LIST_AFTER)
                yield [item for item in page if self._is_log_key(item)]

    def _is_log_key(self, item: LogObject) -> bool:
        name = parse_key_name(item.key, self._log_prefix)
        if name is not None and name.is_of(self.period):
            self.waiting += not item.is_quiet
            return item.is_quiet
        if not _is_folder_marker(item):
            self.strays.append(shown(item.key))
        return False


class Look:
    """A look at one delivery period of a bucket: iterating yields the unseen keys of each page, and counts as it goes.

    The next page is listed while the ledger is asked about one.

    Attributes:
        listed: log keys that are there.
        seen: those of them whose generation is loaded.
        outdated: how many of them are skipped, since a newer generation of their name is loaded and purged.
        outdated_names: the first of these.
        waiting: other files, which may still be written: they were changed within the bucket's quiet_seconds.

    Iterating raises LogStoreError.
    """

    def __init__(
        self, store: LogStore, engine: sa.Engine, bucket: LoggedBucket, roots: tuple[str, ...], period: DeliveryPeriod
    ) -> None:
        self.period = period
        self.listed = 0
        self.seen = 0
        self.outdated = 0
        self.outdated_names: list[str] = []
        self._listing = Listing(store, bucket, roots, period)
        self._store = store
        self._engine = engine

    @property
    def strays(self) -> list[str]:
        """Names under the period's prefix that are no log key's."""
        return self._listing.strays

    @property
    def waiting(self) -> int:
        """How many files may still be written."""
        return self._listing.waiting

    def __iter__(self) -> Iterator[list[LogKey]]:
        return self.pages()

    def pages(self) -> Generator[list[LogKey]]:
        """What iterating yields; closed early, it ends the listing that runs ahead. Raises LogStoreError."""
        with closing(ahead(self._listing)) as listed:
            for log_keys in listed:
                with self._engine.connect() as connection:
                    found = ledger.compare(connection, self._store.name, log_keys)
                self.listed += len(log_keys)
                self.outdated += len(found.outdated)
                self.outdated_names += [shown(item.key) for item in found.outdated[: self._names_left()]]
                self.seen += len(log_keys) - len(found.unseen) - len(found.outdated)
                yield [LogKey(item, self.period, item.key in found.purged) for item in found.unseen]

    def _names_left(self) -> int:
        return MAX_OUTDATED_NAMED - len(self.outdated_names)


def _date_of(match: re.Match[str] | None) -> date | None:
    """The date in a name, if it is one: not 30 February, not an account's folder."""
    if match is None or match[1] is None:
        return None
    try:
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None


def _is_between_days(group: re.Match[str] | None, pattern: re.Pattern[str]) -> bool:
    """Whether a name that is no day's is told of here: what has no date at all in the simple layout a survey tells."""
    return group[1] is not None if group else pattern is _PARTITIONED_DAY


def _behind(prefix: str) -> str:
    """A name behind all names that begin with `prefix`."""
    return prefix + "\U0010ffff"


def _is_folder_marker(item: LogObject) -> bool:
    """Consoles and sync tools make an empty object for a folder."""
    return item.size == 0 and item.key.endswith("/")
