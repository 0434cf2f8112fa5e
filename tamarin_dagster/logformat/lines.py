"""Cut the bytes of log objects into lines, for a batch of objects, or for one that comes in chunks.

Only LF ends a line: CR, VT, FF, U+0085 and U+2028 are data of the client. A last line without LF is a line. A byte
order mark at the start of an object is not part of its first line's text, and neither is a CR at the end of a line (but
both are part of the raw line).
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamarin_dagster.logformat.engine import compiled_engine
from tamarin_dagster.logformat.escaping import escape_bytes

PIECE_BYTES = 8 * 1024**2
"""How many bytes are read in one pass: enough to spread the cost of a pass, few enough to stay in the CPU's caches
(measured).

This is also the maximum in memory for an object that comes in chunks, so it must be more than
`regex_reader.MAX_LINE_BYTES`.
"""
PIECE_LINES = 64 * 1024
"""How many lines are read in one pass: more than the real lines in `PIECE_BYTES`. If all bytes were LFs, a pass would
otherwise keep gigabytes about its lines.
"""
KEPT_BYTES = 64 * 1024
"""How many bytes of an oversized line are kept."""

Integers = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]

_BOM = b"\xef\xbb\xbf"
_LF = ord(b"\n")
_BLANKS = re.compile(rb"[ \t\r]*")
_SEARCHED_BYTES = 64 * 1024
"""How many bytes are searched for LFs at a time, so that a pass stops soon after it has found enough of them."""


@dataclass(frozen=True)
class Piece:
    """Whole lines of one or more log objects, in one block of bytes."""

    data: bytes
    starts: Integers
    """The starts of the lines, including a byte order mark."""
    ends: Integers
    """Their ends, without their LF."""
    text_starts: Integers
    """Their starts, without a byte order mark."""
    log_index: Integers
    line_number: Integers
    unended: Integers
    """Rows of the lines without an LF: at most one of each log object, its last."""

    @property
    def octets(self) -> Octets:
        """The bytes as numbers, without a copy."""
        return np.frombuffer(self.data, np.uint8)

    def raw(self, row: int) -> bytes:
        """Return the bytes of a line without its LF."""
        return self.data[self.starts[row] : self.ends[row]]

    def text(self, row: int) -> str:
        """Return the text of a line, escaped where necessary."""
        return escape_bytes(self.data[self.text_starts[row] : self.ends[row]].rstrip(b"\r"))


def cut_pieces(
    bodies: Sequence[bytes], piece_bytes: int = PIECE_BYTES, first_lines: Sequence[int] | None = None
) -> Iterator[Piece]:
    """Yield the lines of the log objects, in order, in pieces of about `piece_bytes`; a line is never cut.

    `first_lines` is the number of the first line of each body; default 1.
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
                for piece in _pieces(pending):
                    yield piece
                    line_number = int(piece.line_number[-1]) + 1
                pending, pending_bytes = [], 0
    if pending:
        yield from _pieces(pending)


def _end_of_piece(body: bytes, start: int, room: int) -> int:
    """Return the end of a piece of about `room` bytes, or of one line."""
    if len(body) - start <= room:
        return len(body)
    end = body.rfind(b"\n", start, start + room) + 1 or body.find(b"\n", start + room) + 1
    return end or len(body)


def _pieces(parts: list[tuple[int, int, bytes]]) -> Iterator[Piece]:
    """Yield the lines of (log index, number of the first line, whole lines), in pieces of up to `PIECE_LINES`."""
    bodies = [body if body.endswith(b"\n") else body + b"\n" for _, _, body in parts]
    data = bodies[0] if len(bodies) == 1 else b"".join(bodies)
    body_ends = np.cumsum([len(body) for body in bodies])
    logs, numbers = (np.array(column) for column in zip(*((log, number) for log, number, _ in parts), strict=True))
    begins_with_bom = np.array([body.startswith(_BOM) for body in bodies])
    is_unended = np.array([not body.endswith(b"\n") for _, _, body in parts])
    at = 0
    while at < len(data):
        octets = np.frombuffer(data, np.uint8, offset=at)
        ends = _line_ends(octets, PIECE_LINES)
        starts = np.empty_like(ends)
        starts[0], starts[1:] = 0, ends[:-1] + 1
        lines_before = np.searchsorted(ends, body_ends - at)
        counts = np.diff(lines_before, prepend=0)
        first_lines = lines_before - counts
        text_starts = starts.copy()
        text_starts[first_lines[begins_with_bom & (numbers == 1) & (counts > 0)]] += len(_BOM)
        line_number = np.arange(len(ends)) + np.repeat(numbers - first_lines, counts)
        stop = at + int(ends[-1]) + 1
        unended = lines_before[is_unended & (counts > 0) & (body_ends <= stop)] - 1
        yield Piece(data[at:stop], starts, ends, text_starts, np.repeat(logs, counts), line_number, unended)
        numbers = numbers + counts
        at = stop


