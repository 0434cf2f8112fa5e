"""Rollups of traffic: the parts of a day are merged, and the day's rows written, in one transaction.

Each load stores the sums of its records (`recordstore.parts`), so the cost of a roll-up follows what was loaded since
the last one, not the size of the day. Only when records were taken away (a newer generation of a log key) are the
records of the day read again, and summed up by the same functions. So a rollup is exact, or its day is due.
"""

import logging
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from types import MappingProxyType
from typing import cast

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import sqlalchemy as sa

from tamarin_dagster.analysis.days import midnight, of_day
from tamarin_dagster.recordstore import parts
from tamarin_dagster.recordstore.failures import DayFailure, isolated
from tamarin_dagster.recordstore.parts import DayPart
from tamarin_dagster.recordstore.pending_days import BUCKET_BYTES, due_days
from tamarin_dagster.recordstore.record_frames import records_and_parts
from tamarin_dagster.recordstore.tables import s3_log_record
from tamarin_dagster.recordstore.traffic_tables import (
    PART_COLUMNS,
    ROLLUPS,
    traffic_day,
    traffic_fold,
    traffic_hourly,
    traffic_pending_day,
)
from tamarin_dagster.settings import DEFAULT_ROLLUP_PARTS_DAYS, DEFAULT_ROLLUP_ROWS, Settings
from tamarin_dagster.traffic.dimensions import DIMENSIONS, Dimension
from tamarin_dagster.traffic.folding import fold
from tamarin_dagster.traffic.hourly import hourly_rows
from tamarin_dagster.traffic.measures import IPV4_LEAD, RECORD_COLUMNS
from tamarin_dagster.traffic.parts import to_bytes
from tamarin_dagster.traffic.sums import HOUR, completed, schema_of, split, sum_up
from tamarin_dagster.traffic.totals import Total

_log = logging.getLogger(__name__)

# The share of the time that a day which goes on filling may be rolled up: one that took 6 s is left alone for a minute.
# So the work of a day's rollups grows with its hours, not with the number of its loads.
PATIENT_SHARE = 0.1
_REMEDY = "the other days are not affected and this one stays noted: mend the cause, then run `tamarin-dagster roll-up`"


@dataclass(frozen=True, slots=True)
class RolledUpDay:
    """One UTC day of a bucket's requests, as it is rolled up now."""

    bucket: str
    day: date
    requests: int
    seconds: float


@dataclass(slots=True)
class RolledUp:
    """What a roll-up did.

    Attributes:
        days: those whose rows were written, in order.
        waiting: days left for later, since they were rolled up a moment ago.
        kept: days that needed nothing: retention has dropped their records, so that their rollups stay as they are,
            or another process was faster.
        failures: days that could not be rolled up; each is as it was, and stays noted.
    """

    days: list[RolledUpDay] = field(default_factory=list)
    waiting: int = 0
    kept: int = 0
    failures: list[DayFailure] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """Records of all these days."""
        return sum(day.requests for day in self.days)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept of a day.

    Attributes:
        rows: of each dimension, as rows of single values; the rest is folded.
        part_days: how long the sums of a day are kept after its last roll-up.
    """

    rows: int = DEFAULT_ROLLUP_ROWS
    part_days: int = DEFAULT_ROLLUP_PARTS_DAYS


def limits_of(settings: Settings) -> Limits:
    """Return how much is kept of a day by the settings."""
    return Limits(settings.rollup_rows, settings.rollup_parts_days)


def pending_days(connection: sa.Connection, *, skips: Collection[str] = ()) -> list[tuple[str, date]]:
    """Return the buckets and days that are due, less the buckets `skips`, in order."""
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
    """Rolls up each day whose records have changed. A kill leaves the day at hand as it was, and the rest noted.

    A day that cannot be rolled up stops only itself: it is one of the answer's `failures`, and the others go on.

    Args:
        engine: of the records' database.
        regions: where buckets live, as far as it is known: to tell transfer within the region from that to another.
        skips: buckets that are left to others.
        last: only days up to this one; default: all.
        patient: leaves a day alone that was rolled up a moment ago (see PATIENT_SHARE): for runs that come often.
        limits: how much is kept of a day.
        progress: called after each day, with how many are left.
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
    """Gives days that are noted for all buckets the names of those that have records or rollups of them."""
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
    """Days whose last roll-up took more than PATIENT_SHARE of the time since."""
    day = traffic_day.c
    age = sa.extract("epoch", sa.func.now() - day.rolled_up_at)
    statement = sa.select(day.bucket, day.request_date).where(day.seconds > PATIENT_SHARE * age)
    return {(row.bucket, row.request_date) for row in connection.execute(statement)}


