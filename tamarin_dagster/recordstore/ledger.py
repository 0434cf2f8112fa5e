"""Queries of the ledger `s3_log_key`: which keys are loaded, which may be purged, and whether the counts are true."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.logformat import SHAPE_BYTES, DeliveryHour, DeliveryPeriod, RejectReason, mask_line
from tamarin_dagster.logkey import CHANGED_SINCE_LOADED, LogObject
from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_log_record, s3_rejected_line
from tamarin_dagster.recordstore.whole_numbers import WholeNumber

# Keys whose rows are counted at a time, so that the memory of a day's check does not grow with the day.
COUNTED_KEYS = 5_000


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A loaded generation of a log key, with the id of its ledger row."""

    id: int
    object: LogObject
    delivery_date: date
    record_count: int
    rejected_count: int


@dataclass(frozen=True, slots=True)
class CountDifference:
    """A key whose rows differ from what its ledger row says."""

    key: str
    expected_records: int
    found_records: int
    expected_rejected: int
    found_rejected: int


@dataclass(frozen=True, slots=True)
class PeriodCounts:
    """The ledger's counts of one delivery period of a bucket, over its live (not superseded) keys.

    Expired keys count with what they were loaded with.
    """

    keys: int = 0
    purged_keys: int = 0
    lines: int = 0
    records: int = 0
    rejected: int = 0
    blank: int = 0
    bytes: int = 0
    keys_with_rejected: int = 0
    first_request: datetime | None = None
    last_request: datetime | None = None
    expired_keys: int = 0


_LIVE = s3_log_key.c.superseded_at.is_(None)
# Retention has dropped records of the others, so these can no longer be counted.
_UNEXPIRED = s3_log_key.c.expired_at.is_(None)


# The computed column knows `.gz` and `.zst` after the unique part, and is NULL for a name with `.txt` or `.log`. To
# compute it again would rewrite the whole ledger, so the hour of those few names is read here. The index serves both.
_HOUR_IN_NAME = sa.cast(
    sa.func.substring(s3_log_key.c.key, r"([0-9]{2})-[0-9]{2}-[0-9]{2}-[0-9A-Za-z]{16}(?:[.](?:txt|log|gz|zst)){1,2}$"),
    sa.SmallInteger,
)


def is_delivered_in(period: DeliveryPeriod) -> sa.ColumnElement[bool]:
    """Return the condition on `s3_log_key` that a key was delivered on that day, or in that hour."""
    key = s3_log_key.c
    if isinstance(period, DeliveryHour):
        without_hour = sa.and_(key.delivery_hour.is_(None), _HOUR_IN_NAME.in_([period.hour]))
        return sa.and_(key.delivery_date == period.day, sa.or_(key.delivery_hour == period.hour, without_hour))
    return key.delivery_date == period