def _line_ends(octets: Octets, limit: int) -> Integers:
    """Return the positions of the first LFs, at most `limit`."""
    engine = compiled_engine()
    if engine:
        found: Integers = engine.find_line_ends(octets, limit)
        return found
    places, count = [np.zeros(0, np.int64)], 0
    for start in range(0, len(octets), _SEARCHED_BYTES):
        places.append(start + np.flatnonzero(octets[start : start + _SEARCHED_BYTES] == _LF))
        count += len(places[-1])
        if count >= limit:
            break
    return np.concatenate(places)[:limit]


@dataclass(frozen=True)
class LongLine:
    """What is kept of a line that is too long for memory."""

    start: bytes
    """Its first `KEPT_BYTES`, including a byte order mark."""
    line_bytes: int
    """Its length without its LF."""
    sha256: bytes
    is_blank: bool
    """Whether there are only blanks, tabs and CRs, apart from a byte order mark."""


def whole_lines(chunks: Iterable[bytes], block_bytes: int = PIECE_BYTES) -> Iterator[bytes | LongLine]:
    """Yield one log object, which comes in chunks cut anywhere, as blocks of whole lines and as long lines, in order.

    A block has at most `block_bytes` bytes; a line that does not fit into one with its LF is a long line. The last line
    may lack its LF. At most `block_bytes` are in memory, and each byte is read once, however many chunks follow.
    """
    block, long, is_first = _Block(block_bytes), None, True
    for chunk in chunks:
        at = 0
        while at < len(chunk):
            if long is None:
                at = block.add(chunk, at)
                if not block.is_full():
                    continue
                if block.whole_bytes:
                    yield block.taken(block.whole_bytes)
                else:
                    long = _OpenLine(block.taken(block_bytes), is_first)
                is_first = False
            else:
                at = long.add(chunk, at)
                if long.is_closed:
                    yield long.line()
                    long = None
    if long is not None:
        yield long.line()
    elif block.held_bytes:
        yield block.taken(block.held_bytes)


class _Block:
    """A buffer for incoming bytes, and the end of the last whole line in it."""

    def __init__(self, size: int) -> None:
        self.held_bytes = 0
        self.whole_bytes = 0
        self._octets = bytearray(size)

    def is_full(self) -> bool:
        return self.held_bytes == len(self._octets)

    def add(self, chunk: bytes, start: int) -> int:
        """Add as many bytes as fit; return their end in the chunk."""
        end = min(len(chunk), start + len(self._octets) - self.held_bytes)
        last = chunk.rfind(b"\n", start, end)
        if last >= 0:
            self.whole_bytes = self.held_bytes + last + 1 - start
        with memoryview(chunk) as view:
            self._octets[self.held_bytes : self.held_bytes + end - start] = view[start:end]
        self.held_bytes += end - start
        return end

    def taken(self, count: int) -> bytes:
        """Return and remove the first `count` bytes, at least all whole lines; keep the rest."""
        with memoryview(self._octets) as view:
            block = bytes(view[:count])
            rest = self.held_bytes - count
            view[:rest] = view[count : self.held_bytes]
        self.held_bytes, self.whole_bytes = rest, 0
        return block


class _OpenLine:
    """A line that is too long for memory, and has not ended yet."""

    def __init__(self, start: bytes, is_first: bool) -> None:
        self.is_closed = False
        self._start = start[:KEPT_BYTES]
        self._bytes = 0
        self._digest = hashlib.sha256()
        self._is_blank = True
        self._add(start, 0, len(start), len(_BOM) if is_first and start.startswith(_BOM) else 0)

    def add(self, chunk: bytes, start: int) -> int:
        """Add the bytes up to an LF, or all; return where the chunk continues."""
        end = chunk.find(b"\n", start)
        self.is_closed = end >= 0
        self._add(chunk, start, end if self.is_closed else len(chunk), start)
        return end + 1 if self.is_closed else len(chunk)

    def _add(self, chunk: bytes, start: int, end: int, text_start: int) -> None:
        self._bytes += end - start
        with memoryview(chunk) as view:
            self._digest.update(view[start:end])
        self._is_blank = self._is_blank and _BLANKS.fullmatch(chunk, text_start, end) is not None

    def line(self) -> LongLine:
        return LongLine(self._start, self._bytes, self._digest.digest(), self._is_blank)
