"""What the ledger knows of the archive: which delivery days wait for it, and which keys' records stand in it.

A key is archived when `archived_at` is set and it is live. Of a superseded key it says that its records still stand in
the archive, where they do not belong any more: until its day is written again.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from psycopg import sql

from tamarin_dagster.recordstore.expiry import midnight
from tamarin_dagster.recordstore.tables import s3_log_key, s3_log_record
from tamarin_dagster.recordstore.whole_numbers import WholeNumber

# The first half of an advisory lock's number, which has no meaning but must not change; the second is of bucket, day.
_LOCK = 2011_0305

_KEY = s3_log_key.c
_LIVE = _KEY.superseded_at.is_(None)
_WAITING = sa.and_(_LIVE, _KEY.expired_at.is_(None), _KEY.archived_at.is_(None))
_OUTDATED = sa.and_(_KEY.superseded_at.is_not(None), _KEY.archived_at.is_not(None))


@dataclass(frozen=True, slots=True)
class DayState:
    """How a delivery day of a bucket stands to the archive.

    Attributes:
        keys: its live keys.
        waiting_keys: those of them that wait to be archived.
        waiting_since: when the first of these was loaded.
        archived_keys, archived_records: live keys whose records are in the archive, and how many those are.
        outdated_keys: superseded ones whose records still are.
        expired_keys: live keys that expired; their records cannot be written again.
    """

    keys: int
    waiting_keys: int
    waiting_since: datetime | None
    archived_keys: int
    archived_records: int
    outdated_keys: int
    expired_keys: int


def day_state(connection: sa.Connection, bucket: str, day: date) -> DayState:
    """The state of that delivery day."""
    archived = sa.and_(_LIVE, _KEY.archived_at.is_not(None))
    records = sa.func.coalesce(sa.func.sum(_KEY.record_count).filter(archived), 0)
    statement = sa.select(
        sa.func.count().filter(_LIVE),
        sa.func.count().filter(_WAITING),
        sa.func.min(_KEY.loaded_at).filter(_WAITING),
        sa.func.count().filter(archived),
        sa.type_coerce(records, WholeNumber()),
        sa.func.count().filter(_OUTDATED),
        sa.func.count().filter(sa.and_(_LIVE, _KEY.expired_at.is_not(None))),
    ).where(_of(bucket, day))
    return DayState(*connection.execute(statement).one())


def waiting_days(connection: sa.Connection, bucket: str, days: Collection[date] | None) -> list[date]:
    """Delivery days with keys that wait for the archive, or that are outdated in it.

    Those of `days`; without them all that have such a key in the log bucket.
    """
    statement = sa.select(_KEY.delivery_date).where(_KEY.bucket == bucket).distinct().order_by(_KEY.delivery_date)
    if days is None:
        # in the terms of the index s3_log_key_unpurged
        statement = statement.where(_KEY.purged_at.is_(None), _WAITING)
    else:
        statement = statement.where(_KEY.delivery_date.in_(days), sa.or_(_WAITING, _OUTDATED))
    return list(connection.scalars(statement))


def waiting_keys(connection: sa.Connection, bucket: str, days: Collection[date] | None) -> int:
    """How many keys in the log bucket wait for the archive, of these delivery days (default: all)."""
    statement = (
        sa.select(sa.func.count())
        .select_from(s3_log_key)
        .where(_KEY.bucket == bucket, _KEY.purged_at.is_(None), _WAITING)
    )
    if days is not None:
        statement = statement.where(_KEY.delivery_date.in_(days))
    return connection.scalar(statement) or 0


@contextmanager
def locked_day(engine: sa.Engine, bucket: str, day: date) -> Iterator[sa.Connection | None]:
    """Keep other archivers from that day; None if one is at it.

    The lock is the transaction's, which `mark_archived` commits: behind a pooler a session is anybody's. While it waits
    it sees nothing, so that no vacuum has to wait for it, and it may wait as long as the files take.
    """
    number = sa.func.hashtext(f"{bucket} {day.isoformat()}")
    with engine.connect() as connection:
        connection.execute(_MAY_WAIT)
        has_it = connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK, number)))
        yield connection if has_it else None


# Postgres 17 has the second one.
_MAY_WAIT = sa.text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)


@contextmanager
def _committed(connection: sa.Connection) -> Iterator[None]:
    """The rest of the transaction in which the day is locked."""
    yield
    connection.commit()


def record_counts(connection: sa.Connection, bucket: str, day: date) -> dict[int, int]:
    """The ids of the day's live keys, each with how many records it has."""
    statement = sa.select(_KEY.id, _KEY.record_count).where(_of(bucket, day), _LIVE)
    return {row.id: row.record_count for row in connection.execute(statement)}


