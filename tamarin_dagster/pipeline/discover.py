"""Which keys of a bucket are unseen, by delivery day or hour: list, subtract the ledger.

The one question that sensor, pull and checks share. A period's keys share a prefix, in either layout, so that a look
at it never walks the whole log bucket; which days have keys at all is found by jumping from name to name.
"""

import heapq
import itertools
import logging
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from tamarin_dagster.failpoints import FailPoint, reached
from tamarin_dagster.logformat import DeliveryPeriod, parse_key_name, partitioned_prefix, simple_prefix
from tamarin_dagster.logkey import LogKey, LogObject, shown
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.logstore.roots import MAX_STRAYS_NAMED, RootSearch, behind, groups, is_folder_marker
from tamarin_dagster.parallel import prefetch
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.settings import LoggedBucket

_log = logging.getLogger(__name__)

# Log keys are named by UTC time of delivery; a clock that runs ahead may write tomorrow's date.
DAYS_AHEAD = 1
# So many skipped keys are named of a period.
MAX_OUTDATED_NAMED = 50

_SIMPLE_DAY = r"([0-9]{4})-([0-9]{2})-([0-9]{2})-"
_PARTITIONED_DAY = r"([0-9]{4})/([0-9]{2})/([0-9]{2})/"
# What lies between the days of either layout and is the other's, if both begin at the log prefix.
_NOT_SIMPLE = (r"[0-9]{12}/", r"[0-9]{4}/(?=[0-9]{2}/[0-9]{2}/)")
_NOT_PARTITIONED = (r"[0-9]{12}/", r"[0-9]{4}-(?=[0-9]{2}-)")


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies under a bucket's log prefix, in the large.

    Attributes:
        roots: prefixes of this bucket's trees in the partitioned layout: `<prefix><folders>/`.
        strays: names that belong to no day in either layout; at most MAX_STRAYS_NAMED of them.
        unsearched: folders that hold too many names that are no log key's to be read to their end; at most
            MAX_STRAYS_NAMED.
    """

    roots: tuple[str, ...]
    strays: tuple[str, ...]
    unsearched: tuple[str, ...] = ()


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


def not_searched(seen: Survey) -> str:
    """Say which folders were not read to their end, and what to do; nothing if all were."""
    if not seen.unsearched:
        return ""
    count = len(seen.unsearched)
    what = "1 folder was" if count == 1 else f"{'at least ' * (count >= MAX_STRAYS_NAMED)}{count} folders were"
    return (
        f"{what} not searched to the end, since no log key is among its first names: '{seen.unsearched[0]}';"
        " if log keys lie in it, set log_prefix to the folder that they begin in"
    )


def survey(store: LogStore, bucket: LoggedBucket) -> Survey:
    """Look what is there by jumping over all that a log key lies in; see RootSearch for what it costs.

    Raises LogStoreError.
    """
    search = RootSearch(store, bucket)
    search.run()
    seen = Survey(tuple(search.roots), tuple(search.strays), tuple(search.unsearched))
    if seen.unsearched:
        _log.warning("bucket %s, log bucket %s: %s", bucket.name, store.name, not_searched(seen))
    return seen


def days_with_keys(
    store: LogStore,
    bucket: LoggedBucket,
    roots: tuple[str, ...],
    first: date,
    last: date,
    strays: list[str] | None = None,
) -> Iterator[date]:
    """The days from `first` to `last` that have any name under their prefix, in order.

    Each is found, with one request, when it is asked for. What lies between them and is no day's is put into
    `strays`: of names that share an impossible date one. Raises LogStoreError.
    """
    between: list[str] = [] if strays is None else strays
    prefix = bucket.log_prefix
    simple = _day_pattern(_SIMPLE_DAY, _NOT_SIMPLE, prefix, roots)
    found = [_days(store, prefix, simple_prefix, simple, first, last, between, tells_undated=False)]
    for root in roots:
        dated = _day_pattern(_PARTITIONED_DAY, _NOT_PARTITIONED if root == prefix else (), root, roots)
        found.append(_days(store, root, partitioned_prefix, dated, first, last, between, tells_undated=True))
    for day, _ in itertools.groupby(heapq.merge(*found)):
        yield day


def _day_pattern(day: str, others: Iterable[str], base: str, roots: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of the names between days of a tree that are jumped over in groups: its days, and the others'.

    Of the other trees within only those count whose folder begins as a year does.
    """
    within = (root[len(base) :] for root in roots if root != base and root.startswith(base))
    return re.compile("|".join([day, *others, *(re.escape(rest) for rest in within if rest[0].isdigit())]))


def _days(
    store: LogStore,
    base: str,
    day_prefix: Callable[[str, date], str],
    pattern: re.Pattern[str],
    first: date,
    last: date,
    strays: list[str],
    *,
    tells_undated: bool,
) -> Iterator[date]:
    end = behind(day_prefix(base, last))
    for found, group in groups(store, base, day_prefix(base, first), pattern):
        if found.key >= end:
            return
        if day := _date_of(group):
            yield day
        # A survey reports names without a date outside of S3's folders.
        elif tells_undated if group is None else group[1] is not None:
            _add_stray(strays, found)


def _add_stray(strays: list[str], item: LogObject) -> None:
    if len(strays) < MAX_STRAYS_NAMED and not is_folder_marker(item) and (name := shown(item.key)) not in strays:
        strays.append(name)


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
        if not is_folder_marker(item):
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
        with closing(prefetch(self._listing)) as listed:
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
    """Return the date in a name, if it is one: not 30 February, not an account's folder."""
    if match is None or match[1] is None:
        return None
    try:
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None