def is_delivered_in_any(periods: Collection[DeliveryPeriod]) -> sa.ColumnElement[bool]:
    """Return the condition on `s3_log_key` that a key was delivered in one of these days or hours."""
    key = s3_log_key.c
    days = [period for period in periods if not isinstance(period, DeliveryHour)]
    hours = [(period.day, period.hour) for period in periods if isinstance(period, DeliveryHour)]
    if not hours:
        return key.delivery_date.in_(days)
    return sa.or_(
        key.delivery_date.in_(days),
        sa.tuple_(key.delivery_date, key.delivery_hour).in_(hours),
        sa.and_(key.delivery_hour.is_(None), sa.tuple_(key.delivery_date, _HOUR_IN_NAME).in_(hours)),
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """A page of listed objects, compared with the ledger.

    Attributes:
        unseen: those whose generation is not loaded, or was purged and so has returned.
        purged: the names of those that were purged.
        outdated: those that were read before and are skipped: a newer generation of their name is loaded and purged.
    """

    unseen: list[LogObject]
    purged: frozenset[str] = frozenset()
    outdated: tuple[LogObject, ...] = ()


def compare(connection: sa.Connection, log_bucket_name: str, listed: Sequence[LogObject]) -> Compared:
    """Compare these objects with the ledger.

    One index probe for each, whatever else the ledger holds; the server returns only what is not loaded.
    """
    if not listed:
        return Compared([])
    # As JSON, because psycopg takes three times as long to write an array of texts.
    columns = {
        "keys": json.dumps([item.key for item in listed]),
        "etags": json.dumps([item.etag for item in listed]),
        "overwritten": CHANGED_SINCE_LOADED,
    }
    found = connection.execute(_NOT_LOADED, {"log_bucket_name": log_bucket_name, **columns}).all()
    pairs = [(listed[row.place - 1], row) for row in found]
    # An object of the same ETag that was written since is read again: it may be another one.
    outdated = [item for item, row in pairs if row.outdated_since == item.last_modified]
    skipped = set(outdated)
    return Compared(
        [item for item, _ in pairs if item not in skipped],
        frozenset(item.key for item, row in pairs if row.is_purged),
        tuple(outdated),
    )


def list_unseen(connection: sa.Connection, log_bucket_name: str, listed: Sequence[LogObject]) -> list[LogObject]:
    """Return those of a page of listed objects that must be read; see `compare`."""
    return compare(connection, log_bucket_name, listed).unseen


def is_known(connection: sa.Connection, log_bucket_name: str, item: LogObject) -> bool:
    """Return whether that generation is loaded, purged or not."""
    key = s3_log_key.c
    wanted = (key.log_bucket_name == log_bucket_name, key.key == item.key, key.etag == item.etag, _LIVE)
    return connection.scalar(sa.select(key.id).where(*wanted)) is not None


# The unique index gives at most one row. OFFSET 0 keeps the planner from another join, which would read the whole
# ledger if its statistics say that it is empty. A row whose deletion found another object does not stand for the
# present one.
_NOT_LOADED = sa.text(
    """
    SELECT listed.place, known.purged_at IS NOT NULL AS is_purged,
           CASE WHEN known.outdated_at IS NOT NULL THEN known.last_modified END AS outdated_since
    FROM ROWS FROM (json_array_elements_text(CAST(:keys AS json)), json_array_elements_text(CAST(:etags AS json)))
        WITH ORDINALITY AS listed (key, etag, place)
    LEFT JOIN LATERAL (
        SELECT k.purged_at, k.outdated_at, k.last_modified,
               k.superseded_at IS NULL AND k.purged_at IS NULL AND k.purge_error IS DISTINCT FROM :overwritten
                   AS is_loaded
        FROM s3_log_key k
        WHERE k.log_bucket_name = :log_bucket_name AND k.key = listed.key AND k.etag = listed.etag
        OFFSET 0) AS known ON true
    WHERE known.is_loaded IS NOT TRUE
    ORDER BY listed.place
    """
)


def read_period_counts(connection: sa.Connection, bucket: str, period: DeliveryPeriod) -> PeriodCounts:
    """Return the sums over the period's live keys."""
    key = s3_log_key.c
    statement = sa.select(
        sa.func.count(),
        sa.func.count(key.purged_at),
        *(
            sa.type_coerce(sa.func.coalesce(sa.func.sum(column), 0), WholeNumber())
            for column in (key.line_count, key.record_count, key.rejected_count, key.blank_count, key.size)
        ),
        sa.func.count().filter(key.rejected_count > 0),
        sa.func.min(key.first_request_dtime),
        sa.func.max(key.last_request_dtime),
        sa.func.count(key.expired_at),
    ).where(key.bucket == bucket, is_delivered_in(period), _LIVE)
    row: tuple[Any, ...] = tuple(connection.execute(statement).one())
    return PeriodCounts(*row)


def count_rejected_reasons(connection: sa.Connection, bucket: str, period: DeliveryPeriod) -> dict[str, int]:
    """Return how many of the period's lines were rejected, by reason."""
    statement = (
        sa.select(s3_rejected_line.c.reason, sa.func.count())
        .join(s3_log_key, s3_log_key.c.id == s3_rejected_line.c.log_key_id)
        .where(s3_log_key.c.bucket == bucket, is_delivered_in(period))
        .group_by(s3_rejected_line.c.reason)
        .order_by(sa.func.count().desc())
    )
    return {row.reason: row[1] for row in connection.execute(statement)}


@dataclass(frozen=True, slots=True)
class RejectedSample:
    """A rejected line, masked: its place, why it is not a record, and its shape."""

    key: str
    line_number: int
    reason: str
    line_bytes: int
    shape: str


def list_rejected_samples(
    connection: sa.Connection, bucket: str, period: DeliveryPeriod, limit: int
) -> list[RejectedSample]:
    """Return the first rejected lines of the period, by key and line."""
    line = s3_rejected_line.c
    statement = (
        sa.select(
            s3_log_key.c.key,
            line.line_number,
            line.reason,
            line.line_bytes,
            sa.func.substring(line.line, 1, SHAPE_BYTES + 1, type_=sa.LargeBinary).label("start"),
        )
        .join(s3_log_key, s3_log_key.c.id == line.log_key_id)
        .where(s3_log_key.c.bucket == bucket, is_delivered_in(period), s3_log_key.c.rejected_count > 0)
        .order_by(s3_log_key.c.id, line.line_number)
        .limit(limit)
    )
    return [
        RejectedSample(row.key, row.line_number, row.reason, row.line_bytes, mask_line(bytes(row.start)))
        for row in connection.execute(statement)
    ]


def may_be_purged(bucket: str, log_bucket_name: str, *, with_rejected: bool) -> sa.ColumnElement[bool]:
    """Return the condition on `s3_log_key` that a purge of that bucket may delete the key, if its counts are proved."""
    key = s3_log_key.c
    may_go = key.rejected_count == 0
    if with_rejected:
        may_go = sa.or_(may_go, ~_has_oversized_line())
    return sa.and_(
        key.bucket == bucket, key.log_bucket_name == log_bucket_name, key.purged_at.is_(None), _LIVE, _UNEXPIRED, may_go
    )


def list_purgeable(
    connection: sa.Connection,
    bucket: str,
    log_bucket_name: str,
    periods: Collection[DeliveryPeriod] | None,
    limit: int,
    after: int = 0,
    *,
    with_rejected: bool = False,
    archive_place: str | None = None,
) -> list[LoadedKey]:
    """Return loaded keys that are still in the log bucket and may be purged, in the order of their ids after `after`.

    `periods` are those of their delivery; None means all. Keys with rejected lines are included only `with_rejected`,
    and never with an oversized line, of which only the start is stored. Expired keys are excluded, because their rows
    cannot be counted. With an `archive_place`, only keys with their records there are included.
    """
    key = s3_log_key.c
    statement = (
        sa.select(
            key.id,
            key.key,
            key.etag,
            key.size,
            key.last_modified,
            key.version_id,
            key.delivery_date,
            key.record_count,
            key.rejected_count,
        )
        .where(may_be_purged(bucket, log_bucket_name, with_rejected=with_rejected), key.id > after)
        .order_by(key.id)
        .limit(limit)
    )
    if periods is not None:
        statement = statement.where(is_delivered_in_any(periods))
    if archive_place:
        statement = statement.where(key.archived_at.is_not(None), key.archive_place == archive_place)
    return [
        LoadedKey(
            row.id,
            LogObject(row.key, row.etag, row.size, row.last_modified, row.version_id),
            row.delivery_date,
            row.record_count,
            row.rejected_count,
        )
        for row in connection.execute(statement)
    ]


def _has_oversized_line() -> sa.Exists:
    line = s3_rejected_line.c
    return sa.exists().where(line.log_key_id == s3_log_key.c.id, line.reason == str(RejectReason.OVERSIZED))


@dataclass(frozen=True, slots=True)
class KeptKeys:
    """Loaded keys that a purge does not delete, because they have rejected lines.

    Attributes:
        keys: the number of these keys.
        oversized_keys: those of them with an oversized line, which is whole only in the log bucket.
    """

    keys: int
    oversized_keys: int


def count_kept_keys(
    connection: sa.Connection, bucket: str, log_bucket_name: str, periods: Collection[DeliveryPeriod] | None = None
) -> KeptKeys:
    """Count the keys with rejected lines that are still in the log bucket, of these delivery periods (default: all)."""
    key = s3_log_key.c
    statement = sa.select(sa.func.count(), sa.func.count().filter(_has_oversized_line())).where(
        key.bucket == bucket,
        key.log_bucket_name == log_bucket_name,
        key.purged_at.is_(None),
        _LIVE,
        _UNEXPIRED,
        key.rejected_count > 0,
    )
    if periods is not None:
        statement = statement.where(is_delivered_in_any(periods))
    return KeptKeys(*connection.execute(statement).one())


def count_differences(connection: sa.Connection, ids: Sequence[int]) -> list[CountDifference]:
    """Count the rows of those ledger rows, and return the differences; empty if all is as the ledger says.

    Expired keys are left out, since nothing can be said of them.
    """
    differences = (found for page in cut_pages(ids) for found in _count_page(connection, page))
    return sorted(differences, key=lambda found: found.key)


def cut_pages(ids: Sequence[int]) -> Iterator[list[int]]:
    """Yield the ids in their order, at most COUNTED_KEYS at a time."""
    chosen = sorted(ids)
    for start in range(0, len(chosen), COUNTED_KEYS):
        yield chosen[start : start + COUNTED_KEYS]


def _count_page(connection: sa.Connection, ids: Sequence[int]) -> Iterator[CountDifference]:
    """Compare one page of keys.

    The record table is read by the keys' span of request times and ids, so that its BRIN index and its partitions
    exclude everything else. Reading by the ids themselves would walk the index once for each.
    """
    key = s3_log_key.c
    chosen = {"ids": list(ids)}
    wanted = sa.and_(key.id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger))), _UNEXPIRED)
    first, last = connection.execute(
        sa.select(sa.func.min(key.first_request_dtime), sa.func.max(key.last_request_dtime)).where(wanted), chosen
    ).one()
    record = s3_log_record.c
    records = (
        sa.select(record.log_key_id, sa.func.count().label("found"))
        .where(record.request_dtime.between(first, last), record.log_key_id.between(ids[0], ids[-1]))
        .group_by(record.log_key_id)
        .subquery()
    )
    line = s3_rejected_line.c
    rejected = (
        sa.select(line.log_key_id, sa.func.count().label("found"))
        .where(line.log_key_id.between(ids[0], ids[-1]))
        .group_by(line.log_key_id)
        .subquery()
    )
    found_records = sa.func.coalesce(records.c.found, 0)
    found_rejected = sa.func.coalesce(rejected.c.found, 0)
    statement = (
        sa.select(key.key, key.record_count, found_records, key.rejected_count, found_rejected)
        .outerjoin(records, records.c.log_key_id == key.id)
        .outerjoin(rejected, rejected.c.log_key_id == key.id)
        .where(wanted, sa.or_(found_records != key.record_count, found_rejected != key.rejected_count))
    )
    for row in connection.execute(statement, chosen):
        yield CountDifference(*row)


