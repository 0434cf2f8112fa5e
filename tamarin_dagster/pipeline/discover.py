"""Find the unseen log keys of a bucket, by delivery day or hour: list, and subtract the ledger.

The sensor, the pull and the checks share this question. In either layout the log keys of a period share a prefix, so a
look at it never lists the whole log bucket. Days that have log keys are found by jumping from name to name.
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

from tamarin_dagster.failpoints import FailPoint, hit
from tamarin_dagster.logformat import DeliveryPeriod, parse_key_name, partitioned_prefix, simple_prefix
from tamarin_dagster.logkey import LogKey, LogObject, make_printable
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.logstore.roots import MAX_STRAYS_NAMED, RootSearch, find_groups, is_folder_marker, make_name_after
from tamarin_dagster.parallel import prefetch
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.settings import LoggedBucket

_log = logging.getLogger(__name__)

# Log keys are named by their UTC time of delivery; a clock that is ahead may write tomorrow's date.
DAYS_AHEAD = 1
# How many skipped log keys are named for each period.
MAX_OUTDATED_NAMED = 50

_SIMPLE_DAY = r"([0-9]{4})-([0-9]{2})-([0-9]{2})-"
_PARTITIONED_DAY = r"([0-9]{4})/([0-9]{2})/([0-9]{2})/"
# The names between the days of one layout that belong to the other, where both begin at the log prefix.
_NOT_SIMPLE = (r"[0-9]{12}/", r"[0-9]{4}/(?=[0-9]{2}/[0-9]{2}/)")
_NOT_PARTITIONED = (r"[0-9]{12}/", r"[0-9]{4}-(?=[0-9]{2}-)")


@dataclass(frozen=True, slots=True)
class Survey:
    """The trees and strays under a bucket's log prefix, without its days.

    Attributes:
        roots: prefixes of this bucket's trees in the partitioned layout: `<prefix><folders>/`.
        strays: names that belong to no day in either layout; at most MAX_STRAYS_NAMED.
        unsearched: folders that were not read to their end, because they hold too many names that are not log keys; at
            most MAX_STRAYS_NAMED.
    """

    roots: tuple[str, ...]
    strays: tuple[str, ...]
    unsearched: tuple[str, ...] = ()


def describe_waiting(bucket: LoggedBucket, count: int) -> str:
    """Return a message about files that may still be written."""
    what = "1 file" if count == 1 else f"{count:,} files"
    return (
        f"{what} of bucket {bucket.name} changed less than {bucket.quiet_seconds or 0:g} s ago; the next pull takes"
        f" {'it' if count == 1 else 'them'}; set quiet_seconds: 0 if {'it is' if count == 1 else 'they are'} complete"
    )


def describe_outdated(count: int, example: str) -> str:
    """Return a message about log keys that were skipped as outdated. `example` is the name of one."""
    what = "1 log key was" if count == 1 else f"{count:,} log keys were"
    return (
        f"{what} skipped as outdated, for example '{example}': a newer generation of the same name is loaded and was"
        " purged; delete what you do not need, and copy what you want to load to a new name"
    )


def count_strays(outside: Sequence[str], within: int = 0) -> str:
    """Return the number of strays as text. Outside of days, at most MAX_STRAYS_NAMED of them are known."""
    return "at least " * (len(outside) >= MAX_STRAYS_NAMED) + f"{within + len(outside):,}"


def describe_strays(elsewhere: Sequence[str], of_days: int = 0) -> str:
    """Return the number of strays with its noun: `1 stray`, `at least 50 strays`."""
    count = count_strays(elsewhere, of_days)
    return f"{count} stray" if count == "1" else f"{count} strays"


def describe_unsearched(seen: Survey) -> str:
    """Return a message about the folders that were not searched to their end; empty if there are none."""
    if not seen.unsearched:
        return ""
    count = len(seen.unsearched)
    what = "1 folder was" if count == 1 else f"{'at least ' * (count >= MAX_STRAYS_NAMED)}{count} folders were"
    return (
        f"{what} not searched to the end, because no log key is among the first names: '{seen.unsearched[0]}'; if"
        " log keys lie in it, set log_prefix to the folder in which they begin"
    )


def survey(store: LogStore, bucket: LoggedBucket) -> Survey:
    """Find the trees and strays under the log prefix, jumping over the days. RootSearch says what it costs.

    Raises LogStoreError.
    """
    search = RootSearch(store, bucket)
    search.run()
    seen = Survey(tuple(search.roots), tuple(search.strays), tuple(search.unsearched))
    if seen.unsearched:
        _log.warning("bucket %s, log bucket %s: %s", bucket.name, store.name, describe_unsearched(seen))
    return seen


def list_days_with_keys(
    store: LogStore,
    bucket: LoggedBucket,
    roots: tuple[str, ...],
    first: date,
    last: date,
    strays: list[str] | None = None,
) -> Iterator[date]:
    """Yield the days from `first` to `last` that have any name under their prefix, in order.

    Each day costs one request, when it is asked for. Names between them that belong to no day are added to `strays`,
    one for each impossible date. Raises LogStoreError.
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
    """Return a pattern of the names between days that are jumped over in groups: the tree's own days, and others' days.

    Of the other trees inside this one, only those matter whose folder begins like a year.
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
    end = make_name_after(day_prefix(base, last))
    for found, group in find_groups(store, base, day_prefix(base, first), pattern):
        if found.key >= end:
            return
        if day := _parse_date(group):
            yield day
        # The survey reports names without a date that lie outside of S3's folders.
        elif tells_undated if group is None else group[1] is not None:
            _add_stray(strays, found)


def _add_stray(strays: list[str], item: LogObject) -> None:
    if (
        len(strays) < MAX_STRAYS_NAMED
        and not is_folder_marker(item)
        and (name := make_printable(item.key)) not in strays
    ):
        strays.append(name)


class Listing:
    """The log keys of one delivery period of a bucket. Iterating yields the log keys of each listed page.

    Attributes:
        strays: names under the period's prefix that are not log keys.
        waiting: files with a log key's name that are left out, because they may still be written.

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
            hit(FailPoint.LIST_BEFORE)
            for page in self._store.pages(prefix):
                hit(FailPoint.LIST_AFTER)
                yield [item for item in page if self._is_log_key(item)]

    def _is_log_key(self, item: LogObject) -> bool:
        name = parse_key_name(item.key, self._log_prefix)
        if name is not None and name.is_of(self.period):
            self.waiting += not item.is_quiet
            return item.is_quiet
        if not is_folder_marker(item):
            self.strays.append(make_printable(item.key))
        return False


