"""Records as Parquet files in folders bucket=…/date=…, as DuckDB, Athena and Spark read them, partition by partition.

Postgres sends CSV, which Arrow reads faster than Python could take values one by one; it tells NULL, an empty cell,
from an empty text, a quoted one.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql

from tamarin_dagster.export import Exported
from tamarin_dagster.export.files import hive_folder, whole_file
from tamarin_dagster.recordstore.extracts import Extract, copied_out, request_days, requested_buckets
from tamarin_dagster.recordstore.tables import s3_log_record

# What a row group is made of, as CSV: about 100,000 records. Two of them are held, one that comes and one that is
# written.
GROUP_BYTES = 48 * 1024 * 1024
# A folder has one file; several would be numbered.
FILE_NAME = "part-0.parquet"

_TYPES: tuple[tuple[type[sa.types.TypeEngine[Any]], pa.DataType], ...] = (
    (sa.BigInteger, pa.int64()),
    (sa.SmallInteger, pa.int16()),
    (sa.Integer, pa.int32()),
    (sa.TIMESTAMP, pa.timestamp("us", "UTC")),
    (postgresql.INET, pa.string()),
    (sa.Text, pa.string()),
)


def _arrow_type(column: sa.Column[Any]) -> pa.DataType:
    return next(arrow for kind, arrow in _TYPES if isinstance(column.type, kind))


SCHEMA = pa.schema(
    [pa.field(column.name, _arrow_type(column)) for column in s3_log_record.columns if column.name != "bucket"]
)
"""The columns of a file: those of the records less the bucket, which stands in the folder's name, as the day does."""

_READ = pyarrow.csv.ReadOptions(column_names=SCHEMA.names, block_size=2 * GROUP_BYTES)
_PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True)
_CONVERT = pyarrow.csv.ConvertOptions(
    column_types=SCHEMA, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
)
_CSV_OPTIONS = sql.SQL("FORMAT csv")


def parquet_files(
    engine: sa.Engine,
    folder: Path,
    *,
    buckets: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    progress: Callable[[Exported], None] | None = None,
) -> Exported:
    """Writes bucket=…/date=…/part-0.parquet for each bucket and day of requests (UTC), in the order of the requests.

    A file that is there is replaced, once the new one is on the disk; one of a bucket and day without records stays.
    For the others see `text.combined_lines`. Raises OSError.
    """
    started = time.monotonic()
    tell = progress or _quiet
    with engine.connect() as connection:
        days = request_days(connection, first, last)
    done = Exported(all_days=len(days))
    for day in days:
        with engine.connect() as connection:
            found = requested_buckets(connection, day)
        for bucket in found:
            if buckets is None or bucket in buckets:
                path = folder / hive_folder("bucket", bucket) / f"date={day.isoformat()}" / FILE_NAME
                with copied_out(engine, Extract(day, (bucket,)).copy(_columns(), _CSV_OPTIONS)) as rows:
                    done.rows += write_parquet(path, rows)
                done.files += 1
                done.bytes += path.stat().st_size
                done.seconds = time.monotonic() - started
                tell(done)
        done.days += 1
        tell(done)
    done.seconds = time.monotonic() - started
    return done


def _quiet(_: Exported) -> None:
    """Tells nobody."""


def _columns() -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, SCHEMA.names))


def write_parquet(path: Path, rows: Iterable[bytes]) -> int:
    """Writes rows of CSV, in the columns of SCHEMA, as a Parquet file; returns how many they were."""
    with whole_file(path) as file:
        return _write(file, rows)


def _write(file: IO[bytes], rows: Iterable[bytes]) -> int:
    count = 0
    # One group is written while the next one comes.
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer, ThreadPoolExecutor(1) as thread:
        writing = None
        for group in _groups(rows):
            if writing is not None:
                count += writing.result()
            writing = thread.submit(_write_group, writer, group)
        if writing is not None:
            count += writing.result()
    return count


def _groups(rows: Iterable[bytes]) -> Iterator[bytes]:
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


def _write_group(writer: pq.ParquetWriter, group: bytes) -> int:
    table = pyarrow.csv.read_csv(
        pa.BufferReader(group), read_options=_READ, parse_options=_PARSE, convert_options=_CONVERT
    )
    writer.write_table(table)
    rows: int = table.num_rows
    return rows
