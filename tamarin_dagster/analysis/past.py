"""The past that a bucket's traffic is measured by: which of its days are known, and when a day can be judged."""

from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from tamarin_dagster.recordstore.traffic_tables import traffic_day, traffic_pending_day

# Four weeks: each hour of the week four times.
PAST_DAYS = 28
# Half of that: a median of fewer days follows each of them.
LEAST_DAYS = 14
# S3 delivers most records within a few hours (docs/completeness.md). A late record makes a sum too low, never too high:
# so a rise is told at once, and only what is a proportion waits.
SETTLED_AFTER = timedelta(hours=3)


def last_settled_day(now: datetime) -> date:
    """The last UTC day that ended SETTLED_AFTER ago or earlier. `now` is aware, in UTC."""
    return (now - SETTLED_AFTER).date() - timedelta(days=1)


def known_days(connection: sa.Connection, bucket: str, first: date, last: date) -> frozenset[date]:
    """Those of the UTC days `first` to `last` whose traffic is known.

    A day without rollups had no requests if somebody was loading by then, that is since the oldest rollups were made;
    before that it may be one that a backfill has not come to.
    """
    day = traffic_day.c
    watched_from = connection.scalar(sa.select(sa.func.min(day.rolled_up_at)).where(day.bucket == bucket))
    if watched_from is None:
        return frozenset()
    statement = sa.select(day.request_date).where(day.bucket == bucket, day.request_date.between(first, last))
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return frozenset(connection.scalars(statement)) | {
        each for each in days if each > watched_from.astimezone(UTC).date()
    }


def known_days_before(connection: sa.Connection, bucket: str, day: date) -> frozenset[date]:
    """Those of the PAST_DAYS before that day whose traffic is known."""
    return known_days(connection, bucket, day - timedelta(days=PAST_DAYS), day - timedelta(days=1))


def waiting_days(connection: sa.Connection, bucket: str, first: date, last: date) -> int:
    """How many of these days have records that their rollups do not hold yet."""
    pending = traffic_pending_day.c
    statement = sa.select(sa.func.count(sa.distinct(pending.request_date))).where(
        sa.or_(pending.bucket == bucket, pending.bucket.is_(None)), pending.request_date.between(first, last)
    )
    return connection.execute(statement).scalar_one()
