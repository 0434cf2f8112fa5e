"""Reparse: read rejected lines again, with the current parser and the current time.

Lines that are records now are moved into the records, in one transaction for each log key.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import psycopg
import sqlalchemy as sa

from tamarin_dagster.logformat import ParsedLogs, parse_logs
from tamarin_dagster.logformat.engine import ParserName
from tamarin_dagster.logkey import KeyFailure
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore import rejected
from tamarin_dagster.recordstore.partitions import ensure_partitions
from tamarin_dagster.recordstore.refusals import REFUSALS, describe_parse_error, describe_refusal
from tamarin_dagster.recordstore.rejected import RejectedKey, StoredLine
from tamarin_dagster.settings import LoggedBucket

_log = logging.getLogger(__name__)

# Log keys that are looked up together.
REPARSE_PAGE_KEYS = 1000


@dataclass(slots=True)
class Reparsed:
    """The result of a reparse. Counts are of log keys without a failure: lines = moved + rejected + oversized.

    Attributes:
        keys: log keys with rejected lines.
        changed: how many of them have lines that moved, or that have another reason now.
        lines: their rejected lines.
        moved: lines that are records now.
        rejected: lines that are still rejected.
        reasons_changed: how many of these have another reason now.
        oversized: lines that were not read again: oversized lines, of which only the start is stored, and torn lines.
        failures: log keys that were not changed, with the reason.
    """

    keys: int = 0
    changed: int = 0
    lines: int = 0
    moved: int = 0
    rejected: int = 0
    reasons_changed: int = 0
    oversized: int = 0
    failures: list[KeyFailure] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return a summary in one line."""
        return (
            f"changed {self.changed:,} of {count_noun(self.keys, 'log key')} with rejected lines;"
            f" {count_noun(self.lines, 'line')} = {count_noun(self.moved, 'record')} now + {self.rejected:,} still"
            f" rejected ({self.reasons_changed:,} for another reason) + {self.oversized:,} oversized or torn, not read"
            f" again; {self.seconds:.1f} s"
        )


def reparse_bucket(
    bucket: LoggedBucket,
    engine: sa.Engine,
    *,
    first: date | None = None,
    last: date | None = None,
    now: datetime | None = None,
    redacts: bool = True,
    parser: ParserName = "compiled",
    progress: Callable[[Reparsed], None] | None = None,
) -> Reparsed:
    """Read the rejected lines of the bucket's log keys again, and move those that are records now into the records.

    `first` and `last` are delivery days, `now` (aware; default: the clock) is the time that request times are compared
    with, `redacts` says whether secrets of presigned URLs are left out of the records, `parser` which parser reads the
    lines.

    A log key whose lines cannot be read or moved is a failure and is not changed; the others continue. `progress` gets
    the results so far, after each log key. Raises sqlalchemy.exc.OperationalError when the database is gone; what was
    moved until then stays.
    """
    started = time.monotonic()
    now = now or datetime.now(UTC)
    done = Reparsed()
    for key in _find_keys(engine, bucket, first, last):
        try:
            _count(done, _reparse_key(engine, key, _Reading(now, redacts, parser, bucket)))
        except REFUSALS as error:
            _fail(done, bucket, key, describe_refusal(error))
        except (sa.exc.SQLAlchemyError, psycopg.Error):
            raise
        except Exception as error:  # noqa: BLE001 - recorded on the key
            _fail(done, bucket, key, describe_parse_error(error))
        if progress:
            progress(done)
    done.seconds = time.monotonic() - started
    return done