class Look:
    """A look at one delivery period of a bucket. Iterating yields the unseen log keys of each page, and updates the
    counts.

    The next page is listed while the ledger answers for the current one.

    Attributes:
        listed: log keys in the listing.
        seen: how many of them are loaded in this generation.
        outdated: how many of them are skipped because a newer generation of their name is loaded and purged.
        outdated_names: the first of these names.
        waiting: other files that may still be written: they were changed within the bucket's quiet_seconds.

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
        """Names under the period's prefix that are not log keys."""
        return self._listing.strays

    @property
    def waiting(self) -> int:
        """How many files may still be written."""
        return self._listing.waiting

    def __iter__(self) -> Iterator[list[LogKey]]:
        return self.pages()

    def pages(self) -> Generator[list[LogKey]]:
        """Yield the same as iterating; closing it early also ends the prefetch of the listing. Raises LogStoreError."""
        with closing(prefetch(self._listing)) as listed:
            for log_keys in listed:
                with self._engine.connect() as connection:
                    found = ledger.compare(connection, self._store.name, log_keys)
                self.listed += len(log_keys)
                self.outdated += len(found.outdated)
                self.outdated_names += [make_printable(item.key) for item in found.outdated[: self._names_left()]]
                self.seen += len(log_keys) - len(found.unseen) - len(found.outdated)
                yield [LogKey(item, self.period, item.key in found.purged) for item in found.unseen]

    def _names_left(self) -> int:
        return MAX_OUTDATED_NAMED - len(self.outdated_names)


def _parse_date(match: re.Match[str] | None) -> date | None:
    """Return the date in a name, or None if there is none, as in 30 February or an account's folder."""
    if match is None or match[1] is None:
        return None
    try:
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None
