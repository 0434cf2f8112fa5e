"""Find the days whose rollups a dimension has not read yet, and let only one process do that at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.recordstore.schema.dimension_tables import dimension_day
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day

# One process at a time fills dimensions. The number is arbitrary, but must not change: all versions share the lock.
_LOCK = 2011_0306
REMEDY = "the day stays pending, and the other days are not affected: fix the cause, then run `tamarin-dagster roll-up`"


@dataclass(frozen=True, slots=True)
class UnseenDay:
    """A bucket's day whose rollups were made at `rolled_up_at`, and that a dimension has not read since."""

    bucket: str
    request_date: date
    rolled_up_at: datetime


@contextmanager
def lock_dimensions(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin a transaction that only one process has at a time: it sees what the process before it has committed."""
    with engine.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield connection


def list_unseen_days(connection: sa.Connection, dimension: str) -> list[UnseenDay]:
    """Return the days that were rolled up since the dimension read them, oldest first."""
    seen = dimension_day.c
    day = traffic_day.c
    is_same_day = sa.and_(seen.dimension == dimension, seen.bucket == day.bucket, seen.request_date == day.request_date)
    found = connection.execute(
        sa.select(day.bucket, day.request_date, day.rolled_up_at)
        .select_from(traffic_day.outerjoin(dimension_day, is_same_day))
        .where(seen.rolled_up_at.is_distinct_from(day.rolled_up_at))
        .order_by(day.request_date, day.bucket)
    )
    return [UnseenDay(*row) for row in found]


def is_unseen(connection: sa.Connection, dimension: str, day: UnseenDay) -> bool:
    """Return whether no other process has read these rollups since `list_unseen_days` returned the day."""
    seen = dimension_day.c
    found = sa.select(seen.rolled_up_at).where(
        seen.dimension == dimension, seen.bucket == day.bucket, seen.request_date == day.request_date
    )
    return connection.scalar(found) != day.rolled_up_at


def note_days(connection: sa.Connection, dimension: str, days: list[UnseenDay]) -> None:
    """Note that these rollups were read; a later roll-up of the same days makes them pending again."""
    if not days:
        return
    insert = postgresql.insert(dimension_day)
    rows = [
        {
            "dimension": dimension,
            "bucket": day.bucket,
            "request_date": day.request_date,
            "rolled_up_at": day.rolled_up_at,
        }
        for day in days
    ]
    key = list(dimension_day.primary_key.columns)
    changed = {"rolled_up_at": insert.excluded.rolled_up_at}
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=changed), rows)
