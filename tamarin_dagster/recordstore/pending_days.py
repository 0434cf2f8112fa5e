"""The queue of the days that are to be rolled up: whoever changes records notes their days in the same transaction."""

from collections.abc import Collection
from datetime import date

import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.recordstore.ledger import delivered_in_any
from tamarin_dagster.recordstore.tables import s3_log_key, s3_log_record
from tamarin_dagster.recordstore.traffic_tables import traffic_day, traffic_pending_day

# No bucket's name is longer (63 characters, and 255 before 2018); an index could not hold what is much longer.
BUCKET_BYTES = 255


def note(connection: sa.Connection, days: Collection[tuple[str, date]]) -> None:
    """Notes that records of these buckets and UTC days have changed. Only adds rows: nobody waits for anybody."""
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
    """Notes the request days of the bucket's log keys of these delivery periods once more.

    Besides the bucket's own those of buckets that only its lines name, if they are rolled up: not of `skips`.
    """
    key, rolled_up = s3_log_key.c, traffic_day.c
    first, last = (
        sa.cast(sa.func.timezone("UTC", time), sa.Date) for time in (key.first_request_dtime, key.last_request_dtime)
    )
    spans = (
        sa.select(first.label("first"), last.label("last"))
        .where(key.bucket == bucket, delivered_in_any(periods), key.superseded_at.is_(None), first.is_not(None))
        .distinct()
        .subquery()
    )
    day = sa.cast(sa.func.generate_series(spans.c.first, spans.c.last, sa.text("interval '1 day'")), sa.Date)
    days = sa.select(day.label("day")).distinct().subquery()
    named = sa.select(rolled_up.bucket, days.c.day).join(days, rolled_up.request_date == days.c.day)
    noted = sa.union(sa.select(sa.literal(bucket), days.c.day), named.where(rolled_up.bucket.not_in(skips)))
    connection.execute(sa.insert(traffic_pending_day).from_select(["bucket", "request_date"], noted))


def delete_records(connection: sa.Connection, chosen: sa.ColumnElement[bool]) -> None:
    """Deletes those records, and notes their days."""
    record = s3_log_record.c
    gone = sa.delete(s3_log_record).where(chosen).returning(record.bucket, record.request_dtime).cte("gone")
    day = sa.cast(sa.func.timezone("UTC", gone.c.request_dtime), sa.Date)
    of_bucket = sa.func.octet_length(gone.c.bucket) <= BUCKET_BYTES
    days = sa.select(gone.c.bucket, day).where(of_bucket).distinct()
    connection.execute(sa.insert(traffic_pending_day).from_select(["bucket", "request_date"], days))
