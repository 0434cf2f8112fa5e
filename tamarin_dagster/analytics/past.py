"""The past that a bucket's traffic is measured by: which of its days are known, and when a day can be judged."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import sqlalchemy as sa

from tamarin_dagster.recordstore.pending_days import due_days
from tamarin_dagster.traffic.baseline import PAST_DAYS

# Days that a warning names; the others are counted.
MAX_NAMED_DAYS = 5
# S3 delivers most records within a few hours (docs/explanation/completeness.md). A late record makes a sum
# too low, never too high: so a rise is reported at once, and only what is a proportion waits.
SETTLED_AFTER = timedelta(hours=3)


def last_settled_day(now: datetime) -> date:
    """The last UTC day that ended SETTLED_AFTER ago or earlier. `now` is aware, in UTC."""
    return (now - SETTLED_AFTER).date() - timedelta(days=1)


def known_days(connection: sa.Connection, bucket: str, first: date, last: date) -> frozenset[date]:
    """Return those of the UTC days `first` to `last` whose traffic is known (see the function s3_known_days)."""
    days = sa.func.s3_known_days(bucket, sa.literal(first, sa.Date), sa.literal(last, sa.Date), type_=sa.Date)
    return frozenset(connection.scalars(sa.select(days)))


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
