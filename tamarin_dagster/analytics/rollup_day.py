"""Roll up one day: merge its parts or its records, and write its rows, in one transaction."""

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, timedelta
from typing import cast

import psycopg
import sqlalchemy as sa

from tamarin_dagster.analytics.rollup_rows import DayRows, make_day_rows
from tamarin_dagster.analytics.rollups import Limits, RolledUpDay
from tamarin_dagster.recordstore import stored_parts
from tamarin_dagster.recordstore.days import midnight
from tamarin_dagster.recordstore.record_frames import records_and_parts
from tamarin_dagster.recordstore.schema.traffic_tables import (
    PART_COLUMNS,
    ROLLUPS,
    traffic_day,
    traffic_fold,
    traffic_hourly,
    traffic_pending_day,
)
from tamarin_dagster.recordstore.stored_parts import DayPart
from tamarin_dagster.traffic.measures import RECORD_COLUMNS
from tamarin_dagster.traffic.sums import sum_up
from tamarin_dagster.traffic.totals import Total

# The number of dimensions that are processed at the same time. Each may take about 150 MB.
_THREADS = 2
_log = logging.getLogger(__name__)


def delete_old_parts(connection: sa.Connection, days: int) -> None:
    """Delete the merged parts that are older than this number of days."""
    stored_parts.delete_old(connection, days)


def roll_up_day(engine: sa.Engine, bucket: str, day: date, region: str | None, limits: Limits) -> RolledUpDay | None:
    """Roll up a day in one transaction on one connection.

    Returns None if its records have expired, or if another process has rolled it up while this one waited.

    Each statement sees what is committed when it begins. Parts are deleted by their ids after they were read. So a part
    that a load commits later stays, and the day stays pending. One statement reads the records and the ids of their
    parts.
    """
    started = time.monotonic()
    this = sa.and_(traffic_day.c.bucket == bucket, traffic_day.c.request_date == day)
    with engine.begin() as connection:
        # Only one process rolls up a day at a time. The lock belongs to the transaction, because a pooler shares a
        # session among clients.
        lock = sa.func.hashtextextended(f"traffic {bucket}", day.toordinal())
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        # `expire` drops the month before this transaction or after it. Both take this lock first, so they cannot
        # deadlock.
        connection.exec_driver_sql("LOCK TABLE ONLY s3_log_record IN ACCESS SHARE MODE")
        is_noted = _delete_notes(connection, bucket, day)
        found = stored_parts.find(connection, bucket, day)
        if not (is_noted or found.has_new):
            return None
        rolled_up = connection.execute(sa.select(traffic_day.c.expired_at).where(this)).one_or_none()
        if rolled_up and rolled_up.expired_at:
            stored_parts.delete_parts(connection, found.ids)
            _log.info("bucket %s, day %s: the records have expired, so the rollups do not change", bucket, day)
            return None
        ids = list(found.ids)
        # Rollups have no merged part if an earlier version made them, or if their part was old and was deleted.
        if is_noted or (rolled_up is not None and not found.has_merged):
            ids.clear()
            totals: Iterable[Total] = _sum_up_records(connection, bucket, day, region, ids)
        else:
            totals = _sum_up_parts(connection, ids)
        requests, size = _write(connection, bucket, day, totals, limits)
        stored_parts.delete_parts(connection, ids)
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


def _sum_up_parts(connection: sa.Connection, ids: Sequence[int]) -> Iterator[Total]:
    """Yield the sums of the day's parts, one dimension at a time."""
    for dimension in PART_COLUMNS:
        total = Total(dimension)
        for sums in stored_parts.read(connection, ids, dimension):
            total.add(sums)
        yield total


def _sum_up_records(
    connection: sa.Connection, bucket: str, day: date, region: str | None, ids: list[int]
) -> list[Total]:
    """Return the sums of the day's records, which are read once. Append the ids of their parts to `ids`."""
    totals = {dimension: Total(dimension) for dimension in PART_COLUMNS}
    for records in records_and_parts(connection, bucket, day, RECORD_COLUMNS, ids):
        for dimension, sums in sum_up(records, region).items():
            totals[dimension].add(sums)
    return list(totals.values())


def _write(
    connection: sa.Connection, bucket: str, day: date, totals: Iterable[Total], limits: Limits
) -> tuple[int, int]:
    """Replace the rows of the day, and write its merged part. Return its number of requests and bytes."""
    for table in ROLLUPS:
        connection.execute(sa.delete(table).where(table.c.bucket == bucket, _of_that_day(table, day)))
    fold = traffic_fold.c
    connection.execute(sa.delete(traffic_fold).where(fold.bucket == bucket, fold.request_date == day))
    packed = {}
    requests = size = 0
    # While this thread reads and writes, other threads process the other dimensions.
    with ThreadPoolExecutor(_THREADS) as pool:
        making = (pool.submit(make_day_rows, total, bucket, day, limits.rows) for total in totals)
        for rows in _in_order(making):
            if rows is None:
                continue
            _copy(connection, rows)
            if rows.fold:
                connection.execute(sa.insert(traffic_fold).values(rows.fold))
            packed[rows.dimension] = rows.packed
            requests, size = rows.requests, rows.bytes_sent
    if packed:
        stored_parts.store_merged(connection, DayPart(bucket, day, requests, packed))
    return requests, size


def _in_order(making: Iterator["Future[DayRows | None]"]) -> Iterator[DayRows | None]:
    """Yield the results in order, with at most one task in progress for each thread."""
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
