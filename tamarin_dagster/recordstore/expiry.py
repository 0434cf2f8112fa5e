"""What retention writes: it marks the keys whose records go, deletes their rejected lines, and drops the months."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.recordstore.partitions import Partition, drop_partition
from tamarin_dagster.recordstore.pending_days import due_days
from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_rejected_line
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day

_LIVE = s3_log_key.c.superseded_at.is_(None)


def _to_mark(end: datetime, kept: Sequence[Partition] = ()) -> sa.ColumnElement[bool]:
    """Live keys, not yet marked, with a record before `end` that is not in one of the partitions `kept`."""
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


def _spans(partitions: Sequence[Partition]) -> list[tuple[datetime | None, datetime]]:
    """The spans of time of these partitions, oldest first; of neighbours one, for a key may have records of both."""
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
    """How many keys `mark` would mark."""
    return connection.scalar(sa.select(sa.func.count()).select_from(s3_log_key).where(_to_mark(end))) or 0


def days_to_roll_up(connection: sa.Connection, partition: Partition) -> list[tuple[str | None, date]]:
    """The buckets and days of the partition whose rollups do not hold all records; None stands for all buckets."""
    pending = due_days().c
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
    kept: Sequence[Partition] = (),
    nowait: bool = False,
    spared: sa.ColumnElement[bool] | None = None,
) -> int:
    """Marks as expired keys with a record before `end`, at most `limit` and none of those `spared`; how many.

    Keys whose records are all in the partitions `kept` are left out.

    With `nowait` a key that another transaction has locked raises sqlalchemy.exc.OperationalError.
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


def _wholly_expired(first_kept: date) -> sa.ColumnElement[bool]:
    """Live keys with rejected lines, all of whose records are gone, or which had none and are of an earlier day."""
    key = s3_log_key.c
    records_gone = sa.and_(key.expired_at.is_not(None), key.last_request_dtime < midnight(first_kept))
    no_records = sa.and_(key.first_request_dtime.is_(None), key.delivery_date < first_kept)
    return sa.and_(key.rejected_count > 0, _LIVE, sa.or_(records_gone, no_records))


def keys_with_lines_to_delete(connection: sa.Connection, first_kept: date, limit: int) -> list[int]:
    """Ids of wholly expired keys whose rejected lines are still stored, in no order."""
    stored = sa.exists().where(s3_rejected_line.c.log_key_id == s3_log_key.c.id)
    return list(connection.scalars(sa.select(s3_log_key.c.id).where(_wholly_expired(first_kept), stored).limit(limit)))


def delete_rejected_lines(connection: sa.Connection, first_kept: date, ids: Sequence[int]) -> int:
    """Deletes the rejected lines of those of the keys that are wholly expired still, and marks them; how many lines."""
    key, line = s3_log_key.c, s3_rejected_line.c
    chosen = sa.select(key.id).where(key.id == sa.any_(_IDS), _wholly_expired(first_kept)).order_by(key.id)
    sure = list(connection.scalars(chosen.with_for_update(), {"ids": list(ids)}))
    _set_expired(connection, sure)
    return connection.execute(
        sa.delete(s3_rejected_line).where(line.log_key_id == sa.any_(_IDS)), {"ids": sure}
    ).rowcount


def count_lines_to_delete(connection: sa.Connection, first_kept: date) -> int:
    """How many rejected lines belong to keys that are wholly expired, or would be once `mark` has marked them."""
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
    """A partition holds records that its rollups do not have: `days` are its buckets and days that are pending."""

    def __init__(self, days: list[tuple[str | None, date]]) -> None:
        super().__init__(days)
        self.days = days


class SparedKeysError(Exception):
    """A partition has records of keys that are to be spared."""


def drop(
    connection: sa.Connection,
    partition: Partition,
    kept: Sequence[Partition],
    lock_timeout: str,
    spared: sa.ColumnElement[bool] | None = None,
) -> int:
    """Drops a partition, and marks the keys with a record in it that were loaded since `mark`; how many.

    Raises SparedKeysError if one of the keys with a record before its end is `spared`; then nothing is dropped.
    Both are committed together: no load is between them, since the record table is locked until the transaction ends.
    The older partitions `kept` stay. Raises NotRolledUpError if records of it are not in the rollups, and
    sqlalchemy.exc.OperationalError if a lock is not to be had; then the transaction is to be rolled back.
    """
    connection.execute(sa.select(sa.func.set_config("lock_timeout", lock_timeout, True)))
    # In the mode that DROP needs, and before any row: to take a stronger lock later is how two wait for each other.
    connection.exec_driver_sql("LOCK TABLE ONLY s3_log_record IN ACCESS EXCLUSIVE MODE")
    if spared is not None:
        of_spared_key = sa.select(s3_log_key.c.id).where(_to_mark(partition.end, kept), spared).limit(1)
        if connection.scalar(of_spared_key) is not None:
            raise SparedKeysError
    # Who has locked a key (a reparse, a load) may be waiting for the record table, that is for us.
    if days := days_to_roll_up(connection, partition):
        raise NotRolledUpError(days)
    marked = mark(connection, partition.end, kept=kept, nowait=True)
    _keep_rollups(connection, partition.end, kept)
    drop_partition(connection, partition.name)
    return marked


def _keep_rollups(connection: sa.Connection, end: datetime, kept: Sequence[Partition]) -> None:
    """The rollups of days before `end` stay as they are: late records of such a day would be all that is left of it.

    Those of days in the partitions `kept` are still made again.
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
    """How many expired keys still lie in the log bucket, by bucket, as far as the ledger knows."""
    key = s3_log_key.c
    statement = (
        sa.select(key.bucket, sa.func.count())
        .where(key.expired_at.is_not(None), key.purged_at.is_(None), _LIVE)
        .group_by(key.bucket)
        .order_by(key.bucket)
    )
    return {row.bucket: row[1] for row in connection.execute(statement)}


def midnight(day: date) -> datetime:
    """The day's first moment, in UTC."""
    return datetime.combine(day, time(), UTC)
