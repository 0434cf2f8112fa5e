"""pull: what is unseen in a bucket's days (or hours) becomes rows. List, fetch, parse, load; the steps overlap.

Knows nothing of Dagster. Reports progress through one callback, and returns what became of each delivery period.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import sqlalchemy as sa

from tamarin_dagster import logformat
from tamarin_dagster.failpoints import FailPoint, reached
from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.logformat.engine import ParserName
from tamarin_dagster.logkey import KeyFailure, LogKey, counted, shown
from tamarin_dagster.logstore import CHANGED_SINCE_LISTED, FetchError, LogStore
from tamarin_dagster.parallel import parallel_map, prefetch
from tamarin_dagster.pipeline.discover import DAYS_AHEAD, MAX_OUTDATED_NAMED, Look, Survey, days_with_keys, survey
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.generations import DigestNeededError
from tamarin_dagster.recordstore.refusals import REFUSALS, describe_parse_error, describe_refusal
from tamarin_dagster.settings import DEFAULT_LOAD_CONNECTIONS, LoggedBucket

# pyarrow and numpy take longer to import than a pull takes to find nothing new. The modules that need them are imported
# when the first batch is parsed.
if TYPE_CHECKING:
    from tamarin_dagster.logformat import LogCounts, ParsedLogs
    from tamarin_dagster.pipeline.preview import Preview
    from tamarin_dagster.recordstore.loading import Batch, LoadedBatch, Part

_log = logging.getLogger(__name__)

# One transaction's worth of small keys; a larger key goes alone, in parts, in one transaction too.
BATCH_BYTES = 8 * 1024 * 1024
BATCH_KEYS = 4000
# What a compressed copy's size is taken times: gzip and zstd made generated log keys 4.6 times smaller, and real ones
# repeat themselves more.
UNPACKED_RATIO = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """What a pull has done so far, over all its periods.

    Attributes:
        period: the one that was worked at last.
        looked, periods: how many were listed to their end, of how many. What is found is loaded soon after.
        keys, lines, bytes: what was loaded.
    """

    period: DeliveryPeriod
    looked: int
    periods: int
    keys: int
    lines: int
    bytes: int

    def seconds_left(self, seconds: float) -> float | None:
        """How long it may take yet, if it took so many seconds until now; None as long as nothing can be said."""
        return seconds / self.looked * (self.periods - self.looked) if self.looked else None


@dataclass(frozen=True, slots=True)
class MisreadLine:
    """A line that the two readers read differently; `masked` is its start, letters as `a` and digits as `9`."""

    key: str
    line_number: int
    masked: str


@dataclass(slots=True)
class PulledPeriod:
    """What a pull did for one delivery period. Counts are of keys loaded by this pull; `seen` were loaded before.

    listed = seen + returned + keys + outdated + failures.

    Attributes:
        returned: keys whose bytes were loaded and purged before, and that are there again: a purge deletes them.
        outdated: keys that were skipped, since a newer generation of their name is loaded and purged.
        outdated_names: the first of these.
        waiting: files, not among the listed, that may still be written; a later pull takes them.
        misread: lines that the compiled reader read wrongly; the regex reader read them again, and those are loaded.
        preview: the first records that were loaded, without secrets of presigned URLs.
    """

    period: DeliveryPeriod
    listed: int = 0
    seen: int = 0
    returned: int = 0
    outdated: int = 0
    outdated_names: list[str] = field(default_factory=list)
    waiting: int = 0
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
    misread: list[MisreadLine] = field(default_factory=list)
    preview: "Preview | None" = None

    def skip(self, key: LogKey) -> None:
        """Counts a key that is older than one that was purged."""
        self.outdated += 1
        if len(self.outdated_names) < MAX_OUTDATED_NAMED:
            self.outdated_names.append(shown(key.object.key))

    def add(self, key: LogKey, counts: "LogCounts") -> None:
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
    """What a pull did: each of its periods, the strays outside of days, and the seconds it took."""

    periods: tuple[PulledPeriod, ...]
    strays: tuple[str, ...]
    seconds: float

    @property
    def failures(self) -> list[KeyFailure]:
        """The keys that were left alone."""
        return [failure for period in self.periods for failure in period.failures]

    @property
    def waiting(self) -> int:
        """How many files may still be written."""
        return sum(period.waiting for period in self.periods)

    @property
    def outdated_names(self) -> list[str]:
        """Keys that were skipped, since they are older than what was purged; at most 50 of each period."""
        return [name for period in self.periods for name in period.outdated_names]


def pull(
    bucket: LoggedBucket,
    store: LogStore,
    engine: sa.Engine,
    *,
    periods: Iterable[DeliveryPeriod] | None = None,
    first: date | None = None,
    last: date | None = None,
    run_id: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    connections: int = DEFAULT_LOAD_CONNECTIONS,
    redacts: bool = True,
    parser: ParserName = "compiled",
    loaded: list[PulledPeriod] | None = None,
) -> Pulled:
    """Loads what is unseen in these delivery periods (or in all days that have keys from `first` to `last`).

    Without `first` it begins with the bucket's start_date, without `last` it ends with tomorrow. A key that cannot be
    read or loaded is a failure of its period and stops no other. So many `connections` load at once. `redacts` says
    whether secrets of presigned URLs are left out of what is stored, `parser` which reader reads the lines. Raises
    LogStoreError when the log bucket cannot be listed, and sqlalchemy.exc.OperationalError when the database is gone;
    what was loaded until then stays. A list that is given as `loaded` then has the periods with what was loaded of
    them.
    """
    started = time.monotonic()
    seen = survey(store, bucket)
    strays = list(seen.strays)
    if periods is None:
        until = last or datetime.now(UTC).date() + timedelta(days=DAYS_AHEAD)
        # found before the first of them is loaded, so that a purge beside takes none away
        periods = list(days_with_keys(store, bucket, seen.roots, first or bucket.start_date, until, strays))
    pulled = _Pull(bucket, store, engine, run_id, seen, sorted(set(periods)), redacts, parser, progress)
    if loaded is not None:
        loaded.extend(pulled.periods.values())
    pulled.run(connections)
    return Pulled(tuple(pulled.periods.values()), tuple(strays), time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Bodies:
    """Small keys, with what they hold, and the SHA-256 of what is stored."""

    keys: list[LogKey] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    digests: list[bytes | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Large:
    """A key that is too large to be held."""

    key: LogKey


@dataclass(frozen=True, slots=True)
class _Loaded:
    """How many lines a transaction has committed, or that of a large key has sent since the last of these."""

    period: DeliveryPeriod
    lines: int


class _Stopped(Exception):  # noqa: N818 - no error: the pull was told to end
    """Undoes the load of a large key."""


class _Pull:
    """One pull under way: its periods and the steps of its pipeline."""

    def __init__(
        self,
        bucket: LoggedBucket,
        store: LogStore,
        engine: sa.Engine,
        run_id: str | None,
        seen: Survey,
        periods: Sequence[DeliveryPeriod],
        redacts: bool,
        parser: ParserName,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.bucket = bucket
        self.store = store
        self.engine = engine
        self.run_id = run_id
        self.redacts = redacts
        self.parser = parser
        self.roots = seen.roots
        self.periods = {period: PulledPeriod(period) for period in periods}
        self._listed: set[DeliveryPeriod] = set()
        # periods of keys that another pull has loaded since they were listed, once per key
        self._overtaken: list[DeliveryPeriod] = []
        # keys that were found to be outdated once they were read; periods are filled while they are listed
        self._outdated: list[LogKey] = []
        self._stopped = threading.Event()
        self._progress = progress
        self._telling = threading.Lock()
        self._counting = threading.Lock()
        self._keys = self._lines = self._bytes = 0

    def run(self, connections: int) -> None:
        """Fetching and parsing have a thread each, loading has several; each step runs ahead of the next.

        So an interrupt, which strikes the main thread, finds no transaction to tear: the batches at hand are committed,
        a large key is rolled back, the steps behind end.
        """
        with (
            closing(prefetch(self._fetched(_batches(self._unseen())))) as fetched,
            closing(prefetch(self._parsed(fetched))) as parsed,
            closing(parallel_map(parsed, self._load, threads=connections)) as loaded,
            self._stopping(),
        ):
            for step in loaded:
                self._lines += step.lines
                self._tell(step.period)
        for period in self._overtaken:
            self.periods[period].seen += 1
        for key in self._outdated:
            self.periods[key.period].skip(key)

    def _count(self, outcome: "LoadedBatch") -> None:
        """By the thread that has committed: the main one gets no result any more once another thread has failed."""
        with self._counting:
            for key, counts in outcome.loaded:
                self.periods[key.period].add(key, counts)
                self._keys, self._bytes = self._keys + 1, self._bytes + key.object.size
            self._overtaken.extend(key.period for key in outcome.already_loaded)
            for key in outcome.returned:
                self.periods[key.period].returned += 1
            self._outdated.extend(outcome.outdated)

    def _tell(self, period: DeliveryPeriod) -> None:
        """Of what is loaded the main thread tells, of what is only looked at the one that lists."""
        if self._progress:
            with self._telling:
                looked, periods = len(self._listed), len(self.periods)
                self._progress(Progress(period, looked, periods, self._keys, self._lines, self._bytes))

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """However the work ends, threads that are in the middle of a large key are told; an interrupt is told of."""
        try:
            yield
        except Exception:
            raise
        except BaseException:
            _log.warning("bucket %s: interrupted; %s", self.bucket.name, self._remainder())
            raise
        finally:
            self._stopped.set()

    def _remainder(self) -> str:
        """What is done, and what is left to do, in words. Batches that are just being committed are not counted."""
        done = sum(each.keys for each in self.periods.values())
        left = [
            each.period
            for each in self.periods.values()
            if each.period not in self._listed
            or each.seen + each.returned + each.keys + each.outdated + len(each.failures) < each.listed
        ]
        if not left:
            return f"{done:,} keys are loaded, nothing is left"
        return f"{done:,} keys are loaded; not done: {len(left):,} of {counted(self.periods)}, from {left[0]} on"

    def _unseen(self) -> Iterator[LogKey]:
        for period, pulled in self.periods.items():
            look = Look(self.store, self.engine, self.bucket, self.roots, period)
            for page in look:
                yield from page
            pulled.listed, pulled.seen, pulled.strays = look.listed, look.seen, look.strays
            pulled.outdated, pulled.outdated_names, pulled.waiting = look.outdated, look.outdated_names, look.waiting
            self._listed.add(period)
            self._tell(period)

    def _fetched(self, batches: Iterable[Sequence[LogKey]]) -> Iterator[_Bodies | _Large]:
        for batch in batches:
            if _weight(batch[0]) > BATCH_BYTES:
                yield _Large(batch[0])
                continue
            small = _Bodies()
            reached(FailPoint.FETCH_BEFORE)
            results = self.store.fetch([key.object for key in batch])
            reached(FailPoint.FETCH_AFTER)
            for key, fetched in zip(batch, results, strict=True):
                if fetched.error is not None:
                    self._not_fetched(key, fetched.error)
                    continue
                try:
                    body = _unpacked(fetched.body)
                except logformat.DecompressionError as error:
                    self._fail(key, str(error))
                    continue
                if body is None:
                    yield _Large(key)
                else:
                    small.keys.append(replace(key, object=fetched.object))
                    small.bodies.append(body)
                    small.digests.append(hashlib.sha256(fetched.body).digest())
            if small.keys:
                yield small

    def _parsed(self, fetched: Iterable[_Bodies | _Large]) -> "Iterator[Batch | _Large]":
        for item in fetched:
            if isinstance(item, _Large):
                yield item
            else:
                yield from self._prepared(item.keys, item.bodies, item.digests)

    def _prepared(
        self, keys: Sequence[LogKey], bodies: Sequence[bytes], digests: Sequence[bytes | None]
    ) -> "Iterator[Batch]":
        """The keys as a batch. Where one defeats the parser, it is found by halving, and left alone."""
        from tamarin_dagster.recordstore.loading import prepare  # noqa: PLC0415

        named = (self.engine, self.bucket.name, self.store.name)
        try:
            batch = prepare(*named, keys, self._read(keys, bodies), digests=digests, region=self.bucket.region)
        except (sa.exc.DBAPIError, psycopg.Error):
            raise
        except Exception as error:  # noqa: BLE001 - recorded on the key
            if len(keys) == 1:
                self._fail(keys[0], describe_parse_error(error))
            for part in _halves(len(keys)):
                yield from self._prepared(keys[part], bodies[part], digests[part])
            return
        yield batch

    def _read(self, keys: Sequence[LogKey], bodies: Sequence[bytes]) -> "ParsedLogs":
        reached(FailPoint.PARSE_BEFORE)
        parsed = logformat.parse_logs(bodies, parser=self.parser)
        reached(FailPoint.PARSE_AFTER)
        return self._ready(keys, parsed)

    def _read_parts(self, key: LogKey, chunks: Iterable[bytes]) -> "Iterator[ParsedLogs]":
        reached(FailPoint.PARSE_BEFORE)
        for part in logformat.parse_parts(chunks, parser=self.parser):
            reached(FailPoint.PARSE_AFTER)
            yield self._ready([key], part)

    def _ready(self, keys: Sequence[LogKey], parsed: "ParsedLogs") -> "ParsedLogs":
        """Return what is to be stored, once the periods of the keys have their share of the news."""
        from tamarin_dagster.pipeline.preview import preview_of  # noqa: PLC0415

        for difference in parsed.differences:
            key = keys[difference.log_index]
            misread = MisreadLine(shown(key.object.key), difference.line_number, difference.masked)
            self.periods[key.period].misread.append(misread)
        for log, key in enumerate(keys):
            pulled = self.periods[key.period]
            if pulled.preview is None and parsed.counts[log].record_count:
                pulled.preview = preview_of(parsed.records, log)
        return parsed.redacted() if self.redacts else parsed

    def _load(self, item: "Batch | _Large") -> Iterator[_Loaded]:
        """Loads a batch. When Postgres refuses its data, halves it until the refused key stands alone."""
        from tamarin_dagster.recordstore.loading import load, prepare  # noqa: PLC0415

        if isinstance(item, _Large):
            yield from self._load_large(item.key)
            return
        try:
            outcome = load(self.engine, item, self.run_id)
        except REFUSALS as error:
            if len(item.keys) == 1:
                self._fail(item.keys[0], describe_refusal(error))
            for part in _halves(len(item.keys)):
                keys, parsed = item.keys[part], item.parsed.only(range(len(item.keys))[part])
                named = (self.engine, self.bucket.name, self.store.name)
                batch = prepare(*named, keys, parsed, digests=item.digests[part], region=self.bucket.region)
                yield from self._load(batch)
            return
        self._count(outcome)
        yield _Loaded(item.keys[-1].period, sum(counts.line_count for _, counts in outcome.loaded))

    def _load_large(self, key: LogKey) -> Iterator[_Loaded]:
        """Loads a large key while it is fetched, unpacked and parsed in threads of its own, in one transaction.

        If a row of its name has its size, it is read once more before, for its digest: it may be the same.
        """
        try:
            reached(FailPoint.FETCH_BEFORE)
            try:
                outcome = yield from self._loaded_large(key)
            except DigestNeededError:
                outcome = yield from self._loaded_large(key, self._digest(key))
        except FetchError as error:
            self._not_fetched(key, str(error))
        except logformat.DecompressionError as error:
            self._fail(key, str(error))
        except REFUSALS as error:
            self._fail(key, describe_refusal(error))
        except (sa.exc.DBAPIError, psycopg.Error, _Stopped):
            raise
        except Exception as error:  # noqa: BLE001 - recorded on the key
            self._fail(key, describe_parse_error(error))
        else:
            self._count(outcome)
            yield _Loaded(key.period, 0)

    def _digest(self, key: LogKey) -> bytes:
        digest = hashlib.sha256()
        with closing(self.store.open(key.object)) as opened:
            for chunk in opened.chunks:
                digest.update(chunk)
                if self._stopped.is_set():
                    raise _Stopped
        return digest.digest()

    def _loaded_large(self, key: LogKey, digest: bytes | None = None) -> "Generator[_Loaded, None, LoadedBatch]":
        with closing(self.store.open(key.object)) as opened:
            return (yield from self._sent(replace(key, object=opened.object), opened.chunks, digest))

    def _sent(
        self, key: LogKey, chunks: Iterable[bytes], digest: bytes | None
    ) -> "Generator[_Loaded, None, LoadedBatch]":
        """Loads a large key from its chunks; yields each part once it is sent."""
        from tamarin_dagster.recordstore.loading import load_large, prepare_large, prepare_parts  # noqa: PLC0415

        batch = prepare_large(self.engine, self.bucket.name, self.store.name, key, digest, region=self.bucket.region)
        read = hashlib.sha256()
        with closing(prefetch(logformat.unpacked(_digested(chunks, read), key.object.size))) as bodies:
            parts = prepare_parts(self.engine, batch, self._read_parts(key, bodies))
            with (
                closing(prefetch(self._unless_stopped(parts))) as ready,
                closing(load_large(self.engine, batch, ready, self.run_id, digest=read.digest)) as loading,
            ):
                while True:
                    try:
                        counts = next(loading)
                    except StopIteration as end:
                        outcome: LoadedBatch = end.value
                        return outcome
                    yield _Loaded(key.period, counts.line_count)

    def _unless_stopped(self, parts: "Iterable[Part]") -> "Iterator[Part]":
        for part in parts:
            if self._stopped.is_set():
                raise _Stopped
            yield part

    def _not_fetched(self, key: LogKey, error: str) -> None:
        """A key that went after it was listed may have been loaded and purged by another pull: then all is well."""
        if error == CHANGED_SINCE_LISTED:
            with self.engine.connect() as connection:
                if ledger.is_known(connection, self.store.name, key.object):
                    self._overtaken.append(key.period)
                    return
        self._fail(key, error)

    def _fail(self, key: LogKey, error: str) -> None:
        _log.warning("bucket %s, key %s: %s", self.bucket.name, key.object.key, error)
        self.periods[key.period].failures.append(KeyFailure(key.object.key, key.delivery_date, error))


def _digested(chunks: Iterable[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    """The same chunks, each of which went into the digest."""
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _halves(count: int) -> tuple[slice, ...]:
    """Two parts of more than one item; none of a single one."""
    return (slice(None, count // 2), slice(count // 2, None)) if count > 1 else ()


def _batches(keys: Iterable[LogKey]) -> Iterator[list[LogKey]]:
    """Keys in batches of at most BATCH_BYTES, unpacked (a larger key goes alone), and BATCH_KEYS."""
    batch: list[LogKey] = []
    size = 0
    for key in keys:
        weight = _weight(key)
        if weight > BATCH_BYTES:
            yield [key]
            continue
        if batch and (size + weight > BATCH_BYTES or len(batch) == BATCH_KEYS):
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += weight
    if batch:
        yield batch


def _weight(key: LogKey) -> int:
    """About how many bytes the key unpacks to."""
    suffix = key.object.key[-8:]  # also of `.gz.txt`
    return key.object.size * (UNPACKED_RATIO if ".gz" in suffix or ".zst" in suffix else 1)


def _unpacked(body: bytes) -> bytes | None:
    """What a small key holds; None if that is more than a batch's worth. Raises DecompressionError."""
    pieces, size = [], 0
    for piece in logformat.unpacked((body,), len(body)):
        pieces.append(piece)
        size += len(piece)
        if size > 2 * BATCH_BYTES:
            return None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
