"""Read the lines of a piece with the compiled reader."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tamarin_dagster.logformat.compiled.addresses import IPV6_BYTES
from tamarin_dagster.logformat.compiled.compiling import Octets
from tamarin_dagster.logformat.compiled.escaping import MAX_GROWTH, escape_texts
from tamarin_dagster.logformat.compiled.new_shapes import rows_of_new_shapes
from tamarin_dagster.logformat.compiled.reader import LEFT, NULL, Integers, Spans, read_lines
from tamarin_dagster.logformat.compiled.records import Records
from tamarin_dagster.logformat.compiled.scanning import SHAPES
from tamarin_dagster.logformat.fields import NUMBER_NAMES, TEXT_NAMES
from tamarin_dagster.logformat.lines import Piece
from tamarin_dagster.logformat.reading import RECORD, Outcomes, read_row
from tamarin_dagster.logformat.values import Typed


@dataclass(frozen=True)
class CompiledReading:
    """The lines of a piece after reading; see `reading.Reading`."""

    outcomes: Outcomes
    new_shapes: Integers
    """Rows of the first lines of each shape that is new in this process."""
    _records: Records
    """A row for each line; only those of records have values."""

    def typed(self, row: int) -> Typed:
        """Return the values of a line that is a record."""
        return self._records.typed(row)

    def table(self) -> pa.Table:
        """Return the records as columns of `frames.RECORDS_SCHEMA`."""
        return self._records.chosen(self.outcomes == RECORD).table()


def read_piece(piece: Piece, first_time: int, last_time: int) -> CompiledReading:
    """Read the lines of a piece.

    Args:
        piece: the lines.
        first_time: microseconds since 1970; an earlier request is out of range.
        last_time: microseconds since 1970; a later request is out of range.
    """
    lines = len(piece.starts)
    times = np.empty(lines, np.int64)
    numbers = np.empty((lines, len(NUMBER_NAMES)), np.int64)
    spans = np.empty((lines, len(TEXT_NAMES), 2), np.int32)
    outcomes, odd = np.empty(lines, np.uint8), np.empty(lines, np.bool_)
    octets = piece.octets
    found = (times, numbers, spans, outcomes, odd)
    room = np.empty(IPV6_BYTES, np.uint8)
    read_lines(octets, piece.text_starts, piece.ends, first_time, last_time, SHAPES, room, *found)
    new_shapes = rows_of_new_shapes(numbers, spans, outcomes, odd)
    if odd.any():
        octets = _with_escaped(piece, np.flatnonzero(odd), spans)
    texts = bytearray()
    for row in np.flatnonzero(outcomes == LEFT).tolist():
        outcome, record = read_row(piece, row, first_time, last_time)
        outcomes[row] = outcome
        if record is not None:
            times[row] = record.time
            numbers[row] = [NULL if number is None else number for number in record.numbers]
            spans[row] = _append(record.texts, texts, len(octets))
    if texts:
        octets = _readonly(np.concatenate((octets, np.frombuffer(texts, np.uint8))))
    records = Records(octets, piece.log_index, piece.line_number, times, numbers, spans)
    return CompiledReading(outcomes, new_shapes, records)


def _with_escaped(piece: Piece, rows: Integers, spans: Spans) -> Octets:
    """Return the piece's bytes, followed by the escaped texts of the rows that need it; their spans point there."""
    count, line_bytes = len(piece.data), int((piece.ends[rows] - piece.text_starts[rows]).sum())
    octets = np.empty(count + MAX_GROWTH * line_bytes, np.uint8)
    octets[:count] = piece.octets
    used = escape_texts(piece.octets, rows, spans, octets[count:], count)
    return _readonly(octets[: count + used])


def _readonly(octets: Octets) -> Octets:
    """Make the bytes read-only, like a piece's bytes, because numba compiles for only one of the two."""
    octets.setflags(write=False)
    return octets


def _append(found: list[str | None], texts: bytearray, offset: int) -> list[tuple[int, int]]:
    """Append the texts to the bytes; return their spans, counted from `offset`."""
    spans = []
    for text in found:
        start = offset + len(texts)
        if text is None:
            spans.append((start, NULL))
        else:
            texts += text.encode()
            spans.append((start, offset + len(texts) - start))
    return spans
