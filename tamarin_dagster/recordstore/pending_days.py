"""Find the days to roll up: those with parts that are not merged yet, and those noted to be summed up again.

A load stores its sums as parts (`recordstore.stored_parts`). Code that deletes records notes their days in the same
transaction.
"""

from collections.abc import Collection
from datetime import date

import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.recordstore.ledger import is_delivered_in_any
from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_log_record
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day, traffic_part, traffic_pending_day

# No bucket has a longer name (63 characters, and 255 before 2018), and an index cannot hold much longer ones.
BUCKET_BYTES = 255


def select_due_days() -> sa.Subquery:
    """Return a subquery of the buckets and days that are due; a day may be in it more than once.

    A null bucket means all buckets of the day.
    """
    pending, part = traffic_pending_day.c, traffic_part.c
    return sa.union_all(
        sa.select(pending.bucket, pending.request_date),
        sa.select(part.bucket, part.request_date).where(~part.is_merged),
    ).subquery("due_day")


def note(connection: sa.Connection, days: Collection[tuple[str, date]]) -> None:
    """Note that the records of these buckets and UTC days must be summed up again. It only adds rows: no load waits."""
    kept = sorted(day for day in days if len(day[0].encode()) <= BUCKET_BYTES)
    if kept:
        connection.execute(_NOTE, {"buckets": [bucket for bucket, _ in kept], "days": [day for _, day in kept]})


_NOTE = sa.insert(traffic_pending_day).from_select(
    ["bucket", "request_date"],
    sa.select(
        sa.func.unnest(sa.bindparam("buckets", type_=sa.ARRAY(sa.Text))),
        sa.func.unnest(sa.bindparam("days", type_=sa.ARRAY(sa.Date))),
    ),
)


def note_delivered(
    connection: sa.Connection, bucket: str, periods: Collection[DeliveryPeriod], skips: Collection[str]
) -> None:
    """Note the request days of the bucket's log keys from these delivery periods, to sum them up again.

    If other buckets in its lines have rollups of these days, their days are noted too, without the buckets `skips`.
    """
    key, rolled_up = s3_log_key.c, traffic_day.c
    first, last = (
        sa.cast(sa.func.timezone("UTC", time), sa.Date) for time in (key.first_request_dtime, key.last_request_dtime)
    )
    spans = (
        sa.select(first.label("first"), last.label("last"))
        .where(key.bucket == bucket, is_delivered_in_any(periods), key.superseded_at.is_(None), first.is_not(None))
        .distinct()
        .subquery()
    )
    day = sa.cast(sa.func.generate_series(spans.c.first, spans.c.last, sa.text("interval '1 day'")), sa.Date)
    days = sa.select(day.label("day")).distinct().subquery()
    named = sa.select(rolled_up.bucket, days.c.day).join(days, rolled_up.request_date == days.c.day)
    noted = sa.union(sa.select(sa.literal(bucket), days.c.day), named.where(rolled_up.bucket.not_in(skips)))
    connection.execute(sa.insert(traffic_pending_day).from_select(["bucket", "request_date"], noted))


def note_rolled_up(connection: sa.Connection, first: date, last: date) -> None:
    """Note the days from `first` to `last` that have rollups, to sum them up again."""
    rolled_up = traffic_day.c
    days = sa.select(rolled_up.bucket, rolled_up.request_date).where(rolled_up.request_date.between(first, last))
    connection.execute(sa.insert(traffic_pending_day).from_select(["bucket", "request_date"], days))


def delete_records(connection: sa.Connection, chosen: sa.ColumnElement[bool]) -> None:
    """Delete the chosen records, and note their days."""
    record = s3_log_record.c
    gone = sa.delete(s3_log_record).where(chosen).returning(record.bucket, record.request_dtime).cte("gone")
    day = sa.cast(sa.func.timezone("UTC", gone.c.request_dtime), sa.Date)
    of_bucket = sa.func.octet_length(gone.c.bucket) <= BUCKET_BYTES
    days = sa.select(gone.c.bucket, day).where(of_bucket).distinct()
    connection.execute(sa.insert(traffic_pending_day).from_select(["bucket", "request_date"], days))
