"""The beginnings of texts, up to a mark: for whole columns at once, without an object for each text."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

# Texts that are cut at a time: an index of 8 bytes is needed for each byte of them, which is to stay in the cache.
_ROWS = 8192

Integers = npt.NDArray[np.int64]


def cut(texts: pa.Array, marks: bytes, nth: int = 1, *, keeps_mark: bool = False) -> pa.Array:
    """Return each text up to the nth of the marks; a text that has fewer of them as it is. Null stays null.

    Args:
        texts: of type string or binary.
        marks: each byte of them is a mark; they are ASCII.
        nth: from 1.
        keeps_mark: whether the mark itself belongs to what is returned.
    """
    pieces = [_cut(texts.slice(start, _ROWS), marks, nth, keeps_mark) for start in range(0, len(texts), _ROWS)]
    return pa.concat_arrays(pieces) if pieces else texts


def _cut(texts: pa.Array, marks: bytes, nth: int, keeps_mark: bool) -> pa.Array:
    starts, ends, octets = _bounds(texts)
    is_mark = octets == marks[0]
    for mark in marks[1:]:
        is_mark |= octets == mark
    places = np.flatnonzero(is_mark)
    if not len(places):
        return texts
    wanted = np.searchsorted(places, starts) + nth - 1
    found = places[np.minimum(wanted, len(places) - 1)]
    has_mark = (wanted < len(places)) & (found >= starts) & (found < ends)
    if not has_mark.any():
        return texts
    lengths = np.where(has_mark, found + keeps_mark, ends) - starts
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    chosen = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    data = pa.py_buffer(np.take(octets, chosen))
    validity = pa.py_buffer(np.packbits(np.asarray(texts.is_valid()), bitorder="little")) if texts.null_count else None
    buffers = [validity, pa.py_buffer(offsets.astype(np.int32)), data]
    return pa.Array.from_buffers(texts.type, len(texts), buffers, texts.null_count)


def _bounds(texts: pa.Array) -> tuple[Integers, Integers, npt.NDArray[np.uint8]]:
    """Return where each text begins and ends in the bytes of all, and these bytes."""
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    octets = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return places[:-1] - places[0], places[1:] - places[0], octets[places[0] : places[-1]]
