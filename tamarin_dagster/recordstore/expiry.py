"""The writes of retention: mark the keys whose records expire, delete their rejected lines, and drop the months."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.recordstore.days import midnight
from tamarin_dagster.recordstore.partitions import MonthPartition, drop_partition
from tamarin_dagster.recordstore.pending_days import select_due_days
from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_rejected_line
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day

_LIVE = s3_log_key.c.superseded_at.is_(None)


def _to_mark(end: datetime, kept: Sequence[MonthPartition] = ()) -> sa.ColumnElement[bool]:
    """Select live, unmarked keys with a record before `end` that is not in one of the partitions `kept`."""
    key = s3_log_key.c
    return sa.and_(
        key.first_request_dtime < end,
        _LIVE,
        key.expired_at.is_(None),
        *(
            sa.not_(sa.and_(key.last_request_dtime < last, _from(key.first_request_dtime, first)))
            for first, last in _spans(kept)
        ),
    )


def _spans(partitions: Sequence[MonthPartition]) -> list[tuple[datetime | None, datetime]]:
    """Return the time spans of these partitions, oldest first. Neighbours merge: a key may have records of both."""
    spans: list[tuple[datetime | None, datetime]] = []
    for each in partitions:
        if spans and each.start is not None and spans[-1][1] >= each.start:
            spans[-1] = (spans[-1][0], each.end)
        else:
            spans.append((each.start, each.end))
    return spans


def _from(column: sa.ColumnElement[Any], first: Any) -> sa.ColumnElement[bool]:
    return sa.true() if first is None else column >= first


def count_to_mark(connection: sa.Connection, end: datetime) -> int:
    """Count the keys that `mark` would mark."""
    return connection.scalar(sa.select(sa.func.count()).select_from(s3_log_key).where(_to_mark(end))) or 0


def days_to_roll_up(connection: sa.Connection, partition: MonthPartition) -> list[tuple[str | None, date]]:
    """Return the buckets and days of the partition whose rollups lack records; None means all buckets."""
    pending = select_due_days().c
    last = (partition.end - timedelta(microseconds=1)).astimezone(UTC).date()
    first = None if partition.start is None else partition.start.astimezone(UTC).date()
    statement = (
        sa.select(pending.bucket, pending.request_date)
        .where(pending.request_date <= last, _from(pending.request_date, first))
        .distinct()
        .order_by(pending.request_date, pending.bucket)
    )
    return [(row.bucket, row.request_date) for row in connection.execute(statement)]


def mark(
    connection: sa.Connection,
    end: datetime,
    limit: int | None = None,
    *,
    kept: Sequence[MonthPartition] = (),
    nowait: bool = False,
    spared: sa.ColumnElement[bool] | None = None,
) -> int:
    """Mark as expired keys with a record before `end`, at most `limit` and none of those `spared`; return their number.

    Keys whose records are all in the partitions `kept` are left out.

    With `nowait`, a key that another transaction has locked raises sqlalchemy.exc.OperationalError.
    """
    key = s3_log_key.c
    chosen = sa.select(key.id).where(_to_mark(end, kept)).order_by(key.first_request_dtime, key.id).limit(limit)
    if spared is not None:
        chosen = chosen.where(sa.not_(spared))
    ids = list(connection.scalars(chosen.with_for_update(nowait=nowait)))
    _set_expired(connection, ids)
    return len(ids)


def _set_expired(connection: sa.Connection, ids: Sequence[int]) -> None:
    key = s3_log_key.c
    statement = sa.update(s3_log_key).where(key.id == sa.any_(_IDS), key.expired_at.is_(None))
    connection.execute(statement.values(expired_at=sa.func.now()), {"ids": list(ids)})


_IDS = sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger))


def _select_wholly_expired(first_kept: date) -> sa.ColumnElement[bool]:
    """Select live keys with rejected lines whose records are all gone, or that had none and are of an earlier day."""
    key = s3_log_key.c
    records_gone = sa.and_(key.expired_at.is_not(None), key.last_request_dtime < midnight(first_kept))
    no_records = sa.and_(key.first_request_dtime.is_(None), key.delivery_date < first_kept)
    return sa.and_(key.rejected_count > 0, _LIVE, sa.or_(records_gone, no_records))


def keys_with_lines_to_delete(connection: sa.Connection, first_kept: date, limit: int) -> list[int]:
    """Return ids of wholly expired keys whose rejected lines are still stored, in no order."""
    stored = sa.exists().where(s3_rejected_line.c.log_key_id == s3_log_key.c.id)
    return list(
        connection.scalars(sa.select(s3_log_key.c.id).where(_select_wholly_expired(first_kept), stored).limit(limit))
    )


def delete_rejected_lines(connection: sa.Connection, first_kept: date, ids: Sequence[int]) -> int:
    """Delete the rejected lines of those keys that are still wholly expired, mark the keys, and count the lines."""
    key, line = s3_log_key.c, s3_rejected_line.c
    chosen = sa.select(key.id).where(key.id == sa.any_(_IDS), _select_wholly_expired(first_kept)).order_by(key.id)
    sure = list(connection.scalars(chosen.with_for_update(), {"ids": list(ids)}))
    _set_expired(connection, sure)
    return connection.execute(
        sa.delete(s3_rejected_line).where(line.log_key_id == sa.any_(_IDS)), {"ids": sure}
    ).rowcount


def count_lines_to_delete(connection: sa.Connection, first_kept: date) -> int:
    """Count the rejected lines of keys that are wholly expired, or would be after `mark`."""
    key = s3_log_key.c
    gone = sa.or_(
        key.last_request_dtime < midnight(first_kept),
        sa.and_(key.first_request_dtime.is_(None), key.delivery_date < first_kept),
    )
    statement = (
        sa.select(sa.func.count())
        .select_from(s3_rejected_line)
        .join(s3_log_key, key.id == s3_rejected_line.c.log_key_id)
        .where(key.rejected_count > 0, _LIVE, gone)
    )
    return connection.scalar(statement) or 0


class NotRolledUpError(Exception):
    """A partition holds records that its rollups lack: `days` are its pending buckets and days."""

    def __init__(self, days: list[tuple[str | None, date]]) -> None:
        super().__init__(days)
        self.days = days


class SparedKeysError(Exception):
    """A partition has records of keys that must be spared."""


def drop(
    connection: sa.Connection,
    partition: MonthPartition,
    kept: Sequence[MonthPartition],
    lock_timeout: str,
    spared: sa.ColumnElement[bool] | None = None,
) -> int:
    """Drop a partition, and mark the keys with a record in it that were loaded since `mark`; return their number.

    Raises SparedKeysError if one of the keys with a record before its end is `spared`; then nothing is dropped.
    Both changes commit together. No load can come between them, since the record table is locked until the transaction
    ends. The older partitions `kept` stay. Raises NotRolledUpError if the rollups lack records of it, and
    sqlalchemy.exc.OperationalError if a lock is not available; then roll the transaction back.
    """
    connection.execute(sa.select(sa.func.set_config("lock_timeout", lock_timeout, True)))
    # Lock in the mode that DROP needs, before any row: taking a stronger lock later can deadlock two transactions.
    connection.exec_driver_sql("LOCK TABLE ONLY s3_log_record IN ACCESS EXCLUSIVE MODE")
    if spared is not None:
        of_spared_key = sa.select(s3_log_key.c.id).where(_to_mark(partition.end, kept), spared).limit(1)
        if connection.scalar(of_spared_key) is not None:
            raise SparedKeysError
    # A process that has locked a key (a reparse, a load) may be waiting for the record table, that is for us.
    if days := days_to_roll_up(connection, partition):
        raise NotRolledUpError(days)
    marked = mark(connection, partition.end, kept=kept, nowait=True)
    _keep_rollups(connection, partition.end, kept)
    drop_partition(connection, partition.name)
    return marked


def _keep_rollups(connection: sa.Connection, end: datetime, kept: Sequence[MonthPartition]) -> None:
    """Keep the rollups of days before `end`: rolled up again, such a day would have only its late records.

    Days in the partitions `kept` are still rolled up again.
    """
    day = traffic_day.c.request_date
    spans = (
        sa.and_(day < last.astimezone(UTC).date(), _from(day, first and first.astimezone(UTC).date()))
        for first, last in _spans(kept)
    )
    statement = sa.update(traffic_day).where(
        day < end.astimezone(UTC).date(), traffic_day.c.expired_at.is_(None), *(sa.not_(span) for span in spans)
    )
    connection.execute(statement.values(expired_at=sa.func.now()))


def unpurged_expired_keys(connection: sa.Connection) -> dict[str, int]:
    """Return by bucket how many expired keys are still in the log bucket, as far as the ledger knows."""
    key = s3_log_key.c
    statement = (
        sa.select(key.bucket, sa.func.count())
        .where(key.expired_at.is_not(None), key.purged_at.is_(None), _LIVE)
        .group_by(key.bucket)
        .order_by(key.bucket)
    )
    return {row.bucket: row[1] for row in connection.execute(statement)}
