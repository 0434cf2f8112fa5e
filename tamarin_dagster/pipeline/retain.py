"""Expire: drop records that are older than retention_months, in whole monthly partitions.

The ledger keeps its row of each log key, so that nothing is loaded again. This module does not know Dagster.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import psycopg
import sqlalchemy as sa

from tamarin_dagster.lake.place import LakePlace
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore import archived, expiry
from tamarin_dagster.recordstore.archived import OwedKeys
from tamarin_dagster.recordstore.database import DatabaseError
from tamarin_dagster.recordstore.days import midnight
from tamarin_dagster.recordstore.partitions import MonthPartition, partitions_before
from tamarin_dagster.recordstore.schema.tables import s3_log_key
from tamarin_dagster.settings import Settings

_log = logging.getLogger(__name__)

# Returns the log keys with a record before a time that another place does not hold as Postgres does.
Proof = Callable[[datetime], Sequence[OwedKeys]]

# Log keys that are marked in one transaction.
MARK_PAGE_KEYS = 5000
# Log keys that are looked up together, and whose rejected lines are deleted in one transaction; one may have hundreds
# of thousands.
REJECTED_PAGE_KEYS = 100_000
REJECTED_CHUNK_KEYS = 100
# While a drop waits for the record table, loads and queries queue after it. This is longer than the second after which
# autovacuum yields, and shorter than the patience of `ensure_partitions`.
LOCK_TIMEOUT = "3s"
LOCK_ATTEMPTS = 20
LOCK_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class KeptBack:
    """A month that is not dropped yet, because its rollups could not be made again without its records.

    Attributes:
        partition: its partition.
        days: its buckets (None: all) and days that are not rolled up.
    """

    partition: MonthPartition
    days: tuple[tuple[str | None, date], ...]

    def __str__(self) -> str:
        """Return what prevents the drop, in one line."""
        bucket, day = self.days[0]
        more = f" and {len(self.days) - 1:,} more" if len(self.days) > 1 else ""
        place = f"bucket {bucket}, day {day}" if bucket else f"day {day}"
        return (
            f"{self.partition.name} is not dropped: {place}{more} must be rolled up first, or its traffic is lost;"
            " run `tamarin-dagster roll-up`, then expire again"
        )


@dataclass(frozen=True, slots=True)
class Expirable:
    """The plan of `expire`.

    Attributes:
        first_kept: the first day (UTC) whose requests stay.
        partitions: the months that would be dropped, oldest first.
        keys: how many ledger rows would be marked.
        rejected_lines: how many rejected lines would be deleted.
        owed: by bucket, log keys whose records are not in their archive yet; months from their earliest record on stay.
    """

    first_kept: date
    partitions: tuple[MonthPartition, ...]
    keys: int
    rejected_lines: int
    owed: tuple[OwedKeys, ...] = ()


@dataclass(slots=True)
class Expired:
    """The result of `expire`.

    Attributes:
        first_kept: the first day (UTC) whose requests stay.
        partitions: the months that were dropped, oldest first.
        keys: ledger rows that were marked: log keys with a record in those months.
        rejected_lines: how many rejected lines were deleted.
        kept_back: months that stay for now, because their rollups do not hold all of their records.
        unpurged: by bucket, how many log keys that expired now or earlier are still in the log bucket. They are never
            purged, because nothing can be proved about them any more.
        owed: by bucket, log keys whose records are not in their archive yet; months from their earliest record on stay.
    """

    first_kept: date
    partitions: list[MonthPartition] = field(default_factory=list)
    keys: int = 0
    rejected_lines: int = 0
    kept_back: list[KeptBack] = field(default_factory=list)
    unpurged: dict[str, int] = field(default_factory=dict)
    owed: tuple[OwedKeys, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return a summary in one line."""
        names = ", ".join(partition.name for partition in self.partitions)
        return (
            f"dropped {count_noun(len(self.partitions), 'month')}{f' ({names})' if names else ''},"
            f" {count_noun(self.bytes, 'byte')}; marked {count_noun(self.keys, 'log key')} as expired, deleted"
            f" {count_noun(self.rejected_lines, 'rejected line')}; requests from {self.first_kept} on are kept;"
            f" {self.seconds:.1f} s"
        )

    @property
    def bytes(self) -> int:
        """The size of the dropped partitions on disk, with their indexes."""
        return sum(partition.bytes for partition in self.partitions)


