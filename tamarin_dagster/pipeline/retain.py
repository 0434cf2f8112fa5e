"""expire: what is older than retention_months goes, whole monthly partitions at a time.

The ledger keeps its row of each key, so that nothing is loaded again. Knows nothing of Dagster.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import psycopg
import sqlalchemy as sa

from tamarin_dagster.recordstore import archived, expiry
from tamarin_dagster.recordstore.archived import OwedKeys
from tamarin_dagster.recordstore.database import DatabaseError
from tamarin_dagster.recordstore.partitions import MonthPartition, partitions_before

_log = logging.getLogger(__name__)

# Keys that are marked in one transaction.
MARK_PAGE_KEYS = 5000
# Keys that are looked up at a time, and of which the rejected lines are deleted in one transaction: a key may have
# hundreds of thousands.
REJECTED_PAGE_KEYS = 100_000
REJECTED_CHUNK_KEYS = 100
# While a drop waits for the record table, loads and queries wait behind it. Longer than the second after which
# autovacuum gives way; shorter than the patience of `ensure_partitions`.
LOCK_TIMEOUT = "3s"
LOCK_ATTEMPTS = 20
LOCK_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class KeptBack:
    """A month that is not dropped yet: nobody could make its rollups again once its records are gone.

    Attributes:
        partition: its partition.
        days: its buckets (None: all) and days that are not rolled up.
    """

    partition: MonthPartition
    days: tuple[tuple[str | None, date], ...]

    def __str__(self) -> str:
        """What holds it back, in a line, for a person."""
        bucket, day = self.days[0]
        more = f" and {len(self.days) - 1:,} more" if len(self.days) > 1 else ""
        place = f"bucket {bucket}, day {day}" if bucket else f"day {day}"
        return (
            f"{self.partition.name} is not dropped: {place}{more} must be rolled up first, or its traffic is lost;"
            " run `tamarin-dagster roll-up`, then expire again"
        )


@dataclass(frozen=True, slots=True)
class Expirable:
    """What an expire would do now.

    Attributes:
        first_kept: the first day (UTC) whose requests stay.
        partitions: the months that would be dropped, oldest first.
        keys: how many ledger rows would be marked.
        rejected_lines: how many would be deleted.
        owed: keys whose records are not in their archive yet, by bucket; the months from their earliest record on stay.
    """

    first_kept: date
    partitions: tuple[MonthPartition, ...]
    keys: int
    rejected_lines: int
    owed: tuple[OwedKeys, ...] = ()


@dataclass(slots=True)
class Expired:
    """What an expire did.

    Attributes:
        first_kept: the first day (UTC) whose requests stay.
        partitions: the months that were dropped, oldest first.
        keys: ledger rows that were marked: keys with a record in those months.
        rejected_lines: how many were deleted.
        kept_back: months that stay for now, since their rollups do not hold all of their records.
        unpurged: by bucket, how many keys that expired now or earlier still lie in the log bucket. They are never
            purged, since nothing can be proved of them any more.
        owed: keys whose records are not in their archive yet, by bucket; the months from their earliest record on stay.
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
        """In a line, for a person."""
        names = ", ".join(partition.name for partition in self.partitions)
        return (
            f"{len(self.partitions):,} months dropped{f' ({names})' if names else ''}, {self.bytes:,} bytes;"
            f" {self.keys:,} keys marked as expired, {self.rejected_lines:,} rejected lines deleted; kept is what was"
            f" requested from {self.first_kept} on; {self.seconds:.1f} s"
        )

    @property
    def bytes(self) -> int:
        """What the dropped partitions took on disk, with their indexes."""
        return sum(partition.bytes for partition in self.partitions)


def first_kept_day(months: int, today: date) -> date:
    """The first day of the month `months` before today's: 2025-11-01 for 12 and any day of November 2026."""
    year, month = divmod(today.year * 12 + today.month - 1 - months, 12)
    return date(year, month + 1, 1)


