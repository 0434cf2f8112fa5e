"""Archive: write a bucket's records as Parquet files before its log keys are purged. This module does not know Dagster.

The unit is a delivery day. It gets one file, `logged_bucket=media/delivery_day=2026-03-06/records.parquet`. If late log
keys come, the file is written again as a whole, so each record is in the archive once, even after a kill. A record of
each day lies under `_archived/`: which database wrote it, a digest of the log keys, and the file (an earlier version
wrote several: one for each request day). A day is overwritten only if this
database knows everything that its record says: this database wrote it, and nothing else was written since.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tamarin_dagster.extras import needing
from tamarin_dagster.failpoints import FailPoint, hit
from tamarin_dagster.lake.place import LakeError, LakePlace
from tamarin_dagster.logstore.archive_records import (
    DayRecord,
    FileState,
    UnreadableRecordError,
    owner_name,
    read_day,
    read_file_state,
    read_owner,
    read_written_state,
    record_folder,
    record_name,
    write_day,
    write_owner,
)
from tamarin_dagster.logstore.archiving import ArchiveError, ArchivePlace
from tamarin_dagster.logstore.opening import open_archive, open_client
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore import archived, ledger
from tamarin_dagster.recordstore.archived import UNKNOWN_PLACE, ArchivableKey, DayState, NotedDay
from tamarin_dagster.recordstore.days import midnight
from tamarin_dagster.recordstore.extracts import open_snapshot
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, describe_cause, raise_if_lost
from tamarin_dagster.settings import LoggedBucket, Settings

if TYPE_CHECKING:
    from tamarin_dagster.logstore.opening import ClientOf
    from tamarin_dagster.pipeline.lake.archiving import LakeProof

_log = logging.getLogger(__name__)

# S3 delivers most log keys of a day's last hour within the next hour. If more come later, the day is written again.
SETTLE_HOURS = 1
# Late log keys of an archived day wait this long for others, because each rewrite writes the whole day.
LATE_KEYS_WAIT_HOURS = 6
FILE_NAME = "records.parquet"
_NOT_AS_THE_LEDGER_SAYS = "its rows differ from the ledger; the check rows_match_the_ledger names the log keys"
_CHANGED_MEANWHILE = "some of its log keys were loaded or reparsed meanwhile; the next run writes it again"


@dataclass(slots=True)
class Archived:
    """The result of a call of `archive`.

    Attributes:
        days: delivery days that were written.
        files, rows, bytes: the totals of these days; a day that is written again counts as a whole.
        keys: log keys whose records were not in the archive before.
        waiting_keys: log keys of the requested days that still wait: the day is not over, late log keys are being
            collected, or the day is in `problems`.
        problems: days that were not written, each with the reason.
    """

    days: list[date] = field(default_factory=list)
    files: int = 0
    rows: int = 0
    bytes: int = 0
    keys: int = 0
    waiting_keys: int = 0
    problems: dict[date, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return a summary in one line."""
        waiting = f"; {count_noun(self.waiting_keys, 'log key')} still to archive" if self.waiting_keys else ""
        return (
            f"archived {count_noun(self.keys, 'log key')}: wrote {count_noun(len(self.days), 'day')},"
            f" {count_noun(self.rows, 'record')} in {count_noun(self.files, 'file')}"
            f" ({count_noun(self.bytes, 'byte')}), {self.seconds:.1f} s{waiting}"
        )


@dataclass(frozen=True, slots=True)
class PlaceState:
    """Whether a place is this database's archive of a bucket.

    Attributes:
        database: the identity of this database.
        owner: the identity of the database that the place is marked with; None if it has no mark.
        problem: why the bucket cannot be archived there and not be purged; None if it can.
    """

    database: str
    owner: str | None
    problem: str | None


