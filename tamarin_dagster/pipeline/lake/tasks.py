"""What a Spark executor does: fetch log keys, parse them, and write data files that the driver commits.

A task gets chunks, lists of log keys of one delivery day. It returns the ledger of each chunk and the data files that
it wrote. Nothing is visible in the lake before the driver's commit, so a task that is killed and run again changes
nothing.
"""

import functools
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.manifest import DataFile
from pyiceberg.table.metadata import TableMetadata

from tamarin_dagster import logformat
from tamarin_dagster.failpoints import FailPoint, hit
from tamarin_dagster.lake import schema
from tamarin_dagster.lake.parquet import sort_by_key
from tamarin_dagster.lake.tables import RECORDS, REJECTED, write_record_file, write_table
from tamarin_dagster.logformat.engine import ParserName
from tamarin_dagster.logformat.frames import RECORDS_SCHEMA, REJECTED_SCHEMA, to_table
from tamarin_dagster.logkey import KeyFailure, LogObject
from tamarin_dagster.logstore import FetchError, LogStore
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.recordstore.refusals import describe_parse_error
from tamarin_dagster.settings import LoggedBucket

if TYPE_CHECKING:
    from tamarin_dagster.logformat import LogCounts, ParsedLogs

# Log keys that are fetched and parsed together; a larger one is read a chunk at a time.
BATCH_BYTES = 8 * 1024 * 1024
# Records in a data file. They are in memory, 600 bytes each, and once more while they are sorted.
FILE_ROWS = 400_000
LOADED_BY = "spark"


@dataclass(frozen=True, slots=True)
class Job:
    """What all tasks need to know.

    Attributes:
        tables: the metadata of the tables of records and of rejected lines.
        properties: of the file store; they may hold secrets, and are never logged.
    """

    bucket: LoggedBucket
    tables: Mapping[str, TableMetadata]
    properties: Mapping[str, str]
    redacts: bool
    parser: ParserName


@dataclass(frozen=True, slots=True)
class Chunk:
    """Log keys of one delivery day that one task loads."""

    day: date
    keys: tuple[LogObject, ...]


@dataclass(slots=True)
class LoadedChunk:
    """What a task did with a chunk: its ledger, its data files, and log keys that could not be read."""

    day: date
    ledger: pa.Table
    records: list[DataFile] = field(default_factory=list)
    rejected: list[DataFile] = field(default_factory=list)
    failures: list[KeyFailure] = field(default_factory=list)


