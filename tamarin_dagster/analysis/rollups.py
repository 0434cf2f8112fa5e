"""Rollups of traffic: a day of requests is summed up again, in one transaction, whenever records of it have changed.

Which days these are the loads themselves note, in their own transactions (`recordstore.pending_days`): a late key, a
newer generation or a reparse brings its days back, however old they are. So a rollup is exact, or its day is noted.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import MappingProxyType
from typing import IO, Any, cast

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.schema import CreateTable

from tamarin_dagster.analysis.measures import HOUR, midnight, of_day, short_referrer, sums_of
from tamarin_dagster.recordstore.pending_days import BUCKET_BYTES
from tamarin_dagster.recordstore.tables import s3_log_record
from tamarin_dagster.recordstore.traffic_tables import (
    ROLLUPS,
    traffic_daily_by_referrer,
    traffic_day,
    traffic_hourly,
    traffic_pending_day,
)

_log = logging.getLogger(__name__)

# The share of the time that a day which goes on filling may be rolled up: one that took 6 s is left alone for a minute.
# So the work of a day's rollups grows with its hours, not with the number of its loads.
PATIENT_SHARE = 0.1
# Of a day of 1,000,000 records all groups of a statement were 40 MB; what is more goes to the disk.
WORK_MEM = "128MB"
# What is held in memory of the sums that the second connection sends.
_SPOOLED_BYTES = 16 * 1024**2
_PIECE_BYTES = 1024**2
# What disturbs a roll-up is rare, and soon over.
_ATTEMPTS = 4


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
        days: those that were summed up again, in order.
        waiting: days left for later, since they were rolled up a moment ago.
        kept: days whose records retention has dropped: their rollups stay as they are.
    """

    days: list[RolledUpDay] = field(default_factory=list)
    waiting: int = 0
    kept: int = 0
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """Records of all these days."""
        return sum(day.requests for day in self.days)


def pending_days(connection: sa.Connection, *, skips: Collection[str] = ()) -> list[tuple[str, date]]:
    """The buckets and days that are to be rolled up, less the buckets `skips`, in order."""
    pending = traffic_pending_day.c
    statement = (
        sa.select(pending.bucket, pending.request_date)
        .where(pending.bucket.not_in(skips))
        .distinct()
        .order_by(pending.bucket, pending.request_date)
    )
    return [(row.bucket, row.request_date) for row in connection.execute(statement)]


def roll_up(
    engine: sa.Engine,
    *,
    regions: Mapping[str, str] = MappingProxyType({}),
    skips: Collection[str] = (),
    patient: bool = False,
    progress: Callable[[RolledUpDay, int], None] | None = None,
) -> RolledUp:
    """Rolls up each day whose records have changed. A kill leaves the day at hand as it was, and the rest noted.

    Args:
        engine: of the records' database.
        regions: where buckets live, as far as it is known: to tell transfer within the region from that to another.
        skips: buckets that are left to others.
        patient: leaves a day alone that was rolled up a moment ago (see PATIENT_SHARE): for runs that come often.
        progress: called after each day, with how many are left.
    """
    started = time.monotonic()
    done = RolledUp()
    _name_buckets(engine)
    with engine.connect() as connection:
        pending = pending_days(connection, skips=skips)
        lately = _rolled_up_lately(connection) if patient else set()
    chosen = [each for each in pending if each not in lately]
    done.waiting = len(pending) - len(chosen)
    for left, (bucket, day) in zip(reversed(range(len(chosen))), chosen, strict=True):
        rolled_up = _undisturbed(engine, bucket, day, regions.get(bucket))
        if rolled_up is None:
            done.kept += 1
            continue
        done.days.append(rolled_up)
        if progress:
            progress(rolled_up, left)
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


def _undisturbed(engine: sa.Engine, bucket: str, day: date, region: str | None) -> RolledUpDay | None:
    """Rolls a day up; once more if a check or an expire has changed its row of `traffic_day` meanwhile."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _roll_up_day(engine, bucket, day, region)
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.SerializationFailure) or attempt == _ATTEMPTS:
                raise
            _log.info("%s, %s: changed while it was rolled up, attempt %d of %d", bucket, day, attempt, _ATTEMPTS)
    raise AssertionError("the last attempt returns or raises")


def _roll_up_day(engine: sa.Engine, bucket: str, day: date, region: str | None) -> RolledUpDay | None:
    """Sums up a day, all rollups of one snapshot and in one transaction. None if its records have expired.

    What loads note that commit meanwhile stays noted. Two connections, with the same snapshot, sum up the records of
    one half of the log keys each: one alone would be at it for nearly twice as long.
    """
    started = time.monotonic()
    with _alone(engine, bucket, day), _snapshot(engine) as connection:
        name = connection.scalar(sa.select(sa.func.pg_export_snapshot()))
        pending, rolled_up = traffic_pending_day.c, traffic_day.c
        connection.execute(sa.delete(traffic_pending_day).where(pending.bucket == bucket, pending.request_date == day))
        this = sa.and_(rolled_up.bucket == bucket, rolled_up.request_date == day)
        if connection.scalar(sa.select(rolled_up.expired_at).where(this)):
            _log.info("%s, %s: the records have expired, the rollups stay as they are", bucket, day)
            return None
        _sum_up(engine, connection, str(name), bucket, day, region)
        for table in ROLLUPS:
            connection.execute(sa.delete(table).where(table.c.bucket == bucket, _of_that_day(table, day)))
            connection.execute(_filled(table, bucket, day))
        connection.execute(sa.delete(traffic_day).where(this))
        hours = sa.select(sa.func.sum(_SUMS.c.requests), sa.func.sum(_SUMS.c.bytes_sent))
        requests, size = connection.execute(hours.where(_SUMS.c.grouped_by == HOUR)).one()
        seconds = time.monotonic() - started
        if requests:
            connection.execute(
                sa.insert(traffic_day).values(
                    bucket=bucket,
                    request_date=day,
                    requests=int(requests),
                    bytes_sent=int(size),
                    rolled_up_at=sa.func.clock_timestamp(),
                    seconds=seconds,
                )
            )
    return RolledUpDay(bucket, day, int(requests or 0), seconds)


@contextmanager
def _alone(engine: sa.Engine, bucket: str, day: date) -> Iterator[None]:
    """One roll-up of a day at a time. Who waits takes its snapshot after the other's commit."""
    lock = sa.func.hashtextextended(f"traffic {bucket}", day.toordinal())
    with engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.select(sa.func.pg_advisory_lock(lock)))
        try:
            yield
        finally:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(lock)))