def _find_keys(engine: sa.Engine, bucket: LoggedBucket, first: date | None, last: date | None) -> Iterator[RejectedKey]:
    last_id = 0
    while True:
        with engine.connect() as connection:
            page = rejected.list_keys_with_rejected_lines(
                connection, bucket.name, first, last, REPARSE_PAGE_KEYS, last_id
            )
        if not page:
            return
        yield from page
        last_id = page[-1].id


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Rejected lines of a log key, as the parser reads them now.

    Attributes:
        parsed: the result; each line is a log of its own.
        moved: the numbers of the lines that are records.
        reasons: by new reason, the numbers of the lines that are rejected for another reason than before.
        oversized: how many more lines cannot be read again.
    """

    parsed: ParsedLogs
    moved: list[int]
    reasons: dict[str, list[int]]
    oversized: int


@dataclass(slots=True)
class _KeyCounts:
    """The counts of a log key's rejected lines after parsing them again."""

    moved: int = 0
    rejected: int = 0
    reasons_changed: int = 0
    oversized: int = 0
    months: set[date] = field(default_factory=set)
    first_request: datetime | None = None
    last_request: datetime | None = None

    @property
    def is_changed(self) -> bool:
        """Return whether anything must be written."""
        return bool(self.moved or self.reasons_changed)

    def add(self, chunk: _Chunk) -> None:
        """Count a chunk of its lines."""
        self.moved += len(chunk.moved)
        self.rejected += len(chunk.parsed.counts) - len(chunk.moved)
        self.reasons_changed += sum(len(numbers) for numbers in chunk.reasons.values())
        self.oversized += chunk.oversized
        for counts in chunk.parsed.counts:
            if counts.first_request_dtime and counts.last_request_dtime:
                self.months.add(counts.first_request_dtime.date().replace(day=1))
                self.first_request = min(self.first_request or counts.first_request_dtime, counts.first_request_dtime)
                self.last_request = max(self.last_request or counts.last_request_dtime, counts.last_request_dtime)


@dataclass(frozen=True, slots=True)
class _Reading:
    """How lines are read, and of which bucket; see `reparse`."""

    now: datetime
    redacts: bool
    parser: ParserName
    bucket: LoggedBucket


def _reparse_key(engine: sa.Engine, key: RejectedKey, reading: _Reading) -> _KeyCounts:
    """Reparse one log key. Read its lines without a lock first: most stay rejected, and it gives the others' months.

    A partition must exist before the transaction that fills it. Creating one meanwhile, on another connection, could
    wait for somebody who waits for us.
    """
    expected = _KeyCounts()
    with engine.connect() as connection, closing(_read_chunks(connection, key, reading)) as chunks:
        for chunk in chunks:
            expected.add(chunk)
    if not expected.is_changed:
        return expected
    ensure_partitions(engine, expected.months)
    found = _KeyCounts()
    with engine.begin() as connection:
        if not rejected.lock(connection, key):
            return found
        with closing(_read_chunks(connection, key, reading)) as chunks:
            for chunk in chunks:
                of_bucket = reading.bucket
                rejected.move(
                    connection, key.id, chunk.moved, chunk.parsed, bucket=of_bucket.name, region=of_bucket.region
                )
                rejected.change_reasons(connection, key.id, chunk.reasons)
                found.add(chunk)
        if found.moved:
            rejected.count_moved(connection, key.id, found.moved, found.first_request, found.last_request)
    return found


def _read_chunks(connection: sa.Connection, key: RejectedKey, reading: _Reading) -> Generator[_Chunk]:
    with closing(rejected.read_stored_lines(connection, key.id)) as chunks:
        for lines in chunks:
            yield _read(lines, reading)


def _read(lines: Sequence[StoredLine], reading: _Reading) -> _Chunk:
    whole = [(line, line.line) for line in lines if line.line is not None]
    numbers = [line.line_number for line, _ in whole]
    bodies = [text + b"\n" for _, text in whole]
    parsed = parse_logs(bodies, now=reading.now, first_lines=numbers, parser=reading.parser)
    if reading.redacts:
        parsed = parsed.redact()
    moved = [number for number, counts in zip(numbers, parsed.counts, strict=True) if counts.record_count]
    reasons: dict[str, list[int]] = {}
    for log, number, reason in parsed.rejected[["log_index", "line_number", "reason"]].itertuples(index=False):
        if reason != whole[log][0].reason:
            reasons.setdefault(reason, []).append(number)
    return _Chunk(parsed, moved, reasons, oversized=len(lines) - len(whole))


def _count(done: Reparsed, key: _KeyCounts) -> None:
    done.keys += 1
    done.changed += key.is_changed
    done.lines += key.moved + key.rejected + key.oversized
    done.moved += key.moved
    done.rejected += key.rejected
    done.reasons_changed += key.reasons_changed
    done.oversized += key.oversized


def _fail(done: Reparsed, bucket: LoggedBucket, key: RejectedKey, error: str) -> None:
    _log.warning("bucket %s, key %s is not changed: %s", bucket.name, key.key, error)
    done.failures.append(KeyFailure(key.key, key.delivery_date, error))