def _roll_up_day(engine: sa.Engine, bucket: str, day: date, region: str | None, limits: Limits) -> RolledUpDay | None:
    """Roll up a day in one transaction on one connection.

    Returns None if its records have expired, or if another process has rolled it up while this one waited.

    Each statement sees what is committed when it begins. Parts are deleted by their ids, after they were read: one that
    a load commits later stays, and the day stays due. One statement reads records and the ids of their parts.
    """
    started = time.monotonic()
    this = sa.and_(traffic_day.c.bucket == bucket, traffic_day.c.request_date == day)
    with engine.begin() as connection:
        # One roll-up of a day at a time. The lock goes with the transaction, as a
        # pooler between us and Postgres needs it.
        lock = sa.func.hashtextextended(f"traffic {bucket}", day.toordinal())
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        # `expire` drops the month before this transaction, or after it. The same lock first, so that neither waits
        # for the other with a lock in hand.
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
        # Rollups without a merged part are of a version that had no parts, or their part was deleted since it is old.
        if is_noted or (rolled_up is not None and not found.has_merged):
            ids.clear()
            totals = _totals_of_records(connection, bucket, day, region, ids)
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


def _totals_of_parts(connection: sa.Connection, ids: Sequence[int]) -> dict[str, Total]:
    """Return the sums of the day's parts, one dimension after the other."""
    totals = {}
    for dimension in PART_COLUMNS:
        totals[dimension] = Total(dimension)
        for sums in parts.read(connection, ids, dimension):
            totals[dimension].add(sums)
    return totals


def _totals_of_records(
    connection: sa.Connection, bucket: str, day: date, region: str | None, ids: list[int]
) -> dict[str, Total]:
    """Return the sums of the day's records, in one reading; append the ids of the parts of their loads to `ids`."""
    totals = {dimension: Total(dimension) for dimension in PART_COLUMNS}
    for records in records_and_parts(connection, bucket, day, RECORD_COLUMNS, ids):
        for dimension, sums in sum_up(records, region).items():
            totals[dimension].add(sums)
    return totals


def _write(
    connection: sa.Connection, bucket: str, day: date, totals: Mapping[str, Total], limits: Limits
) -> tuple[int, int]:
    """Write the rows of the day in place of the former ones, and its part; return its requests and bytes."""
    for table in ROLLUPS:
        connection.execute(sa.delete(table).where(table.c.bucket == bucket, _of_that_day(table, day)))
    fold_ = traffic_fold.c
    connection.execute(sa.delete(traffic_fold).where(fold_.bucket == bucket, fold_.request_date == day))
    hours = totals[HOUR].sums()
    if hours is None:
        return 0, 0
    packed = {HOUR: to_bytes(hours)}
    rows = hourly_rows(hours)
    _copy(connection, traffic_hourly, _hours_of_day(rows, bucket, day))
    requests, size = (int(pc.sum(rows[name]).as_py()) for name in ("requests", "bytes_sent"))
    for dimension in DIMENSIONS:
        total = totals[dimension.name]
        sums = total.sums()
        packed[dimension.name] = to_bytes(sums)
        limited = fold(sums, dimension, limits.rows).sums
        _copy(connection, _TABLES[dimension.name], _rows_of_day(limited, dimension, bucket, day))
        _note_fold(connection, bucket, day, dimension.name, limited, total)
    parts.store_merged(connection, DayPart(bucket, day, requests, packed))
    return requests, size


