"""Parse log objects into records and rejected lines, as DataFrames.

`parse_logs` parses a batch of log objects, `parse_parts` one that is too large for memory, `parse_log` is for people.

Each line is a record, a rejected line or blank; no line is lost.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tamarin_dagster.logformat.engine import ParserName, compiled_engine_for
from tamarin_dagster.logformat.frames import (
    RECORDS_SCHEMA,
    REJECTED_SCHEMA,
    get_times,
    select_rows,
    to_frame,
    to_table,
)
from tamarin_dagster.logformat.lines import KEPT_BYTES, PIECE_BYTES, Integers, LongLine, Piece, cut_pieces, whole_lines
from tamarin_dagster.logformat.reading import (
    BLANK_LINE,
    REASONS,
    REJECTED,
    Outcomes,
    Reading,
    RegexReading,
)
from tamarin_dagster.logformat.reasons import RejectReason
from tamarin_dagster.logformat.redaction import redact
from tamarin_dagster.logformat.torn_lines import TornLines
from tamarin_dagster.logformat.values import EARLIEST_REQUEST, EPOCH, MAX_AHEAD, to_microseconds

if TYPE_CHECKING:
    import pandas as pd

    from tamarin_dagster.logformat.compiled import CompiledReading
    from tamarin_dagster.logformat.sampling import Difference

_log = logging.getLogger(__name__)

_distrusted: "list[Difference]" = []
"""Set once the compiled reader was wrong in this process. It is not used again, because more may be wrong."""


@dataclass(frozen=True)
class LogCounts:
    """The counts of one log object, or a part of one: line_count = record_count + rejected_count + blank_count."""

    line_count: int = 0
    record_count: int = 0
    rejected_count: int = 0
    blank_count: int = 0
    first_request_dtime: datetime | None = None
    last_request_dtime: datetime | None = None

    def __add__(self, other: "LogCounts") -> "LogCounts":
        """Return the counts of two parts together."""
        firsts = [time for time in (self.first_request_dtime, other.first_request_dtime) if time]
        lasts = [time for time in (self.last_request_dtime, other.last_request_dtime) if time]
        return LogCounts(
            line_count=self.line_count + other.line_count,
            record_count=self.record_count + other.record_count,
            rejected_count=self.rejected_count + other.rejected_count,
            blank_count=self.blank_count + other.blank_count,
            first_request_dtime=min(firsts, default=None),
            last_request_dtime=max(lasts, default=None),
        )


@dataclass(frozen=True, eq=False)
class ParsedLogs:
    """The content of a batch of log objects."""

    records: "pd.DataFrame"
    """Columns of `frames.RECORDS_SCHEMA`, Arrow-backed, ordered by `log_index` and `line_number`."""
    rejected: "pd.DataFrame"
    """Columns of `frames.REJECTED_SCHEMA`, in the same order."""
    counts: tuple[LogCounts, ...]
    """One per log object."""
    differences: "tuple[Difference, ...]" = ()
    """Lines that the two readers read differently; their pieces have the regex reader's results."""

    def redact(self) -> "ParsedLogs":
        """Return the same without the secrets of presigned URLs; see `redaction`."""
        return replace(self, records=redact(self.records))

    def select(self, logs: Sequence[int]) -> "ParsedLogs":
        """Return the content of these log objects, renumbered."""
        frames = (self.records, RECORDS_SCHEMA), (self.rejected, REJECTED_SCHEMA)
        records, rejected = (
            to_frame(select_rows(to_table(frame, schema), logs, renumbered=True)) for frame, schema in frames
        )
        return ParsedLogs(records, rejected, tuple(self.counts[log] for log in logs))


@dataclass(frozen=True, eq=False)
class ParsedLog:
    """The content of one log object, for people."""

    records: "pd.DataFrame"
    """`line_number` (1-based) and the fields, Arrow-backed."""
    rejected: "pd.DataFrame"
    """`line_number`, `reason`, `line` (bytes), Arrow-backed."""
    line_count: int
    blank_count: int


