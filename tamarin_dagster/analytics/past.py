"""The past that a bucket's traffic is measured by: which of its days are known, and when a day can be judged."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from tamarin_dagster.recordstore.pending_days import due_days
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day

# Four weeks: each hour of the week four times.
PAST_DAYS = 28
# Half of that: a median of fewer days follows each of them.
LEAST_DAYS = 14
# Days that a warning names; the others are counted.
MAX_NAMED_DAYS = 5
# S3 delivers most records within a few hours (docs/explanation/completeness.md). A late record makes a sum
# too low, never too high: so a rise is reported at once, and only what is a proportion waits.
SETTLED_AFTER = timedelta(hours=3)


def last_settled_day(now: datetime) -> date:
    """The last UTC day that ended SETTLED_AFTER ago or earlier. `now` is aware, in UTC."""
    return (now - SETTLED_AFTER).date() - timedelta(days=1)


def known_days(connection: sa.Connection, bucket: str, first: date, last: date) -> frozenset[date]:
    """Those of the UTC days `first` to `last` whose traffic is known.

    A day without rollups had no requests if somebody was loading by then, that is since the oldest rollups were made;
    before that it may be one that a backfill has not come to. A day that has records and no rollups yet is not known.
    """
    day = traffic_day.c
    watched_from = connection.scalar(sa.select(sa.func.min(day.rolled_up_at)).where(day.bucket == bucket))
    if watched_from is None:
        return frozenset()
    statement = sa.select(day.request_date).where(day.bucket == bucket, day.request_date.between(first, last))
    days = {first + timedelta(days=number) for number in range((last - first).days + 1)}
    days -= set(waiting_days(connection, bucket, first, last))
    return frozenset(connection.scalars(statement)) | {
        each for each in days if each > watched_from.astimezone(UTC).date()
    }


def known_days_before(connection: sa.Connection, bucket: str, day: date) -> frozenset[date]:
    """Those of the PAST_DAYS before that day whose traffic is known."""
    return known_days(connection, bucket, day - timedelta(days=PAST_DAYS), day - timedelta(days=1))


def waiting_days(connection: sa.Connection, bucket: str, first: date, last: date) -> tuple[date, ...]:
    """Those of these days that have records which their rollups do not hold yet, in order."""
    pending = due_days().c
    statement = (
        sa.select(pending.request_date)
        .where(sa.or_(pending.bucket == bucket, pending.bucket.is_(None)), pending.request_date.between(first, last))
        .distinct()
        .order_by(pending.request_date)
    )
    return tuple(connection.scalars(statement))


def incomplete_warning(bucket: str, days: Sequence[date]) -> str:
    """What to say of an answer that lacks records of these days."""
    named = ", ".join(map(str, days[:MAX_NAMED_DAYS]))
    more = f" and {len(days) - MAX_NAMED_DAYS:,} more" if len(days) > MAX_NAMED_DAYS else ""
    return (
        f"bucket {bucket}: totals are incomplete: records of {named}{more} are not in the rollups yet;"
        " run `tamarin-dagster roll-up`, then ask again"
    )