def make_task(job: Job) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow`: from a column of pickled chunks to a column of pickled results."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for chunk in batch.column(0):
                loaded = pickle.dumps(load_chunk(job, pickle.loads(chunk.as_py())))  # noqa: S301 - the driver wrote it
                yield pa.RecordBatch.from_arrays([pa.array([loaded], pa.binary())], ["loaded"])

    return run


@functools.cache
def _store_of(bucket: LoggedBucket) -> LogStore:
    """Return the store of a bucket; a worker process keeps it for its next tasks."""
    return open_log_store(bucket)


def load_chunk(job: Job, chunk: Chunk) -> LoadedChunk:
    """Fetch and parse the log keys of a chunk, and write their records and rejected lines as data files."""
    loading = _Loading(job, chunk, load_file_io(dict(job.properties), job.tables[RECORDS].location))
    for batch in _batches(chunk.keys):
        if batch[0].size > BATCH_BYTES:
            loading.load_large(batch[0])
        else:
            loading.load_small(batch)
    return loading.finish()


def _batches(keys: Iterable[LogObject]) -> Iterator[list[LogObject]]:
    batch: list[LogObject] = []
    size = 0
    for key in keys:
        if batch and size + key.size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += key.size
    if batch:
        yield batch


def _decompress(body: bytes) -> bytes | None:
    """Return a log key's content; None if it is too large to be in memory with others. Raises DecompressionError."""
    pieces, size = [], 0
    for piece in logformat.decompress_chunks((body,), len(body)):
        pieces.append(piece)
        size += len(piece)
        if size > 2 * BATCH_BYTES:
            return None
    return b"".join(pieces)


class _Loading:
    """The load of one chunk."""

    def __init__(self, job: Job, chunk: Chunk, io: FileIO) -> None:
        self._job = job
        self._chunk = chunk
        self._io = io
        self._store = _store_of(job.bucket)
        self._records: list[pa.Table] = []
        self._rejected: list[pa.Table] = []
        self._rows = 0
        self._ledger: list[dict[str, Any]] = []
        self._done = LoadedChunk(chunk.day, schema.LEDGER.empty_table())

    def load_small(self, keys: list[LogObject]) -> None:
        """Load log keys that are in memory together."""
        found, bodies, large = [], [], []
        for key, fetched in zip(keys, self._store.fetch(keys), strict=True):
            if fetched.error is not None:
                self._fail(key, fetched.error)
                continue
            try:
                body = _decompress(fetched.body)
            except logformat.DecompressionError as error:
                self._fail(key, str(error))
                continue
            if body is None:
                large.append(key)
            else:
                found.append(key)
                bodies.append(body)
        try:
            self._add(found, logformat.parse_logs(bodies, parser=self._job.parser))
        except Exception as error:  # noqa: BLE001 - the edge of one log key
            if len(found) == 1:
                self._fail(found[0], describe_parse_error(error))
            else:
                for key in found:
                    self.load_small([key])
        for key in large:
            self.load_large(key)

    def load_large(self, key: LogObject) -> None:
        """Load a log key that is too large for memory, a part at a time. Its files are left out if it fails."""
        self._write()
        held = len(self._done.records), len(self._done.rejected)
        counts = logformat.LogCounts()
        try:
            with closing(self._store.open(key)) as opened:
                chunks = logformat.decompress_chunks(opened.chunks, key.size)
                for part in logformat.parse_parts(chunks, parser=self._job.parser):
                    hit(FailPoint.LAKE_PARSE_AFTER)
                    counts += part.counts[0]
                    self._add_rows([key], part)
                    self._write_if_large()
            self._write()
        except Exception as error:  # noqa: BLE001 - the edge of one log key
            self._records.clear()
            self._rejected.clear()
            self._rows = 0
            del self._done.records[held[0] :], self._done.rejected[held[1] :]
            known = isinstance(error, FetchError | logformat.DecompressionError)
            self._fail(key, str(error) if known else describe_parse_error(error))
        else:
            self._note(key, counts)

    def _add(self, keys: list[LogObject], parsed: "ParsedLogs") -> None:
        hit(FailPoint.LAKE_PARSE_AFTER)
        self._add_rows(keys, parsed)
        for key, counts in zip(keys, parsed.counts, strict=True):
            self._note(key, counts)
        self._write_if_large()

    def _add_rows(self, keys: list[LogObject], parsed: "ParsedLogs") -> None:
        if self._job.redacts:
            parsed = parsed.redact()
        names = pa.array([key.key for key in keys], pa.string())
        for frame, of_frame, wanted, held in (
            (parsed.records, RECORDS_SCHEMA, schema.RECORDS, self._records),
            (parsed.rejected, REJECTED_SCHEMA, schema.REJECTED, self._rejected),
        ):
            table = to_table(frame, of_frame)
            if table.num_rows:
                named = table.append_column("log_key", pc.take(names, table["log_index"]))
                held.append(schema.place(named, self._job.bucket.name, self._chunk.day, wanted))
        self._rows += len(parsed.records)

    def _note(self, key: LogObject, counts: "LogCounts") -> None:
        self._ledger.append(
            {
                "logged_bucket": self._job.bucket.name,
                "delivery_day": self._chunk.day,
                "log_key": key.key,
                "log_bucket_name": self._store.name,
                "etag": key.etag,
                "size": key.size,
                "last_modified": key.last_modified,
                "line_count": counts.line_count,
                "record_count": counts.record_count,
                "rejected_count": counts.rejected_count,
                "blank_count": counts.blank_count,
                "first_request_dtime": counts.first_request_dtime,
                "last_request_dtime": counts.last_request_dtime,
                "loaded_at": datetime.now(UTC),
                "loaded_by": LOADED_BY,
            }
        )

    def _write_if_large(self) -> None:
        if self._rows >= FILE_ROWS:
            self._write()

    def _write(self) -> None:
        bucket, day = self._job.bucket.name, self._chunk.day
        if self._records:
            whole = sort_by_key(pa.concat_tables(self._records))
            self._records.clear()
            written = write_record_file(self._io, self._job.tables[RECORDS], bucket, day, [whole], whole.num_rows)
            self._done.records += [written] if written else []
        if self._rejected:
            lines = pa.concat_tables(self._rejected)
            self._done.rejected += write_table(self._io, self._job.tables[REJECTED], bucket, day, lines)
        self._rejected.clear()
        self._rows = 0

    def _fail(self, key: LogObject, error: str) -> None:
        self._done.failures.append(KeyFailure(key.key, self._chunk.day, error))

    def finish(self) -> LoadedChunk:
        """Write what is left, and return the result."""
        self._write()
        self._done.ledger = pa.Table.from_pylist(self._ledger, schema.LEDGER)
        return self._done
