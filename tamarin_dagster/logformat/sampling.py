"""Compare the compiled reader with the regex reader, which is the definition, on a few lines of every piece.

The sample has some lines at even distances, and the first line of each shape that is new in this process.
"""

import logging
from dataclasses import dataclass

import numpy as np

from tamarin_dagster.logformat.compiled import CompiledReading
from tamarin_dagster.logformat.lines import Piece
from tamarin_dagster.logformat.masking import mask_line
from tamarin_dagster.logformat.reading import RECORD, read_row

_log = logging.getLogger(__name__)

SAMPLED_LINES = 20
"""How many lines of a piece are sampled at even distances: reading them twice takes 0.3 ms."""
MAX_SAMPLED_BYTES = 64 * 1024
"""Longer lines are not sampled: the regex reader takes milliseconds for one."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A line that the two readers read differently."""

    log_index: int
    line_number: int
    masked: str
    """The start of the line, with each letter as `a` and each digit as `9`."""


def find_difference(piece: Piece, reading: CompiledReading, first_time: int, last_time: int) -> Difference | None:
    """Return the first of the sampled lines that the regex reader reads differently; None if there is none."""
    evenly = np.linspace(0, len(piece.starts) - 1, min(SAMPLED_LINES, len(piece.starts))).astype(np.int64)
    for row in np.unique(np.concatenate((evenly, reading.new_shapes))).tolist():
        if piece.ends[row] - piece.starts[row] > MAX_SAMPLED_BYTES:
            continue
        outcome, record = read_row(piece, row, first_time, last_time)
        if reading.outcomes[row] == outcome and (outcome != RECORD or reading.typed(row) == record):
            continue
        return Difference(int(piece.log_index[row]), int(piece.line_number[row]), mask_line(piece.raw(row)))
    return None