def unpurged_warning(bucket: str, keys: int) -> str:
    """What to say of a bucket that is purged and has expired keys in its log bucket."""
    return (
        f"{keys:,} expired keys of {bucket} still lie in the log bucket: what they held cannot be counted any more, so"
        " they are never purged; a lifecycle rule of the log bucket can delete them"
    )


def owed_warning(owed: OwedKeys) -> str:
    """What to say of keys that keep months from being dropped, since they wait for the archive."""
    return (
        f"{owed.keys:,} keys of {owed.bucket} are not in its archive yet, so no month from"
        f" {owed.first_request:%Y-%m} on is dropped: tamarin-dagster pull --bucket {owed.bucket} --from"
        f" {owed.first_day} --to {owed.last_day} archives them, or says why not"
    )


def expirable(
    engine: sa.Engine, months: int, *, today: date | None = None, archives: Mapping[str, str] | None = None
) -> Expirable:
    """What `expire` would do, without doing it."""
    with engine.connect() as connection:
        first_kept, owed = _first_kept(connection, months, today, archives or {})
        partitions = tuple(partitions_before(connection, expiry.midnight(first_kept)))
        keys = expiry.count_to_mark(connection, partitions[-1].end) if partitions else 0
        lines = expiry.count_lines_to_delete(connection, first_kept)
        return Expirable(first_kept, partitions, keys, lines, owed)


def _first_kept(
    connection: sa.Connection, months: int, today: date | None, archives: Mapping[str, str]
) -> tuple[date, tuple[OwedKeys, ...]]:
    """The first day whose requests stay, and the keys for which it is earlier than the setting says."""
    first_kept = first_kept_day(months, today or datetime.now(UTC).date())
    owed = tuple(archived.owed_keys(connection, archives, expiry.midnight(first_kept)))
    for each in owed:
        first_kept = min(first_kept, each.first_request.astimezone(UTC).date().replace(day=1))
    return first_kept, owed


def _planned(connection: sa.Connection, first_kept: date) -> tuple[list[MonthPartition], list[KeptBack]]:
    """The months to drop, and those that are held back by a day that is not rolled up; oldest first."""
    old, held = [], []
    for partition in partitions_before(connection, expiry.midnight(first_kept)):
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
    progress: Callable[[Expired], None] | None = None,
) -> Expired:
    """Drops the partitions that lie wholly before the month `months` before today's (UTC; default: the clock's).

    First the keys with a record in them are marked as expired, in small transactions: they are neither counted nor
    purged any more. Keys that lie wholly before lose their rejected lines. Then each month is dropped in a transaction
    of its own. A kill at any point leaves a true ledger; the next call goes on. `progress` gets what is done so far.

    A month with a day that is not rolled up stays, and is one of the answer's `kept_back`; no other day matters.
    `archives` has the place (see `place_name`) of each bucket that has an archive: while keys of it are not there, the
    months from their earliest record on stay.

    Raises DatabaseError if the record table stays in use; what was done until then stays.
    """
    started = time.monotonic()
    places = archives or {}
    spared = archived.is_owed_to(places) if places else None
    tell = progress or _quiet
    with engine.connect() as connection:
        first_kept, owed = _first_kept(connection, months, today, places)
        done = Expired(first_kept, owed=owed)
        old, done.kept_back = _planned(connection, done.first_kept)
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
                done.first_kept, done.owed = _first_kept(connection, months, today, places)
            break
        done.partitions.append(partition)
        _log.info("dropped %s, about %d rows", partition.name, partition.rows)
        tell(done)
    with engine.connect() as connection:
        done.unpurged = expiry.unpurged_expired_keys(connection)
    done.seconds = time.monotonic() - started
    return done


def _quiet(_: Expired) -> None:
    """Tells nobody."""


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
    """Drops one month: its files are removed while the lock is held, so that several at once would keep loads waiting.

    Returns how many keys were marked with it.
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
        f"{partition.name} cannot be dropped: a load or a query has s3_log_record in use since long (pg_stat_activity"
        " shows it); let it end and run expire again, which goes on where this one stopped"
    )
