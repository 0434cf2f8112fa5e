"""Pull: load the unseen log keys of a bucket's days (or hours). List, fetch, parse and load overlap.

This module does not know Dagster. It reports progress to one callback, and returns the result of each delivery period.
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
from tamarin_dagster.failpoints import FailPoint, hit
from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.logformat.engine import ParserName
from tamarin_dagster.logkey import KeyFailure, LogKey, count_periods, make_printable
from tamarin_dagster.logstore import CHANGED_SINCE_LISTED, FetchError, LogStore
from tamarin_dagster.parallel import parallel_map, prefetch
from tamarin_dagster.pipeline.batches import make_batches
from tamarin_dagster.pipeline.discover import DAYS_AHEAD, MAX_OUTDATED_NAMED, Look, Survey, list_days_with_keys, survey
from tamarin_dagster.plurals import count_noun
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

# The small log keys of one transaction; a larger log key goes alone, in parts, in one transaction too.
BATCH_BYTES = 8 * 1024 * 1024
BATCH_KEYS = 4000
# The assumed ratio of a compressed log key's content to its size. gzip and zstd made generated log keys 4.6 times
# smaller, and real ones are more repetitive.
UNPACKED_RATIO = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a pull over all its periods.

    Attributes:
        period: the last period that was worked on.
        looked, periods: how many periods were listed to their end, and the number of all. Found keys are loaded soon.
        keys, lines, bytes: what was loaded.
    """

    period: DeliveryPeriod
    looked: int
    periods: int
    keys: int
    lines: int
    bytes: int

    def seconds_left(self, seconds: float) -> float | None:
        """Estimate the remaining time from the seconds so far; None until a period is listed."""
        return seconds / self.looked * (self.periods - self.looked) if self.looked else None


@dataclass(frozen=True, slots=True)
class MisreadLine:
    """A line that the two parsers read differently; `masked` is its start, with letters as `a` and digits as `9`."""

    key: str
    line_number: int
    masked: str