def list_live_ids(connection: sa.Connection, bucket: str, period: DeliveryPeriod) -> list[int]:
    """Return the ids of the period's live ledger rows whose rows can be counted, that is, without expired ones."""
    key = s3_log_key.c
    chosen = (key.bucket == bucket, is_delivered_in(period), _LIVE, _UNEXPIRED)
    return list(connection.scalars(sa.select(key.id).where(*chosen).order_by(key.id)))


def list_expired_ids(connection: sa.Connection, ids: Sequence[int]) -> set[int]:
    """Return those of these ledger rows that expired."""
    key = s3_log_key.c
    return set(connection.scalars(sa.select(key.id).where(key.id.in_(ids), key.expired_at.is_not(None))))


def list_unaccounted_keys(connection: sa.Connection, bucket: str, period: DeliveryPeriod) -> list[str]:
    """Return keys whose lines are not all records, rejected or blank. A table constraint keeps this list empty."""
    key = s3_log_key.c
    statement = sa.select(key.key).where(
        key.bucket == bucket,
        is_delivered_in(period),
        key.line_count != key.record_count + key.rejected_count + key.blank_count,
    )
    return list(connection.scalars(statement))


def mark_purged(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Note that these keys are no longer in the log bucket."""
    connection.execute(
        sa.update(s3_log_key)
        .where(s3_log_key.c.id.in_(ids))
        .values(purged_at=sa.func.now(), purge_error=None, purge_failed_at=None)
    )


def note_purge_errors(connection: sa.Connection, errors: dict[int, str]) -> None:
    """Note why these keys could not be deleted, and since when; they remain candidates."""
    row = sa.bindparam("row", type_=sa.BigInteger)
    connection.execute(
        sa.update(s3_log_key)
        .where(s3_log_key.c.id == row)
        .values(
            purge_error=sa.bindparam("why"),
            purge_failed_at=sa.func.coalesce(s3_log_key.c.purge_failed_at, sa.func.now()),
        ),
        [{"row": id_, "why": why} for id_, why in errors.items()],
    )
