"""Compressed copies of log keys: recognised by their first bytes, unpacked within bounds, piece by piece.

gzip and zstd are unpacked. Other formats, and one packed inside the other, are named and refused: their bytes are not
lines, and whatever looks like a line in them is there by chance.
"""

import io
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_BYTES = 4 * 1024**3
"""Most bytes that one log key may unpack to: the largest log keys seen are a few hundred MB."""
MAX_RATIO = 1000
"""Most unpacked bytes per packed byte: repeated log lines reach about 100, DEFLATE's limit is 1032."""
RATIO_FREE_BYTES = 16 * 1024**2
"""The ratio counts only beyond this size: a tiny bomb does no harm."""

_GZIP = re.compile(rb"\x1f\x8b")
# A zstd stream may begin with skippable frames (RFC 8878, 3.1.2), as pzstd and seekable files do.
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
# The whole of each magic number, so that no text is taken for one of these.
_REFUSED = {
    "a zip archive": re.compile(rb"PK(?:\x03\x04|\x05\x06|\x07\x08)"),
    "a bzip2 file": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    "an xz file": re.compile(rb"\xfd7zXZ\x00"),
    "a 7-Zip archive": re.compile(rb"7z\xbc\xaf\x27\x1c"),
    "an LZ4 file": re.compile(rb"\x04\x22\x4d\x18"),
}
_MAGIC_BYTES = 10
_PIECE_BYTES = 1024**2
_PACKED_PIECE_BYTES = 64 * 1024
"""Packed bytes handed to zlib at once: it copies what it has not come to yet with each piece that it gives."""


class DecompressionError(ValueError):
    """A compressed log key that is corrupt, cut short, unpacks to too much, or is of a format that is not read."""


def unpacked(
    chunks: Iterable[bytes], packed_bytes: int, *, max_bytes: int = MAX_BYTES, max_ratio: float = MAX_RATIO
) -> Iterator[bytes]:
    """Yield the body that comes in `chunks` (cut anywhere), unpacked if its first bytes are those of gzip or zstd.

    Several gzip members or zstd frames in a row are one body. Unpacked pieces have at most 1 MiB; the chunks of any
    other body are passed on as they are.

    Args:
        chunks: the body as it is stored. What they raise is passed on.
        packed_bytes: length of the body as it was listed; what the ratio counts by.
        max_bytes: most bytes to unpack.
        max_ratio: most unpacked bytes per packed byte, beyond `RATIO_FREE_BYTES`.

    Raises:
        DecompressionError: corrupt or truncated data, or more unpacked bytes than the bounds allow; as soon as it is
            known, when pieces have been given. Also another format, or one packed inside the other, before any piece.
    """
    magic, chunks = _peeked(chunks)
    if refused := _refused(magic):
        raise DecompressionError(f"is {refused}, which is not read; replace it by the log key that it holds")
    if _GZIP.match(magic):
        pieces = _gunzip(chunks, packed_bytes)
    elif _ZSTD.match(magic):
        pieces = _unzstd(chunks, packed_bytes)
    else:
        yield from chunks
        return
    inner, pieces = _peeked(_bounded(pieces, packed_bytes, max_bytes, max_ratio))
    if nested := _packed_as(inner) or _refused(inner):
        raise DecompressionError(f"is {nested} inside {_packed_as(magic)}, which is not read; unpack it once")
    yield from pieces


def decompress(body: bytes, *, max_bytes: int = MAX_BYTES, max_ratio: float = MAX_RATIO) -> bytes:
    """The unpacked body if its first bytes are those of gzip or zstd, else the body itself; see `unpacked`."""
    pieces = list(unpacked([body], len(body), max_bytes=max_bytes, max_ratio=max_ratio))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _packed_as(magic: bytes) -> str | None:
    """Name the format that is unpacked and begins so."""
    return "a gzip file" if _GZIP.match(magic) else "a zstd file" if _ZSTD.match(magic) else None


def _refused(magic: bytes) -> str | None:
    """Name the format that begins so and is not read."""
    return next((name for name, start in _REFUSED.items() if start.match(magic)), None)


def _peeked(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and all chunks."""
    rest = iter(chunks)
    magic, seen = b"", []
    for chunk in rest:
        magic += chunk[:_MAGIC_BYTES]
        seen.append(chunk)
        if len(magic) >= _MAGIC_BYTES:
            break
    return magic, chain(seen, rest)


def _bounded(pieces: Iterable[bytes], packed_bytes: int, max_bytes: int, max_ratio: float) -> Iterator[bytes]:
    ratio_bytes = max(max_ratio * packed_bytes, min(RATIO_FREE_BYTES, max_bytes))
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise DecompressionError(f"unpacks to more than {max_bytes} bytes from {packed_bytes}")
        if size > ratio_bytes:
            raise DecompressionError(
                f"unpacks to more than {max_ratio:g} times its {packed_bytes} bytes: a decompression bomb?"
            )
        yield piece


def _gunzip(chunks: Iterable[bytes], packed_bytes: int) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    for packed in _cut(chunks, _PACKED_PIECE_BYTES):
        rest = packed
        while rest:
            if member.eof:
                # tar and tape tools pad with NULs behind the last member, as gzip itself allows
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            try:
                piece = member.decompress(rest, _PIECE_BYTES)
            except zlib.error as error:
                raise DecompressionError(f"gzip data of {packed_bytes} bytes is corrupt: {error}") from error
            rest = member.unused_data if member.eof else member.unconsumed_tail
            if piece:
                yield piece
    if not member.eof:
        raise DecompressionError(f"gzip data of {packed_bytes} bytes is cut short")


def _cut(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The chunks, none longer than `size`."""
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]


def _unzstd(chunks: Iterable[bytes], packed_bytes: int) -> Iterator[bytes]:
    file = _ChunkFile(chunks)
    try:
        with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
            while piece := stream.read(_PIECE_BYTES):
                yield piece
    except OSError as error:
        if error is file.error:
            raise
        raise DecompressionError(f"zstd data of {packed_bytes} bytes is corrupt or cut short: {error}") from error


class _ChunkFile(io.RawIOBase):
    """Chunks as a file, which Arrow can read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self.error: OSError | None = None
        """What the chunks raised: the network's fault, not that of the data."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        try:
            while not self._rest and (chunk := next(self._chunks, None)) is not None:
                self._rest = memoryview(chunk)
        except OSError as error:
            self.error = error
            raise
        with memoryview(buffer) as target:
            count = min(len(target), len(self._rest))
            target[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
