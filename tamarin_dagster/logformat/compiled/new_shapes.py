"""Find lines with a new shape: an outcome, and which columns are null or had to be escaped.

Shapes are remembered for the life of the process, in a hash table that the compiled loop uses.
"""

import threading

import numpy as np
import numpy.typing as npt

from tamarin_dagster.logformat.compiled.compiling import Octets, compiled, inlined, moved, pointer, signed
from tamarin_dagster.logformat.compiled.reader import NULL, Integers, Spans
from tamarin_dagster.logformat.fields import NUMBER_NAMES, TEXT_NAMES
from tamarin_dagster.logformat.reading import RECORD

MAX_NEW_SHAPES = 64
"""The maximum number of rows named in one piece; otherwise a flood of new shapes would be read twice."""

_SLOT_BITS = 14
_SLOTS = 2**_SLOT_BITS
_MAX_KNOWN = _SLOTS // 2
"""The maximum number of shapes that are remembered; real logs have a few hundred. Later ones are not named."""
_TEXTS, _NUMBERS = len(TEXT_NAMES), len(NUMBER_NAMES)

_known = np.zeros(_SLOTS, np.int64)
_count = np.zeros(1, np.int64)
_lock = threading.Lock()


def rows_of_new_shapes(numbers: Integers, spans: Spans, outcomes: Octets, odd: npt.NDArray[np.bool_]) -> Integers:
    """Return the rows of the first lines of each shape that is new in this process.

    Args:
        numbers: written by `reader.read_lines`, like the other arguments.
        spans: (lines, columns of TEXT_NAMES, 2).
        outcomes: (lines,).
        odd: (lines,).
    """
    rows = np.empty(MAX_NEW_SHAPES, np.int64)
    with _lock:
        return rows[: _find(numbers, spans, outcomes, odd, _known, _count, rows)]


def forget_shapes() -> None:
    """Make all shapes new again."""
    with _lock:
        _known[:] = 0
        _count[:] = 0


@compiled
def _find(
    numbers: Integers,
    spans: Spans,
    outcomes: Octets,
    odd: npt.NDArray[np.bool_],
    known: Integers,
    count: Integers,
    rows: Integers,
) -> int:
    """Write the rows of new shapes to `rows`, and the shapes to `known`; return their number."""
    table, found, before = pointer(known), 0, 0
    for row in range(len(outcomes)):
        shape = (1 + signed(outcomes[row])) << 1 | signed(odd[row])
        if outcomes[row] == RECORD:
            shape = _with_nulls(shape, moved(pointer(numbers), row * _NUMBERS), moved(pointer(spans), row * 2 * _TEXTS))
        if shape == before:
            continue
        before = shape
        slot = (shape ^ (shape >> _SLOT_BITS) ^ (shape >> (2 * _SLOT_BITS))) & (_SLOTS - 1)
        while table[slot] != shape and table[slot] != 0:
            slot = (slot + 1) & (_SLOTS - 1)
        if table[slot] == 0 and found < len(rows) and count[0] < _MAX_KNOWN:
            table[slot] = shape
            count[0] += 1
            rows[found] = row
            found += 1
    return found


@inlined
def _with_nulls(shape: int, numbers: Integers, spans: Spans) -> int:
    for column in range(_TEXTS):
        shape = shape << 1 | (spans[2 * column + 1] == NULL)
    for column in range(_NUMBERS):
        shape = shape << 1 | (numbers[column] == NULL)
    return shape
