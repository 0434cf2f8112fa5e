"""Write records as Parquet files in folders bucket=…/date=…, which DuckDB, Athena and Spark read as partitions.

Postgres sends CSV, which Arrow parses faster than Python could convert single values. CSV distinguishes NULL, an empty
cell, from an empty text, a quoted one.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql

from tamarin_dagster.pipeline.export import Exported
from tamarin_dagster.pipeline.export.hive import partition_folder
from tamarin_dagster.private_files import write_whole_file
from tamarin_dagster.recordstore.extracts import Extract, copy_out, list_request_days, open_snapshot, requested_buckets
from tamarin_dagster.recordstore.failures import isolate_failure
from tamarin_dagster.recordstore.schema.tables import s3_log_record

# The CSV bytes of one row group: about 100,000 records. Two groups are in memory, the one arriving and the one being
# written.
GROUP_BYTES = 48 * 1024 * 1024
# Each folder has one file, so the number is always 0.
FILE_NAME = "part-0.parquet"

_TYPES: tuple[tuple[type[sa.types.TypeEngine[Any]], pa.DataType], ...] = (
    (sa.BigInteger, pa.int64()),
    (sa.SmallInteger, pa.int16()),
    (sa.Integer, pa.int32()),
    (sa.TIMESTAMP, pa.timestamp("us", "UTC")),
    (postgresql.INET, pa.string()),
    (sa.Text, pa.string()),
)


def _find_arrow_type(column: sa.Column[Any]) -> pa.DataType:
    return next(arrow for kind, arrow in _TYPES if isinstance(column.type, kind))


SCHEMA = pa.schema(
    [pa.field(column.name, _find_arrow_type(column)) for column in s3_log_record.columns if column.name != "bucket"]
)
"""The columns of a file: those of the records except the bucket, which is in the folder's name, like the day."""

_READ = pyarrow.csv.ReadOptions(column_names=SCHEMA.names, block_size=2 * GROUP_BYTES)
_PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True)
_CONVERT = pyarrow.csv.ConvertOptions(
    column_types=SCHEMA, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
)
_REMEDY = "the other files are written; remove the cause, then export this day again"
CSV_OPTIONS = sql.SQL("FORMAT csv")
COLUMNS = sql.SQL(", ").join(map(sql.Identifier, SCHEMA.names))
"""The CSV format of the rows for `write_parquet`."""


def parquet_files(
    engine: sa.Engine,
    folder: Path,
    *,
    buckets: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    progress: Callable[[Exported], None] | None = None,
) -> Exported:
    """Write bucket=…/date=…/part-0.parquet for each bucket and request day (UTC), in the order of the requests.

    An existing file is replaced once the new one is durable; a file of a bucket and day without records stays. A
    bucket's day that cannot be read is one of the answer's `failures`, and the others continue.

    For the other arguments see `text.combined_lines`. Raises OSError.
    """
    started = time.monotonic()
    tell = progress or (lambda _: None)
    with engine.connect() as connection:
        days = list_request_days(connection, first, last)
    done = Exported(all_days=len(days))
    for day in days:
        found: list[str | None] = []
        with isolate_failure(done.failures, "export", None, day, _REMEDY), open_snapshot(engine) as connection:
            found = requested_buckets(connection, day)
        for bucket in found:
            if buckets is not None and bucket not in buckets:
                continue
            path = folder / partition_folder(bucket, day) / FILE_NAME
            with (
                isolate_failure(done.failures, "export", bucket, day, _REMEDY),
                open_snapshot(engine) as connection,
                copy_out(connection, Extract(day, (bucket,)).copy(COLUMNS, CSV_OPTIONS)) as rows,
                write_whole_file(path) as file,
            ):
                done.rows += write_parquet(file, rows).total()
                done.bytes += file.tell()
                done.files += 1
                done.seconds = time.monotonic() - started
                tell(done)
        done.days += 1
        tell(done)
    done.seconds = time.monotonic() - started
    return done


def write_parquet(file: IO[bytes], rows: Iterable[bytes]) -> Counter[int]:
    """Write CSV rows with the columns of SCHEMA as a Parquet file; return the number of rows by log_key_id."""
    counts: Counter[int] = Counter()
    # Write one group while the next one arrives.
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer, ThreadPoolExecutor(1) as thread:
        writing = None
        for group in _cut_groups(rows):
            if writing is not None:
                counts += writing.result()
            writing = thread.submit(_write_group, writer, group)
        if writing is not None:
            counts += writing.result()
    return counts


def _cut_groups(rows: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for row in rows:
        held.append(row)
        size += len(row)
        if size >= GROUP_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _write_group(writer: pq.ParquetWriter, group: bytes) -> Counter[int]:
    table = pyarrow.csv.read_csv(
        pa.BufferReader(group), read_options=_READ, parse_options=_PARSE, convert_options=_CONVERT
    )
    writer.write_table(table)
    found = pyarrow.compute.value_counts(table["log_key_id"])
    return Counter(dict(zip(*(found.field(name).to_pylist() for name in ("values", "counts")), strict=True)))