def find_first_kept_day(months: int, today: date) -> date:
    """Return the first day of the month `months` before today's: 2025-11-01 for 12 and any day of November 2026."""
    year, month = divmod(today.year * 12 + today.month - 1 - months, 12)
    return date(year, month + 1, 1)


def describe_unpurged(bucket: str, keys: int) -> str:
    """Return a warning about expired log keys in the log bucket of a bucket that is purged."""
    return (
        f"{count_noun(keys, 'expired log key')} of {bucket} {'is' if keys == 1 else 'are'} still in the log bucket:"
        " a purge never deletes what has expired, because nothing proves any more that it was loaded; delete it with a"
        " lifecycle rule of the log bucket"
    )


def describe_owed(owed: OwedKeys) -> str:
    """Return a warning about log keys that prevent months from being dropped, because they wait for the archive."""
    return (
        f"{count_noun(owed.keys, 'log key')} of {owed.bucket} {'is' if owed.keys == 1 else 'are'} not in its archive"
        f" yet, so no month from {owed.first_request:%Y-%m} on is dropped: run tamarin-dagster pull"
        f" --bucket {owed.bucket} --from {owed.first_day} --to {owed.last_day}, which archives them or says why not"
    )


def plan_expiry(
    engine: sa.Engine,
    months: int,
    *,
    today: date | None = None,
    archives: Mapping[str, str] | None = None,
    proof: Proof | None = None,
) -> Expirable:
    """Return what `expire` would do, without doing it."""
    with engine.connect() as connection:
        first_kept, owed = _find_first_kept(connection, months, today, archives or {}, proof)
        partitions = tuple(partitions_before(connection, midnight(first_kept)))
        keys = expiry.count_to_mark(connection, partitions[-1].end) if partitions else 0
        lines = expiry.count_lines_to_delete(connection, first_kept)
        return Expirable(first_kept, partitions, keys, lines, owed)


def make_lake_proof(settings: Settings, engine: sa.Engine) -> Proof | None:
    """Return the proof that the lake holds what a drop would delete, of buckets without another archive; or None."""
    if settings.lake is None:
        return None
    lake = LakePlace(settings.lake)
    buckets = [each.name for each in settings.buckets if settings.archive_of(each) in {None, lake.url}]

    def prove(end: datetime) -> Sequence[OwedKeys]:
        tables = lake.open(engine)
        from tamarin_dagster.pipeline.lake.comparing import find_unproved  # noqa: PLC0415 - most settings have no lake

        return find_unproved(buckets, tables, engine, end)

    return prove


def _find_first_kept(
    connection: sa.Connection, months: int, today: date | None, archives: Mapping[str, str], proof: Proof | None
) -> tuple[date, tuple[OwedKeys, ...]]:
    """Return the first day whose requests stay, and the log keys that make it earlier than the setting says."""
    first_kept = find_first_kept_day(months, today or datetime.now(UTC).date())
    found = {each.bucket: each for each in archived.owed_keys(connection, archives, midnight(first_kept))}
    if proof:
        # A log key that is not archived yet is not proved either, so these are at least as many.
        found |= {each.bucket: each for each in proof(midnight(first_kept))}
    owed = tuple(found.values())
    for each in owed:
        first_kept = min(first_kept, each.first_request.astimezone(UTC).date().replace(day=1))
    return first_kept, owed


def _plan(connection: sa.Connection, first_kept: date) -> tuple[list[MonthPartition], list[KeptBack]]:
    """Return the months to drop, and those with a day that is not rolled up; oldest first."""
    old, held = [], []
    for partition in partitions_before(connection, midnight(first_kept)):
        if days := expiry.days_to_roll_up(connection, partition):
            held.append(KeptBack(partition, tuple(days)))
        else:
            old.append(partition)
    return old, held


def _partitions(held: Sequence[KeptBack]) -> list[MonthPartition]:
    return sorted((each.partition for each in held), key=lambda partition: partition.end)