def parse_log(data: bytes, *, now: datetime | None = None, parser: ParserName = "compiled") -> ParsedLog:
    """Parse one log object; see `parse_logs`."""
    parsed = parse_logs([data], now=now, parser=parser)
    return ParsedLog(
        records=parsed.records.drop(columns="log_index"),
        rejected=parsed.rejected[["line_number", "reason", "line"]],
        line_count=parsed.counts[0].line_count,
        blank_count=parsed.counts[0].blank_count,
    )


def parse_logs(
    bodies: Sequence[bytes],
    *,
    now: datetime | None = None,
    first_lines: Sequence[int] | None = None,
    parser: ParserName = "compiled",
) -> ParsedLogs:
    """Parse the lines of many log objects at once.

    Args:
        bodies: the objects' bytes, decompressed. Any bytes are accepted.
        now: aware; request times more than a day later are out of range. Default: the clock.
        first_lines: the number of each body's first line, for bodies that are parts of a log object. Default: 1.
        parser: `compiled`, or `regex`, which gives the same result more slowly. It is `regex` without numba, and as
            long as the process has read little (see `engine`).
    """
    task = _Parsing(_latest(now), parser)
    return task.parsed(cut_pieces(bodies, first_lines=first_lines), len(bodies))


def parse_parts(
    chunks: Iterable[bytes], *, now: datetime | None = None, parser: ParserName = "compiled"
) -> Iterator[ParsedLogs]:
    """Parse one log object of any size, as parts of whole lines; together they hold what `parse_logs` finds in it.

    Memory is bounded for any bytes: only the start of a line longer than `PIECE_BYTES` is kept. Measured for a caller
    that holds one part at a time, without the chunks: 35 MiB, and 100 MiB if every byte must be escaped or every line
    rejected.

    Args:
        chunks: the object's bytes, decompressed, cut anywhere. Exceptions from it are passed on.
        now: see `parse_logs`; the clock is read once for all parts.
        parser: see `parse_logs`.

    Yields:
        Parts of up to `PIECE_BYTES` and `PIECE_LINES` lines each. Their `log_index` is 0, `counts` has one item for the
        part alone, and the line numbers continue from part to part. An empty object has no parts.
    """
    task, line_number = _Parsing(_latest(now), parser), 1
    for lines in whole_lines(chunks, PIECE_BYTES):
        if isinstance(lines, LongLine):
            yield _parse_long(lines, line_number)
            line_number += 1
        else:
            for piece in cut_pieces([lines], first_lines=[line_number]):
                yield task.parsed([piece], 1)
                line_number += len(piece.starts)


def _latest(now: datetime | None) -> int:
    """Return the last request time in range, in microseconds since 1970."""
    return to_microseconds((now or datetime.now(UTC)) + MAX_AHEAD)


@dataclass(slots=True)
class _Found:
    """The content of the pieces of a batch."""

    records: list[pa.Table] = field(default_factory=list)
    rejected: list[pa.Table] = field(default_factory=list)
    blanks: list[Integers] = field(default_factory=list)
    """Log indexes of blank lines."""
    differences: "list[Difference]" = field(default_factory=list)


class _Parsing:
    """Parses the pieces of one batch, or of one large log object."""

    def __init__(self, latest: int, parser: ParserName) -> None:
        self._first_time, self._last_time = to_microseconds(EARLIEST_REQUEST), latest
        self._may_compile = parser == "compiled"
        self._torn_lines = TornLines()

    def parsed(self, pieces: Iterable[Piece], logs: int) -> ParsedLogs:
        """Return the content of the pieces of this many log objects."""
        found = _Found()
        for piece in pieces:
            reading = self._read(piece, found)
            self._torn_lines.judge(piece, reading.outcomes)
            found.records.append(reading.table())
            found.rejected.append(_rejected_lines(piece, reading.outcomes))
            found.blanks.append(piece.log_index[reading.outcomes == BLANK_LINE])
        records, rejected = _concatenate(RECORDS_SCHEMA, found.records), _concatenate(REJECTED_SCHEMA, found.rejected)
        counts = _counts(logs, records, rejected, found.blanks)
        return ParsedLogs(to_frame(records), to_frame(rejected), counts, tuple(found.differences))

    def _read(self, piece: Piece, found: _Found) -> Reading:
        """Read a piece with the compiled reader if that is loaded and was not found to differ from the regex reader."""
        if self._may_compile and not _distrusted and (engine := compiled_engine_for(len(piece.data))):
            from tamarin_dagster.logformat.sampling import find_difference  # noqa: PLC0415 - imports numba

            reading: CompiledReading = engine.read_piece(piece, self._first_time, self._last_time)
            difference = find_difference(piece, reading, self._first_time, self._last_time)
            if difference is None:
                return reading
            _log.error(
                "The compiled reader and the regex reader read line %d of a log key differently. This process now"
                " uses the regex reader, which is slower. Please report the line, here with letters as a and digits"
                " as 9: %s",
                difference.line_number,
                difference.masked,
            )
            found.differences.append(difference)
            _distrusted.append(difference)
        return RegexReading(piece, self._first_time, self._last_time)


