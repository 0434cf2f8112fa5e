"""Faults of S3's best-effort delivery: records delivered twice, a silent bucket, deletions that keep failing.

Also records that contain the beginning of another record, because of a lost newline or a forgery.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.recordstore.ledger import cut_pages, is_delivered_in, list_live_ids
from tamarin_dagster.recordstore.schema.answer_views import s3_hidden_record
from tamarin_dagster.recordstore.schema.tables import s3_duplicate_record, s3_log_key

# How many of the findings are named; the others are counted.
SAMPLE = 20
# Long enough for two weekends, short enough to forget what is no longer usual.
BASELINE_DAYS = 14


@dataclass(frozen=True, slots=True)
class DuplicateRecord:
    """A record that several log keys hold: the number of extra rows, and the keys' names."""

    request_dtime: datetime
    request_id: str | None
    copies: int
    log_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Records of one delivery period's log keys that another log key holds too.

    Attributes:
        records: the number of different records.
        copies: the number of extra rows.
        samples: the earliest of the records.
    """

    records: int = 0
    copies: int = 0
    samples: tuple[DuplicateRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class HiddenRecord:
    """A record that contains the beginnings of `hidden_records` other records, in the columns `fields`."""

    request_dtime: datetime
    log_key: str
    line_number: int
    hidden_records: int
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HiddenRecords:
    """Records inside other records, in one delivery period's log keys.

    Attributes:
        records: the number of records that contain others.
        hidden_records: the number of beginnings of others in them.
        samples: the earliest of the records.
    """

    records: int = 0
    hidden_records: int = 0
    samples: tuple[HiddenRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryBaseline:
    """When a bucket's log keys arrived, over the last BASELINE_DAYS days before the newest of them.

    Attributes:
        deliveries: minutes (UTC) with at least one key: S3 delivers several keys at a time.
        first, last: the first and the last of these minutes.
        largest_gap: the longest time between two successive ones.
    """

    deliveries: int = 0
    first: datetime | None = None
    last: datetime | None = None
    largest_gap: timedelta | None = None


@dataclass(frozen=True, slots=True)
class FailingPurge:
    """A log key that cannot be deleted: why, and since when."""

    key: str
    error: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class FailingPurges:
    """The number of log keys that cannot be deleted, and those that have failed longest."""

    keys: int = 0
    samples: tuple[FailingPurge, ...] = ()


def find_duplicates(connection: sa.Connection, bucket: str, period: DeliveryPeriod) -> Duplicates:
    """Return records of the bucket's log keys of that period that any other log key, of any day, holds too.

    The records are read over the span of the keys' request times. A duplicate across two periods counts for each.
    """
    key = s3_log_key.c
    span = sa.select(sa.func.min(key.first_request_dtime), sa.func.max(key.last_request_dtime)).where(
        key.bucket == bucket, is_delivered_in(period), key.superseded_at.is_(None)
    )
    first, last = connection.execute(span).one()
    if first is None:
        return Duplicates()
    duplicate = s3_duplicate_record.c
    # Look them up by id: a duplicate has two or three ids, the day a hundred thousand. OFFSET 0 keeps the planner from
    # turning it into a join.
    of_the_day = (
        sa.select(key.id)
        .where(key.id == sa.any_(duplicate.log_key_ids), key.bucket == bucket, is_delivered_in(period))
        .offset(sa.literal_column("0"))
        .correlate(s3_duplicate_record)
        .exists()
    )
    statement = (
        sa.select(
            duplicate.request_dtime,
            duplicate.request_id,
            duplicate.copies,
            duplicate.log_key_ids,
            sa.func.count().over().label("records"),
            sa.func.sum(duplicate.copies).over().label("all_copies"),
        )
        .where(duplicate.request_dtime.between(first, last), of_the_day)
        .order_by(duplicate.request_dtime, duplicate.request_id)
        .limit(SAMPLE)
    )
    rows = connection.execute(statement).all()
    if not rows:
        return Duplicates()
    names = _names(connection, [id_ for row in rows for id_ in row.log_key_ids])
    return Duplicates(
        records=rows[0].records,
        copies=int(rows[0].all_copies),
        samples=tuple(
            DuplicateRecord(
                row.request_dtime, row.request_id, row.copies, tuple(names.get(id_, "") for id_ in row.log_key_ids)
            )
            for row in rows
        ),
    )


def find_hidden_records(connection: sa.Connection, bucket: str, period: DeliveryPeriod) -> HiddenRecords:
    """Count the records of the bucket's live log keys of that period that contain the beginning of another record.

    Like `ledger.count_differences`, it reads the records over the span of the keys' request times and ids, so that
    other days and other partitions cost nothing.
    """
    pages = [_find_hidden_in_page(connection, page) for page in cut_pages(list_live_ids(connection, bucket, period))]
    samples = sorted((sample for page in pages for sample in page.samples), key=_find_place)
    return HiddenRecords(
        sum(page.records for page in pages), sum(page.hidden_records for page in pages), tuple(samples[:SAMPLE])
    )


def _find_place(sample: HiddenRecord) -> tuple[datetime, str, int]:
    return sample.request_dtime, sample.log_key, sample.line_number


def _find_hidden_in_page(connection: sa.Connection, ids: Sequence[int]) -> HiddenRecords:
    chosen = {"ids": list(ids)}
    span = sa.select(sa.func.min(s3_log_key.c.first_request_dtime), sa.func.max(s3_log_key.c.last_request_dtime))
    first, last = connection.execute(span.where(s3_log_key.c.id == sa.any_(_IDS)), chosen).one()
    if first is None:
        return HiddenRecords()
    hidden = s3_hidden_record.c
    # Test the ids last: otherwise the BRIN index would be walked once for each of them. OFFSET 0 keeps the planner
    # from testing them first.
    found = (
        sa.select(
            hidden.request_dtime,
            hidden.log_key_id,
            hidden.log_key,
            hidden.line_number,
            hidden.hidden_records,
            hidden.fields,
        )
        .where(hidden.request_dtime.between(first, last), hidden.log_key_id.between(ids[0], ids[-1]))
        .offset(sa.literal_column("0"))
        .subquery()
    )
    statement = (
        sa.select(
            found,
            sa.func.count().over().label("all_records"),
            sa.func.sum(found.c.hidden_records).over().label("all_hidden"),
        )
        .where(found.c.log_key_id == sa.any_(_IDS))
        .order_by(found.c.request_dtime, found.c.log_key, found.c.line_number)
        .limit(SAMPLE)
    )
    rows = connection.execute(statement, chosen).all()
    if not rows:
        return HiddenRecords()
    samples = tuple(
        HiddenRecord(row.request_dtime, row.log_key, row.line_number, row.hidden_records, tuple(row.fields))
        for row in rows
    )
    return HiddenRecords(rows[0].all_records, int(rows[0].all_hidden), samples)


_IDS = sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger))


def _names(connection: sa.Connection, ids: Sequence[int]) -> dict[int, str]:
    key = s3_log_key.c
    return {row.id: row.key for row in connection.execute(sa.select(key.id, key.key).where(key.id.in_(ids)))}


def get_delivery_baseline(connection: sa.Connection, bucket: str, now: datetime) -> DeliveryBaseline:
    """Return when the bucket's live log keys arrived. Keys whose names have a time after `now` are ignored.

    It reads only those days' keys, by index, whatever else the ledger holds, and returns at most 20,000 minutes.
    """
    values = {"bucket": bucket, "now": now, "days": BASELINE_DAYS}
    minutes = list(connection.scalars(_MINUTES, values))
    if not minutes:
        return DeliveryBaseline()
    recent = [minute for minute in minutes if minute >= minutes[-1] - timedelta(days=BASELINE_DAYS)]
    gaps = [later - earlier for earlier, later in pairwise(recent)]
    return DeliveryBaseline(len(recent), recent[0], recent[-1], max(gaps, default=None))


# It reads the time of a delivery from the name as views/s3_delivery_lateness.sql does, but only once for each minute: a
# day of a busy bucket has a hundred thousand keys. OFFSET 0 keeps the planner from computing a key's time at each use.
_MINUTES = sa.text(
    """
    WITH newest AS (
        SELECT k.delivery_date AS day FROM s3_log_key k
        WHERE k.bucket = :bucket AND k.superseded_at IS NULL
          AND k.delivery_date <= CAST(CAST(:now AS timestamptz) AT TIME ZONE 'UTC' AS date)
        ORDER BY k.delivery_date DESC LIMIT 1
    ), minute AS (
        SELECT
            named.delivery_date, left(named.time, 5) AS time, min(named.last_modified) AS first_modified,
            CASE WHEN named.time = '00-00-00' OR translate(named.time, '123456789', '000000000') <> '00-00-00'
                THEN date_trunc('minute', named.last_modified) END AS modified
        FROM (
            SELECT
                k.delivery_date, k.last_modified,
                -- a suffix such as .gz or .txt.zst; the 16 characters before it have no dot
                left(right(CASE position('.' IN right(k.key, 8))
                    WHEN 0 THEN k.key
                    ELSE left(k.key, position('.' IN right(k.key, 8)) - 9)
                END, 25), 8) AS time
            FROM s3_log_key k
            WHERE k.bucket = :bucket AND k.superseded_at IS NULL
              AND k.delivery_date BETWEEN (SELECT day FROM newest) - CAST(:days AS integer) AND (SELECT day FROM newest)
            OFFSET 0
        ) named
        GROUP BY 1, 2, modified
    )
    SELECT DISTINCT delivery.delivered
    FROM minute
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN minute.time ~ '^([01][0-9]|2[0-3])-[0-5][0-9]$' THEN greatest(
                minute.modified,
                (minute.delivery_date + CAST(replace(minute.time, '-', ':') AS time)) AT TIME ZONE 'UTC')
            ELSE date_trunc('minute', minute.first_modified)
        END AS delivered
    ) delivery
    WHERE delivery.delivered <= :now
    ORDER BY 1
    """
)


def find_failing_purges(connection: sa.Connection, bucket: str, since: datetime) -> FailingPurges:
    """Return the bucket's log keys whose deletion has been failing since `since` or longer.

    Expired keys are excluded: nothing is proved of them any more, so no purge tries them.
    """
    key = s3_log_key.c
    statement = (
        sa.select(key.key, key.purge_error, key.purge_failed_at, sa.func.count().over().label("keys"))
        .where(
            key.bucket == bucket,
            key.purge_failed_at <= since,
            key.superseded_at.is_(None),
            key.purged_at.is_(None),
            key.expired_at.is_(None),
        )
        .order_by(key.purge_failed_at, key.id)
        .limit(SAMPLE)
    )
    rows = connection.execute(statement).all()
    if not rows:
        return FailingPurges()
    samples = tuple(FailingPurge(row.key, row.purge_error, row.purge_failed_at) for row in rows)
    return FailingPurges(rows[0].keys, samples)