def outdated_ids(connection: sa.Connection, bucket: str, day: date) -> list[int]:
    """The ids of the day's superseded keys whose records still stand in the archive."""
    return list(connection.scalars(sa.select(_KEY.id).where(_of(bucket, day), _OUTDATED)))


def record_partitions(connection: sa.Connection, bucket: str, day: date) -> list[tuple[str | None, date]]:
    """The buckets and UTC days of request that the records of that delivery day are of."""
    record = s3_log_record.c
    span = (
        sa.select(
            sa.func.min(_KEY.first_request_dtime).label("first"), sa.func.max(_KEY.last_request_dtime).label("last")
        )
        .where(_of(bucket, day), _LIVE)
        .subquery()
    )
    first, last = connection.execute(sa.select(span.c.first, span.c.last)).one()
    if first is None:
        return []
    requested = sa.cast(sa.func.timezone("UTC", record.request_dtime), sa.Date).label("requested")
    statement = (
        sa.select(record.bucket, requested)
        .join(s3_log_key, _KEY.id == record.log_key_id)
        .where(_of(bucket, day), _LIVE, record.request_dtime.between(first, last))
        .distinct()
        .order_by(record.bucket, requested)
    )
    return [(row.bucket, row.requested) for row in connection.execute(statement)]


def copy_statement(
    bucket: str,
    day: date,
    requested: date,
    record_bucket: str | None,
    columns: sql.Composable,
    options: sql.Composable,
) -> sql.Composed:
    """The COPY that sends the records of a delivery day with that bucket and UTC day of request, in their order."""
    named = sql.SQL("IS NULL") if record_bucket is None else sql.SQL("= {}").format(record_bucket)
    first = midnight(requested)
    return sql.SQL(
        "COPY (SELECT {columns} FROM s3_log_record r WHERE r.request_dtime >= {first}"
        " AND r.request_dtime < {first} + interval '1 day' AND r.bucket {named} AND r.log_key_id IN ("
        "SELECT id FROM s3_log_key WHERE bucket = {bucket} AND delivery_date = {day} AND superseded_at IS NULL)"
        " ORDER BY r.request_dtime, r.log_key_id, r.line_number) TO STDOUT ({options})"
    ).format(columns=columns, first=first, named=named, bucket=bucket, day=day, options=options)


def mark_archived(connection: sa.Connection, counts: Mapping[int, int], outdated: Collection[int]) -> bool:
    """Notes that these keys' records are in the archive, and those of the outdated ones no more.

    In the transaction of `locked_day`, which it commits.
    Nothing is noted, and False returned, if one of the keys was superseded since, or has not so many records any more:
    then what was written is not what is true. Rows are locked in the order of the names, as loads lock them.
    """
    with _committed(connection):
        locked = sa.select(_KEY.id, _KEY.record_count, _KEY.superseded_at).where(_KEY.id == sa.any_(_IDS))
        rows = connection.execute(locked.order_by(_KEY.key).with_for_update(), {"ids": list(counts)}).all()
        found = {row.id: row.record_count for row in rows if row.superseded_at is None}
        if found != dict(counts):
            return False
        now = {"archived_at": sa.func.now()}
        marked = sa.update(s3_log_key).where(_KEY.id == sa.any_(_IDS), _KEY.archived_at.is_(None)).values(now)
        connection.execute(marked, {"ids": list(counts)})
        cleared = sa.update(s3_log_key).where(_KEY.id == sa.any_(_IDS), _OUTDATED).values(archived_at=None)
        connection.execute(cleared, {"ids": list(outdated)})
        return True


_IDS = sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger))


def _of(bucket: str, day: date) -> sa.ColumnElement[bool]:
    return sa.and_(_KEY.bucket == bucket, _KEY.delivery_date == day)
