"""Find how complete a month's figures are: days, log keys, rejected lines, lateness, records delivered twice."""

from datetime import UTC, date, datetime, timedelta
from itertools import accumulate

import sqlalchemy as sa

from tamarin_dagster.analytics.past import waiting_days
from tamarin_dagster.analytics.report.figures import Completeness, Lateness
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.recordstore.schema.tables import s3_delivery_lateness, s3_duplicate_record, s3_log_key
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day

# Lateness and duplicates are read from the records themselves: a million take two seconds on two cores.
MEASURED_RECORDS = 1_000_000
# S3 delivers nearly all records within a day.
_OPEN_AFTER = timedelta(hours=24)


def measure_completeness(connection: sa.Connection, bucket: str, month: Month, now: datetime) -> Completeness:
    """Return how complete the month is. Only the newest days' records are read, at most MEASURED_RECORDS."""
    today = now.astimezone(UTC).date()
    last = min(month.last, today)
    key = s3_log_key.c
    within = (key.bucket == bucket, key.delivery_date.between(month.first, month.last), key.superseded_at.is_(None))
    rolled_up = _rolled_up_days(connection, bucket, month)
    measured_from = _measured_from(rolled_up)
    open_days = {day for day in (last, last - timedelta(days=1)) if _is_open(day, now) and day >= month.first}
    lateness = duplicates = None
    if measured_from is not None:
        lateness, also_open = _lateness(connection, bucket, measured_from, month.last)
        open_days |= also_open
        duplicates = _duplicates(connection, bucket, measured_from, month)
    return Completeness(
        days=max((last - month.first).days + 1, 0),
        rolled_up_days=len(rolled_up),
        pending_days=waiting_days(connection, bucket, month.first, last),
        open_days=tuple(sorted(open_days)),
        log_keys=connection.scalar(sa.select(sa.func.count()).where(*within)) or 0,
        rejected_lines=int(
            connection.scalar(
                sa.select(sa.func.coalesce(sa.func.sum(key.rejected_count), 0)).where(*within, key.rejected_count > 0)
            )
            or 0
        ),
        measured_from=measured_from,
        lateness=lateness,
        duplicate_records=duplicates,
    )


def _is_open(day: date, now: datetime) -> bool:
    return now < datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1) + _OPEN_AFTER


def _rolled_up_days(connection: sa.Connection, bucket: str, month: Month) -> list[sa.Row[tuple[date, int, bool]]]:
    """Return the days, the newest first, with their number of records and whether these still exist."""
    day = traffic_day.c
    statement = (
        sa.select(day.request_date, day.requests, day.expired_at.is_(None).label("has_records"))
        .where(day.bucket == bucket, day.request_date.between(month.first, month.last))
        .order_by(day.request_date.desc())
    )
    return list(connection.execute(statement).all())


def _measured_from(newest_first: list[sa.Row[tuple[date, int, bool]]]) -> date | None:
    found = None
    so_far = accumulate(row.requests for row in newest_first)
    for row, records in zip(newest_first, so_far, strict=True):
        if records > MEASURED_RECORDS or not row.has_records:
            break
        found = row.request_date
    return found


def _lateness(connection: sa.Connection, bucket: str, first: date, last: date) -> tuple[Lateness | None, set[date]]:
    """Return the lateness of the days from `first` to `last`, and the days that S3 may still add to."""
    day = s3_delivery_lateness.c
    statement = sa.select(day.request_date, day.median_lateness, day.p95_lateness, day.is_open).where(
        day.bucket == bucket, day.request_date.between(first, last)
    )
    rows = connection.execute(statement).all()
    if not rows:
        return None, set()
    medians, nineties = (sorted(values) for values in zip(*((row[1], row[2]) for row in rows), strict=True))
    middle = (len(rows) - 1) // 2
    return Lateness(medians[middle], nineties[middle]), {row.request_date for row in rows if row.is_open}


def _duplicates(connection: sa.Connection, bucket: str, first: date, month: Month) -> int:
    duplicate = s3_duplicate_record.c
    statement = sa.select(sa.func.coalesce(sa.func.sum(duplicate.copies), 0)).where(
        duplicate.bucket == bucket,
        duplicate.request_dtime >= datetime.combine(first, datetime.min.time(), UTC),
        duplicate.request_dtime < month.end,
    )
    return int(connection.scalar(statement) or 0)
