"""Bytes -> lines: where each line of a batch of log objects begins and ends, without copying any.

Only LF ends a line: CR, VT, FF, U+0085 and U+2028 are data of the client's. A last line without LF is a line. A byte
order mark at the start of an object is no part of its first line's text, nor is a CR at the end of a line (but both are
part of the raw line).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamarin_dagster.logformat.compiling import Octets
from tamarin_dagster.logformat.escaping import escape_bytes

PIECE_BYTES = 8 * 1024**2
"""Bytes read in one pass: big enough to spread the cost of a pass, small enough to stay near the CPU (measured)."""

Integers = npt.NDArray[np.int64]

_BOM = b"\xef\xbb\xbf"
_LF = ord(b"\n")


@dataclass(frozen=True)
class Piece:
    """Whole lines of one or more log objects in one run of bytes."""

    data: bytes
    starts: Integers
    """Where the lines begin, a byte order mark included."""
    ends: Integers
    """Where they end, without their LF."""
    text_starts: Integers
    """Where they begin without a byte order mark."""
    log_index: Integers
    line_number: Integers

    @property
    def octets(self) -> Octets:
        """The bytes as numbers, not copied."""
        return np.frombuffer(self.data, np.uint8)

    def raw(self, row: int) -> bytes:
        """The bytes of a line, all but its LF."""
        return self.data[self.starts[row] : self.ends[row]]

    def text(self, row: int) -> str:
        """The text of a line, escaped where it must be."""
        return escape_bytes(self.data[self.text_starts[row] : self.ends[row]].removesuffix(b"\r"))


def pieces_of(
    bodies: Sequence[bytes], piece_bytes: int = PIECE_BYTES, first_lines: Sequence[int] | None = None
) -> Iterator[Piece]:
    """The lines of the log objects, in order, in pieces of about `piece_bytes`; a line is never cut.

    `first_lines` says which number the first line of each body has, if not 1.
    """
    pending: list[tuple[int, int, bytes]] = []
    pending_bytes = 0
    for log_index, body in enumerate(bodies):
        line_number, start = first_lines[log_index] if first_lines else 1, 0
        while start < len(body):
            end = _end_of_piece(body, start, piece_bytes - pending_bytes)
            part = body[start:end]
            pending.append((log_index, line_number, part))
            pending_bytes += len(part)
            start = end
            if pending_bytes >= piece_bytes or start < len(body):
                piece = _piece(pending)
                pending, pending_bytes = [], 0
                line_number = int(piece.line_number[-1]) + 1
                yield piece
    if pending:
        yield _piece(pending)


def _end_of_piece(body: bytes, start: int, room: int) -> int:
    """Where a piece of about `room` bytes, or one line, ends."""
    if len(body) - start <= room:
        return len(body)
    end = body.rfind(b"\n", start, start + room) + 1 or body.find(b"\n", start + room) + 1
    return end or len(body)


def _piece(parts: list[tuple[int, int, bytes]]) -> Piece:
    """One piece of (log index, number of the first line, whole lines)."""
    bodies = [body if body.endswith(b"\n") else body + b"\n" for _, _, body in parts]
    data = bodies[0] if len(bodies) == 1 else b"".join(bodies)
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets == _LF)
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    part_ends = np.cumsum([len(body) for body in bodies])
    last_lines = np.searchsorted(ends, part_ends - 1)
    counts = np.diff(last_lines, prepend=-1)
    first_lines = last_lines - counts + 1
    log_index = np.repeat(np.array([log for log, _, _ in parts]), counts)
    first_numbers = np.array([number for _, number, _ in parts])
    line_number = np.arange(len(ends)) + np.repeat(first_numbers - first_lines, counts)
    text_starts = starts.copy()
    for (_, number, _), body, line in zip(parts, bodies, first_lines, strict=True):
        if number == 1 and body.startswith(_BOM):
            text_starts[line] += len(_BOM)
    return Piece(data, starts, ends, text_starts, log_index, line_number)
