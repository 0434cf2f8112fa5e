"""lake-load: load delivery days from the log bucket into the lake, with Spark. Postgres holds no record of them.

The driver lists the log keys, spreads them over executors in chunks, and commits each day whose chunks have all come
back. A day that the lake holds already, generation for generation, is skipped. Log keys are never deleted.
"""

import logging
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tamarin_dagster.extras import needing
from tamarin_dagster.lake.place import LakeError
from tamarin_dagster.lake.tables import RECORDS, REJECTED, DayFiles, LakeTables
from tamarin_dagster.logformat.engine import ParserName
from tamarin_dagster.logkey import KeyFailure, LogObject
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.pipeline.discover import DAYS_AHEAD, Listing, list_days_with_keys, survey
from tamarin_dagster.pipeline.lake.tasks import LOADED_BY, Chunk, Job, LoadedChunk, make_task
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.settings import LoggedBucket

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)

# A chunk is about a data file of records: 200 MB of lines are some 380,000. Small days are cut smaller, so that each
# core has work.
MAX_CHUNK_BYTES = 200_000_000
MIN_CHUNK_BYTES = 16_000_000
DEFAULT_MASTER = "local[*]"


@dataclass(slots=True)
class LakeLoaded:
    """What a load did.

    Attributes:
        days: delivery days that were replaced.
        skipped_days: those that the lake held already.
        keys, lines, records, rejected, blank, bytes: of the replaced days, as wholes.
        waiting: files that may still be written; a later load takes them.
        failures: log keys that could not be read; their days were replaced without them.
        problems: days that were not replaced, each with the reason.
    """

    days: list[date] = field(default_factory=list)
    skipped_days: int = 0
    keys: int = 0
    lines: int = 0
    records: int = 0
    rejected: int = 0
    blank: int = 0
    bytes: int = 0
    waiting: int = 0
    failures: list[KeyFailure] = field(default_factory=list)
    problems: dict[date, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return a summary in one line."""
        rate = f", {self.lines / self.seconds:,.0f} lines/s" if self.seconds else ""
        return (
            f"loaded {count_noun(len(self.days), 'day')} with {count_noun(self.keys, 'log key')}:"
            f" {count_noun(self.lines, 'line')} = {count_noun(self.records, 'record')} + {self.rejected:,} rejected +"
            f" {self.blank:,} blank; {count_noun(self.skipped_days, 'day')} in the lake already;"
            f" {self.seconds:.1f} s{rate}"
        )


@contextmanager
def open_spark(master: str) -> Iterator["SparkSession"]:
    """Start Spark, or join the session of this process. Raises MissingExtraError and LakeError."""
    with needing("spark", "`lake-load`"):
        from pyspark.sql import SparkSession  # noqa: PLC0415 - half a second, and an extra
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # of pandas, of which a task uses no more than we do
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    builder = SparkSession.builder.appName("tamarin-dagster lake-load").master(master)
    builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.log.level", "ERROR")
    if master.startswith("local"):
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        raise LakeError(
            f"Spark ({master}) does not start: {type(error).__name__} - check that Java 17 is installed"
            " (apt-get install openjdk-17-jre-headless) and that the master can be reached"
        ) from error
    try:
        yield spark
    finally:
        spark.stop()


def load_lake(
    bucket: LoggedBucket,
    store: LogStore,
    tables: LakeTables,
    spark: "SparkSession",
    *,
    first: date | None = None,
    last: date | None = None,
    redacts: bool = True,
    parser: ParserName = "compiled",
    progress: Callable[[LakeLoaded], None] | None = None,
) -> LakeLoaded:
    """Load the delivery days from `first` to `last` that have log keys and are not in the lake as they are.

    `first` defaults to the bucket's start_date, `last` to tomorrow. Raises LogStoreError if the log bucket cannot be
    listed, and LakeError if the lake cannot be reached or an executor fails again and again; the days that were
    replaced until then stay.
    """
    started = time.monotonic()
    done = LakeLoaded()
    records = tables.table(RECORDS)
    job = Job(
        bucket,
        {RECORDS: records.metadata, REJECTED: tables.table(REJECTED).metadata},
        dict(records.io.properties),
        redacts,
        parser,
    )
    cores = spark.sparkContext.defaultParallelism
    wave: dict[date, list[LogObject]] = {}
    for day, keys in _days_to_load(bucket, store, tables, first, last, done):
        wave[day] = keys
        if sum(key.size for each in wave.values() for key in each) >= cores * MAX_CHUNK_BYTES:
            _load_wave(job, tables, spark, wave, done)
            wave = {}
            if progress:
                progress(done)
    _load_wave(job, tables, spark, wave, done)
    if progress:
        progress(done)
    done.seconds = time.monotonic() - started
    return done


def _days_to_load(
    bucket: LoggedBucket, store: LogStore, tables: LakeTables, first: date | None, last: date | None, done: LakeLoaded
) -> Iterator[tuple[date, list[LogObject]]]:
    seen = survey(store, bucket)
    until = last or datetime.now(UTC).date() + timedelta(days=DAYS_AHEAD)
    for day in list_days_with_keys(store, bucket, seen.roots, first or bucket.start_date, until):
        listing = Listing(store, bucket, seen.roots, day)
        keys = [key for page in listing for key in page]
        done.waiting += listing.waiting
        held = tables.read_ledger(bucket.name, day, day, ("log_key", "etag"))
        if {(key.key, key.etag) for key in keys} == set(
            zip(held["log_key"].to_pylist(), held["etag"].to_pylist(), strict=True)
        ):
            done.skipped_days += bool(keys)
        else:
            yield day, keys


def _load_wave(
    job: Job, tables: LakeTables, spark: "SparkSession", wave: dict[date, list[LogObject]], done: LakeLoaded
) -> None:
    """Load days in one Spark job, and commit them one by one."""
    if not wave:
        return
    results: dict[date, list[LoadedChunk]] = {day: [] for day in wave}
    for loaded in _run(job, spark, list(_make_chunks(wave, spark.sparkContext.defaultParallelism))):
        results[loaded.day].append(loaded)
    for day, chunks in results.items():
        try:
            _commit(job.bucket.name, tables, day, chunks, len(wave[day]), done)
        except LakeError as error:
            if error.transient:
                raise
            done.problems[day] = str(error)
            _log.warning("bucket %s, delivery day %s is not loaded: %s", job.bucket.name, day, error)


def _make_chunks(wave: dict[date, list[LogObject]], cores: int) -> Iterator[Chunk]:
    whole = sum(key.size for keys in wave.values() for key in keys)
    limit = min(MAX_CHUNK_BYTES, max(MIN_CHUNK_BYTES, whole // cores))
    for day, keys in wave.items():
        held: list[LogObject] = []
        size = 0
        for key in keys:
            held.append(key)
            size += key.size
            if size >= limit:
                yield Chunk(day, tuple(held))
                held, size = [], 0
        if held:
            yield Chunk(day, tuple(held))


def _run(job: Job, spark: "SparkSession", chunks: list[Chunk]) -> Iterator[LoadedChunk]:
    frame = spark.createDataFrame(pa.table({"chunk": pa.array(map(pickle.dumps, chunks), pa.binary())}))
    loaded = frame.repartition(len(chunks)).mapInArrow(make_task(job), "loaded binary")
    try:
        rows = loaded.collect()
    except Exception as error:
        raise LakeError(
            f"Spark gave up after an executor or a task failed: {_explain(error)} - the days of this job are as before;"
            " run lake-load again",
            transient=True,
        ) from error
    for row in rows:
        yield pickle.loads(bytes(row.loaded))  # noqa: S301 - our own task wrote it


def _explain(error: Exception) -> str:
    """Return the last line of a Spark error that says something; the others are Java's stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.strip().startswith("at ")]
    named = [line for line in lines if "Error:" in line or "Exception:" in line]
    return (named or lines or [type(error).__name__])[-1][:500]


def _commit(
    bucket: str, tables: LakeTables, day: date, chunks: list[LoadedChunk], listed: int, done: LakeLoaded
) -> None:
    files = DayFiles(pa.concat_tables([chunk.ledger for chunk in chunks]))
    failures = [failure for chunk in chunks for failure in chunk.failures]
    if files.ledger.num_rows + len(failures) != listed:
        raise LakeError(
            f"bucket {bucket}, delivery day {day}: {files.ledger.num_rows} log keys came back of {listed}; nothing was"
            " changed; please report it"
        )
    files.records = [file for chunk in chunks for file in chunk.records]
    files.rejected = [file for chunk in chunks for file in chunk.rejected]
    done.failures += failures
    tables.replace_day(bucket, day, files, {"tamarin.loaded-by": LOADED_BY})
    done.days.append(day)
    _count(done, files.ledger)


def _count(done: LakeLoaded, ledger: pa.Table) -> None:
    def total(name: str) -> Any:
        return sum(ledger[name].to_pylist())

    done.keys += ledger.num_rows
    done.bytes += total("size")
    done.lines += total("line_count")
    done.records += total("record_count")
    done.rejected += total("rejected_count")
    done.blank += total("blank_count")