def read_place_state(bucket: LoggedBucket, place: ArchivePlace, engine: sa.Engine) -> PlaceState:
    """Read the mark that the first archiving leaves in a place. Writes nothing. Raises ArchiveError.

    The mark distinguishes an archive from an empty mount point, and from the archive of another database.
    """
    with engine.connect() as connection:
        ours = archived.database_id(connection)
        noted = archived.list_noted_days(connection, bucket.name, place.name)
        earlier = archived.list_noted_days(connection, bucket.name, UNKNOWN_PLACE)
    owner = read_owner(place, bucket.name)
    return PlaceState(ours, owner, _place_problem(bucket, place, engine, ours, owner, noted, earlier))


def _place_problem(
    bucket: LoggedBucket,
    place: ArchivePlace,
    engine: sa.Engine,
    ours: str,
    owner: str | None,
    noted: Sequence[date],
    earlier: Sequence[date],
) -> str | None:
    where = f"archive {place.url}: "
    if owner == ours:
        return None
    if owner is not None:
        return (
            f"{where}database {owner} archives {bucket.name} there, but this is database {ours}; name another folder"
            " or prefix as archive"
        )
    begin = f'to start a new archive there, create {owner_name(bucket.name)} with {{"database": "{ours}"}}'
    if noted:
        return (
            f"{where}{owner_name(bucket.name)} is missing, but this database has archived {_days(noted)} of"
            f" {bucket.name} there; mount or restore the archive; if it is lost, name another archive, or {begin}"
        )
    if earlier:
        return _earlier_problem(bucket, place, engine, earlier, begin)
    if place.has_files(record_folder(bucket.name)):
        return (
            f"{where}it holds delivery days of {bucket.name} that this database has not archived"
            f" ({record_folder(bucket.name)}); name another folder or prefix as archive"
        )
    return None


def _earlier_problem(
    bucket: LoggedBucket, place: ArchivePlace, engine: sa.Engine, days: Sequence[date], begin: str
) -> str | None:
    """Return a problem unless the place holds the newest day that an earlier version has archived.

    An earlier version left no mark, and did not note where it archived.
    """
    record = read_day(place, bucket.name, days[0])
    with engine.connect() as connection:
        noted = archived.get_noted_day(connection, bucket.name, days[0], UNKNOWN_PLACE)
    if record is not None and record.digest in noted.digests:
        return None
    found = f"has {count_noun(record.keys, 'other log key')}" if record else "is not there"
    return (
        f"archive {place.url}: an earlier version has archived {_days(days)} of {bucket.name}, and the last of them,"
        f" {days[0]}, {found} ({record_name(bucket.name, days[0])}); mount that archive; {begin}"
    )


def _days(days: Sequence[date]) -> str:
    return f"{len(days):,} delivery day{'s' * (len(days) != 1)}"


def _take_place(bucket: LoggedBucket, place: ArchivePlace, engine: sa.Engine) -> str:
    """Mark the place as this database's at the first archiving; return our identity. Raises ArchiveError."""
    state = read_place_state(bucket, place, engine)
    if state.problem:
        raise ArchiveError(state.problem)
    if state.owner is None:
        write_owner(place, bucket.name, state.database)
    return state.database


