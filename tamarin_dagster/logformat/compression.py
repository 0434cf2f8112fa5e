"""Decompress log keys, recognised by their first bytes, within limits and piece by piece.

gzip and zstd are decompressed. Other formats, and one inside the other, are refused by name: their bytes are not lines,
and whatever looks like a line in them is there by chance.
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
"""The maximum decompressed size of a log key: the largest log keys seen are a few hundred MB."""
MAX_RATIO = 1000
"""The maximum ratio of decompressed to stored bytes: repeated log lines reach about 100, DEFLATE's limit is 1032."""
RATIO_FREE_BYTES = 16 * 1024**2
"""The ratio is only checked above this size: a tiny bomb does no harm."""

_GZIP = re.compile(rb"\x1f\x8b")
# A zstd stream may begin with skippable frames (RFC 8878, 3.1.2), as pzstd and seekable files do.
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
# Each whole magic number, so that no text is taken for one of these.
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
"""How many stored bytes zlib gets at once: it copies the unread rest with each piece that it returns."""


class DecompressionError(ValueError):
    """A compressed log key that is corrupt, truncated, too large when decompressed, or in an unsupported format."""


def decompress_chunks(
    chunks: Iterable[bytes], packed_bytes: int, *, max_bytes: int = MAX_BYTES, max_ratio: float = MAX_RATIO
) -> Iterator[bytes]:
    """Yield the body that comes in `chunks` (cut anywhere), decompressed if it begins like gzip or zstd.

    Several gzip members or zstd frames in a row are one body. Decompressed pieces have at most 1 MiB; the chunks of any
    other body are passed on unchanged.

    Args:
        chunks: the body as stored. Exceptions from it are passed on.
        packed_bytes: the listed length of the body, for the ratio.
        max_bytes: the maximum number of decompressed bytes.
        max_ratio: the maximum number of decompressed bytes per stored byte, above `RATIO_FREE_BYTES`.

    Raises:
        DecompressionError: the data is corrupt or truncated, or exceeds the limits; raised as soon as that is known,
            which
            may be after some pieces. Also for another format, or one inside the other, before any piece.
    """
    magic, chunks = _peek(chunks)
    if refused := _find_refused_format(magic):
        raise DecompressionError(f"is {refused}, which is not supported; replace it by the log key that it contains")
    if _GZIP.match(magic):
        pieces = _gunzip(chunks, packed_bytes)
    elif _ZSTD.match(magic):
        pieces = _unzstd(chunks, packed_bytes)
    else:
        yield from chunks
        return
    inner, pieces = _peek(_bound(pieces, packed_bytes, max_bytes, max_ratio))
    if nested := _find_supported_format(inner) or _find_refused_format(inner):
        raise DecompressionError(
            f"is {nested} inside {_find_supported_format(magic)}, which is not supported; decompress it once"
        )
    yield from pieces


def decompress(body: bytes, *, max_bytes: int = MAX_BYTES, max_ratio: float = MAX_RATIO) -> bytes:
    """Return the body, decompressed if it begins like gzip or zstd; see `decompress_chunks`."""
    pieces = list(decompress_chunks([body], len(body), max_bytes=max_bytes, max_ratio=max_ratio))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _find_supported_format(magic: bytes) -> str | None:
    """Return the name of a supported format that begins so; None if there is none."""
    return "a gzip file" if _GZIP.match(magic) else "a zstd file" if _ZSTD.match(magic) else None


def _find_refused_format(magic: bytes) -> str | None:
    """Return the name of an unsupported format that begins so; None if there is none."""
    return next((name for name, start in _REFUSED.items() if start.match(magic)), None)


def _peek(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, and all chunks."""
    rest = iter(chunks)
    magic, seen = b"", []
    for chunk in rest:
        magic += chunk[:_MAGIC_BYTES]
        seen.append(chunk)
        if len(magic) >= _MAGIC_BYTES:
            break
    return magic, chain(seen, rest)


def _bound(pieces: Iterable[bytes], packed_bytes: int, max_bytes: int, max_ratio: float) -> Iterator[bytes]:
    ratio_bytes = max(max_ratio * packed_bytes, min(RATIO_FREE_BYTES, max_bytes))
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise DecompressionError(f"decompresses to more than {max_bytes} bytes from {packed_bytes}")
        if size > ratio_bytes:
            raise DecompressionError(
                f"decompresses to more than {max_ratio:g} times its {packed_bytes} bytes: a decompression bomb?"
            )
        yield piece


def _gunzip(chunks: Iterable[bytes], packed_bytes: int) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    for packed in _cut_chunks(chunks, _PACKED_PIECE_BYTES):
        rest = packed
        while rest:
            if member.eof:
                # tar and tape tools append NULs to the last member, and gzip itself accepts them
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
        raise DecompressionError(f"gzip data of {packed_bytes} bytes is truncated")


def _cut_chunks(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the chunks, cut to at most `size`."""
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
        raise DecompressionError(f"zstd data of {packed_bytes} bytes is corrupt or truncated: {error}") from error


class _ChunkFile(io.RawIOBase):
    """Chunks as a file that Arrow can read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self.error: OSError | None = None
        """The exception from the chunks, which is the network's fault, not the data's."""

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
