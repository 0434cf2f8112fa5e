"""Recheck: find stored records that the current rules would not load, and report them. Changes nothing.

An earlier version loaded lines whose tail had no documented shape, and purged their log keys.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date

import sqlalchemy as sa

from tamarin_dagster.logformat import redact_text
from tamarin_dagster.logkey import make_printable
from tamarin_dagster.recordstore.shapes import (
    CHECKED_FIELDS,
    DaySpan,
    MisshapenRecords,
    find_misshapen_records,
    list_request_days,
    read_values,
)

SAMPLES = 3
"""How many values of a column are shown."""
NAMED_KEYS = 20
"""How many log keys are named; the others are counted."""
COUNTED_KEYS = 100_000
"""How many log keys are counted exactly: their IDs are in memory, about 10 MB."""
VALUE_CHARACTERS = 80
"""How many characters of a value are shown."""
_READ_CHARACTERS = 4_096
"""How many characters of a value are searched for secrets."""


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value that violates the shape of its column, made safe for a terminal or a log.

    Control characters and direction marks are escaped, the secrets of presigned URLs are redacted, and a long value is
    cut and ends in `…`.
    """

    value: str
    log_key: str | None
    log_key_id: int
    line_number: int


@dataclass(slots=True)
class ViolatedColumn:
    """A column with records that violate its shape: their number, and some of their values."""

    column: str
    records: int = 0
    samples: list[StoredValue] = field(default_factory=list)


@dataclass(slots=True)
class ConcernedKey:
    """A log key with records that would not be loaded today.

    Attributes:
        id: its ledger row.
        bucket: the configured bucket that loaded it; None if the ledger lacks the row.
        key: its name; None if the ledger lacks the row.
        is_purged: whether the ledger says that it was deleted from the log bucket.
        records: the number of these records.
    """

    id: int
    bucket: str | None
    key: str | None
    is_purged: bool
    records: int = 0


@dataclass(slots=True)
class Rechecked:
    """What a recheck has read and found.

    Attributes:
        days: the request days that were read, of `day_count`.
        first_day, last_day: the first and the last of all request days.
        records: the records that would not be loaded today.
        columns: the columns that are violated, in the order of the line. A record may violate several.
        keys: the first log keys with such records, at most NAMED_KEYS.
        key_count: the number of all such log keys; a minimum if `has_more_keys`.
    """

    days: int = 0
    day_count: int = 0
    first_day: date | None = None
    last_day: date | None = None
    records: int = 0
    columns: list[ViolatedColumn] = field(default_factory=list)
    keys: list[ConcernedKey] = field(default_factory=list)
    key_count: int = 0
    has_more_keys: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return a summary in one line."""
        days = "1 day" if self.days == 1 else f"{self.days:,} days"
        span = (
            f" ({self.first_day} to {self.last_day})" if self.days > 1 else f" ({self.first_day})" if self.days else ""
        )
        records = "1 record" if self.records == 1 else f"{self.records:,} records"
        keys = "1 log key" if self.key_count == 1 else f"{self.key_count:,} log keys"
        more = "at least " if self.has_more_keys else ""
        where = f" of {more}{keys}" if self.records else ""
        return f"{days} of requests{span}: {records}{where} would not be loaded today; {self.seconds:.1f} s"


def recheck_records(
    engine: sa.Engine,
    *,
    bucket: str | None = None,
    first: date | None = None,
    last: date | None = None,
    progress: Callable[[Rechecked, DaySpan], None] | None = None,
) -> Rechecked:
    """Find stored records that violate the shape of a column of the tail, or of the bucket owner.

    Each request day has its own read-only transaction. So no partition of other days is read, and no snapshot lasts
    longer than the reading of a day.

    Args:
        engine: the database of the records.
        bucket: a configured bucket; only records of the log keys that were loaded for it are read.
        first: the first request day (UTC); None means the first one in the records.
        last: the last request day (UTC); None means the last one in the records.
        progress: called after each day with the results so far and the day.

    Raises:
        sqlalchemy.exc.DBAPIError: the database refuses, or is gone.
    """
    started = time.monotonic()
    with _reading(engine) as connection:
        days = list_request_days(connection, first, last)
    done = Rechecked(day_count=len(days))
    if days:
        done.first_day, done.last_day = days[0].day, days[-1].day
    columns = {each.name: ViolatedColumn(each.name) for each in CHECKED_FIELDS}
    ids: set[int] = set()
    for day in days:
        with _reading(engine) as connection:
            _recheck_day(connection, day, bucket, done, columns, ids)
        done.days += 1
        done.columns = [column for column in columns.values() if column.records]
        if progress:
            progress(done, day)
    done.seconds = time.monotonic() - started
    return done


@contextmanager
def _reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection.execution_options(postgresql_readonly=True)


def _recheck_day(
    connection: sa.Connection,
    day: DaySpan,
    bucket: str | None,
    done: Rechecked,
    columns: dict[str, ViolatedColumn],
    ids: set[int],
) -> None:
    named = {key.id: key for key in done.keys}
    wanted: dict[tuple[int, int], MisshapenRecords] = {}
    asked = dict.fromkeys(columns, 0)
    with closing(find_misshapen_records(connection, day, bucket)) as found:
        for each in found:
            done.records += each.records
            for name in each.columns:
                columns[name].records += each.records
            _count_key(done, named, ids, each)
            lacking = [name for name in each.columns if len(columns[name].samples) + asked[name] < SAMPLES]
            if lacking:
                wanted[each.log_key_id, each.line_number] = each
                for name in lacking:
                    asked[name] += 1
    if not wanted:
        return
    values = read_values(connection, day, list(wanted))
    for place, each in wanted.items():
        for name in each.columns:
            value = values.get(place, {}).get(name)
            if value is not None:
                _add_sample(columns[name], _make_safe(value), each)


def _count_key(done: Rechecked, named: dict[int, ConcernedKey], ids: set[int], each: MisshapenRecords) -> None:
    if each.log_key_id not in ids:
        if len(ids) == COUNTED_KEYS:
            done.has_more_keys = True
            return
        ids.add(each.log_key_id)
        done.key_count += 1
        if len(named) < NAMED_KEYS:
            named[each.log_key_id] = ConcernedKey(each.log_key_id, each.bucket, each.log_key, each.is_purged)
            done.keys.append(named[each.log_key_id])
    if each.log_key_id in named:
        named[each.log_key_id].records += each.records


def _add_sample(column: ViolatedColumn, value: str, each: MisshapenRecords) -> None:
    """Add the value, unless there are enough, or one that looks the same."""
    if len(column.samples) < SAMPLES and all(sample.value != value for sample in column.samples):
        column.samples.append(StoredValue(value, each.log_key, each.log_key_id, each.line_number))


def _make_safe(value: str) -> str:
    """Return the value in a form that is safe to show.

    A column was cut at blanks, so its value may begin with the name of a secret. The prepended question mark lets the
    redaction find it there.
    """
    safe = make_printable(redact_text("?" + value[:_READ_CHARACTERS])[1:])
    is_cut = len(safe) > VALUE_CHARACTERS or len(value) > _READ_CHARACTERS
    return safe[:VALUE_CHARACTERS] + "…" if is_cut else safe