def archive_bucket(
    bucket: LoggedBucket,
    place: ArchivePlace | LakePlace,
    engine: sa.Engine,
    *,
    days: Collection[date] | None = None,
    now: datetime | None = None,
    progress: Callable[[Archived], None] | None = None,
) -> Archived:
    """Write the delivery days that are over and have log keys whose records are not in the archive.

    Considers `days`, or all days that have such a log key in the log bucket. A day is over SETTLE_HOURS after its end
    by `now` (aware; default: the clock). A day that was written before waits until a late log key has waited
    LATE_KEYS_WAIT_HOURS.

    When all files of a day are durable, its log keys are noted as archived, provided that they have not changed since
    the files were begun; otherwise nothing is noted, and the next call writes the day again. A day whose archive holds
    something that this database does not know is refused. Raises ArchiveError if the place cannot be used at all.
    """
    started = time.monotonic()
    now = now or datetime.now(UTC)
    done = Archived()
    ours: str | None = None
    with engine.connect() as connection:
        waiting = archived.waiting_days(connection, bucket.name, days, place.name)
    for day in waiting:
        with _only_that_day(done, day), archived.lock_day(engine, bucket.name, day) as locked:
            if locked is None:
                done.problems[day] = "another process is writing it"
                continue
            # Look only now, under the lock: the process that held it before may have written the day.
            with engine.connect() as connection:
                state = archived.day_state(connection, bucket.name, day, place.name)
                noted = archived.get_noted_day(connection, bucket.name, day, place.name)
            if not _is_due(day, state, noted, now):
                continue
            if isinstance(place, LakePlace):
                _archive_day_in_lake(bucket, place, engine, locked, day, state, done)
                if progress:
                    progress(done)
                continue
            ours = ours or _take_place(bucket, place, engine)
            try:
                _archive_day(bucket, place, engine, locked, day, done, ours)
            except UnreadableRecordError as error:
                done.problems[day] = str(error)
            if progress:
                progress(done)
    with engine.connect() as connection:
        done.waiting_keys = archived.waiting_keys(connection, bucket.name, days, place.name)
    for day, problem in done.problems.items():
        _log.warning("bucket %s, delivery day %s is not archived: %s", bucket.name, day, problem)
    done.seconds = time.monotonic() - started
    return done


@contextmanager
def _only_that_day(done: Archived, day: date) -> Iterator[None]:
    """Turn a database error into a problem of that day, so that the other days continue."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise_if_lost(error)
        done.problems[day] = f"database: {describe_cause(error)}; remove the cause, and the next run writes the day"


def _is_due(day: date, state: DayState, noted: NotedDay, now: datetime) -> bool:
    if now < midnight(day + timedelta(days=1)) + timedelta(hours=SETTLE_HOURS):
        return False
    if noted.is_unfinished:
        return True
    if state.outdated_keys or not state.archived_keys:
        return bool(state.outdated_keys or state.waiting_keys)
    return state.waiting_since is not None and state.waiting_since <= now - timedelta(hours=LATE_KEYS_WAIT_HOURS)


def _archive_day_in_lake(
    bucket: LoggedBucket,
    place: LakePlace,
    engine: sa.Engine,
    locked: sa.Connection,
    day: date,
    state: DayState,
    done: Archived,
) -> None:
    """Replace a day in the lake and note its log keys, or record a problem and leave the day unchanged."""
    tables = place.open(engine)
    from tamarin_dagster.pipeline.lake.archiving import write_day  # noqa: PLC0415 - most settings have no lake

    try:
        written = write_day(bucket, tables, engine, locked, day, place)
    except LakeError as error:
        if error.transient:
            raise
        done.problems[day] = str(error)
        return
    if isinstance(written, str):
        done.problems[day] = written
        return
    done.days.append(day)
    done.keys += state.waiting_keys
    done.files, done.rows, done.bytes = (
        done.files + written.files,
        done.rows + written.rows,
        done.bytes + written.bytes,
    )


def _archive_day(
    bucket: LoggedBucket,
    place: ArchivePlace,
    engine: sa.Engine,
    locked: sa.Connection,
    day: date,
    done: Archived,
    ours: str,
) -> None:
    """Write a day's files and note its log keys, or record a problem and leave the files unchanged."""
    before = read_day(place, bucket.name, day)
    with open_snapshot(engine, keeps_partitions=True) as connection:
        state = archived.day_state(connection, bucket.name, day, place.name)
        noted = archived.get_noted_day(connection, bucket.name, day, place.name)
        keys = archived.archivable_keys(connection, bucket.name, day)
        if problem := _find_refusal(bucket, place, day, before, noted, state, ours):
            done.problems[day] = problem
            return
        if ledger.count_differences(connection, [key.id for key in keys]):
            done.problems[day] = _NOT_AS_THE_LEDGER_SAYS
            return
        outdated = archived.outdated_ids(connection, bucket.name, day, place.name)
        record = _find_present_record(place, before, keys, outdated, ours)
        is_there = record is not None
        if record is None:
            written = _write_files(bucket, place, engine, connection, day, before, noted, keys, ours, done)
            if written is None:
                return
            record = written
    if record != before:
        _write_record(place, bucket.name, day, record)
    # Two databases that start at the same moment both find an empty place; the last writer owns it.
    if read_day(place, bucket.name, day) != record or read_owner(place, bucket.name) != ours:
        done.problems[day] = f"archive {place.url}: another database writes there too; name another archive"
        return
    hit(FailPoint.ARCHIVE_COMMIT_BEFORE)
    if not archived.mark_archived(locked, bucket.name, day, place.name, keys, outdated):
        done.problems[day] = _CHANGED_MEANWHILE
    else:
        done.keys += state.waiting_keys
    hit(FailPoint.ARCHIVE_COMMIT_AFTER)
    if not is_there:
        done.days.append(day)
        done.files += len(record.files)
        done.rows += record.rows
        done.bytes += sum(each.size or 0 for each in record.files.values())


