"""What the ledger `s3_log_key` knows: which keys are loaded, which may be purged, and whether the counts are true."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.recordstore.tables import s3_log_key, s3_log_record, s3_rejected_line


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A loaded generation of a log key, with the id of its ledger row."""

    id: int
    object: LogObject
    delivery_date: date
    rejected_count: int


@dataclass(frozen=True, slots=True)
class CountDifference:
    """A key whose rows are not what its ledger row says."""

    key: str
    expected_records: int
    found_records: int
    expected_rejected: int
    found_rejected: int


@dataclass(frozen=True, slots=True)
class DayCounts:
    """What the ledger says of one delivery day of a bucket, over its live (not superseded) keys."""

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


_LIVE = s3_log_key.c.superseded_at.is_(None)


def unseen(connection: sa.Connection, log_bucket_name: str, listed: Sequence[LogObject]) -> list[LogObject]:
    """Those of a page of listed objects whose generation is not loaded. One look-up by index for the page."""
    if not listed:
        return []
    statement = sa.select(s3_log_key.c.key, s3_log_key.c.etag).where(
        s3_log_key.c.log_bucket_name == log_bucket_name,
        s3_log_key.c.key == sa.any_(sa.bindparam("keys", type_=sa.ARRAY(sa.Text))),
        _LIVE,
    )
    loaded = {tuple(row) for row in connection.execute(statement, {"keys": [item.key for item in listed]})}
    return [item for item in listed if (item.key, item.etag) not in loaded]


def day_counts(connection: sa.Connection, bucket: str, day: date) -> DayCounts:
    """Sums over the day's live keys."""
    key = s3_log_key.c
    statement = sa.select(
        sa.func.count(),
        sa.func.count(key.purged_at),
        *(
            sa.func.coalesce(sa.func.sum(column), 0).cast(sa.BigInteger)
            for column in (key.line_count, key.record_count, key.rejected_count, key.blank_count, key.size)
        ),
        sa.func.count().filter(key.rejected_count > 0),
        sa.func.min(key.first_request_dtime),
        sa.func.max(key.last_request_dtime),
    ).where(key.bucket == bucket, key.delivery_date == day, _LIVE)
    row: tuple[Any, ...] = tuple(connection.execute(statement).one())
    return DayCounts(*row)


def rejected_reasons(connection: sa.Connection, bucket: str, day: date) -> dict[str, int]:
    """How many of the day's lines were rejected, by reason."""
    statement = (
        sa.select(s3_rejected_line.c.reason, sa.func.count())
        .join(s3_log_key, s3_log_key.c.id == s3_rejected_line.c.log_key_id)
        .where(s3_log_key.c.bucket == bucket, s3_log_key.c.delivery_date == day)
        .group_by(s3_rejected_line.c.reason)
        .order_by(sa.func.count().desc())
    )
    return {row.reason: row[1] for row in connection.execute(statement)}


def purgeable(
    connection: sa.Connection,
    bucket: str,
    log_bucket_name: str,
    days: Collection[date] | None,
    limit: int,
    after: int = 0,
) -> list[LoadedKey]:
    """Loaded keys without rejected lines that are still in the log bucket, in the order of their ids from `after` on.

    `days` are delivery days; None means all.
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
            key.rejected_count,
        )
        .where(
            key.bucket == bucket,
            key.log_bucket_name == log_bucket_name,
            key.purged_at.is_(None),
            _LIVE,
            key.rejected_count == 0,
            key.id > after,
        )
        .order_by(key.id)
        .limit(limit)
    )
    if days is not None:
        statement = statement.where(key.delivery_date.in_(days))
    return [
        LoadedKey(
            row.id,
            LogObject(row.key, row.etag, row.size, row.last_modified, row.version_id),
            row.delivery_date,
            row.rejected_count,
        )
        for row in connection.execute(statement)
    ]


def count_differences(connection: sa.Connection, ids: Sequence[int]) -> list[CountDifference]:
    """Counts the rows of those ledger rows and compares; empty when all is as the ledger says.

    The record table is read by the keys' span of request times and ids, so that its BRIN index and its partitions
    leave out all else.
    """
    if not ids:
        return []
    key = s3_log_key.c
    wanted = key.id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger)))
    chosen = list(ids)
    first, last = connection.execute(
        sa.select(sa.func.min(key.first_request_dtime), sa.func.max(key.last_request_dtime)).where(wanted),
        {"ids": chosen},
    ).one()
    record = s3_log_record.c
    records = (
        sa.select(record.log_key_id, sa.func.count().label("found"))
        .where(
            record.request_dtime.between(first, last),
            record.log_key_id.between(min(ids), max(ids)),
            record.log_key_id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger))),
        )
        .group_by(record.log_key_id)
        .subquery()
    )
    line = s3_rejected_line.c
    rejected = (
        sa.select(line.log_key_id, sa.func.count().label("found"))
        .where(line.log_key_id == sa.any_(sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger))))
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
        .order_by(key.key)
    )
    return [CountDifference(*row) for row in connection.execute(statement, {"ids": chosen})]


def live_ids(connection: sa.Connection, bucket: str, day: date) -> list[int]:
    """The ids of the day's live ledger rows."""
    key = s3_log_key.c
    return list(
        connection.scalars(
            sa.select(key.id).where(key.bucket == bucket, key.delivery_date == day, _LIVE).order_by(key.id)
        )
    )


def unaccounted_keys(connection: sa.Connection, bucket: str, day: date) -> list[str]:
    """Keys whose lines are not all records, rejected or blank. A constraint of the table keeps this list empty."""
    key = s3_log_key.c
    statement = sa.select(key.key).where(
        key.bucket == bucket,
        key.delivery_date == day,
        key.line_count != key.record_count + key.rejected_count + key.blank_count,
    )
    return list(connection.scalars(statement))


def mark_purged(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Notes that these keys are no longer in the log bucket."""
    connection.execute(
        sa.update(s3_log_key).where(s3_log_key.c.id.in_(ids)).values(purged_at=sa.func.now(), purge_error=None)
    )


def note_purge_errors(connection: sa.Connection, errors: dict[int, str]) -> None:
    """Notes why these keys could not be deleted; they stay candidates."""
    row = sa.bindparam("row", type_=sa.BigInteger)
    connection.execute(
        sa.update(s3_log_key).where(s3_log_key.c.id == row).values(purge_error=sa.bindparam("why")),
        [{"row": id_, "why": why} for id_, why in errors.items()],
    )
