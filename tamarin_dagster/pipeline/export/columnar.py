"""Write records as Parquet files in folders logged_bucket=…/delivery_day=…, which engines read as partitions.

The columns are those of `lake.schema`, as in the archive and in a lake. Needs no package of the extra `lake`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from tamarin_dagster.lake.parquet import write_records
from tamarin_dagster.lake.schema import FILE
from tamarin_dagster.parallel import prefetch
from tamarin_dagster.pipeline.export import Exported
from tamarin_dagster.private_files import write_whole_file
from tamarin_dagster.recordstore.extracts import delivered_days, open_snapshot
from tamarin_dagster.recordstore.failures import isolate_failure
from tamarin_dagster.recordstore.record_frames import delivered_records

# Each folder has one file, so the number is always 0.
FILE_NAME = "part-0.parquet"
_REMEDY = "the other files are written; remove the cause, then export this day again"


def partition_folder(bucket: str, day: date) -> str:
    """Return the folder of a delivery day: `logged_bucket=media/delivery_day=2026-03-05`. A bucket's name is safe."""
    return f"logged_bucket={bucket}/delivery_day={day.isoformat()}"


def parquet_files(
    engine: sa.Engine,
    folder: Path,
    *,
    buckets: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    progress: Callable[[Exported], None] | None = None,
) -> Exported:
    """Write logged_bucket=…/delivery_day=…/part-0.parquet for each configured bucket and delivery day (UTC).

    An existing file is replaced once the new one is durable; a file of a day without records stays. A day that cannot
    be read is one of the answer's `failures`, and the others continue.

    `buckets` are logged buckets, `first` and `last` delivery days. Raises OSError.
    """
    started = time.monotonic()
    tell = progress or (lambda _: None)
    with engine.connect() as connection:
        days = delivered_days(connection, buckets, first, last)
    done = Exported(all_days=len(days))
    for bucket, day, count in days:
        with (
            isolate_failure(done.failures, "export", bucket, day, _REMEDY),
            open_snapshot(engine) as connection,
            write_whole_file(folder / partition_folder(bucket, day) / FILE_NAME) as file,
        ):
            done.rows += write_day(file, connection, bucket, day, count, with_expired=True).total()
            done.bytes += file.tell()
            done.files += 1
        done.days += 1
        done.seconds = time.monotonic() - started
        tell(done)
    return done


def write_day(
    file: IO[bytes], connection: sa.Connection, bucket: str, day: date, rows: int, *, with_expired: bool = False
) -> Counter[int]:
    """Write the records of a delivery day as a Parquet file; return their number by log_key_id."""
    counts: Counter[int] = Counter()
    # One run is sorted and written while the next one arrives.
    with closing(prefetch(delivered_records(connection, bucket, day, with_expired=with_expired))) as tables:
        write_records(file, count_keys(tables, counts), FILE, rows)
    return counts


def count_keys(tables: Iterator[pa.Table], counts: Counter[int]) -> Iterator[pa.Table]:
    """Yield the tables unchanged, after adding the number of their rows by log_key_id to `counts`."""
    for table in tables:
        found = pc.value_counts(table["log_key_id"])
        for value, count in zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True):
            counts[value] += count
        yield table