@dataclass(slots=True)
class PulledPeriod:
    """The result of a pull for one delivery period. Counts are of loaded log keys; `seen` ones were loaded before.

    listed = seen + returned + keys + outdated + failures.

    Attributes:
        returned: log keys whose bytes were loaded and purged before, and that are there again; a purge deletes them.
        outdated: log keys that were skipped, because a newer generation of their name is loaded and purged.
        outdated_names: the first of these names.
        waiting: files, not among the listed, that may still be written; a later pull takes them.
        misread: lines that the compiled parser read wrongly; what the regex parser makes of them is loaded.
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
        """Count a log key that is older than a purged one of its name."""
        self.outdated += 1
        if len(self.outdated_names) < MAX_OUTDATED_NAMED:
            self.outdated_names.append(make_printable(key.object.key))

    def add(self, key: LogKey, counts: "LogCounts") -> None:
        """Count a log key that was loaded."""
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
    """What a pull did: its periods, the strays outside of days, and the seconds it took."""

    periods: tuple[PulledPeriod, ...]
    strays: tuple[str, ...]
    seconds: float

    @property
    def failures(self) -> list[KeyFailure]:
        """The log keys that could not be loaded."""
        return [failure for period in self.periods for failure in period.failures]

    @property
    def waiting(self) -> int:
        """How many files may still be written."""
        return sum(period.waiting for period in self.periods)

    @property
    def outdated_names(self) -> list[str]:
        """Log keys that were skipped because they are older than what was purged; at most 50 of each period."""
        return [name for period in self.periods for name in period.outdated_names]


def pull_bucket(
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
    """Load what is unseen in these delivery periods, or in all days from `first` to `last` that have log keys.

    `first` defaults to the bucket's start_date, `last` to tomorrow. A log key that cannot be read or loaded is a
    failure of its period, and the others continue. `connections` is the number of concurrent loads. `redacts` says
    whether secrets of presigned URLs are left out of what is stored, `parser` which parser reads the lines.

    Raises LogStoreError when the log bucket cannot be listed, and sqlalchemy.exc.OperationalError when the database is
    gone; what was loaded until then stays. A list given as `loaded` receives the periods with what was loaded of them.
    """
    started = time.monotonic()
    seen = survey(store, bucket)
    strays = list(seen.strays)
    if periods is None:
        until = last or datetime.now(UTC).date() + timedelta(days=DAYS_AHEAD)
        # Find them all before the first one is loaded, so that a concurrent purge does not hide any.
        periods = list(list_days_with_keys(store, bucket, seen.roots, first or bucket.start_date, until, strays))
    pulled = _Pull(bucket, store, engine, run_id, seen, sorted(set(periods)), redacts, parser, progress)
    if loaded is not None:
        loaded.extend(pulled.periods.values())
    pulled.run(connections)
    return Pulled(tuple(pulled.periods.values()), tuple(strays), time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Bodies:
    """Small log keys with their content, and the SHA-256 of their stored bytes."""

    keys: list[LogKey] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    digests: list[bytes | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Large:
    """A log key that is too large for memory."""

    key: LogKey


@dataclass(frozen=True, slots=True)
class _Loaded:
    """How many lines a transaction has committed; for a large log key, how many it has sent since the last report."""

    period: DeliveryPeriod
    lines: int


class _Stopped(Exception):  # noqa: N818 - not an error: the pull is ending
    """Roll back the load of a large log key."""


class _Pull:
    """A pull in progress: its periods and the steps of its pipeline."""

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
        # The period of each log key that another pull has loaded since it was listed.
        self._overtaken: list[DeliveryPeriod] = []
        # Log keys that turned out to be outdated when they were read. The periods' counts belong to the thread that
        # lists.
        self._outdated: list[LogKey] = []
        self._stopped = threading.Event()
        self._progress = progress
        self._telling = threading.Lock()
        self._counting = threading.Lock()
        self._keys = self._lines = self._bytes = 0

    def run(self, connections: int) -> None:
        """Run the steps. Fetching and parsing have one thread each, loading has several; each step prefetches.

        So an interrupt, which hits the main thread, tears no transaction: the current batches are committed, a large
        log key is rolled back, and the later steps end.
        """
        batches = make_batches(self._list_unseen(), BATCH_BYTES, BATCH_KEYS, _weigh)
        with (
            closing(prefetch(self._fetch(batches))) as fetched,
            closing(prefetch(self._parse(fetched))) as parsed,
            closing(parallel_map(parsed, self._load, threads=connections)) as loaded,
            self._stopping(),
        ):
            for step in loaded:
                self._lines += step.lines
                self._report(step.period)
        for period in self._overtaken:
            self.periods[period].seen += 1
        for key in self._outdated:
            self.periods[key.period].skip(key)

    def _count(self, outcome: "LoadedBatch") -> None:
        """Count a committed batch in its own thread: the main one gets no results after another thread has failed."""
        with self._counting:
            for key, counts in outcome.loaded:
                self.periods[key.period].add(key, counts)
                self._keys, self._bytes = self._keys + 1, self._bytes + key.object.size
            self._overtaken.extend(key.period for key in outcome.already_loaded)
            for key in outcome.returned:
                self.periods[key.period].returned += 1
            self._outdated.extend(outcome.outdated)

    def _report(self, period: DeliveryPeriod) -> None:
        """Report progress: the main thread does so for loaded lines, the listing thread for listed periods."""
        if self._progress:
            with self._telling:
                looked, periods = len(self._listed), len(self.periods)
                self._progress(Progress(period, looked, periods, self._keys, self._lines, self._bytes))

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Stop the threads that are loading a large log key, however the work ends; log an interrupt."""
        try:
            yield
        except Exception:
            raise
        except BaseException:
            _log.warning("bucket %s: interrupted; %s", self.bucket.name, self._describe_remainder())
            raise
        finally:
            self._stopped.set()

    def _describe_remainder(self) -> str:
        """Return what is done and what remains, as text. Batches that are being committed are not counted."""
        done = sum(each.keys for each in self.periods.values())
        left = [
            each.period
            for each in self.periods.values()
            if each.period not in self._listed
            or each.seen + each.returned + each.keys + each.outdated + len(each.failures) < each.listed
        ]
        if not left:
            return f"{count_noun(done, 'log key')} loaded, nothing remains"
        return (
            f"{count_noun(done, 'log key')} loaded; {len(left):,} of {count_periods(self.periods)} incomplete, from"
            f" {left[0]} on; the next pull continues"
        )

    def _list_unseen(self) -> Iterator[LogKey]:
        for period, pulled in self.periods.items():
            look = Look(self.store, self.engine, self.bucket, self.roots, period)
            for page in look:
                yield from page
            pulled.listed, pulled.seen, pulled.strays = look.listed, look.seen, look.strays
            pulled.outdated, pulled.outdated_names, pulled.waiting = look.outdated, look.outdated_names, look.waiting
            self._listed.add(period)
            self._report(period)

    def _fetch(self, batches: Iterable[Sequence[LogKey]]) -> Iterator[_Bodies | _Large]:
        for batch in batches:
            if _weigh(batch[0]) > BATCH_BYTES:
                yield _Large(batch[0])
                continue
            small = _Bodies()
            hit(FailPoint.FETCH_BEFORE)
            results = self.store.fetch([key.object for key in batch])
            hit(FailPoint.FETCH_AFTER)
            for key, fetched in zip(batch, results, strict=True):
                if fetched.error is not None:
                    self._note_not_fetched(key, fetched.error)
                    continue
                try:
                    body = _decompress(fetched.body)
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

    def _parse(self, fetched: Iterable[_Bodies | _Large]) -> "Iterator[Batch | _Large]":
        for item in fetched:
            if isinstance(item, _Large):
                yield item
            else:
                yield from self._prepare(item.keys, item.bodies, item.digests)

    def _prepare(
        self, keys: Sequence[LogKey], bodies: Sequence[bytes], digests: Sequence[bytes | None]
    ) -> "Iterator[Batch]":
        """Yield the log keys as batches. If one defeats the parser, find it by halving, and record its failure."""
        from tamarin_dagster.recordstore.loading import prepare  # noqa: PLC0415

        named = (self.engine, self.bucket.name, self.store.name)
        try:
            batch = prepare(*named, keys, self._read(keys, bodies), digests=digests, region=self.bucket.region)
        except (sa.exc.DBAPIError, psycopg.Error):
            raise
        except Exception as error:  # noqa: BLE001 - recorded on the key
            if len(keys) == 1:
                self._fail(keys[0], describe_parse_error(error))
            for part in _halve(len(keys)):
                yield from self._prepare(keys[part], bodies[part], digests[part])
            return
        yield batch

    def _read(self, keys: Sequence[LogKey], bodies: Sequence[bytes]) -> "ParsedLogs":
        hit(FailPoint.PARSE_BEFORE)
        parsed = logformat.parse_logs(bodies, parser=self.parser)
        hit(FailPoint.PARSE_AFTER)
        return self._ready(keys, parsed)

    def _read_parts(self, key: LogKey, chunks: Iterable[bytes]) -> "Iterator[ParsedLogs]":
        hit(FailPoint.PARSE_BEFORE)
        for part in logformat.parse_parts(chunks, parser=self.parser):
            hit(FailPoint.PARSE_AFTER)
            yield self._ready([key], part)

    def _ready(self, keys: Sequence[LogKey], parsed: "ParsedLogs") -> "ParsedLogs":
        """Return what is to be stored, after adding previews and misread lines to the periods."""
        from tamarin_dagster.pipeline.preview import make_preview  # noqa: PLC0415

        for difference in parsed.differences:
            key = keys[difference.log_index]
            misread = MisreadLine(make_printable(key.object.key), difference.line_number, difference.masked)
            self.periods[key.period].misread.append(misread)
        for log, key in enumerate(keys):
            pulled = self.periods[key.period]
            if pulled.preview is None and parsed.counts[log].record_count:
                pulled.preview = make_preview(parsed.records, log)
        return parsed.redact() if self.redacts else parsed

    def _load(self, item: "Batch | _Large") -> Iterator[_Loaded]:
        """Load a batch. If Postgres refuses its data, halve it until the refused log key is alone."""
        from tamarin_dagster.recordstore.loading import load, prepare  # noqa: PLC0415

        if isinstance(item, _Large):
            yield from self._load_large(item.key)
            return
        try:
            outcome = load(self.engine, item, self.run_id)
        except REFUSALS as error:
            if len(item.keys) == 1:
                self._fail(item.keys[0], describe_refusal(error))
            for part in _halve(len(item.keys)):
                keys, parsed = item.keys[part], item.parsed.select(range(len(item.keys))[part])
                named = (self.engine, self.bucket.name, self.store.name)
                batch = prepare(*named, keys, parsed, digests=item.digests[part], region=self.bucket.region)
                yield from self._load(batch)
            return
        self._count(outcome)
        yield _Loaded(item.keys[-1].period, sum(counts.line_count for _, counts in outcome.loaded))

    def _load_large(self, key: LogKey) -> Iterator[_Loaded]:
        """Load a large log key in one transaction, while threads of its own fetch, decompress and parse it.

        If a ledger row has its name and size, it is read once before for its digest, because it may be the same
        generation.
        """
        try:
            hit(FailPoint.FETCH_BEFORE)
            try:
                outcome = yield from self._load_large_once(key)
            except DigestNeededError:
                outcome = yield from self._load_large_once(key, self._digest(key))
        except FetchError as error:
            self._note_not_fetched(key, str(error))
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

    def _load_large_once(self, key: LogKey, digest: bytes | None = None) -> "Generator[_Loaded, None, LoadedBatch]":
        with closing(self.store.open(key.object)) as opened:
            return (yield from self._send(replace(key, object=opened.object), opened.chunks, digest))

    def _send(
        self, key: LogKey, chunks: Iterable[bytes], digest: bytes | None
    ) -> "Generator[_Loaded, None, LoadedBatch]":
        """Load a large log key from its chunks; yield each part after it is sent."""
        from tamarin_dagster.recordstore.loading import load_large, prepare_large, prepare_parts  # noqa: PLC0415

        batch = prepare_large(self.engine, self.bucket.name, self.store.name, key, digest, region=self.bucket.region)
        read = hashlib.sha256()
        with closing(prefetch(logformat.decompress_chunks(_digest_chunks(chunks, read), key.object.size))) as bodies:
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

    def _note_not_fetched(self, key: LogKey, error: str) -> None:
        """Record the failure, unless another pull has loaded and purged the log key since it was listed."""
        if error == CHANGED_SINCE_LISTED:
            with self.engine.connect() as connection:
                if ledger.is_known(connection, self.store.name, key.object):
                    self._overtaken.append(key.period)
                    return
        self._fail(key, error)

    def _fail(self, key: LogKey, error: str) -> None:
        _log.warning("bucket %s, key %s: %s", self.bucket.name, key.object.key, error)
        self.periods[key.period].failures.append(KeyFailure(key.object.key, key.delivery_date, error))


def _digest_chunks(chunks: Iterable[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    """Yield the chunks unchanged, after adding each one to the digest."""
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _halve(count: int) -> tuple[slice, ...]:
    """Return two parts of more than one item; none of a single item."""
    return (slice(None, count // 2), slice(count // 2, None)) if count > 1 else ()


def _weigh(key: LogKey) -> int:
    """Estimate the size of the log key's content in bytes."""
    suffix = key.object.key[-8:]  # also for `.gz.txt`
    return key.object.size * (UNPACKED_RATIO if ".gz" in suffix or ".zst" in suffix else 1)


def _decompress(body: bytes) -> bytes | None:
    """Return a small log key's content; None if it is larger than a batch. Raises DecompressionError."""
    pieces, size = [], 0
    for piece in logformat.decompress_chunks((body,), len(body)):
        pieces.append(piece)
        size += len(piece)
        if size > 2 * BATCH_BYTES:
            return None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
