"""Roll up traffic: merge the parts of a day, and write the day's rows, in one transaction.

Each load stores the sums of its records (`recordstore.parts`). So the cost of a roll-up grows with the records that
were loaded since the last one, not with the size of the day. If records were deleted (by a newer generation of a log
key), the records of the day are read again, and summed up by the same functions. So a rollup is exact, or its day is
due.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from types import MappingProxyType
from typing import cast

import psycopg
import sqlalchemy as sa

from tamarin_dagster.analytics.days import midnight, of_day
from tamarin_dagster.analytics.rollup_rows import DayRows, rows_of_day
from tamarin_dagster.recordstore import parts
from tamarin_dagster.recordstore.failures import DayFailure, isolated
from tamarin_dagster.recordstore.parts import DayPart
from tamarin_dagster.recordstore.pending_days import BUCKET_BYTES, due_days
from tamarin_dagster.recordstore.record_frames import records_and_parts
from tamarin_dagster.recordstore.schema.tables import s3_log_record
from tamarin_dagster.recordstore.schema.traffic_tables import (
    PART_COLUMNS,
    ROLLUPS,
    traffic_day,
    traffic_fold,
    traffic_hourly,
    traffic_pending_day,
)
from tamarin_dagster.settings import DEFAULT_ROLLUP_PARTS_DAYS, DEFAULT_ROLLUP_ROWS, Settings
from tamarin_dagster.traffic.measures import RECORD_COLUMNS
from tamarin_dagster.traffic.sums import sum_up
from tamarin_dagster.traffic.totals import Total

# The number of dimensions that are merged and turned into rows at the same time: each may take about 150 MB.
_THREADS = 2
_log = logging.getLogger(__name__)

# The maximum share of the time that the roll-ups of a growing day may take: a day that took 6 s is skipped for a
# minute. So the work for a day grows with its hours, not with the number of its loads.
PATIENT_SHARE = 0.1
_REMEDY = "the other days are not affected and this one stays noted: fix the cause, then run `tamarin-dagster roll-up`"


@dataclass(frozen=True, slots=True)
class RolledUpDay:
    """One UTC day of a bucket's requests after its roll-up."""

    bucket: str
    day: date
    requests: int
    seconds: float


