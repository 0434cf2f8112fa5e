"""Find the days that a bucket's traffic is compared with: which are known, and when a day can be judged."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import sqlalchemy as sa

from tamarin_dagster.recordstore.pending_days import select_due_days
from tamarin_dagster.traffic.baseline import PAST_DAYS

# The number of days that a warning names; it counts the others.
MAX_NAMED_DAYS = 5
# S3 delivers most records within a few hours (docs/explanation/completeness.md). Until a late record comes, a sum is
# too low, never too high. So a rise is reported at once, and only shares and rates have to wait.
SETTLED_AFTER = timedelta(hours=3)


def find_last_settled_day(now: datetime) -> date:
    """Return the last UTC day that ended at least SETTLED_AFTER ago. `now` is aware, in UTC."""
    return (now - SETTLED_AFTER).date() - timedelta(days=1)


def list_known_days(connection: sa.Connection, bucket: str, first: date, last: date) -> frozenset[date]:
    """Return those of the UTC days `first` to `last` whose traffic is known (see the function s3_known_days)."""
    days = sa.func.s3_known_days(bucket, sa.literal(first, sa.Date), sa.literal(last, sa.Date), type_=sa.Date)
    return frozenset(connection.scalars(sa.select(days)))


def list_known_days_before(connection: sa.Connection, bucket: str, day: date) -> frozenset[date]:
    """Return those of the PAST_DAYS before that day whose traffic is known."""
    return list_known_days(connection, bucket, day - timedelta(days=PAST_DAYS), day - timedelta(days=1))


def waiting_days(connection: sa.Connection, bucket: str, first: date, last: date) -> tuple[date, ...]:
    """Return those of the days `first` to `last` with records that are not in their rollups yet, in order."""
    pending = select_due_days().c
    statement = (
        sa.select(pending.request_date)
        .where(sa.or_(pending.bucket == bucket, pending.bucket.is_(None)), pending.request_date.between(first, last))
        .distinct()
        .order_by(pending.request_date)
    )
    return tuple(connection.scalars(statement))


def describe_incomplete(bucket: str, days: Sequence[date]) -> str:
    """Return the warning for an answer that lacks records of these days."""
    named = ", ".join(map(str, days[:MAX_NAMED_DAYS]))
    more = f" and {len(days) - MAX_NAMED_DAYS:,} more" if len(days) > MAX_NAMED_DAYS else ""
    return (
        f"bucket {bucket}: totals are incomplete: records of {named}{more} are not in the rollups yet;"
        " run `tamarin-dagster roll-up`, then ask again"
    )