def _find_refusal(
    bucket: LoggedBucket,
    place: ArchivePlace,
    day: date,
    before: DayRecord | None,
    noted: NotedDay,
    state: DayState,
    ours: str,
) -> str | None:
    """Return why the day's files must not be overwritten, or None."""
    if before is None:
        return None
    there = f"archive {place.url} holds {count_noun(before.keys, 'log key')} of that day"
    if before.database not in {None, ours}:
        return (
            f"{there}, written by database {before.database}; this is database {ours}, which has"
            f" {count_noun(state.keys, 'log key')} of it; name another folder or prefix as archive"
        )
    if before.digest not in noted.digests or before.keys > state.keys:
        return (
            f"{there} that this database ({ours}, {count_noun(state.keys, 'log key')}) does not know, because it was"
            " restored from a backup or the archive belongs to another database; name another archive, or move"
            f" {record_name(bucket.name, day)} and the files that it names away, and the day is written again"
        )
    if state.expired_keys:
        return (
            f"retention has dropped records of {count_noun(state.expired_keys, 'log key')} of that day, which could"
            " not be written again; the waiting log keys stay in the log bucket, and their records in s3_log_record"
        )
    return None


def _find_present_record(
    place: ArchivePlace, before: DayRecord | None, keys: Sequence[ArchivableKey], outdated: Sequence[int], ours: str
) -> DayRecord | None:
    """Return the day's record if the place already holds exactly these log keys, or None if files must be written.

    That happens after a kill before the commit, and with an archive that was moved or that an earlier version wrote.
    """
    if before is None or not before.is_complete:
        return None
    digest = archived.key_digest(keys)
    counts = f"counts:{len(keys)}:{sum(key.record_count for key in keys)}"
    is_earlier = before.digest == counts and not outdated and all(key.is_archived for key in keys)
    if before.digest != digest and not is_earlier:
        return None
    found = {name: read_file_state(place, name) for name in before.files}
    files = {name: state for name, state in found.items() if state and state.is_as(before.files[name])}
    if len(files) < len(found):
        return None
    return replace(before, database=ours, digest=digest, files=files)


