"""Log objects -> records and rejected lines. The entrance: `parse_logs` for the loader, `parse_log` for people.

Each line is a record, a rejected line or blank; nothing else, and none is lost. Ordinary lines are read by `ordinary`,
the others by `careful`, and both readers' texts are typed by `values`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from tamarin_dagster.logformat import careful, ordinary
from tamarin_dagster.logformat.lines import Integers, Piece, pieces_of
from tamarin_dagster.logformat.reasons import RejectReason
from tamarin_dagster.logformat.values import RECORD_SCHEMA, typed

if TYPE_CHECKING:
    import pandas as pd

KEPT_BYTES = 64 * 1024
"""What is kept of an oversized line."""

RECORDS_SCHEMA: dict[str, pl.DataType] = {"log_index": pl.Int32(), "line_number": pl.Int64(), **RECORD_SCHEMA}
"""Columns of `ParsedLogs.records`."""

_RAW_SCHEMA: dict[str, pl.DataType] = {"row": pl.Int64(), **dict.fromkeys(careful.RAW_NAMES, pl.String())}


@dataclass(frozen=True)
class RejectedLine:
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
    """What one log object holds: line_count = record_count + rejected_count + blank_count."""

    line_count: int
    record_count: int
    rejected_count: int
    blank_count: int
    first_request_dtime: datetime | None
    last_request_dtime: datetime | None


@dataclass(frozen=True)
class ParsedLogs:
    """What a batch of log objects holds."""

    records: pl.DataFrame
    """Columns of `RECORDS_SCHEMA`, ordered by `log_index` (position of the object in the batch) and `line_number`."""
    rejected: tuple[RejectedLine, ...]
    """In the same order."""
    counts: tuple[LogCounts, ...]
    """One per log object."""


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
        records=parsed.records.drop("log_index").to_pandas(use_pyarrow_extension_array=True),
        rejected=rejected.to_pandas(types_mapper=pd.ArrowDtype),
        line_count=parsed.counts[0].line_count,
        blank_count=parsed.counts[0].blank_count,
    )


def parse_logs(bodies: Sequence[bytes], *, now: datetime | None = None) -> ParsedLogs:
    """Read the lines of many log objects at once.

    Args:
        bodies: the objects' bytes, unpacked. Any bytes at all are fine.
        now: aware; what request times more than a day ahead are measured by. Default: the clock.
    """
    now = now or datetime.now(UTC)
    tallies = {name: np.zeros(len(bodies), np.int64) for name in ("lines", "blanks", "rejected")}
    frames: list[pl.DataFrame] = []
    rejected: list[RejectedLine] = []
    for piece in pieces_of(bodies):
        records, rejects = _read_piece(piece, now)
        frames.append(records)
        rejected.extend(rejects)
        tallies["lines"] += np.bincount(piece.log_index, minlength=len(bodies))
        tallies["blanks"] += np.bincount(piece.log_index[piece.is_blank], minlength=len(bodies))
        tallies["rejected"] += np.bincount([line.log_index for line in rejects], minlength=len(bodies)).astype(np.int64)
    records = pl.concat(frames) if frames else pl.DataFrame(schema=RECORDS_SCHEMA)
    return ParsedLogs(records, tuple(rejected), _counts(records, tallies))


def _counts(records: pl.DataFrame, tallies: dict[str, Integers]) -> tuple[LogCounts, ...]:
    times = records.group_by("log_index").agg(
        pl.len(), first=pl.col("request_dtime").min(), last=pl.col("request_dtime").max()
    )
    found = {log_index: (count, first, last) for log_index, count, first, last in times.iter_rows()}
    counts = []
    columns = (tallies[name].tolist() for name in ("lines", "rejected", "blanks"))
    for log_index, (lines, rejected, blanks) in enumerate(zip(*columns, strict=True)):
        count, first, last = found.get(log_index, (0, None, None))
        counts.append(LogCounts(lines, count, rejected, blanks, first, last))
    return tuple(counts)


def _read_piece(piece: Piece, now: datetime) -> tuple[pl.DataFrame, list[RejectedLine]]:
    """The records and the rejected lines of one piece, each in the lines' order."""
    reasons: dict[int, RejectReason] = {}
    to_read = ~piece.is_blank & ~piece.is_oversized
    for row in np.flatnonzero(piece.is_oversized & ~piece.is_blank).tolist():
        reasons[row] = RejectReason.OVERSIZED
    ordinary_rows = np.flatnonzero(to_read & ~piece.is_short & ~piece.is_dirty)
    raw = ordinary.read_lines(piece.column(ordinary_rows), pl.Series(ordinary_rows))
    to_read[raw.get_column("row").to_numpy()] = False
    others, refused = _read_carefully(piece, np.flatnonzero(to_read))
    reasons |= refused
    if others:
        raw = pl.concat([raw, pl.DataFrame(others, schema=_RAW_SCHEMA, orient="row")])
    records, refused = typed(raw, now)
    reasons |= refused
    rows = records.get_column("row")
    if not rows.is_sorted():
        records = records.sort("row")
        rows = records.get_column("row")
    positions = rows.to_numpy()
    records = records.drop("row").insert_column(0, pl.Series("log_index", piece.log_index[positions], dtype=pl.Int32))
    records.insert_column(1, pl.Series("line_number", piece.line_number[positions], dtype=pl.Int64))
    return records, [_rejected_line(piece, row, reasons[row]) for row in sorted(reasons)]


def _read_carefully(piece: Piece, rows: Integers) -> tuple[list[tuple[int | str | None, ...]], dict[int, RejectReason]]:
    """The rows as raw columns, each behind its row; and the reasons of the others."""
    columns: list[tuple[int | str | None, ...]] = []
    reasons: dict[int, RejectReason] = {}
    for row in rows.tolist():
        try:
            columns.append((row, *careful.read_line(piece.text(row))))
        except careful.Rejected as rejected:
            reasons[row] = rejected.reason
    return columns, reasons


def _rejected_line(piece: Piece, row: int, reason: RejectReason) -> RejectedLine:
    line = piece.raw(row)
    return RejectedLine(
        log_index=int(piece.log_index[row]),
        line_number=int(piece.line_number[row]),
        reason=reason,
        line=line[:KEPT_BYTES] if reason is RejectReason.OVERSIZED else line,
        line_bytes=len(line),
        sha256=hashlib.sha256(line).digest(),
    )
