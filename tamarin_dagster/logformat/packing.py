"""Pack the rows of a table: each value, big-endian, after its length, as in Postgres' binary COPY.

Source: PostgreSQL manual, COPY, "Binary Format".
"""

import socket
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamarin_dagster.logformat.engine import compiled_engine

Octets = npt.NDArray[np.uint8]

_LENGTH = ">i4"
_NULL_LENGTH = b"\xff\xff\xff\xff"


def pack_rows(leads: Octets, columns: Sequence[pa.Array]) -> memoryview:
    """Return rows, one after the other.

    A row is the bytes of its lead, and for each column the length of the value in bytes (int32, big-endian; -1 is null)
    and the value: text unchanged, an integer big-endian.

    Args:
        leads: (rows, bytes).
        columns: each with as many rows; of Arrow's types string, binary, int16, int32 or int64.
    """
    engine = compiled_engine()
    if engine:
        packed: memoryview = engine.pack_rows(leads, columns)
        return packed
    if not len(leads):
        return memoryview(b"")
    parts = [_pack_fixed(leads)]
    for column in columns:
        parts += _text_parts(column) if _is_text(column) else [_integers(column)]
    rows = pc.binary_join_element_wise(*parts, b"", null_handling="replace", null_replacement=b"")
    return memoryview(rows.buffers()[2])[: int(np.frombuffer(rows.buffers()[1], np.int32)[len(rows)])]


def pack_addresses(texts: pa.StringArray, ipv4_lead: bytes, ipv6_lead: bytes) -> pa.BinaryArray:
    """Return IP addresses in network order, each after the lead of its family.

    Raises:
        ValueError: a text is not an address; its row is named.
    """
    engine = compiled_engine()
    if engine:
        return engine.pack_addresses(texts, ipv4_lead, ipv6_lead)
    encoded = texts.dictionary_encode()
    packed = []
    for text in encoded.dictionary.to_pylist():
        family, lead = (socket.AF_INET6, ipv6_lead) if ":" in text else (socket.AF_INET, ipv4_lead)
        try:
            packed.append(lead + socket.inet_pton(family, text))
        except OSError:
            row = pc.index(texts, text).as_py()
            raise ValueError(f"row {row} is not an IPv4 or IPv6 address") from None
    return pa.array(packed, pa.binary()).take(encoded.indices)


def _is_text(column: pa.Array) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_binary(column.type))


def _pack_fixed(rows: Octets) -> pa.BinaryArray:
    """Return (rows, bytes) as an array of rows."""
    count, width = rows.shape
    offsets = np.arange(count + 1, dtype=np.int32) * width
    return pa.BinaryArray.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(rows)])


def _text_parts(column: pa.Array) -> list[pa.BinaryArray]:
    """Return the lengths of the texts, and the texts."""
    lengths = pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False).astype(_LENGTH)
    return [_pack_fixed(lengths.view(np.uint8).reshape(len(column), 4)), column.cast(pa.binary())]


def _integers(column: pa.Array) -> pa.BinaryArray:
    """Return the integers, each after its length."""
    width = column.type.bit_width // 8
    values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(f">i{width}")
    lengths = np.full(len(column), width, _LENGTH)
    octets = [array.view(np.uint8).reshape(len(column), -1) for array in (lengths, values)]
    packed = _pack_fixed(np.hstack(octets))
    if not column.null_count:
        return packed
    return pc.if_else(column.is_valid(), packed, pa.scalar(_NULL_LENGTH, pa.binary()))
