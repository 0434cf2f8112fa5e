"""Queries of the ledger about the archive: which delivery days wait for it, which keys are in it, and where.

A key is archived in a place when `archived_at` is set, `archive_place` is that place, and the key is live. If the key
is superseded, the archive still holds its records, which do not belong there, until its day is written again.
`s3_archived_day` has what this database last wrote to a place, and what it was about to write.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.schema.tables import s3_archived_day, s3_log_key, tamarin_database
from tamarin_dagster.recordstore.whole_numbers import WholeNumber

# The first half of an advisory lock's number, an arbitrary value that must not change. The second is of bucket and day.
_LOCK = 2011_0305

_KEY = s3_log_key.c
_DAY = s3_archived_day.c
_LIVE = _KEY.superseded_at.is_(None)
_UNEXPIRED = _KEY.expired_at.is_(None)
# The place in the ledger rows of earlier versions, which did not note where they archived.
UNKNOWN_PLACE = ""


def is_archived_in(place: str) -> sa.ColumnElement[bool]:
    """Return the condition on `s3_log_key` that the key's records were archived in that place."""
    return sa.and_(_KEY.archived_at.is_not(None), _KEY.archive_place == place)


def is_waiting_for(place: str) -> sa.ColumnElement[bool]:
    """Return the condition on `s3_log_key` that a live key's records are not there yet but could be written there."""
    elsewhere = _KEY.archive_place.is_distinct_from(place)
    return sa.and_(_LIVE, _UNEXPIRED, sa.or_(_KEY.archived_at.is_(None), elsewhere))


def is_owed_to(places: Mapping[str, str]) -> sa.ColumnElement[bool]:
    """Return the condition on `s3_log_key` that the key's records are in no archive yet, but should be in one.

    `places` has the archive of each bucket that has one. A purged key that was archived elsewhere is owed to no other.
    """
    unsaved = sa.or_(_KEY.purged_at.is_(None), _KEY.archived_at.is_(None))
    of_buckets = (sa.and_(_KEY.bucket == bucket, is_waiting_for(place)) for bucket, place in places.items())
    return sa.and_(_KEY.first_request_dtime.is_not(None), unsaved, sa.or_(*of_buckets, sa.false()))


@dataclass(frozen=True, slots=True)
class OwedKeys:
    """Keys of a bucket whose records are not in its archive.

    Attributes:
        bucket: the configured bucket.
        keys: the number of these keys.
        first_day, last_day: of their delivery.
    """

    bucket: str
    keys: int
    first_request: datetime
    first_day: date
    last_day: date


def owed_keys(connection: sa.Connection, places: Mapping[str, str], end: datetime) -> list[OwedKeys]:
    """Return by bucket the keys with a record before `end` whose records are not in its archive."""
    if not places:
        return []
    statement = (
        sa.select(
            _KEY.bucket,
            sa.func.count(),
            sa.func.min(_KEY.first_request_dtime),
            sa.func.min(_KEY.delivery_date),
            sa.func.max(_KEY.delivery_date),
        )
        .where(is_owed_to(places), _KEY.first_request_dtime < end)
        .group_by(_KEY.bucket)
        .order_by(_KEY.bucket)
    )
    return [OwedKeys(*row) for row in connection.execute(statement)]


def _may_be_in(place: str) -> sa.ColumnElement[bool]:
    """Return the condition that a key is archived there, or by an earlier version, which did not note where."""
    return sa.and_(_KEY.archived_at.is_not(None), sa.func.coalesce(_KEY.archive_place, place) == place)


def _outdated(place: str) -> sa.ColumnElement[bool]:
    return sa.and_(_KEY.superseded_at.is_not(None), _may_be_in(place))


@dataclass(frozen=True, slots=True)
class DayState:
    """The state of a delivery day of a bucket in an archive.

    Attributes:
        keys: its live keys.
        waiting_keys: those of them that wait to be archived there.
        waiting_since: when the first of these was loaded.
        archived_keys, archived_records: live keys whose records are there, and the number of those records.
        outdated_keys: superseded keys whose records are still there.
        expired_keys: live keys that expired and are archived there; their records cannot be written again.
    """

    keys: int
    waiting_keys: int
    waiting_since: datetime | None
    archived_keys: int
    archived_records: int
    outdated_keys: int
    expired_keys: int


@dataclass(frozen=True, slots=True)
class ArchivableKey:
    """A live key whose records are all in the database. `is_archived`: whether they are in an archive, in any place."""

    id: int
    key: str
    etag: str
    record_count: int
    is_archived: bool


@dataclass(frozen=True, slots=True)
class NotedDay:
    """What this database noted of a delivery day.

    Attributes:
        digests: everything that it wrote or was about to write, in any place.
        written: what it last wrote to the place in question; None if nothing, or if a write is unfinished.
        is_unfinished: whether it began to write to that place and did not finish.
    """

    digests: frozenset[str]
    written: str | None
    is_unfinished: bool


