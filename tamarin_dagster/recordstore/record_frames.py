"""Read the records of a day as Arrow tables, by COPY, a few megabytes at a time."""

import io
from collections.abc import Iterator, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from psycopg import sql

from tamarin_dagster.logformat import RECORDS_SCHEMA
from tamarin_dagster.recordstore.extracts import Extract, copy_out

# A record must fit into a block, and its line may have 1 MiB.
_BLOCK_BYTES = 8 * 1024 * 1024
_PART_ID = "part_id"
# Expressions that COPY sends instead of a column: an address without its mask, a time in microseconds since 1970.
_SENT = {
    "remote_ip": sql.SQL("host(remote_ip)"),
    "request_dtime": sql.SQL("CAST(extract(epoch FROM request_dtime) * 1000000 AS bigint)"),
}


def records_and_parts(
    connection: sa.Connection, bucket: str, day: date, columns: Sequence[str], part_ids: list[int]
) -> Iterator[pa.Table]:
    """Yield these columns of the records of a bucket's UTC day, with the types of RECORDS_SCHEMA, in no order.

    The ids of the day's parts are appended to `part_ids`. One statement reads both, so the parts are exactly those of
    the loads whose records are read.
    """
    schema = pa.schema([RECORDS_SCHEMA.field(name) for name in columns])
    sent = {field.name: pa.int64() if pa.types.is_timestamp(field.type) else field.type for field in schema}
    with copy_out(connection, _statement(bucket, day, columns)) as pieces:
        stream = _Pieces(pieces)
        if not stream.begins():
            return
        reader = pyarrow.csv.open_csv(
            io.BufferedReader(stream, _BLOCK_BYTES),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=[_PART_ID, *columns]),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types={_PART_ID: pa.int64(), **sent},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        for batch in reader:
            block = pa.table(batch.columns, names=[_PART_ID, *columns])
            if block[_PART_ID].null_count < block.num_rows:
                part_ids.extend(block[_PART_ID].drop_null().to_pylist())
                block = block.filter(block[_PART_ID].is_null())
            if block.num_rows:
                yield block.drop_columns(_PART_ID).cast(schema)


def _statement(bucket: str, day: date, columns: Sequence[str]) -> sql.Composed:
    chosen = sql.SQL(", ").join(_SENT.get(name, sql.Identifier(name)) for name in columns)
    return sql.SQL(
        "COPY ("
        "SELECT id, {} FROM traffic_part WHERE bucket = {} AND request_date = {}"
        " UNION ALL SELECT NULL, {} FROM s3_log_record WHERE {}"
        ") TO STDOUT (FORMAT csv)"
    ).format(
        sql.SQL(", ").join(sql.SQL("NULL") for _ in columns),
        bucket,
        day,
        chosen,
        Extract(day, (bucket,)).condition(),
    )


class _Pieces(io.RawIOBase):
    """The output of COPY as a file that can be read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def begins(self) -> bool:
        """Return whether there is anything to read."""
        self._left = memoryview(next(self._pieces, b""))
        return bool(self._left)

    def readable(self) -> bool:
        """See RawIOBase."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """See RawIOBase."""
        filled = 0
        while filled < len(buffer):
            if not self._left:
                self._left = memoryview(next(self._pieces, b""))
                if not self._left:
                    break
            size = min(len(buffer) - filled, len(self._left))
            buffer[filled : filled + size] = self._left[:size]
            self._left = self._left[size:]
            filled += size
        return filled