_TABLES = {table.name.removeprefix("traffic_daily_by_"): table for table in ROLLUPS if table is not traffic_hourly}


def _note_fold(
    connection: sa.Connection, bucket: str, day: date, dimension: str, limited: pa.Table, total: Total
) -> None:
    """Note how much of the day is folded, and what a row of a single value may lack."""
    _, folded = split(limited)
    if not folded.num_rows:
        return
    sums = completed(folded, schema_of(_DIMENSIONS[dimension]))
    connection.execute(
        sa.insert(traffic_fold).values(
            bucket=bucket,
            request_date=day,
            dimension=dimension,
            folded_values=_sum(sums["folded_values"]),
            requests=_sum(sums["requests"]),
            bytes_sent=_sum(sums["bytes_sent"]),
            missing_requests=total.missing_requests,
            missing_bytes=total.missing_bytes,
        )
    )


_DIMENSIONS = {each.name: each for each in DIMENSIONS}


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column.cast(pa.decimal128(38, 0))).as_py())


def _hours_of_day(rows: pa.Table, bucket: str, day: date) -> pa.Table:
    """Return the rows of `hourly_rows` as `traffic_hourly` has them."""
    names = np.array([str(midnight(day) + timedelta(hours=hour)) for hour in range(24)])
    hours = pa.array(names[np.asarray(rows["hour"])], pa.string())
    return _of_bucket(bucket, {"hour": hours} | {name: rows[name] for name in rows.column_names[1:]})


def _rows_of_day(sums: pa.Table, dimension: Dimension, bucket: str, day: date) -> pa.Table:
    """Return sums as the rollup of their dimension has them."""
    rows = completed(sums, schema_of(dimension))
    values = _addresses(rows["value"]) if dimension.name == "remote_ip" else rows["value"]
    table = _TABLES[dimension.name]
    given = {"request_date": pa.array(np.full(rows.num_rows, str(day)), pa.string()), dimension.name: values}
    for column in table.columns:
        if column.name in rows.column_names:
            is_rare = column.name.endswith("_transitions")
            given[column.name] = _or_null(rows[column.name]) if is_rare else rows[column.name]
    return _of_bucket(bucket, given)


def _or_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column with null for 0, where a rollup has null for none."""
    return pc.if_else(pc.equal(column, 0), pa.scalar(None, column.type), column)


def _of_bucket(bucket: str, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    rows = len(next(iter(columns.values())))
    return pa.table({"bucket": pa.array(np.full(rows, bucket), pa.string()), **columns})


def _addresses(packed: pa.ChunkedArray) -> pa.Array:
    """Return addresses and networks, which Postgres sends packed, as texts."""
    texts: list[str | None] = []
    for value in packed.to_pylist():
        if value is None:
            texts.append(None)
            continue
        family = socket.AF_INET if value[0] == IPV4_LEAD[0] else socket.AF_INET6
        texts.append(f"{socket.inet_ntop(family, value[4:])}/{value[1]}")
    return pa.array(texts, pa.string())


_CSV = pyarrow.csv.WriteOptions(include_header=False, quoting_style="all_valid")


def _copy(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    """Write rows to a table. In the CSV a missing value is empty, an empty text is quoted."""
    texts = [column.cast(pa.string()) if pa.types.is_decimal(column.type) else column for column in rows.columns]
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(texts, names=rows.column_names), sink, _CSV)
    cursor = cast("psycopg.Cursor", connection.connection.cursor())
    with cursor.copy(f"COPY {table.name} ({', '.join(rows.column_names)}) FROM STDIN (FORMAT csv)") as copy:
        copy.write(sink.getvalue())


def _of_that_day(table: sa.Table, day: date) -> sa.ColumnElement[bool]:
    if table is traffic_hourly:
        return sa.and_(table.c.hour >= midnight(day), table.c.hour < midnight(day) + timedelta(days=1))
    return table.c.request_date == day
