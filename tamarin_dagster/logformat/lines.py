"""Bytes -> lines: where each line of a batch of log objects begins and ends, without copying any.

Only LF ends a line: CR, VT, FF, U+0085 and U+2028 are data of the client's. A last line without LF is a line. A byte
order mark at the start of an object and a CR at the end of a line are no part of the text that is read (but of the raw
line).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tamarin_dagster.logformat.escaping import escape_bytes

MAX_LINE_BYTES = 1024**2
"""A longer line is no record. S3 limits a request's headers to 8 KB and its URI to about the same."""
PIECE_BYTES = 16 * 1024**2
"""Bytes read in one pass: big enough to spread the cost of a pass, small enough to stay near the CPU (measured)."""
_SHORTEST_RECORD = 48
"""No record of 17 fields is shorter. What is shorter never needs Arrow's inline form of short strings."""

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_BOM = b"\xef\xbb\xbf"
_LF, _CR, _BLANK, _TAB, _BACKSLASH = b"\n\r \t\\"


@dataclass(frozen=True)
class Piece:
    """Whole lines of one or more log objects in one run of bytes."""

    data: bytes
    starts: Integers
    """Where the lines begin, a byte order mark included."""
    ends: Integers
    """Where they end, without their LF."""
    log_index: Integers
    line_number: Integers
    text_starts: Integers
    text_ends: Integers
    """The lines without byte order mark and trailing CRs."""

    @cached_property
    def is_blank(self) -> Flags:
        """Lines of nothing but blanks, tabs and CRs."""
        first = np.frombuffer(self.data, np.uint8)[np.minimum(self.text_starts, len(self.data) - 1)]
        empty = self.text_starts >= self.text_ends
        suspects = np.flatnonzero(~empty & np.isin(first, (_BLANK, _TAB, _CR)))
        blank = empty
        for row in suspects:
            blank[row] = not self.data[self.text_starts[row] : self.text_ends[row]].strip(b" \t\r")
        return blank

    @cached_property
    def is_oversized(self) -> Flags:
        """Lines of more than `MAX_LINE_BYTES`."""
        return self.ends - self.starts > MAX_LINE_BYTES

    @cached_property
    def is_short(self) -> Flags:
        """Lines too short for a record, hence for the vectorised reader."""
        return self.text_ends - self.text_starts < _SHORTEST_RECORD

    @cached_property
    def is_dirty(self) -> Flags:
        r"""Lines whose text needs escapes: NUL, a literal `\x`, bytes that are no UTF-8."""
        dirty = np.zeros(len(self.starts), np.bool_)
        octets = np.frombuffer(self.data, np.uint8)
        if b"\0" in self.data:
            dirty[self._lines_at(np.flatnonzero(octets == 0))] = True
        if b"\\" in self.data:
            slashes = np.flatnonzero(octets[:-1] == _BACKSLASH)
            dirty[self._lines_at(slashes[octets[slashes + 1] == ord("x")])] = True
        if not _is_utf8(self.data):
            for row in np.unique(self._lines_at(np.flatnonzero(octets >= 0x80))):
                dirty[row] = dirty[row] or not _is_utf8(self.raw(row))
        return dirty

    def _lines_at(self, positions: Integers) -> Integers:
        return np.searchsorted(self.starts, positions, side="right") - 1

    def raw(self, row: int) -> bytes:
        """The bytes of a line, all but its LF."""
        return self.data[self.starts[row] : self.ends[row]]

    def text(self, row: int) -> str:
        """The text of a line, escaped where it must be."""
        return escape_bytes(self.data[self.text_starts[row] : self.text_ends[row]])

    def column(self, rows: Integers) -> pl.Series:
        """The text of clean lines that are not short, as a column that shares this piece's bytes."""
        starts, ends = self.text_starts[rows], self.text_ends[rows]
        octets = np.frombuffer(self.data, np.uint8)
        # Arrow's string view: length, first four bytes, buffer number, offset
        views = np.zeros((len(rows), 4), np.int32)
        views[:, 0] = ends - starts
        for index in range(4):
            views.view(np.uint8)[:, 4 + index] = octets[starts + index]
        views[:, 3] = starts
        buffers = [None, pa.py_buffer(views), pa.py_buffer(self.data)]
        return pl.Series("line", pl.from_arrow(pa.Array.from_buffers(pa.string_view(), len(rows), buffers)))


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def pieces_of(bodies: Sequence[bytes], piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
    """The lines of the log objects, in order, in pieces of about `piece_bytes`; a line is never cut."""
    pending: list[tuple[int, int, bytes]] = []
    pending_bytes = 0
    for log_index, body in enumerate(bodies):
        line_number, start = 1, 0
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
    return Piece(data, starts, ends, log_index, line_number, text_starts, _without_cr(octets, text_starts, ends))


def _without_cr(octets: npt.NDArray[np.uint8], starts: Integers, ends: Integers) -> Integers:
    """The ends of the lines less one trailing CR."""
    has_cr = (ends > starts) & (octets[np.maximum(ends, 1) - 1] == _CR)
    return np.where(has_cr, ends - 1, ends)
