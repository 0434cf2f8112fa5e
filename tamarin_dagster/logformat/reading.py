"""The result of reading a piece: an outcome for each line, and the records among the lines.

There are two readers: `regex_reader`, which defines the rules, and `compiled`, which has the same rules as machine
code.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamarin_dagster.logformat import regex_reader
from tamarin_dagster.logformat.fields import NUMBER_NAMES, TEXT_NAMES
from tamarin_dagster.logformat.frames import RECORDS_SCHEMA
from tamarin_dagster.logformat.lines import Piece
from tamarin_dagster.logformat.reasons import RejectReason
from tamarin_dagster.logformat.values import Typed, convert_columns

Outcomes = npt.NDArray[np.uint8]

BLANK_LINE, RECORD, REJECTED = range(3)
"""Outcomes of a line; REJECTED + n is rejected for the reason n of `REASONS`."""
REASONS = tuple(RejectReason)


def get_outcome(reason: RejectReason) -> int:
    """Return the outcome of a line that is rejected for this reason."""
    return REJECTED + REASONS.index(reason)


class Reading(Protocol):
    """The lines of a piece after reading."""

    @property
    def outcomes(self) -> Outcomes:
        """Return the outcomes, (lines,); they may be changed in place before `table` is called."""

    def typed(self, row: int) -> Typed:
        """Return the values of a line that is a record."""

    def table(self) -> pa.Table:
        """Return the lines whose outcome is RECORD, as columns of `frames.RECORDS_SCHEMA`."""


def read_row(piece: Piece, row: int, first_time: int, last_time: int) -> tuple[int, Typed | None]:
    """Read one line of a piece with the regex reader; return its outcome, and the values of a record.

    Args:
        piece: the lines.
        row: the row to read.
        first_time: microseconds since 1970; an earlier request is out of range.
        last_time: microseconds since 1970; a later request is out of range.
    """
    start, end = int(piece.text_starts[row]), int(piece.ends[row])
    if not piece.data[start:end].strip(b" \t\r"):
        return BLANK_LINE, None
    if end - start > regex_reader.MAX_LINE_BYTES:
        return get_outcome(RejectReason.OVERSIZED), None
    try:
        return RECORD, convert_columns(regex_reader.read_line(piece.text(row)), first_time, last_time)
    except regex_reader.Rejected as refusal:
        return get_outcome(refusal.reason), None


class RegexReading:
    """The lines of a piece, read with the regex reader; see `Reading`."""

    def __init__(self, piece: Piece, first_time: int, last_time: int) -> None:
        self._piece = piece
        found = [read_row(piece, row, first_time, last_time) for row in range(len(piece.starts))]
        self.outcomes: Outcomes = np.array([outcome for outcome, _ in found], np.uint8)
        self._typed = [record for _, record in found]

    def typed(self, row: int) -> Typed:
        """Return the values of a line that is a record."""
        record = self._typed[row]
        if record is None:
            raise ValueError(f"line {row} of the piece is not a record")
        return record

    def table(self) -> pa.Table:
        """Return the records as columns of `frames.RECORDS_SCHEMA`."""
        rows = np.flatnonzero(self.outcomes == RECORD)
        records = [self.typed(row) for row in rows.tolist()]
        columns: dict[str, Sequence[object] | npt.NDArray[np.int64]] = {
            "request_dtime": [record.time for record in records]
        }
        columns |= {name: [record.numbers[at] for record in records] for at, name in enumerate(NUMBER_NAMES)}
        columns |= {name: [record.texts[at] for record in records] for at, name in enumerate(TEXT_NAMES)}
        columns |= {"log_index": self._piece.log_index[rows], "line_number": self._piece.line_number[rows]}
        arrays = [pa.array(columns[each.name], each.type) for each in RECORDS_SCHEMA]
        return pa.table(arrays, schema=RECORDS_SCHEMA)
