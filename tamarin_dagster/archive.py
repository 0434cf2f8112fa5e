"""archive: a bucket's records as Parquet files, before its log keys are purged. Knows nothing of Dagster.

What is written at a time is a delivery day, in a file for each bucket and UTC day of request that its records have:
`bucket=media/date=2026-03-05/media-delivered-2026-03-06.parquet`. If late keys come, the day's files are written again,
whole: so each record is in the archive once, whatever is killed. A list of a day's files lies beside them, under
`_archived/`, so that one that the day does not need any more is found and removed.
"""

import io
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from tamarin_dagster.export.columnar import COLUMNS, CSV_OPTIONS, partition_folder, write_parquet
from tamarin_dagster.logstore.archiving import ArchiveError, ArchivePlace
from tamarin_dagster.recordstore import archived, ledger
from tamarin_dagster.recordstore.archived import DayState
from tamarin_dagster.recordstore.expiry import midnight
from tamarin_dagster.recordstore.extracts import copied_out, reading
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, cause_of, raise_if_lost
from tamarin_dagster.settings import LoggedBucket

_log = logging.getLogger(__name__)

# S3 delivers most keys of a day's last hour within the next one; what comes later costs the day another writing.
SETTLE_HOURS = 1
# Late keys of a day that is archived wait so long for others: else each of them would have the day written again.
LATE_KEYS_WAIT_HOURS = 6
_NOT_AS_THE_LEDGER_SAYS = "its rows are not what the ledger says; the check rows_match_the_ledger names the keys"
# The end of a Parquet file has its metadata; longer ones are asked for a second time.
_FOOTER_BYTES = 64 * 1024
# A list of files is short: a delivery day has requests of a day or two.
_LIST_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Archived:
    """What an archiving did.

    Attributes:
        days: delivery days that were written.
        files, rows, bytes: what they have now; a day that is written again counts whole.
        keys: log keys whose records were not in the archive before.
        waiting_keys: log keys that wait still, of the days that were asked for: the day is not over, late keys are
            collected, or one of `problems` stands against it.
        problems: days that were left as they are, each with the reason.
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
        """In a line, for a person."""
        waiting = f"; {self.waiting_keys:,} keys wait" if self.waiting_keys else ""
        return (
            f"archived {self.keys:,} keys; {len(self.days):,} days written, {self.rows:,} records in {self.files:,}"
            f" files ({self.bytes:,} bytes), {self.seconds:.1f} s{waiting}"
        )


@dataclass(frozen=True, slots=True)
class ArchivedDay:
    """What the archive has of a delivery day: the list that lies beside its files.

    Attributes:
        keys: log keys whose records they are.
        files: their names, each with its rows.
    """

    keys: int
    files: dict[str, int]

    @property
    def rows(self) -> int:
        """Records in all of them."""
        return sum(self.files.values())


def archive(
    bucket: LoggedBucket,
    place: ArchivePlace,
    engine: sa.Engine,
    *,
    days: Collection[date] | None = None,
    now: datetime | None = None,
    progress: Callable[[Archived], None] | None = None,
) -> Archived:
    """Writes the delivery days that are over and have keys whose records are not in the archive.

    Of `days`; without them all with such a key in the log bucket. A day is over SETTLE_HOURS after its end by `now`
    (aware; default: the clock). One that was written before waits until a late key has waited LATE_KEYS_WAIT_HOURS.
    Keys are noted as archived once all the day's files are durable, if they are as they were when these were written;
    else nothing is noted, and the next call writes the day again. Raises ArchiveError.
    """
    started = time.monotonic()
    now = now or datetime.now(UTC)
    done = Archived()
    with engine.connect() as connection:
        waiting = archived.waiting_days(connection, bucket.name, days)
    for day in waiting:
        with _only_that_day(done, day), archived.locked_day(engine, bucket.name, day) as locked:
            if locked is None:
                done.problems[day] = "another process is writing it"
                continue
            # Only now: who had the lock before may have just done it.
            with engine.connect() as connection:
                state = archived.day_state(connection, bucket.name, day)
            if _is_due(day, state, now):
                _archive_day(bucket, place, engine, locked, day, done)
                if progress:
                    progress(done)
    with engine.connect() as connection:
        done.waiting_keys = archived.waiting_keys(connection, bucket.name, days)
    for day, problem in done.problems.items():
        _log.warning("bucket %s, delivery day %s is not archived: %s", bucket.name, day, problem)
    done.seconds = time.monotonic() - started
    return done


@contextmanager
def _only_that_day(done: Archived, day: date) -> Iterator[None]:
    """A day that the database refuses to read or to note is a problem of that day; the others go on."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise_if_lost(error)
        done.problems[day] = f"database: {cause_of(error)}; mend the cause, and the next run writes it"


def _is_due(day: date, state: DayState, now: datetime) -> bool:
    if now < midnight(day + timedelta(days=1)) + timedelta(hours=SETTLE_HOURS):
        return False
    if state.outdated_keys or not state.archived_keys:
        return bool(state.outdated_keys or state.waiting_keys)
    return state.waiting_since is not None and state.waiting_since <= now - timedelta(hours=LATE_KEYS_WAIT_HOURS)


