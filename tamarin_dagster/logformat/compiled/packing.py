"""Pack the rows of an Arrow table, from its buffers. See `logformat.packing`, which defines the form."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamarin_dagster.logformat.compiled.addresses import IPV4_BYTES, IPV6_BYTES, pack_address
from tamarin_dagster.logformat.compiled.compiling import (
    Octets,
    compiled,
    copy_octets,
    inlined,
    integer_at,
    pointer,
    pointer_to,
)

_LENGTH_BYTES = 4
_NULL = -1
_NO_BITMAP = 0


def pack_rows(leads: Octets, columns: Sequence[pa.Array]) -> memoryview:
    """Pack rows; see `packing.pack_rows`."""
    rows = len(leads)
    plan = np.array([_planned(column) for column in columns], np.int64).reshape(len(columns), _PLANNED)
    texts = sum(_text_bytes(column) for column in columns)
    room = rows * (leads.shape[1] + _LENGTH_BYTES * len(columns) + int(plan[:, _WIDTH].sum())) + texts
    packed = np.empty(room, np.uint8)
    # The caller keeps the columns alive while their addresses are used.
    return packed.data[: _pack_rows(leads, plan, packed)]


def pack_addresses(texts: pa.StringArray, ipv4_lead: bytes, ipv6_lead: bytes) -> pa.BinaryArray:
    """Pack addresses; see `packing.pack_addresses`."""
    count = len(texts)
    _, offsets, values, bitmap, bit, _ = _planned(texts)
    leads = np.frombuffer(ipv4_lead + ipv6_lead, np.uint8)
    packed = np.empty(count * (len(ipv4_lead) + len(ipv6_lead) + IPV6_BYTES), np.uint8)
    places, room = np.zeros(count + 1, np.int32), np.empty(IPV6_BYTES, np.uint8)
    wrong = _pack_addresses(offsets, values, bitmap, bit, leads, len(ipv4_lead), room, places, packed)
    if wrong >= 0:
        raise ValueError(f"row {wrong} is not an IPv4 or IPv6 address")
    valid = pa.array(texts.is_valid()).buffers()[1] if texts.null_count else None
    buffers = [valid, pa.py_buffer(places), pa.py_buffer(packed[: places[-1]])]
    return pa.BinaryArray.from_buffers(pa.binary(), count, buffers, texts.null_count)


_PLANNED = 6
_WIDTH, _OFFSETS, _VALUES, _BITMAP, _BIT, _FIRST = range(_PLANNED)
"""Of a column: bytes of a value, 0 for a text; addresses of its offsets, values and validity bitmap; the bitmap's first
bit; its first row.
"""


def _planned(column: pa.Array) -> tuple[int, ...]:
    buffers, first = column.buffers(), column.offset
    bitmap = buffers[0].address if buffers[0] is not None and column.null_count else _NO_BITMAP
    if _is_text(column):
        offsets = buffers[1].address + 4 * first if buffers[1] is not None else 0
        return 0, offsets, buffers[2].address if buffers[2] is not None else 0, bitmap, first, first
    width = column.type.bit_width // 8
    values = buffers[1].address + width * first if buffers[1] is not None else 0
    return width, 0, values, bitmap, first, first


def _is_text(column: pa.Array) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_binary(column.type))


def _text_bytes(column: pa.Array) -> int:
    if not _is_text(column) or not len(column):
        return 0
    offsets = np.frombuffer(column.buffers()[1], np.int32)
    return int(offsets[column.offset + len(column)]) - int(offsets[column.offset])


@compiled
def _pack_rows(leads: Octets, plan: npt.NDArray[np.int64], packed: Octets) -> int:
    """Write the rows; return the number of bytes."""
    at, target, source, lead_bytes = 0, pointer(packed), pointer(leads), leads.shape[1]
    for row in range(len(leads)):
        copy_octets(target, at, source, row * lead_bytes, lead_bytes)
        at += lead_bytes
        for column in range(len(plan)):
            width, values, bitmap = plan[column, _WIDTH], plan[column, _VALUES], plan[column, _BITMAP]
            if bitmap != _NO_BITMAP and _is_null(bitmap, plan[column, _BIT] + row):
                at = _put(target, at, _NULL, _LENGTH_BYTES)
            elif width == 8:
                at = _put(target, _put(target, at, 8, _LENGTH_BYTES), integer_at(values + 8 * row, 8), 8)
            elif width == 2:
                at = _put(target, _put(target, at, 2, _LENGTH_BYTES), integer_at(values + 2 * row, 2), 2)
            elif width == 4:
                at = _put(target, _put(target, at, 4, _LENGTH_BYTES), integer_at(values + 4 * row, 4), 4)
            else:
                offsets = plan[column, _OFFSETS] + 4 * row
                start = integer_at(offsets, 4)
                length = integer_at(offsets + 4, 4) - start
                at = _put(target, at, length, _LENGTH_BYTES)
                copy_octets(target, at, pointer_to(values), start, length)
                at += length
    return at


@inlined
def _is_null(bitmap: int, bit: int) -> bool:
    return bool((pointer_to(bitmap)[bit >> 3] >> (bit & 7)) & 1 == 0)


@inlined
def _put(packed: Octets, at: int, value: int, count: int) -> int:
    """Write an integer of `count` bytes in network order; return its end."""
    for index in range(count):
        packed[at + index] = (value >> (8 * (count - 1 - index))) & 0xFF
    return at + count


@compiled
def _pack_addresses(
    offsets: int,
    values: int,
    bitmap: int,
    bit: int,
    leads: Octets,
    ipv4_lead_bytes: int,
    room: Octets,
    places: npt.NDArray[np.int32],
    packed: Octets,
) -> int:
    """Write the addresses and their positions; return the first row that is not an address, or -1."""
    at, target, lead, address = 0, pointer(packed), pointer(leads), pointer(room)
    for row in range(len(places) - 1):
        places[row] = at
        if bitmap != _NO_BITMAP and _is_null(bitmap, bit + row):
            continue
        start, end = integer_at(offsets + 4 * row, 4), integer_at(offsets + 4 * row + 4, 4)
        size = pack_address(pointer_to(values), start, end, address)
        if size == 0:
            return row
        first = 0 if size == IPV4_BYTES else ipv4_lead_bytes
        count = ipv4_lead_bytes if size == IPV4_BYTES else len(leads) - ipv4_lead_bytes
        copy_octets(target, at, lead, first, count)
        copy_octets(target, at + count, address, 0, size)
        at += count + size
    places[-1] = at
    return -1
