"""Log objects -> records and rejected lines. The entrance: `parse_logs` and, for a log object too big to be held,
`parse_parts` for the loader; `parse_log` for people.

Each line is a record, a rejected line or blank; nothing else, and none is lost. `quick` reads the lines, but for a few
that it leaves to `careful`, where the rules are written down.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from tamarin_dagster.logformat import careful, quick
from tamarin_dagster.logformat.addresses import IPV6_BYTES
from tamarin_dagster.logformat.compiling import Octets
from tamarin_dagster.logformat.escaping import MAX_GROWTH, escape_texts
from tamarin_dagster.logformat.fields import NUMBER_NAMES, TEXT_NAMES
from tamarin_dagster.logformat.lines import KEPT_BYTES, PIECE_BYTES, Integers, LongLine, Piece, pieces_of, whole_lines
from tamarin_dagster.logformat.quick import NULL, Spans
from tamarin_dagster.logformat.reasons import RejectReason
from tamarin_dagster.logformat.records import RECORDS_SCHEMA, Records
from tamarin_dagster.logformat.redaction import redact
from tamarin_dagster.logformat.scanning import SHAPES
from tamarin_dagster.logformat.values import EARLIEST_REQUEST, EPOCH, MAX_AHEAD, microseconds, typed

if TYPE_CHECKING:
    import pandas as pd


_NEIGHBOURS = 20
"""Records before a last line without LF that its number of columns is compared with."""


class RejectedLine(NamedTuple):
    """A line that is neither a record nor blank."""

    log_index: int
    line_number: int
    reason: RejectReason
    line: bytes
    """The line as it came, without its LF; of an oversized line the first `KEPT_BYTES`."""
    line_bytes: int
    """Length of the whole line."""
    sha256: bytes
    """Digest of the whole line."""


@dataclass(frozen=True)
class LogCounts:
    """What one log object, or a part of one, holds: line_count = record_count + rejected_count + blank_count."""

    line_count: int = 0
    record_count: int = 0
    rejected_count: int = 0
    blank_count: int = 0
    first_request_dtime: datetime | None = None
    last_request_dtime: datetime | None = None

    def __add__(self, other: "LogCounts") -> "LogCounts":
        """The counts of two parts together."""
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


@dataclass(frozen=True)
class ParsedLogs:
    """What a batch of log objects holds."""

    pieces: tuple[Records, ...]
    """The records, ordered by `log_index` (position of the object in the batch) and `line_number`."""
    rejected: tuple[RejectedLine, ...]
    """In the same order."""
    counts: tuple[LogCounts, ...]
    """One per log object."""

    @cached_property
    def records(self) -> pa.Table:
        """The records as columns of `RECORDS_SCHEMA`; made at first use."""
        return pa.concat_tables([RECORDS_SCHEMA.empty_table(), *(piece.table() for piece in self.pieces)])

    def redacted(self) -> "ParsedLogs":
        """The same without the secrets of presigned URLs; see `redaction`."""
        return replace(self, pieces=tuple(redact(piece) for piece in self.pieces))

    def months(self) -> tuple[date, ...]:
        """The first days of the months that request times fall into, in order."""
        times = [np.unique(piece.times.view("M8[us]").astype("M8[M]")) for piece in self.pieces]
        return tuple(np.unique(np.concatenate(times)).astype("M8[D]").tolist()) if times else ()

    def request_days(self) -> set[tuple[str, date]]:
        """The buckets that the requests were made to, each with the UTC days of its requests."""
        return set().union(*(piece.request_days() for piece in self.pieces))


@dataclass(frozen=True)
class ParsedLog:
    """What one log object holds, for pandas."""

    records: "pd.DataFrame"
    """`line_number` (1-based) and the fields, Arrow-backed."""
    rejected: "pd.DataFrame"
    """`line_number`, `reason`, `line` (bytes), Arrow-backed."""
    line_count: int
    blank_count: int


def parse_log(data: bytes, *, now: datetime | None = None) -> ParsedLog:
    """Read one log object; see `parse_logs`."""
    import pandas as pd  # noqa: PLC0415 - takes half a second; the loader does without it

    parsed = parse_logs([data], now=now)
    rejected = pa.table(
        {
            "line_number": pa.array([line.line_number for line in parsed.rejected], pa.int64()),
            "reason": pa.array([str(line.reason) for line in parsed.rejected], pa.string()),
            "line": pa.array([line.line for line in parsed.rejected], pa.large_binary()),
        }
    )
    return ParsedLog(
        records=parsed.records.drop_columns("log_index").to_pandas(types_mapper=pd.ArrowDtype),
        rejected=rejected.to_pandas(types_mapper=pd.ArrowDtype),
        line_count=parsed.counts[0].line_count,
        blank_count=parsed.counts[0].blank_count,
    )


def parse_logs(
    bodies: Sequence[bytes], *, now: datetime | None = None, first_lines: Sequence[int] | None = None
) -> ParsedLogs:
    """Read the lines of many log objects at once.

    Args:
        bodies: the objects' bytes, unpacked. Any bytes at all are fine.
        now: aware; what request times more than a day ahead are measured by. Default: the clock.
        first_lines: the number of each body's first line, for bodies that are parts of a log object. Default: 1.
    """
    return _parsed(pieces_of(bodies, first_lines=first_lines), len(bodies), _latest(now), _Tails())


def parse_parts(chunks: Iterable[bytes], *, now: datetime | None = None) -> Iterator[ParsedLogs]:
    """Read one log object of any size, as parts of whole lines; all parts together hold what `parse_logs` finds in it.

    Memory is bounded, whatever the bytes are: a line longer than `PIECE_BYTES` is not held, but for what is kept of it.
    Measured for a caller that holds one part at a time, less the chunks: 35 MiB, and 100 MiB where every byte is to be
    escaped or every line rejected.

    Args:
        chunks: the object's bytes, unpacked, cut anywhere. What they raise is passed on.
        now: as in `parse_logs`; the clock is read once for all parts.

    Yields:
        Parts of up to `PIECE_BYTES` and `PIECE_LINES` lines each, of which `log_index` is 0 and `counts` one item, that
        of the part alone; the line numbers run on from part to part. None for an empty object.
    """
    latest, line_number, tails = _latest(now), 1, _Tails()
    for lines in whole_lines(chunks, PIECE_BYTES):
        if isinstance(lines, LongLine):
            yield _parsed_long(lines, line_number)
            line_number += 1
        else:
            for piece in pieces_of([lines], first_lines=[line_number]):
                yield _parsed([piece], 1, latest, tails)
                line_number += len(piece.starts)


def _latest(now: datetime | None) -> int:
    """The last request time in range, in microseconds since 1970."""
    return microseconds((now or datetime.now(UTC)) + MAX_AHEAD)


class _Tails:
    """Tells torn lines: S3 ends every line with LF, so a last line without one may have been cut.

    It is torn if it has fewer columns than the records before it in its log object, or is a record but for a last
    column that is cut. Without such neighbours a line whose columns all have their shapes is taken for whole.
    """

    def __init__(self) -> None:
        self._log_index = -1
        self._record = ""
        """The last record of the pieces before, which is of that log object."""

    def judge(self, piece: Piece, outcomes: Octets) -> None:
        """Find the torn lines of a piece among its records and lines with a bad tail, and set their outcomes."""
        for row in piece.unended.tolist():
            text = piece.text(row)
            if outcomes[row] == quick.RECORD:
                is_torn = careful.count_tail_columns(text) < self._fewest_columns_before(piece, outcomes, row)
            else:
                is_torn = outcomes[row] == quick.BAD_TAIL and careful.lacks_part_of_last_column(text)
            if is_torn:
                outcomes[row] = quick.TORN
        records = np.flatnonzero(outcomes == quick.RECORD)
        if len(records):
            self._log_index = int(piece.log_index[records[-1]])
            self._record = piece.text(records[-1])

    def _fewest_columns_before(self, piece: Piece, outcomes: Octets, row: int) -> int:
        """The fewest columns among the records next before the row in its log object; 0 if there are none."""
        alike = (outcomes[:row] == quick.RECORD) & (piece.log_index[:row] == piece.log_index[row])
        neighbours = [piece.text(other) for other in np.flatnonzero(alike)[-_NEIGHBOURS:]]
        if not neighbours and self._log_index == piece.log_index[row]:
            neighbours = [self._record]
        return min(map(careful.count_tail_columns, neighbours), default=0)


def _parsed(pieces: Iterable[Piece], logs: int, latest: int, tails: _Tails) -> ParsedLogs:
    """What the pieces of so many log objects hold."""
    read: list[Records] = []
    rejected: list[RejectedLine] = []
    blanks = [np.zeros(0, np.int64)]
    for piece in pieces:
        outcomes, records, rejects = _read_piece(piece, microseconds(EARLIEST_REQUEST), latest, tails)
        read.append(records)
        rejected.extend(rejects)
        blanks.append(piece.log_index[outcomes == quick.BLANK_LINE])
    counts = _counts(logs, read, [line.log_index for line in rejected], np.concatenate(blanks))
    return ParsedLogs(tuple(read), tuple(rejected), counts)


def _parsed_long(line: LongLine, line_number: int) -> ParsedLogs:
    """What a line is that is too long to be held: blank or oversized."""
    if line.is_blank:
        return ParsedLogs((), (), (LogCounts(line_count=1, blank_count=1),))
    rejected = RejectedLine(0, line_number, RejectReason.OVERSIZED, line.start, line.line_bytes, line.sha256)
    return ParsedLogs((), (rejected,), (LogCounts(line_count=1, rejected_count=1),))


def _counts(logs: int, pieces: list[Records], rejected: list[int], blanks: Integers) -> tuple[LogCounts, ...]:
    """Of each log object, from the log indexes of its records, rejected lines and blank lines."""
    record_counts = np.zeros(logs, np.int64)
    first_times, last_times = np.full(logs, np.iinfo(np.int64).max), np.full(logs, np.iinfo(np.int64).min)
    for records in pieces:
        record_counts += np.bincount(records.log_index, minlength=logs)
        np.minimum.at(first_times, records.log_index, records.times)
        np.maximum.at(last_times, records.log_index, records.times)
    rejected_counts = np.bincount(np.array(rejected, np.int64), minlength=logs)
    blank_counts = np.bincount(blanks, minlength=logs)
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


def _read_piece(
    piece: Piece, first_time: int, last_time: int, tails: _Tails
) -> tuple[Octets, Records, list[RejectedLine]]:
    """What became of each line of a piece (see `quick`), its records and its rejected lines, in the lines' order."""
    lines = len(piece.starts)
    times = np.empty(lines, np.int64)
    numbers = np.empty((lines, len(NUMBER_NAMES)), np.int64)
    spans = np.empty((lines, len(TEXT_NAMES), 2), np.int32)
    outcomes, odd = np.empty(lines, np.uint8), np.empty(lines, np.bool_)
    octets = piece.octets
    found = (times, numbers, spans, outcomes, odd)
    room = np.empty(IPV6_BYTES, np.uint8)
    quick.read_lines(octets, piece.text_starts, piece.ends, first_time, last_time, SHAPES, room, *found)
    if odd.any():
        octets = _with_escaped(piece, np.flatnonzero(odd), spans)
    texts = bytearray()
    for row in np.flatnonzero(outcomes == quick.LEFT).tolist():
        try:
            record = typed(careful.read_line(piece.text(row)), first_time, last_time)
        except careful.Rejected as refusal:
            outcomes[row] = quick.REJECTED + quick.REASONS.index(refusal.reason)
        else:
            outcomes[row] = quick.RECORD
            times[row] = record.time
            numbers[row] = [NULL if number is None else number for number in record.numbers]
            spans[row] = _append(record.texts, texts, len(octets))
    tails.judge(piece, outcomes)
    if texts:
        octets = _readonly(np.concatenate((octets, np.frombuffer(texts, np.uint8))))
    records = Records(octets, piece.log_index, piece.line_number, times, numbers, spans)
    return outcomes, records.chosen(outcomes == quick.RECORD), _rejected_lines(piece, outcomes)