def _archive_day(
    bucket: LoggedBucket,
    place: ArchivePlace,
    engine: sa.Engine,
    locked: sa.Connection,
    day: date,
    done: Archived,
) -> None:
    """Writes a day's files and notes its keys, or says what stands against it; then the files stay as they were."""
    before = read_day(place, bucket.name, day)
    with reading(engine, keeps_partitions=True) as connection:
        state = archived.day_state(connection, bucket.name, day)
        counts = archived.record_counts(connection, bucket.name, day)
        if state.expired_keys:
            done.problems[day] = (
                f"retention has dropped records of {state.expired_keys:,} of its keys, which could not be written"
                " again; the keys that wait stay in the log bucket, their records in s3_log_record"
            )
            return
        if ledger.count_differences(connection, list(counts)):
            done.problems[day] = _NOT_AS_THE_LEDGER_SAYS
            return
        if before and before.keys > state.keys:
            raise ArchiveError(
                f"archive {place.url}: holds {before.keys:,} keys of {bucket.name} that were delivered on {day}, and"
                f" this database knows {state.keys:,}: another one wrote it; name another folder or prefix as archive"
            )
        outdated = archived.outdated_ids(connection, bucket.name, day)
        partitions = archived.record_partitions(connection, bucket.name, day)
        names = {part: f"{partition_folder(*part)}/{_file_name(bucket.name, day)}" for part in partitions}
        stale = set(before.files if before else ()) - set(names.values())
        # Before the first file: after a kill the next one knows of all that may be there.
        _write_list(place, bucket.name, day, ArchivedDay(state.keys, dict.fromkeys([*stale, *names.values()], 0)))
        files: dict[str, int] = {}
        found: Counter[int] = Counter()
        for (record_bucket, requested), name in names.items():
            statement = archived.copy_statement(bucket.name, day, requested, record_bucket, COLUMNS, CSV_OPTIONS)
            with copied_out(connection, statement) as rows, place.writing(name) as file:
                written = write_parquet(file, rows)
                size = file.tell()
            files[name] = written.total()
            found += written
            done.bytes += size
    for name in stale:
        place.remove(name)
    _write_list(place, bucket.name, day, ArchivedDay(len(counts), files))
    if found != Counter(counts):
        done.problems[day] = _NOT_AS_THE_LEDGER_SAYS
    elif not archived.mark_archived(locked, counts, outdated):
        done.problems[day] = "keys of it were loaded or reparsed meanwhile; the next run writes it again"
    else:
        done.keys += state.waiting_keys
    done.days.append(day)
    done.files += len(files)
    done.rows += sum(files.values())


def _file_name(bucket: str, day: date) -> str:
    # Two buckets of the settings may have records of one bucket: each has files of its own.
    return f"{bucket}-delivered-{day.isoformat()}.parquet"


def _list_name(bucket: str, day: date) -> str:
    return f"_archived/{bucket}/{day.isoformat()}.json"


def read_day(place: ArchivePlace, bucket: str, day: date) -> ArchivedDay | None:
    """What the archive has of that delivery day; None if it was never written. Raises ArchiveError."""
    text = place.end_of(_list_name(bucket, day), _LIST_BYTES)
    if text is None:
        return None
    try:
        found = json.loads(text)
        return ArchivedDay(int(found["keys"]), {str(name): int(rows) for name, rows in found["files"].items()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArchiveError(
            f"archive {place.url}: {_list_name(bucket, day)} is no list of files ({error}); if its day's files are to"
            " be written anew, delete it"
        ) from error


def _write_list(place: ArchivePlace, bucket: str, day: date, written: ArchivedDay) -> None:
    text = json.dumps({"bucket": bucket, "delivered": day.isoformat(), "keys": written.keys, "files": written.files})
    with place.writing(_list_name(bucket, day)) as file:
        file.write(text.encode())


@dataclass(frozen=True, slots=True)
class Verified:
    """A delivery day in the archive, held against the ledger.

    Attributes:
        state: what the ledger says.
        rows: records in the day's files, by their own metadata; None for a file that is not there.
        listed_rows: what the list beside them says.
    """

    state: DayState
    rows: dict[str, int | None]
    listed_rows: int

    @property
    def is_true(self) -> bool:
        """Whether the files hold what the ledger says. While keys wait, only that they hold what was written."""
        if (
            any(rows is None for rows in self.rows.values())
            or sum(filter(None, self.rows.values())) != self.listed_rows
        ):
            return False
        return bool(self.state.waiting_keys or self.state.outdated_keys) or (
            self.state.archived_records == self.listed_rows
        )


def verify(bucket: LoggedBucket, place: ArchivePlace, engine: sa.Engine, day: date) -> Verified:
    """Holds the rows that a day's files say they have against the ledger. Raises ArchiveError."""
    with engine.connect() as connection:
        state = archived.day_state(connection, bucket.name, day)
    if not state.archived_keys:
        return Verified(state, {}, 0)
    listed = read_day(place, bucket.name, day) or ArchivedDay(0, {})
    return Verified(state, {name: _rows_in(place, name) for name in listed.files}, listed.rows)


def _rows_in(place: ArchivePlace, name: str) -> int | None:
    """The rows of a Parquet file, from its metadata; None if there is no such file, or it is none."""
    end = place.end_of(name, _FOOTER_BYTES)
    if end is None:
        return None
    # the last eight bytes are the metadata's length and `PAR1`
    length = int.from_bytes(end[-8:-4], "little") + 8
    if length > len(end) and len(end) == _FOOTER_BYTES:
        end = place.end_of(name, length) or b""
    try:
        rows: int = pq.read_metadata(io.BytesIO(end)).num_rows
    except (pa.ArrowInvalid, OSError):
        return None
    return rows