@contextmanager
def _snapshot(engine: sa.Engine, name: str | None = None) -> Iterator[sa.Connection]:
    """A transaction that sees one state of the database: its own, or that of the transaction that exported `name`."""
    with engine.connect() as plain:
        connection = plain.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            if name is not None:
                _cursor(connection).execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(name))
            # For sums over a day: groups in memory, and nothing compiled, which takes longer than it saves.
            for setting, value in (("work_mem", WORK_MEM), ("jit", "off")):
                _cursor(connection).execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(setting), value))
            yield connection


def _cursor(connection: sa.Connection) -> psycopg.Cursor:
    return cast("psycopg.Cursor", connection.connection.cursor())


def _sum_up(
    engine: sa.Engine, connection: sa.Connection, snapshot: str, bucket: str, day: date, region: str | None
) -> None:
    """Fills `_SUMS` of the connection's transaction: for each value of each dimension a row, or one of each half."""
    connection.execute(CreateTable(_SUMS, if_not_exists=True))
    half, other = (sums_of(bucket, day, region, half) for half in (0, 1))
    with (
        ThreadPoolExecutor(1, thread_name_prefix="rollups") as threads,
        SpooledTemporaryFile(_SPOOLED_BYTES) as rows,
    ):
        beside = threads.submit(_copy_out, engine, snapshot, other, rows)
        connection.execute(sa.insert(_SUMS).from_select(_SUMS.c.keys(), half))
        beside.result()
        rows.seek(0)
        with _cursor(connection).copy(f"COPY {_SUMS.name} FROM STDIN (FORMAT binary)") as copy:
            while piece := rows.read(_PIECE_BYTES):
                copy.write(piece)


def _copy_out(engine: sa.Engine, snapshot: str, statement: sa.Select[Any], rows: IO[bytes]) -> None:
    """Writes what the statement answers to a file, in COPY's binary form."""
    compiled = statement.compile(dialect=engine.dialect)
    with (
        _snapshot(engine, snapshot) as connection,
        _cursor(connection).copy(f"COPY ({compiled}) TO STDOUT (FORMAT binary)", compiled.params) as copy,
    ):
        for piece in copy:
            rows.write(piece)


_SUMS = sa.Table(
    "traffic_sums",
    sa.MetaData(),
    *(sa.Column(column.name, column.type) for column in sums_of("", date(2006, 3, 14), None, 0).selected_columns),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)


def _filled(table: sa.Table, bucket: str, day: date) -> sa.sql.dml.Insert:
    """Fills a rollup from `_SUMS`. Both halves' sums of one value are added up; so are those of referrers alike."""
    if table is traffic_hourly:
        return sa.insert(table).from_select(table.c.keys(), _HOURLY.bindparams(bucket=bucket))
    columns = [column.name for column in table.columns if column.computed is None]
    dimension, *names = columns[2:]
    value: sa.ColumnElement[Any] = _SUMS.c[dimension]
    if table is traffic_daily_by_referrer:
        value = short_referrer(value)
    totals = [
        sa.cast((sa.func.max if name == "object_size" else sa.func.sum)(_SUMS.c[name]), sa.BigInteger) for name in names
    ]
    statement = sa.select(sa.literal(bucket), sa.literal(day, sa.Date), value, *totals).group_by(value)
    return sa.insert(table).from_select(columns, statement.where(_SUMS.c.grouped_by == dimension))


_HOURLY = sa.text((Path(__file__).parent / "traffic_hourly.sql").read_text("utf-8")).columns(*traffic_hourly.columns)


def _of_that_day(table: sa.Table, day: date) -> sa.ColumnElement[bool]:
    if table is traffic_hourly:
        return sa.and_(table.c.hour >= midnight(day), table.c.hour < midnight(day) + timedelta(days=1))
    return table.c.request_date == day