def _write_files(
    bucket: LoggedBucket,
    place: ArchivePlace,
    engine: sa.Engine,
    connection: sa.Connection,
    day: date,
    before: DayRecord | None,
    noted: NotedDay,
    keys: Sequence[ArchivableKey],
    ours: str,
    done: Archived,
) -> DayRecord | None:
    """Write the day's files; return the record to write next, or None after noting a problem."""
    # Arrow takes a fifth of a second to import, and the proof before a purge does not need it.
    from tamarin_dagster.pipeline.export import columnar  # noqa: PLC0415

    expected = Counter({key.id: key.record_count for key in keys if key.record_count})
    # A day without records has no file.
    names = {f"{columnar.partition_folder(bucket.name, day)}/{FILE_NAME}"} if expected else set[str]()
    if before is None and not noted.digests:
        for name in names:
            if place.end_of(name, 1) is not None:
                done.problems[day] = (
                    f"archive {place.url}: {name} exists, but not {record_name(bucket.name, day)}, which would say"
                    " who wrote it; move the file away, or name another archive"
                )
                return None
    digest = archived.key_digest(keys)
    # Note it before the first change in the archive: after a kill, the next run knows what we were about to write.
    hit(FailPoint.ARCHIVE_NOTE_BEFORE)
    with engine.begin() as noting:
        archived.note_writing(noting, bucket.name, day, place.name, before.digest if before else None, digest)
    hit(FailPoint.ARCHIVE_NOTE_AFTER)
    stale = set(before.files if before else ()) - names
    begun = DayRecord(ours, len(keys), digest, False, dict.fromkeys([*stale, *names], FileState(0, 0, "")))
    _write_record(place, bucket.name, day, begun)
    files: dict[str, FileState] = {}
    found: Counter[int] = Counter()
    for name in names:
        hit(FailPoint.ARCHIVE_FILE_BEFORE)
        with place.writing(name) as file:
            found = columnar.write_day(file, connection, bucket.name, day, expected.total())
            files[name] = read_written_state(file, found.total())
        hit(FailPoint.ARCHIVE_FILE_AFTER)
    if found != expected:
        done.problems[day] = _NOT_AS_THE_LEDGER_SAYS
        return None
    for name in stale:
        place.remove(name)
    return DayRecord(ours, len(keys), digest, True, files)


def _write_record(place: ArchivePlace, bucket: str, day: date, record: DayRecord) -> None:
    hit(FailPoint.ARCHIVE_RECORD_BEFORE)
    write_day(place, bucket, day, record)
    hit(FailPoint.ARCHIVE_RECORD_AFTER)


def open_place(
    settings: Settings, bucket: LoggedBucket, client_of: "ClientOf" = open_client
) -> ArchivePlace | LakePlace | None:
    """Return the archive of a bucket's records: the lake, a folder or a prefix in S3; None if it has none.

    Raises ArchiveError.
    """
    url = settings.archive_of(bucket)
    if settings.lake is not None and url == settings.lake.url:
        return LakePlace(settings.lake)
    return open_archive(bucket, url, client_of) if url else None


def make_proof(bucket: LoggedBucket, place: ArchivePlace | LakePlace, engine: sa.Engine) -> "ArchiveProof | LakeProof":
    """Return the proof of a purge that an archive holds what was archived."""
    if isinstance(place, LakePlace):
        with needing("lake", "A lake"):
            from tamarin_dagster.pipeline.lake.archiving import LakeProof  # noqa: PLC0415 - most settings have no lake

        return LakeProof(bucket, place, engine)
    return ArchiveProof(bucket, place, engine)


