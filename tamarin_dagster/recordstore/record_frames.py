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
from tamarin_dagster.recordstore.schema.tables import s3_log_key

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
    fields = [pa.field(_PART_ID, pa.int64()), *(RECORDS_SCHEMA.field(name) for name in columns)]
    for block in _copied_tables(connection, _statement(bucket, day, columns), pa.schema(fields)):
        part_id = block[_PART_ID]
        records = block
        if part_id.null_count < block.num_rows:
            part_ids.extend(part_id.drop_null().to_pylist())
            records = block.filter(part_id.is_null())
        if records.num_rows:
            yield records.drop_columns(_PART_ID).cast(pa.schema(fields[1:]))


def delivered_records(
    connection: sa.Connection, bucket: str, day: date, *, with_expired: bool = False
) -> Iterator[pa.Table]:
    """Yield the records of a bucket's delivery day, in the byte order of their object keys, those without one last.

    The columns are `log_key_id`, `log_key` (the name) and those of RECORDS_SCHEMA after `log_index`. Records of expired
    log keys, of which some may be missing, are left out unless `with_expired`.
    """
    key = s3_log_key.c
    chosen = sa.and_(key.bucket == bucket, key.delivery_date == day, key.superseded_at.is_(None))
    if not with_expired:
        chosen = sa.and_(chosen, key.expired_at.is_(None))
    span = sa.select(sa.func.min(key.first_request_dtime), sa.func.max(key.last_request_dtime)).where(chosen)
    first, last = connection.execute(span).one()
    if first is None:
        return
    names = [field.name for field in RECORDS_SCHEMA][1:]
    statement = sql.SQL(
        "COPY (SELECT log_key_id, k.key, {columns} FROM s3_log_record r JOIN s3_log_key k ON k.id = log_key_id"
        " WHERE request_dtime BETWEEN {first} AND {last} AND k.bucket = {bucket} AND k.delivery_date = {day}"
        " AND k.superseded_at IS NULL AND (expired_at IS NULL OR {with_expired})"
        ' ORDER BY r.key COLLATE "C", request_dtime) TO STDOUT (FORMAT csv)'
    ).format(
        columns=sql.SQL(", ").join(_SENT.get(name, sql.Identifier("r", name)) for name in names),
        first=first,
        last=last,
        bucket=bucket,
        day=day,
        with_expired=with_expired,
    )
    fields = [pa.field("log_key_id", pa.int64()), pa.field("log_key", pa.string())]
    yield from _copied_tables(connection, statement, pa.schema([*fields, *list(RECORDS_SCHEMA)[1:]]))


def _copied_tables(connection: sa.Connection, statement: sql.Composed, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield what a COPY as CSV sends, as tables with its types; times are sent in microseconds."""
    sent = {field.name: pa.int64() if pa.types.is_timestamp(field.type) else field.type for field in schema}
    types = pa.schema([field.with_nullable(True) for field in schema])
    with copy_out(connection, statement) as pieces:
        stream = _Pieces(pieces)
        if not stream.begins():
            return
        reader = pyarrow.csv.open_csv(
            io.BufferedReader(stream, _BLOCK_BYTES),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=schema.names),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types=sent, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
        for batch in reader:
            yield pa.table(batch.columns, names=schema.names).cast(types)


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
