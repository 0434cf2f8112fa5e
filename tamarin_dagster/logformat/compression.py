"""Compressed copies of log keys: told by their first bytes, unpacked within bounds."""

import zlib

import pyarrow as pa

MAX_BYTES = 4 * 1024**3
"""Most bytes that one log key may unpack to: the largest log keys seen are a few hundred MB."""
MAX_RATIO = 1000
"""Most unpacked bytes per packed byte: repeated log lines reach about 100, DEFLATE's limit is 1032."""
RATIO_FREE_BYTES = 16 * 1024**2
"""The ratio counts only beyond this size: a tiny bomb does no harm."""

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 1024**2


class DecompressionError(ValueError):
    """A compressed log key that is corrupt, cut short, or unpacks to too much."""


class _Bounded:
    """Collects unpacked pieces and refuses to grow beyond the bounds."""

    def __init__(self, packed_bytes: int, max_bytes: int, max_ratio: float) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self.packed_bytes = packed_bytes
        self.max_bytes = max_bytes
        self.ratio_bytes = max(max_ratio * packed_bytes, min(RATIO_FREE_BYTES, max_bytes))
        self.max_ratio = max_ratio

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self.max_bytes:
            raise DecompressionError(f"unpacks to more than {self.max_bytes} bytes from {self.packed_bytes}")
        if self.size > self.ratio_bytes:
            raise DecompressionError(
                f"unpacks to more than {self.max_ratio:g} times its {self.packed_bytes} bytes: a decompression bomb?"
            )
        self.pieces.append(piece)


def decompress(body: bytes, *, max_bytes: int = MAX_BYTES, max_ratio: float = MAX_RATIO) -> bytes:
    """The unpacked body if its first bytes are those of gzip or zstd, else the body itself.

    Several gzip members or zstd frames in a row are one body.

    Raises:
        DecompressionError: corrupt or truncated data, more than `max_bytes` unpacked bytes, or (beyond
            `RATIO_FREE_BYTES`) more than `max_ratio` unpacked bytes per packed byte.
    """
    bounded = _Bounded(len(body), max_bytes, max_ratio)
    if body.startswith(_GZIP_MAGIC):
        _gunzip(body, bounded)
    elif body.startswith(_ZSTD_MAGIC):
        _unzstd(body, bounded)
    else:
        return body
    return b"".join(bounded.pieces)


def _gunzip(body: bytes, bounded: _Bounded) -> None:
    rest = body
    while rest:
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            while not member.eof:
                piece = member.decompress(rest, _PIECE_BYTES)
                rest = member.unconsumed_tail
                bounded.add(piece)
                if not piece and not rest and not member.eof:
                    raise DecompressionError(f"gzip data of {len(body)} bytes is cut short")
        except zlib.error as error:
            raise DecompressionError(f"gzip data of {len(body)} bytes is corrupt: {error}") from error
        # tar and tape tools pad with NULs behind the last member, as gzip itself allows
        rest = member.unused_data.lstrip(b"\0")


def _unzstd(body: bytes, bounded: _Bounded) -> None:
    try:
        with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
            while piece := stream.read(_PIECE_BYTES):
                bounded.add(piece)
    except OSError as error:
        raise DecompressionError(f"zstd data of {len(body)} bytes is corrupt or cut short: {error}") from error
