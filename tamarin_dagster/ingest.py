"""pull: what is unseen in a bucket's days becomes rows. Discover, fetch, parse, load; the steps overlap.

Knows nothing of Dagster. Reports progress through one callback, and returns what became of each day.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import psycopg
import sqlalchemy as sa

from tamarin_dagster.discovery import DayLook, Survey, days_with_keys, survey
from tamarin_dagster.logformat import DecompressionError, LogCounts, decompress
from tamarin_dagster.logkey import KeyFailure, LogKey
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.recordstore.loading import Batch, load, prepare
from tamarin_dagster.recordstore.refusals import REFUSALS, refusal
from tamarin_dagster.settings import LoggedBucket

_log = logging.getLogger(__name__)

T = TypeVar("T")

# One transaction's worth. 16 MiB took 200 MiB more memory and was no faster, 4 MiB cost more transactions.
BATCH_BYTES = 8 * 1024 * 1024
BATCH_KEYS = 4000
# What a compressed copy's size is taken times: gzip and zstd made generated log keys 4.6 times smaller, and real ones
# repeat themselves more.
UNPACKED_RATIO = 8
# Batches that wait between two steps: one keeps both busy, more only cost memory.
BATCHES_AHEAD = 1
# Log keys are named by UTC time of delivery; a clock that runs ahead may write tomorrow's date.
DAYS_AHEAD = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """What a pull has done so far, over all its days."""

    day: date
    keys: int
    lines: int
    bytes: int


@dataclass(slots=True)
class PulledDay:
    """What a pull did for one delivery day. Counts are of keys loaded by this pull; `seen` were loaded before."""

    day: date
    listed: int = 0
    seen: int = 0
    keys: int = 0
    lines: int = 0
    records: int = 0
    rejected: int = 0
    blank: int = 0
    bytes: int = 0
    first_request: datetime | None = None
    last_request: datetime | None = None
    strays: list[str] = field(default_factory=list)
    failures: list[KeyFailure] = field(default_factory=list)

    def add(self, key: LogKey, counts: LogCounts) -> None:
        """Counts a key that was loaded."""
        self.keys += 1
        self.bytes += key.object.size
        self.lines += counts.line_count
        self.records += counts.record_count
        self.rejected += counts.rejected_count
        self.blank += counts.blank_count
        if counts.first_request_dtime and counts.last_request_dtime:
            self.first_request = min(self.first_request or counts.first_request_dtime, counts.first_request_dtime)
            self.last_request = max(self.last_request or counts.last_request_dtime, counts.last_request_dtime)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull did: each of its days, the strays outside of days, and the seconds it took."""

    days: tuple[PulledDay, ...]
    strays: tuple[str, ...]
    seconds: float

    @property
    def failures(self) -> list[KeyFailure]:
        """The keys that were left alone."""
        return [failure for day in self.days for failure in day.failures]