def _with_escaped(piece: Piece, rows: Integers, spans: Spans) -> Octets:
    """The piece's bytes, and behind them, escaped, those texts of the rows that must be; their spans point there."""
    count, line_bytes = len(piece.data), int((piece.ends[rows] - piece.text_starts[rows]).sum())
    octets = np.empty(count + MAX_GROWTH * line_bytes, np.uint8)
    octets[:count] = piece.octets
    used = escape_texts(piece.octets, rows, spans, octets[count:], count)
    return _readonly(octets[: count + used])


def _readonly(octets: Octets) -> Octets:
    """As a piece's bytes are: what is compiled is compiled for one of both."""
    octets.setflags(write=False)
    return octets


def _append(found: list[str | None], texts: bytearray, offset: int) -> list[tuple[int, int]]:
    """Appends the texts to the bytes; gives their spans, counted from `offset`."""
    spans = []
    for text in found:
        start = offset + len(texts)
        if text is None:
            spans.append((start, NULL))
        else:
            texts += text.encode()
            spans.append((start, offset + len(texts) - start))
    return spans


def _rejected_lines(piece: Piece, outcomes: Octets) -> list[RejectedLine]:
    rows = np.flatnonzero(outcomes >= quick.REJECTED)
    columns = (outcomes[rows], piece.starts[rows], piece.ends[rows], piece.log_index[rows], piece.line_number[rows])
    rejected = []
    for outcome, start, end, log_index, number in zip(*(column.tolist() for column in columns), strict=True):
        line, reason = piece.data[start:end], quick.REASONS[outcome - quick.REJECTED]
        kept = line[:KEPT_BYTES] if reason is RejectReason.OVERSIZED else line
        rejected.append(RejectedLine(log_index, number, reason, kept, len(line), hashlib.sha256(line).digest()))
    return rejected