def key_digest(keys: Collection[ArchivableKey]) -> str:
    """Return the SHA-256, in hexadecimal, of names, ETags and record counts of the keys, in the order of the names."""
    lines = sorted(f"{each.key}\t{each.etag}\t{each.record_count}\n" for each in keys)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def database_id(connection: sa.Connection) -> str:
    """Return the identity of this database."""
    return str(connection.execute(sa.select(tamarin_database.c.id)).scalar_one())


def get_noted_day(connection: sa.Connection, bucket: str, day: date, place: str) -> NotedDay:
    """Return what is noted of that delivery day."""
    statement = sa.select(_DAY.place, _DAY.key_digest, _DAY.writing_digest).where(
        _DAY.bucket == bucket, _DAY.delivery_date == day
    )
    rows = connection.execute(statement).all()
    digests = frozenset(digest for row in rows for digest in (row.key_digest, row.writing_digest) if digest)
    here = next((row for row in rows if row.place == place), None)
    is_unfinished = here is not None and here.writing_digest is not None
    return NotedDay(digests, here.key_digest if here and not is_unfinished else None, is_unfinished)


def list_noted_days(connection: sa.Connection, bucket: str, place: str) -> list[date]:
    """Return the delivery days of which this database wrote anything to that place, the newest first."""
    statement = sa.select(_DAY.delivery_date).where(_DAY.bucket == bucket, _DAY.place == place)
    return list(connection.scalars(statement.order_by(_DAY.delivery_date.desc())))


def note_writing(connection: sa.Connection, bucket: str, day: date, place: str, held: str | None, digest: str) -> None:
    """Note what is about to be written to that place, and what it contains until then. Commit before you write."""
    insert = postgresql.insert(s3_archived_day).values(
        bucket=bucket, delivery_date=day, place=place, key_digest=held, writing_digest=digest
    )
    changed = {"key_digest": insert.excluded.key_digest, "writing_digest": insert.excluded.writing_digest}
    connection.execute(insert.on_conflict_do_update(index_elements=["bucket", "delivery_date", "place"], set_=changed))


def day_state(connection: sa.Connection, bucket: str, day: date, place: str) -> DayState:
    """Return the state of that delivery day in that place."""
    archived, waiting = sa.and_(_LIVE, is_archived_in(place)), is_waiting_for(place)
    records = sa.func.coalesce(sa.func.sum(_KEY.record_count).filter(archived), 0)
    statement = sa.select(
        sa.func.count().filter(_LIVE),
        sa.func.count().filter(waiting),
        sa.func.min(_KEY.loaded_at).filter(waiting),
        sa.func.count().filter(archived),
        sa.type_coerce(records, WholeNumber()),
        sa.func.count().filter(_outdated(place)),
        sa.func.count().filter(sa.and_(_LIVE, _KEY.expired_at.is_not(None), _may_be_in(place))),
    ).where(_of(bucket, day))
    return DayState(*connection.execute(statement).one())


def waiting_days(connection: sa.Connection, bucket: str, days: Collection[date] | None, place: str) -> list[date]:
    """Return delivery days with keys that wait for that place or are outdated in it, or with an unfinished write there.

    Considers `days`; without them, all days that have a waiting key in the log bucket.
    """
    keys = sa.select(_KEY.delivery_date).where(_KEY.bucket == bucket)
    unfinished = sa.select(_DAY.delivery_date).where(
        _DAY.bucket == bucket, _DAY.place == place, _DAY.writing_digest.is_not(None)
    )
    if days is None:
        # as the index s3_log_key_unpurged has them
        keys = keys.where(_KEY.purged_at.is_(None), is_waiting_for(place))
    else:
        # a purged key that was archived elsewhere is owed to no other place
        owed = sa.and_(is_waiting_for(place), sa.or_(_KEY.purged_at.is_(None), _KEY.archived_at.is_(None)))
        keys = keys.where(_KEY.delivery_date.in_(days), sa.or_(owed, _outdated(place)))
        unfinished = unfinished.where(_DAY.delivery_date.in_(days))
    return sorted(connection.scalars(sa.union(keys, unfinished)))


def waiting_keys(connection: sa.Connection, bucket: str, days: Collection[date] | None, place: str) -> int:
    """Count the keys in the log bucket that wait for that place, of these delivery days (default: all)."""
    statement = (
        sa.select(sa.func.count())
        .select_from(s3_log_key)
        .where(_KEY.bucket == bucket, _KEY.purged_at.is_(None), is_waiting_for(place))
    )
    if days is not None:
        statement = statement.where(_KEY.delivery_date.in_(days))
    return connection.scalar(statement) or 0


