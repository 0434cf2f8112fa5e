"""Check that rollups add up to the records that they were made of."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

import sqlalchemy as sa

from tamarin_dagster.recordstore.days import midnight, of_day
from tamarin_dagster.recordstore.failures import DayFailure, isolate_failure
from tamarin_dagster.recordstore.pending_days import select_due_days
from tamarin_dagster.recordstore.schema.tables import s3_log_record
from tamarin_dagster.recordstore.schema.traffic_tables import ROLLUPS, traffic_day, traffic_hourly

# Days that one call adds up. After a backfill of years, later calls take the rest.
CHECKED_DAYS = 62
_REMEDY = "the other days are checked, and the next check tries this one again: fix the cause"


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of a rollup, or of the records themselves."""

    requests: int
    bytes_sent: int
    error_count: int


@dataclass(frozen=True, slots=True)
class SumDifference:
    """A day of a bucket whose rollup does not add up to its records."""

    rollup: str
    bucket: str
    day: date
    records: Sums
    found: Sums


@dataclass(frozen=True, slots=True)
class CheckedSums:
    """The number of days added up and of those left for the next call, the differences, and the failures."""

    days: int
    left: int
    differences: tuple[SumDifference, ...]
    failures: tuple[DayFailure, ...] = ()


def check_sums(engine: sa.Engine, *, skips: Collection[str] = ()) -> CheckedSums:
    """Add up each day that was rolled up since it was last found right, latest first; without the buckets `skips`.

    A day that has changed since its roll-up is left out: it is noted, and comes again after the next roll-up. A day
    with a difference is checked in each call.
    """
    day, pending = traffic_day.c, select_due_days().c
    is_pending = sa.exists().where(pending.request_date == day.request_date, pending.bucket == day.bucket)
    unchecked = sa.and_(
        day.checked_at.is_distinct_from(day.rolled_up_at),
        day.expired_at.is_(None),
        day.bucket.not_in(skips),
        ~is_pending,
    )
    differences: list[SumDifference] = []
    failures: list[DayFailure] = []
    with engine.connect() as connection:
        chosen = connection.execute(
            sa.select(day.bucket, day.request_date).where(unchecked).order_by(day.request_date.desc(), day.bucket)
        ).all()
    for bucket, when in chosen[:CHECKED_DAYS]:
        with isolate_failure(failures, "add up the rollups", bucket, when, _REMEDY):
            differences += _check_day(engine, bucket, when)
    days = min(len(chosen), CHECKED_DAYS)
    return CheckedSums(days - len(failures), len(chosen) - days, tuple(differences), tuple(failures))


def _check_day(engine: sa.Engine, bucket: str, when: date) -> list[SumDifference]:
    """Add up a day in one snapshot, and note it if it is right."""
    record, day, pending = s3_log_record.c, traffic_day.c, select_due_days().c
    with engine.connect() as plain:
        connection = plain.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            this = sa.and_(day.bucket == bucket, day.request_date == when)
            noted = sa.exists().where(pending.bucket == bucket, pending.request_date == when)
            rolled_up_at = connection.scalar(sa.select(day.rolled_up_at).where(this, ~noted))
            if rolled_up_at is None:
                return []
            succeeded = sa.and_(record.http_status >= 200, record.http_status < 300)
            failed = sa.or_(record.http_status >= 400, sa.and_(succeeded, record.error_code.is_not(None)))
            errors = sa.func.count().filter(failed)
            size = sa.func.coalesce(sa.func.sum(record.bytes_sent), 0)
            records = _sums(
                connection, sa.select(sa.func.count(), size, errors).where(record.bucket == bucket, of_day(when))
            )
            differences = []
            for table in ROLLUPS:
                found = _sums(connection, _read_rollup_sums(table, bucket, when))
                if found != records:
                    differences.append(SumDifference(table.name, bucket, when, records, found))
    if not differences:
        with engine.begin() as connection:
            connection.execute(sa.update(traffic_day).where(this).values(checked_at=rolled_up_at))
    return differences


def _read_rollup_sums(table: sa.Table, bucket: str, when: date) -> sa.Select[tuple[int, int, int]]:
    column = table.c
    if table is traffic_hourly:
        of_that_day = sa.and_(column.hour >= midnight(when), column.hour < midnight(when) + timedelta(days=1))
    else:
        of_that_day = column.request_date == when
    sums = (sa.func.coalesce(sa.func.sum(column[name]), 0) for name in ("requests", "bytes_sent", "error_count"))
    return sa.select(*sums).where(column.bucket == bucket, of_that_day)


def _sums(connection: sa.Connection, statement: sa.Select[tuple[int, int, int]]) -> Sums:
    return Sums(*(int(value) for value in connection.execute(statement).one()))