@dataclass(slots=True)
class RolledUp:
    """The result of a roll-up.

    Attributes:
        days: the days whose rows were written, in order.
        waiting: number of days left for later, because they were rolled up a moment ago.
        kept: number of days that needed no work: retention has dropped their records, so that their rollups stay as
            they are, or another process was faster.
        failures: days that could not be rolled up; each is as it was, and stays noted.
        seconds: duration.
    """

    days: list[RolledUpDay] = field(default_factory=list)
    waiting: int = 0
    kept: int = 0
    failures: list[DayFailure] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """Return the number of records of all these days."""
        return sum(day.requests for day in self.days)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a day is kept.

    Attributes:
        rows: the maximum number of rows of single values in each dimension; other values are folded.
        part_days: the number of days for which the parts of a day are kept after its last roll-up.
    """

    rows: int = DEFAULT_ROLLUP_ROWS
    part_days: int = DEFAULT_ROLLUP_PARTS_DAYS


def limits_of(settings: Settings) -> Limits:
    """Return how much of a day the settings keep."""
    return Limits(settings.rollup_rows, settings.rollup_parts_days)


def pending_days(connection: sa.Connection, *, skips: Collection[str] = ()) -> list[tuple[str, date]]:
    """Return the buckets and days that are due, in order, without the buckets `skips`."""
    due = due_days().c
    statement = (
        sa.select(due.bucket, due.request_date)
        .where(due.bucket.not_in(skips))
        .distinct()
        .order_by(due.bucket, due.request_date)
    )
    return [(row.bucket, row.request_date) for row in connection.execute(statement)]


def roll_up(
    engine: sa.Engine,
    *,
    regions: Mapping[str, str] = MappingProxyType({}),
    skips: Collection[str] = (),
    last: date | None = None,
    patient: bool = False,
    limits: Limits = Limits(),
    progress: Callable[[RolledUpDay, int], None] | None = None,
) -> RolledUp:
    """Roll up each day whose records have changed. After a kill, the present day is as it was, and the rest noted.

    A day that cannot be rolled up does not stop the others: it is one of the result's `failures`.

    Args:
        engine: connects to the records' database.
        regions: the regions of buckets, as far as they are known: they separate transfer within a region from transfer
            to another region.
        skips: buckets that other processes roll up.
        last: the last day to roll up; default: all days.
        patient: skip days that were rolled up a moment ago (see PATIENT_SHARE); for runs that come often.
        limits: how much of a day is kept.
        progress: called after each day, with the number of days left.
    """
    started = time.monotonic()
    done = RolledUp()
    _name_buckets(engine)
    with engine.connect() as connection:
        pending = pending_days(connection, skips=skips)
        lately = _rolled_up_lately(connection) if patient else set()
    pending = [each for each in pending if last is None or each[1] <= last]
    chosen = [each for each in pending if each not in lately]
    done.waiting = len(pending) - len(chosen)
    for left, (bucket, day) in zip(reversed(range(len(chosen))), chosen, strict=True):
        with isolated(done.failures, "roll up", bucket, day, _REMEDY):
            rolled_up = _roll_up_day(engine, bucket, day, regions.get(bucket), limits)
            if rolled_up is None:
                done.kept += 1
                continue
            done.days.append(rolled_up)
            if progress:
                progress(rolled_up, left)
    if chosen:
        with engine.begin() as connection:
            parts.delete_old(connection, limits.part_days)
    done.seconds = time.monotonic() - started
    return done


def _name_buckets(engine: sa.Engine) -> None:
    """Replace each note for all buckets by notes for the buckets that have records or rollups of its day."""
    pending, record, rolled_up = traffic_pending_day.c, s3_log_record.c, traffic_day.c
    with engine.connect() as connection:
        days = connection.scalars(
            sa.select(pending.request_date).where(pending.bucket.is_(None)).distinct().order_by(pending.request_date)
        ).all()
    for day in days:
        names = sa.union(
            sa.select(record.bucket).where(of_day(day), sa.func.octet_length(record.bucket) <= BUCKET_BYTES),
            sa.select(rolled_up.bucket).where(rolled_up.request_date == day),
        ).subquery()
        unnamed = sa.delete(traffic_pending_day).where(pending.bucket.is_(None), pending.request_date == day)
        named = sa.select(names.c.bucket, sa.literal(day, sa.Date))
        with engine.begin() as connection:
            connection.execute(unnamed)
            connection.execute(sa.insert(traffic_pending_day).from_select(["bucket", "request_date"], named))


def _rolled_up_lately(connection: sa.Connection) -> set[tuple[str, date]]:
    """Return the days whose last roll-up took more than PATIENT_SHARE of the time since then."""
    day = traffic_day.c
    age = sa.extract("epoch", sa.func.now() - day.rolled_up_at)
    statement = sa.select(day.bucket, day.request_date).where(day.seconds > PATIENT_SHARE * age)
    return {(row.bucket, row.request_date) for row in connection.execute(statement)}


def _roll_up_day(engine: sa.Engine, bucket: str, day: date, region: str | None, limits: Limits) -> RolledUpDay | None:
    """Roll up a day in one transaction on one connection.

    Return None if its records have expired, or if another process has rolled it up while this one waited.

    Each statement sees what is committed when it begins. Parts are deleted by their ids after they were read, so a part
    that a load commits later stays, and the day stays due. Records and the ids of their parts are read by one
    statement.
    """
    started = time.monotonic()
    this = sa.and_(traffic_day.c.bucket == bucket, traffic_day.c.request_date == day)
    with engine.begin() as connection:
        # One roll-up of a day at a time. The lock ends with the transaction, because a pooler may give the session to
        # somebody else after that.
        lock = sa.func.hashtextextended(f"traffic {bucket}", day.toordinal())
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        # `expire` drops the month before this transaction or after it. Both take this lock first, so that neither
        # waits for the other while it holds a lock.
        connection.exec_driver_sql("LOCK TABLE ONLY s3_log_record IN ACCESS SHARE MODE")
        is_noted = _delete_notes(connection, bucket, day)
        found = parts.find(connection, bucket, day)
        if not (is_noted or found.has_new):
            return None
        rolled_up = connection.execute(sa.select(traffic_day.c.expired_at).where(this)).one_or_none()
        if rolled_up and rolled_up.expired_at:
            parts.delete_parts(connection, found.ids)
            _log.info("%s, %s: the records have expired, the rollups stay as they are", bucket, day)
            return None
        ids = list(found.ids)
        # If rollups have no merged part, an older version made them without parts, or their part was old and deleted.
        if is_noted or (rolled_up is not None and not found.has_merged):
            ids.clear()
            totals: Iterable[Total] = _totals_of_records(connection, bucket, day, region, ids)
        else:
            totals = _totals_of_parts(connection, ids)
        requests, size = _write(connection, bucket, day, totals, limits)
        parts.delete_parts(connection, ids)
        connection.execute(sa.delete(traffic_day).where(this))
        seconds = time.monotonic() - started
        if requests:
            connection.execute(
                sa.insert(traffic_day).values(
                    bucket=bucket,
                    request_date=day,
                    requests=requests,
                    bytes_sent=size,
                    rolled_up_at=sa.func.clock_timestamp(),
                    seconds=seconds,
                )
            )
    return RolledUpDay(bucket, day, requests, seconds)


def _delete_notes(connection: sa.Connection, bucket: str, day: date) -> bool:
    pending = traffic_pending_day.c
    noted = sa.delete(traffic_pending_day).where(pending.bucket == bucket, pending.request_date == day)
    return bool(connection.execute(noted).rowcount)


def _totals_of_parts(connection: sa.Connection, ids: Sequence[int]) -> Iterator[Total]:
    """Yield the sums of the day's parts, one dimension after another."""
    for dimension in PART_COLUMNS:
        total = Total(dimension)
        for sums in parts.read(connection, ids, dimension):
            total.add(sums)
        yield total


