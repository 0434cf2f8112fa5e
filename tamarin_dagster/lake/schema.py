"""The one schema of records outside Postgres: of exported Parquet files, of the archive and of the lake.

A record has the columns of the parser's frame (`logformat.frames`), preceded by where it comes from: the logged bucket
and the day of the delivery, which are the partitions, the log key and the line in it. `http_status` has 32 bits,
because Iceberg has no smaller integers. Field ids are fixed by the order of the columns; a new column comes last.
"""

from datetime import date

import pyarrow as pa

from tamarin_dagster.logformat import RECORDS_SCHEMA, REJECTED_SCHEMA

TIME = pa.timestamp("us", "UTC")
FIELD_ID = b"PARQUET:field_id"
PARTITIONS = ("logged_bucket", "delivery_day")
"""`logged_bucket` is the bucket in the settings; the column `bucket` is what the line says."""

_PLACE = [
    pa.field("logged_bucket", pa.string(), nullable=False),
    pa.field("delivery_day", pa.date32(), nullable=False),
    pa.field("log_key", pa.string(), nullable=False),
    pa.field("line_number", pa.int64(), nullable=False),
]


def _numbered(fields: list[pa.Field]) -> pa.Schema:
    return pa.schema([field.with_metadata({FIELD_ID: str(number)}) for number, field in enumerate(fields, 1)])


def _fields_of(schema: pa.Schema) -> list[pa.Field]:
    """Return the fields of a frame after its `log_index` and `line_number`."""
    return [field.with_type(pa.int32()) if field.type == pa.int16() else field for field in list(schema)[2:]]


RECORDS = _numbered([*_PLACE, *_fields_of(RECORDS_SCHEMA)])
REJECTED = _numbered([
    *_PLACE,
    *(field.with_type(pa.binary()) if field.name == "line" else field for field in _fields_of(REJECTED_SCHEMA)),
])  # fmt: skip
LEDGER = _numbered([
    *_PLACE[:3],
    pa.field("log_bucket_name", pa.string(), nullable=False),
    pa.field("etag", pa.string(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),
    pa.field("last_modified", TIME, nullable=False),
    pa.field("line_count", pa.int64(), nullable=False),
    pa.field("record_count", pa.int64(), nullable=False),
    pa.field("rejected_count", pa.int64(), nullable=False),
    pa.field("blank_count", pa.int64(), nullable=False),
    pa.field("first_request_dtime", TIME),
    pa.field("last_request_dtime", TIME),
    # When the row was written, and by what: `postgres` and the identity of the database, or `spark`.
    pa.field("loaded_at", TIME, nullable=False),
    pa.field("loaded_by", pa.string(), nullable=False),
])  # fmt: skip
"""The lake's ledger: one row for each log key, with the generation that was read and its counts."""

FILE = pa.schema([field for field in RECORDS if field.name not in PARTITIONS])
"""The columns in a file of a hive-partitioned folder: RECORDS without the partitions, which name its folder."""


def place(table: pa.Table, bucket: str, day: date, wanted: pa.Schema) -> pa.Table:
    """Return the table with the columns of `wanted`, of which the partitions are the given ones."""
    partitions = {
        "logged_bucket": pa.repeat(pa.scalar(bucket), table.num_rows),
        "delivery_day": pa.repeat(pa.scalar(day), table.num_rows),
    }
    columns = [partitions[name] if name in partitions else table[name] for name in wanted.names]
    return pa.table(columns, names=wanted.names).cast(wanted)
