"""Records -> what COPY is sent: Postgres' binary format, in which it has nothing left to parse.

Source: PostgreSQL manual, COPY, "Binary Format"; the fields' own forms are those of the types' send and receive
functions (timestamptz: microseconds since 2000; inet: family, bits, is_cidr, length, bytes).
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from tamarin_dagster.logformat import FIELDS, NUMBER_NAMES, TEXT_NAMES, Records
from tamarin_dagster.logformat.addresses import IPV4_BYTES, IPV6_BYTES, pack_address
from tamarin_dagster.logformat.compiling import Octets, compiled, copy_octets, inlined, pointer
from tamarin_dagster.logformat.quick import NULL
from tamarin_dagster.logformat.values import microseconds

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""What the data begins with: signature, flags, length of a header extension."""
TRAILER = b"\xff\xff"
"""What it ends with."""

_TEXT, _INET, _TIME, _NUMBER = range(4)
_BYTES = {"smallint": 2, "bigint": 8, "timestamptz": 8}
_INET_BYTES = 4 + IPV6_BYTES
_IPV4_FAMILY, _IPV6_FAMILY = 2, 3
_POSTGRES_EPOCH = microseconds(datetime(2000, 1, 1, tzinfo=UTC))


def _plan() -> npt.NDArray[np.int64]:
    """One row per field, in the table's order: its kind, its column in that kind's array, and the bytes of a number."""
    rows = []
    for field in FIELDS:
        if field.name in NUMBER_NAMES:
            rows.append((_NUMBER, NUMBER_NAMES.index(field.name), _BYTES[field.sql_type]))
        elif field.name in TEXT_NAMES:
            rows.append((_INET if field.sql_type == "inet" else _TEXT, TEXT_NAMES.index(field.name), 0))
        else:
            rows.append((_TIME, 0, _BYTES[field.sql_type]))
    return np.array(rows, np.int64)


_PLAN = _plan()
# count of fields; log_key_id, line_number and each field with its length; what inet is longer than its text may be
_ROW_BYTES = 2 + 12 + 8 + 4 * len(FIELDS) + int(_PLAN[:, 2].sum()) + _INET_BYTES


def render(records: Records, ids: Sequence[int]) -> memoryview:
    """The records in the order of RECORD_COLUMNS; to be sent between HEADER and TRAILER.

    Args:
        records: of one piece.
        ids: the ledger id of each log object of the batch.
    """
    key_ids = np.asarray(ids, np.int64)[records.log_index]
    room = len(records) * _ROW_BYTES + int(np.maximum(records.spans[:, :, 1], 0).sum())
    rows = np.empty(room, np.uint8)
    packed = np.empty(IPV6_BYTES, np.uint8)
    columns = (key_ids, records.line_number, records.times, records.numbers, records.spans)
    used = _render(records.octets, *columns, _PLAN, packed, rows)
    return rows.data[:used]


@compiled
def _render(
    octets: Octets,
    key_ids: npt.NDArray[np.int64],
    line_numbers: npt.NDArray[np.int64],
    times: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    spans: npt.NDArray[np.int32],
    plan: npt.NDArray[np.int64],
    packed: Octets,
    rows: Octets,
) -> int:
    """Writes the rows; gives how many bytes they are."""
    at, text, target, room = 0, pointer(octets), pointer(rows), pointer(packed)
    for row in range(len(times)):
        at = _put(target, at, 2 + len(plan), 2)
        at = _put_number(target, at, key_ids[row], 8)
        at = _put_number(target, at, line_numbers[row], 4)
        for field in range(len(plan)):
            kind, column = plan[field, 0], plan[field, 1]
            if kind == _NUMBER:
                at = _put_number(target, at, numbers[row, column], plan[field, 2])
            elif kind == _TIME:
                at = _put_number(target, at, times[row] - _POSTGRES_EPOCH, plan[field, 2])
            else:
                start, length = spans[row, column, 0], spans[row, column, 1]
                if length == NULL:
                    at = _put(target, at, NULL, 4)
                elif kind == _INET:
                    at = _put_address(target, at, room, pack_address(text, start, start + length, room))
                else:
                    at = _put(target, at, length, 4)
                    copy_octets(target, at, text, start, length)
                    at += length
    return at


@inlined
def _put(rows: Octets, at: int, value: int, count: int) -> int:
    """Writes an integer of `count` bytes in network order; gives where it ends."""
    for index in range(count):
        rows[at + index] = (value >> (8 * (count - 1 - index))) & 0xFF
    return at + count


@inlined
def _put_number(rows: Octets, at: int, value: int, count: int) -> int:
    """Writes an integer behind its length; `NULL` is null."""
    if value == NULL:
        return _put(rows, at, NULL, 4)
    return _put(rows, _put(rows, at, count, 4), value, count)


@compiled
def _put_address(rows: Octets, at: int, packed: Octets, length: int) -> int:
    """Writes a value of type inet behind its length."""
    at = _put(rows, at, 4 + length, 4)
    at = _put(rows, at, _IPV4_FAMILY if length == IPV4_BYTES else _IPV6_FAMILY, 1)
    at = _put(rows, at, 8 * length, 1)
    at = _put(rows, at, 0, 1)
    at = _put(rows, at, length, 1)
    copy_octets(rows, at, packed, 0, length)
    return at + length