def _totals_of_records(
    connection: sa.Connection, bucket: str, day: date, region: str | None, ids: list[int]
) -> list[Total]:
    """Return the sums of the day's records, read once; append the ids of the parts of their loads to `ids`."""
    totals = {dimension: Total(dimension) for dimension in PART_COLUMNS}
    for records in records_and_parts(connection, bucket, day, RECORD_COLUMNS, ids):
        for dimension, sums in sum_up(records, region).items():
            totals[dimension].add(sums)
    return list(totals.values())


def _write(
    connection: sa.Connection, bucket: str, day: date, totals: Iterable[Total], limits: Limits
) -> tuple[int, int]:
    """Replace the rows of the day, and store its part; return its requests and bytes."""
    for table in ROLLUPS:
        connection.execute(sa.delete(table).where(table.c.bucket == bucket, _of_that_day(table, day)))
    fold = traffic_fold.c
    connection.execute(sa.delete(traffic_fold).where(fold.bucket == bucket, fold.request_date == day))
    packed = {}
    requests = size = 0
    # While this thread reads and writes, others merge the next dimensions and make their rows.
    with ThreadPoolExecutor(_THREADS) as pool:
        making = (pool.submit(rows_of_day, total, bucket, day, limits.rows) for total in totals)
        for rows in _in_order(making):
            if rows is None:
                continue
            _copy(connection, rows)
            if rows.fold:
                connection.execute(sa.insert(traffic_fold).values(rows.fold))
            packed[rows.dimension] = rows.packed
            requests, size = rows.requests, rows.bytes_sent
    if packed:
        parts.store_merged(connection, DayPart(bucket, day, requests, packed))
    return requests, size


def _in_order(making: Iterator["Future[DayRows | None]"]) -> Iterator[DayRows | None]:
    """Yield the results in order; at most _THREADS are in the making at a time."""
    waiting: deque[Future[DayRows | None]] = deque()
    for future in making:
        waiting.append(future)
        if len(waiting) > _THREADS:
            yield waiting.popleft().result()
    yield from (future.result() for future in waiting)


def _copy(connection: sa.Connection, rows: DayRows) -> None:
    cursor = cast("psycopg.Cursor", connection.connection.cursor())
    with cursor.copy(f"COPY {rows.table.name} ({', '.join(rows.columns)}) FROM STDIN (FORMAT csv)") as copy:
        copy.write(rows.csv)


def _of_that_day(table: sa.Table, day: date) -> sa.ColumnElement[bool]:
    if table is traffic_hourly:
        return sa.and_(table.c.hour >= midnight(day), table.c.hour < midnight(day) + timedelta(days=1))
    return table.c.request_date == day
