"""Turn sums into bytes, and back: a zstd-compressed Arrow IPC stream, which other programs can read too.

Measures that are 0 in all rows are left out, and so are columns that are null in all rows. So small loads make small
parts.
"""

import pyarrow as pa
import pyarrow.compute as pc

from tamarin_dagster.traffic.measures import BYTES, COUNTS

_CODEC = "zstd"


def to_bytes(sums: pa.Table) -> bytes:
    """Return a table of sums as bytes."""
    first = sums.column_names[0]
    kept = [name for name in sums.column_names if name == first or not _is_empty(name, sums[name])]
    table = sums.select(kept)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, _CODEC) as packed, pa.ipc.new_stream(packed, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    packed_bytes: bytes = sink.getvalue().to_pybytes()
    return packed_bytes


def from_bytes(data: bytes) -> pa.Table:
    """Return the table of sums of `to_bytes`.

    Raises:
        pyarrow.ArrowException: the bytes are not such a table.
    """
    with pa.CompressedInputStream(pa.BufferReader(data), _CODEC) as unpacked, pa.ipc.open_stream(unpacked) as stream:
        table: pa.Table = stream.read_all()
    return table


def _is_empty(name: str, column: pa.ChunkedArray) -> bool:
    if column.null_count == len(column):
        return True
    return name in (*COUNTS, *BYTES) and not pc.any(pc.not_equal(column, 0)).as_py()
