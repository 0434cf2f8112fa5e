"""Find the ends of lines."""

import numpy as np
import numpy.typing as npt

from tamarin_dagster.logformat.compiled.compiling import Octets, compiled, inlined, pointer

Integers = npt.NDArray[np.int64]

_LF = ord(b"\n")
_VECTOR_BYTES = 64


def find_line_ends(octets: Octets, limit: int) -> Integers:
    """Return the positions of the first LFs, at most `limit`."""
    room = np.empty(min(len(octets), limit), np.int64)
    return room[: _find(octets, room)]


@compiled
def _find(octets: Octets, ends: Integers) -> int:
    """Write the positions of the first LFs, as many as fit into `ends`; return their number."""
    text, places, size, room = pointer(octets), pointer(ends), len(octets), len(ends)
    at = count = 0
    while count < room:
        while at + _VECTOR_BYTES <= size and not _holds_line_end(text, at):
            at += _VECTOR_BYTES
        while at < size and text[at] != _LF:
            at += 1
        if at == size:
            break
        places[count] = at
        at, count = at + 1, count + 1
    return count


@inlined
def _holds_line_end(octets: Octets, at: int) -> bool:
    """Return whether an LF is among the `_VECTOR_BYTES` at `at`; without a branch, so that vector instructions are
    used.
    """
    lfs = np.uint8(0)
    for index in range(_VECTOR_BYTES):
        lfs |= np.uint8(octets[at + index] == _LF)
    return bool(lfs)