def expire(
    engine: sa.Engine,
    months: int,
    *,
    today: date | None = None,
    archives: Mapping[str, str] | None = None,
    proof: Proof | None = None,
    progress: Callable[[Expired], None] | None = None,
) -> Expired:
    """Drop the partitions that lie wholly before the month `months` before today's (UTC; default: the clock's).

    First the log keys with a record in them are marked as expired, in small transactions, so that they are neither
    counted nor purged any more. Log keys that lie wholly before lose their rejected lines. Then each month is dropped
    in its own transaction. A kill at any point leaves a true ledger, and the next call continues. `progress` gets what
    is done so far.

    A month with a day that is not rolled up stays, and is one of the answer's `kept_back`; other months are not
    affected. `archives` has the place (see `place_name`) of each bucket that has an archive: while some of its log keys
    are not there, the months from their earliest record on stay. So do they from the earliest record on that `proof`
    returns; log keys that are loaded after it was asked are not dropped with their month.

    Raises DatabaseError if the record table stays in use; what was done until then stays.
    """
    started = time.monotonic()
    places = archives or {}
    spared = archived.is_owed_to(places) if places else None
    if proof:
        since = s3_log_key.c.loaded_at >= datetime.now(UTC)
        spared = since if spared is None else sa.or_(spared, since)
    tell = progress or (lambda _: None)
    with engine.connect() as connection:
        first_kept, owed = _find_first_kept(connection, months, today, places, proof)
        done = Expired(first_kept, owed=owed)
        old, done.kept_back = _plan(connection, done.first_kept)
    if old:
        _mark(engine, old[-1].end, done, tell, spared)
    _delete_rejected_lines(engine, done, tell)
    for partition in old:
        try:
            done.keys += _drop(engine, partition, _partitions(done.kept_back), spared)
        except expiry.NotRolledUpError as error:  # a load came in between
            done.kept_back.append(KeptBack(partition, tuple(error.days)))
            continue
        except expiry.SparedKeysError:  # they were loaded since we looked
            with engine.connect() as connection:
                done.first_kept, done.owed = _find_first_kept(connection, months, today, places, proof)
            break
        done.partitions.append(partition)
        _log.info("dropped %s, about %d rows", partition.name, partition.rows)
        tell(done)
    with engine.connect() as connection:
        done.unpurged = expiry.unpurged_expired_keys(connection)
    done.seconds = time.monotonic() - started
    return done


def _mark(
    engine: sa.Engine,
    end: datetime,
    done: Expired,
    tell: Callable[[Expired], None],
    spared: sa.ColumnElement[bool] | None,
) -> None:
    while True:
        with engine.begin() as connection:
            marked = expiry.mark(connection, end, MARK_PAGE_KEYS, kept=_partitions(done.kept_back), spared=spared)
        if not marked:
            return
        done.keys += marked
        tell(done)


def _delete_rejected_lines(engine: sa.Engine, done: Expired, tell: Callable[[Expired], None]) -> None:
    while True:
        with engine.connect() as connection:
            ids = expiry.keys_with_lines_to_delete(connection, done.first_kept, REJECTED_PAGE_KEYS)
        if not ids:
            return
        for start in range(0, len(ids), REJECTED_CHUNK_KEYS):
            with engine.begin() as connection:
                chunk = ids[start : start + REJECTED_CHUNK_KEYS]
                done.rejected_lines += expiry.delete_rejected_lines(connection, done.first_kept, chunk)
            tell(done)


def _drop(
    engine: sa.Engine, partition: MonthPartition, kept: Sequence[MonthPartition], spared: sa.ColumnElement[bool] | None
) -> int:
    """Drop one month. One at a time, because its files are removed under the lock, and loads wait meanwhile.

    Returns how many log keys were marked with it.
    """
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            with engine.begin() as connection:
                return expiry.drop(connection, partition, kept, LOCK_TIMEOUT, spared)
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
                raise
            _log.info("%s is in use, attempt %d of %d", partition.name, attempt, LOCK_ATTEMPTS)
        time.sleep(LOCK_PAUSE_SECONDS)
    raise DatabaseError(
        f"{partition.name} cannot be dropped: a load or a query has used s3_log_record for too long (see"
        " pg_stat_activity); wait for its end and run expire again, which continues where it stopped"
    )
