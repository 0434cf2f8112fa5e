"""Rollups of traffic: a day of requests is summed up again, in one transaction, whenever records of it have changed.

Which days these are the loads themselves note, in their own transactions (`recordstore.pending_days`): a late key, a
newer generation or a reparse brings its days back, however old they are. So a rollup is exact, or its day is noted.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from tamarin_dagster.analysis.measures import HOUR, midnight, of_day, short_referrer, sums_of
from tamarin_dagster.recordstore.failures import DayFailure, isolated
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
_SETTINGS = {"work_mem": WORK_MEM, "jit": "off"}
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
        days: those that were summed up again, in order.
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
    last: date | None = None,
    patient: bool = False,
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
            rolled_up = _roll_up_day(engine, bucket, day, regions.get(bucket))
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


def _roll_up_day(engine: sa.Engine, bucket: str, day: date, region: str | None) -> RolledUpDay | None:
    """Sum up a day in one transaction on one connection.

    Returns None if its records have expired, or if another process has rolled it up while this one waited.

    Each statement sees what is committed when it begins, and the records are read by one statement, after the notes
    are deleted: the sums hold all records whose notes are gone. What a load commits later stays noted.
    """
    started = time.monotonic()
    pending, rolled_up = traffic_pending_day.c, traffic_day.c
    this = sa.and_(rolled_up.bucket == bucket, rolled_up.request_date == day)
    with engine.begin() as connection:
        # One roll-up of a day at a time. The lock goes with the transaction, as a pooler between us and Postgres
        # needs it.
        lock = sa.func.hashtextextended(f"traffic {bucket}", day.toordinal())
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        # `expire` drops the month before this transaction, or after it. The same lock first, so that neither waits
        # for the other with a lock in hand.
        connection.exec_driver_sql("LOCK TABLE ONLY s3_log_record IN ACCESS SHARE MODE")
        # For sums over a day: groups in memory, and nothing compiled, which takes longer than it saves.
        connection.execute(sa.select(*(sa.func.set_config(name, value, True) for name, value in _SETTINGS.items())))
        noted = sa.delete(traffic_pending_day).where(pending.bucket == bucket, pending.request_date == day)
        if not connection.execute(noted).rowcount:
            return None
        if connection.scalar(sa.select(rolled_up.expired_at).where(this)):
            _log.info("%s, %s: the records have expired, the rollups stay as they are", bucket, day)
            return None
        _sum_up(connection, bucket, day, region)
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


def _sum_up(connection: sa.Connection, bucket: str, day: date, region: str | None) -> None:
    """Fill `_SUMS`, which lives as long as the transaction: a row for each value of each dimension."""
    connection.execute(CreateTable(_SUMS))
    connection.execute(sa.insert(_SUMS).from_select(_SUMS.c.keys(), sums_of(bucket, day, region)))


_SUMS = sa.Table(
    "traffic_sums",
    sa.MetaData(),
    *(sa.Column(column.name, column.type) for column in sums_of("", date(2006, 3, 14), None).selected_columns),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)


def _filled(table: sa.Table, bucket: str, day: date) -> sa.sql.dml.Insert:
    """Fills a rollup from `_SUMS`. The sums of referrers that are alike before their query are added up."""
    if table is traffic_hourly:
        return sa.insert(table).from_select(table.c.keys(), _HOURLY.bindparams(bucket=bucket))
    columns = [column.name for column in table.columns if column.computed is None]
    dimension, *names = columns[2:]
    value: sa.ColumnElement[Any] = _SUMS.c[dimension]
    totals: list[sa.ColumnElement[Any]] = [_SUMS.c[name] for name in names]
    if table is traffic_daily_by_referrer:
        value, totals = short_referrer(value), [sa.func.sum(each) for each in totals]
    statement = sa.select(sa.literal(bucket), sa.literal(day, sa.Date), value, *totals)
    if table is traffic_daily_by_referrer:
        statement = statement.group_by(value)
    return sa.insert(table).from_select(columns, statement.where(_SUMS.c.grouped_by == dimension))


_HOURLY = sa.text((Path(__file__).parent / "traffic_hourly.sql").read_text("utf-8")).columns(*traffic_hourly.columns)


def _of_that_day(table: sa.Table, day: date) -> sa.ColumnElement[bool]:
    if table is traffic_hourly:
        return sa.and_(table.c.hour >= midnight(day), table.c.hour < midnight(day) + timedelta(days=1))
    return table.c.request_date == day