def _concatenate(schema: pa.Schema, tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _parse_long(line: LongLine, line_number: int) -> ParsedLogs:
    """Return the result for a line that is too long for memory: blank or oversized."""
    nothing = to_frame(RECORDS_SCHEMA.empty_table())
    if line.is_blank:
        rejected, counts = REJECTED_SCHEMA.empty_table(), LogCounts(line_count=1, blank_count=1)
    else:
        rejected = pa.Table.from_pylist(
            [
                {
                    "log_index": 0,
                    "line_number": line_number,
                    "reason": str(RejectReason.OVERSIZED),
                    "line": line.start,
                    "line_bytes": line.line_bytes,
                    "sha256": line.sha256,
                }
            ],
            schema=REJECTED_SCHEMA,
        )
        counts = LogCounts(line_count=1, rejected_count=1)
    return ParsedLogs(nothing, to_frame(rejected), (counts,))


def _counts(logs: int, records: pa.Table, rejected: pa.Table, blanks: Sequence[Integers]) -> tuple[LogCounts, ...]:
    """Return the counts of each log object; `blanks` are the log indexes of blank lines."""
    times, owners = get_times(records), np.asarray(records["log_index"])
    first_times, last_times = np.full(logs, np.iinfo(np.int64).max), np.full(logs, np.iinfo(np.int64).min)
    np.minimum.at(first_times, owners, times)
    np.maximum.at(last_times, owners, times)
    record_counts = np.bincount(owners, minlength=logs)
    rejected_counts = np.bincount(np.asarray(rejected["log_index"]), minlength=logs)
    blank_counts = np.bincount(np.concatenate(blanks) if blanks else [], minlength=logs)
    tallies = (record_counts, rejected_counts, blank_counts, first_times, last_times)
    return tuple(
        LogCounts(
            line_count=records + rejects + blank,
            record_count=records,
            rejected_count=rejects,
            blank_count=blank,
            first_request_dtime=_when(first) if records else None,
            last_request_dtime=_when(last) if records else None,
        )
        for records, rejects, blank, first, last in zip(*(tally.tolist() for tally in tallies), strict=True)
    )


def _when(time: int) -> datetime:
    return EPOCH + timedelta(microseconds=time)


def _rejected_lines(piece: Piece, outcomes: Outcomes) -> pa.Table:
    """Return the rejected lines of a piece, as columns of `frames.REJECTED_SCHEMA`."""
    rows = np.flatnonzero(outcomes >= REJECTED)
    if not len(rows):
        return REJECTED_SCHEMA.empty_table()
    reasons = [REASONS[outcome - REJECTED] for outcome in outcomes[rows].tolist()]
    lines = [piece.raw(row) for row in rows.tolist()]
    kept = [
        line[:KEPT_BYTES] if reason is RejectReason.OVERSIZED else line
        for line, reason in zip(lines, reasons, strict=True)
    ]
    columns = {
        "log_index": piece.log_index[rows],
        "line_number": piece.line_number[rows],
        "reason": [str(reason) for reason in reasons],
        "line": kept,
        "line_bytes": [len(line) for line in lines],
        "sha256": [hashlib.sha256(line).digest() for line in lines],
    }
    return pa.table([pa.array(columns[each.name], each.type) for each in REJECTED_SCHEMA], schema=REJECTED_SCHEMA)