def pull(
    bucket: LoggedBucket,
    store: LogStore,
    engine: sa.Engine,
    *,
    days: Iterable[date] | None = None,
    first: date | None = None,
    last: date | None = None,
    run_id: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Pulled:
    """Loads what is unseen in these delivery days (or in all that have keys from `first` to `last`).

    Without `first` it begins with the bucket's start_date, without `last` it ends with tomorrow. A key that cannot be
    read or loaded is a failure of its day and stops no other. Raises LogStoreError when the log bucket cannot be
    listed, and sqlalchemy.exc.OperationalError when the database is gone; what was loaded until then stays.
    """
    started = time.monotonic()
    seen = survey(store, bucket)
    if days is None:
        until = last or datetime.now(UTC).date() + timedelta(days=DAYS_AHEAD)
        days = days_with_keys(store, bucket, seen.roots, first or bucket.start_date, until)
    pulled = _Pull(bucket, store, engine, run_id, seen, sorted(set(days)))
    pulled.run(progress)
    return Pulled(tuple(pulled.days.values()), seen.strays, time.monotonic() - started)


class _Pull:
    """One pull under way: its days and the steps of its pipeline."""

    def __init__(
        self,
        bucket: LoggedBucket,
        store: LogStore,
        engine: sa.Engine,
        run_id: str | None,
        seen: Survey,
        days: Sequence[date],
    ) -> None:
        self.bucket = bucket
        self.store = store
        self.engine = engine
        self.run_id = run_id
        self.roots = seen.roots
        self.days = {day: PulledDay(day) for day in days}

    def run(self, progress: Callable[[Progress], None] | None) -> None:
        """Fetching, parsing and loading have a thread each, and run ahead of each other.

        So an interrupt, which strikes the main thread, finds no transaction to tear: the batch at hand is committed,
        the steps behind it end.
        """
        keys = lines = size = 0
        with (
            closing(_ahead(self._fetched(_batches(self._unseen())))) as fetched,
            closing(_ahead(self._parsed(fetched))) as parsed,
            closing(_ahead(self._loaded(parsed))) as loaded,
        ):
            for batch in loaded:
                for key, counts in batch:
                    self.days[key.delivery_date].add(key, counts)
                    keys, lines, size = keys + 1, lines + counts.line_count, size + key.object.size
                if progress and batch:
                    progress(Progress(batch[-1][0].delivery_date, keys, lines, size))

    def _unseen(self) -> Iterator[LogKey]:
        for day, pulled in self.days.items():
            look = DayLook(self.store, self.engine, self.bucket, self.roots, day)
            for page in look:
                yield from page
            pulled.listed = look.listed
            pulled.seen += look.seen
            pulled.strays = look.strays

    def _fetched(self, batches: Iterable[Sequence[LogKey]]) -> Iterator[tuple[list[LogKey], list[bytes]]]:
        for batch in batches:
            keys, bodies = [], []
            for key, fetched in zip(batch, self.store.fetch([key.object for key in batch]), strict=True):
                try:
                    if fetched.error is not None:
                        self._fail(key, fetched.error)
                        continue
                    bodies.append(decompress(fetched.body))
                    keys.append(LogKey(fetched.object, key.delivery_date))
                except DecompressionError as error:
                    self._fail(key, str(error))
            if keys:
                yield keys, bodies

    def _parsed(self, fetched: Iterable[tuple[list[LogKey], list[bytes]]]) -> Iterator[Batch]:
        for keys, bodies in fetched:
            yield from self._prepared(keys, bodies)

    def _prepared(self, keys: Sequence[LogKey], bodies: Sequence[bytes]) -> Iterator[Batch]:
        """The keys as a batch. Where one defeats the parser, it is found by halving, and left alone."""
        try:
            batch = prepare(self.engine, self.bucket.name, self.store.name, keys, bodies)
        except (sa.exc.DBAPIError, psycopg.Error):
            raise
        except Exception as error:  # noqa: BLE001 - recorded on the key
            if len(keys) == 1:
                self._fail(keys[0], f"cannot be parsed: {type(error).__name__}: {error}")
            for part in _halves(len(keys)):
                yield from self._prepared(keys[part], bodies[part])
            return
        yield batch

    def _loaded(self, batches: Iterable[Batch]) -> Iterator[list[tuple[LogKey, LogCounts]]]:
        for batch in batches:
            yield list(self._load(batch))

    def _load(self, batch: Batch) -> Iterator[tuple[LogKey, LogCounts]]:
        """Loads a batch. When Postgres refuses its data, halves it until the refused key stands alone."""
        try:
            loaded = load(self.engine, batch, self.run_id)
        except REFUSALS as error:
            if len(batch.keys) == 1:
                self._fail(batch.keys[0], refusal(error))
            for part in _halves(len(batch.keys)):
                for smaller in self._prepared(batch.keys[part], batch.bodies[part]):
                    yield from self._load(smaller)
            return
        for key in loaded.already_loaded:
            self.days[key.delivery_date].seen += 1
        yield from loaded.loaded

    def _fail(self, key: LogKey, error: str) -> None:
        _log.warning("bucket %s, key %s: %s", self.bucket.name, key.object.key, error)
        self.days[key.delivery_date].failures.append(KeyFailure(key.object.key, key.delivery_date, error))


def _halves(count: int) -> tuple[slice, ...]:
    """Two parts of more than one item; none of a single one."""
    return (slice(None, count // 2), slice(count // 2, None)) if count > 1 else ()


def _batches(keys: Iterable[LogKey]) -> Iterator[list[LogKey]]:
    """Keys in batches of at most BATCH_BYTES, unpacked (a larger key goes alone), and BATCH_KEYS."""
    batch: list[LogKey] = []
    size = 0
    for key in keys:
        weight = key.object.size * (UNPACKED_RATIO if key.object.key.endswith((".gz", ".zst")) else 1)
        if batch and (size + weight > BATCH_BYTES or len(batch) == BATCH_KEYS):
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += weight
    if batch:
        yield batch


def _ahead(items: Iterable[T], limit: int = BATCHES_AHEAD) -> Generator[T]:
    """The same items, made in a thread of their own, at most `limit` ahead of their use.

    An error in the thread is raised here, in its place. Closing the iterator ends the thread at its next item.
    """
    done = object()
    ready: queue.Queue[object] = queue.Queue(limit)
    stopped = threading.Event()

    def put(item: object) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
            put(done)
        except BaseException as error:  # noqa: BLE001 - raised where the items are used
            put(error)

    thread = threading.Thread(target=work, name="pull-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not done:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