def waiting_purgeable_keys(
    connection: sa.Connection,
    bucket: str,
    log_bucket_name: str,
    place: str,
    periods: Collection[DeliveryPeriod] | None = None,
    *,
    with_rejected: bool,
) -> int:
    """Count the keys that a purge would delete if their records were in that place, of these periods (default: all)."""
    statement = (
        sa.select(sa.func.count())
        .select_from(s3_log_key)
        .where(ledger.may_be_purged(bucket, log_bucket_name, with_rejected=with_rejected), is_waiting_for(place))
    )
    if periods is not None:
        statement = statement.where(ledger.is_delivered_in_any(periods))
    return connection.scalar(statement) or 0


def unarchived_ids(connection: sa.Connection, ids: Sequence[int], place: str) -> set[int]:
    """Return those of these ledger rows whose records are not archived in that place."""
    archived = connection.scalars(sa.select(_KEY.id).where(_KEY.id.in_(ids), is_archived_in(place)))
    return set(ids) - set(archived)


@contextmanager
def lock_day(engine: sa.Engine, bucket: str, day: date) -> Iterator[sa.Connection | None]:
    """Lock that day against other archivers. Yields None if another process has it.

    The lock belongs to the transaction, which `mark_archived` commits, because a pooler shares a session among clients.
    The transaction lasts as long as the files are written. It holds no snapshot, so no vacuum has to wait for it.
    """
    number = sa.func.hashtext(f"{bucket} {day.isoformat()}")
    with engine.connect() as connection:
        connection.execute(_MAY_WAIT)
        has_it = connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK, number)))
        yield connection if has_it else None


# Postgres 17 and newer also have the second one.
_MAY_WAIT = sa.text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)


@contextmanager
def _committed(connection: sa.Connection) -> Iterator[None]:
    """Begin the rest of the transaction in which the day is locked."""
    yield
    connection.commit()


def archivable_keys(connection: sa.Connection, bucket: str, day: date) -> list[ArchivableKey]:
    """Return the day's live keys whose records can be written, because retention has dropped none of them."""
    statement = sa.select(_KEY.id, _KEY.key, _KEY.etag, _KEY.record_count, _KEY.archived_at.is_not(None))
    rows = connection.execute(statement.where(_of(bucket, day), _LIVE, _UNEXPIRED))
    return [ArchivableKey(*row) for row in rows]


def outdated_ids(connection: sa.Connection, bucket: str, day: date, place: str) -> list[int]:
    """Return the ids of the day's superseded keys whose records are still in that place."""
    return list(connection.scalars(sa.select(_KEY.id).where(_of(bucket, day), _outdated(place))))


def mark_archived(
    connection: sa.Connection,
    bucket: str,
    day: date,
    place: str,
    keys: Sequence[ArchivableKey],
    outdated: Collection[int],
) -> bool:
    """Note that these keys' records are in that place, and that those of the outdated keys no longer are.

    This uses the transaction of `lock_day`, and commits it. `keys` are all keys in the day's files. If one of the keys
    was superseded since, or has another generation or record count, the files are out of date: then this notes nothing
    and returns False. Rows are locked in the order of the names, as loads lock them.
    """
    counts = {each.id: (each.etag, each.record_count) for each in keys}
    with _committed(connection):
        locked = sa.select(_KEY.id, _KEY.etag, _KEY.record_count, _KEY.superseded_at).where(_KEY.id == sa.any_(_IDS))
        rows = connection.execute(locked.order_by(_KEY.key).with_for_update(), {"ids": list(counts)}).all()
        found = {row.id: (row.etag, row.record_count) for row in rows if row.superseded_at is None}
        if found != counts:
            return False
        now = {"archived_at": sa.func.now(), "archive_place": place}
        marked = sa.update(s3_log_key).where(
            _KEY.id == sa.any_(_IDS), sa.not_(sa.func.coalesce(is_archived_in(place), False))
        )
        connection.execute(marked.values(now), {"ids": list(counts)})
        cleared = sa.update(s3_log_key).where(_KEY.id == sa.any_(_IDS), _KEY.superseded_at.is_not(None))
        connection.execute(cleared.values(archived_at=None, archive_place=None), {"ids": list(outdated)})
        written = {"key_digest": key_digest(keys), "writing_digest": None, "written_at": sa.func.now()}
        insert = postgresql.insert(s3_archived_day).values(bucket=bucket, delivery_date=day, place=place, **written)
        connection.execute(
            insert.on_conflict_do_update(index_elements=["bucket", "delivery_date", "place"], set_=written)
        )
        return True


_IDS = sa.bindparam("ids", type_=sa.ARRAY(sa.BigInteger))


def _of(bucket: str, day: date) -> sa.ColumnElement[bool]:
    return sa.and_(_KEY.bucket == bucket, _KEY.delivery_date == day)
