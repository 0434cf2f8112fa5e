"""Render records for COPY in Postgres' binary format, which the server need not parse.

Source: PostgreSQL manual, COPY, "Binary Format". The fields have the formats of the types' send and receive functions
(timestamptz: microseconds since 2000; inet: family, bits, is_cidr, length, bytes).
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamarin_dagster.logformat import FIELDS, FrameError
from tamarin_dagster.logformat.fields import SqlType
from tamarin_dagster.logformat.packing import pack_addresses, pack_rows

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""The beginning of the data: signature, flags, length of a header extension."""
TRAILER = b"\xff\xff"
"""The end of the data."""

_PIECE_ROWS = 64 * 1024
"""Rows that are rendered at a time."""
_IPV4_LEAD, _IPV6_LEAD = bytes((2, 32, 0, 4)), bytes((3, 128, 0, 16))
"""What precedes the bytes of an inet: family, bits of the mask, is_cidr, number of bytes."""
_LEAD = np.dtype([("columns", ">i2"), ("id_bytes", ">i4"), ("id", ">i8"), ("line_bytes", ">i4"), ("line", ">i4")])
"""The beginning of a row: the number of its columns, then the first two, each after its length."""
_POSTGRES_EPOCH = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


def render(records: pa.Table, ids: Sequence[int]) -> tuple[memoryview, ...]:
    """Return the records in the order of RECORD_COLUMNS, in pieces, to be sent between HEADER and TRAILER.

    Args:
        records: columns of `logformat.RECORDS_SCHEMA`.
        ids: the ledger id of each log object of the batch.

    Raises:
        FrameError: the text of an address is not an address.
    """
    return tuple(_render_piece(batch, np.asarray(ids, np.int64)) for batch in _pieces(records))


def _pieces(records: pa.Table) -> Iterator[pa.RecordBatch]:
    return (batch for batch in records.to_batches(max_chunksize=_PIECE_ROWS) if batch.num_rows)


def _render_piece(records: pa.RecordBatch, ids: npt.NDArray[np.int64]) -> memoryview:
    leads = np.empty(records.num_rows, _LEAD)
    leads["columns"], leads["id_bytes"], leads["line_bytes"] = 2 + len(FIELDS), 8, 4
    leads["id"] = ids[np.asarray(records["log_index"])]
    leads["line"] = np.asarray(records["line_number"])
    columns = [_column(records[field.name], field.sql_type) for field in FIELDS]
    return pack_rows(leads.view(np.uint8).reshape(records.num_rows, -1), columns)


def _column(values: pa.Array, sql_type: SqlType) -> pa.Array:
    """Return the values in Postgres' representation."""
    if sql_type == "timestamptz":
        return pa.array(np.asarray(values.cast(pa.int64())) - _POSTGRES_EPOCH)
    if sql_type == "inet":
        try:
            return pack_addresses(values, _IPV4_LEAD, _IPV6_LEAD)
        except ValueError as error:
            raise FrameError(f"column remote_ip of the DataFrame: {error}") from None
    return values