class ArchiveProof:
    """Prove, for each delivery day, that the archive still holds what this database archived there.

    Made for one purge: it reads the place's mark once, and each day once.
    """

    def __init__(self, bucket: LoggedBucket, place: ArchivePlace, engine: sa.Engine) -> None:
        self._bucket = bucket
        self._place = place
        self._engine = engine
        self._state: PlaceState | None = None
        self._problems: dict[date, str | None] = {}

    def problem(self, day: date) -> str | None:
        """Return why no log key of that delivery day may be purged, or None if its records are in the archive."""
        if day not in self._problems:
            hit(FailPoint.ARCHIVE_PROOF_BEFORE)
            try:
                self._problems[day] = self._place_problem() or self._day_problem(day)
            except ArchiveError as error:
                self._problems[day] = str(error)
            hit(FailPoint.ARCHIVE_PROOF_AFTER)
        return self._problems[day]

    def _place_problem(self) -> str | None:
        if self._state is None:
            self._state = read_place_state(self._bucket, self._place, self._engine)
        if self._state.problem is None and self._state.owner is None:
            return f"archive {self._place.url}: nothing of {self._bucket.name} was archived there"
        return self._state.problem

    def _day_problem(self, day: date) -> str | None:
        bucket, url = self._bucket.name, self._place.url
        name = record_name(bucket, day)
        with self._engine.connect() as connection:
            noted = archived.get_noted_day(connection, bucket, day, self._place.name)
        record = read_day(self._place, bucket, day)
        again = (
            "restore it, or have the day written again: UPDATE s3_log_key SET archived_at = NULL"  # noqa: S608 - a text
            f" WHERE bucket = '{bucket}' AND delivery_date = '{day}'"
        )
        if record is None:
            return f"archive {url}: {name} is missing; {again}"
        if self._state is None or record.database != self._state.database:
            return f"archive {url}: {name} was written by database {record.database}, not by this one"
        if noted.is_unfinished or not record.is_complete:
            return (
                f"archive {url}: {name} is incomplete: a process is writing it, or ended before it was done; the"
                " next pull completes it"
            )
        if record.digest != noted.written:
            return f"archive {url}: {name} is not the one that this database wrote last; {again}"
        for file, listed in record.files.items():
            found = read_file_state(self._place, file)
            if found is None or not found.is_as(listed):
                return (
                    f"archive {url}: {file} {'differs from what was written' if found else 'is missing or damaged'};"
                    f" {again}"
                )
        return None


@dataclass(frozen=True, slots=True)
class Verified:
    """A delivery day in the archive, compared with the ledger.

    Attributes:
        place: the archive, as in the settings.
        state: what the ledger says.
        database: the identity of this database.
        record: what the archive says; None if it has no record of the day.
        files: the current state of the day's files; None for one that is missing or damaged.
    """

    place: str
    state: DayState
    database: str
    record: DayRecord | None
    files: dict[str, FileState | None]

    @property
    def listed_rows(self) -> int:
        """The number of records in the files, by the day's record."""
        return (
            sum(state.rows for name, state in self.record.files.items() if _holds_records(name)) if self.record else 0
        )

    @property
    def found_rows(self) -> int:
        """The number of records in the files, by the files' own metadata."""
        return sum(each.rows for name, each in self.files.items() if each and _holds_records(name))

    @property
    def wrong_files(self) -> list[str]:
        """The names of the files that differ from what was written."""
        listed = self.record.files if self.record else {}
        return [name for name, found in self.files.items() if found is None or not found.is_as(listed[name])]

    @property
    def is_true(self) -> bool:
        """Whether the files agree with the ledger; while log keys wait, only whether they are unchanged."""
        if not self.state.archived_keys:
            return True
        if self.record is None or self.record.database != self.database or self.wrong_files:
            return False
        return bool(self.state.waiting_keys or self.state.outdated_keys) or (
            self.state.archived_records == self.listed_rows
        )


def _holds_records(name: str) -> bool:
    """Return whether a file of an archive, or a table of a lake, holds records. The other table has rejected lines."""
    return name != "s3_rejected_line"


def verify(bucket: LoggedBucket, place: ArchivePlace | LakePlace, engine: sa.Engine, day: date) -> Verified:
    """Compare the row counts in a day's files, or in the metadata of the lake's tables, with the ledger.

    Raises ArchiveError.
    """
    with engine.connect() as connection:
        state = archived.day_state(connection, bucket.name, day, place.name)
        ours = archived.database_id(connection)
    if not state.archived_keys:
        return Verified(place.url, state, ours, None, {})
    if isinstance(place, LakePlace):
        tables = place.open(engine)
        from tamarin_dagster.pipeline.lake import archiving  # noqa: PLC0415 - most settings have no lake

        return Verified(place.url, state, ours, *archiving.read_day(tables, bucket.name, day))
    record = read_day(place, bucket.name, day)
    files = {name: read_file_state(place, name) for name in (record.files if record else {})}
    return Verified(place.url, state, ours, record, files)
