"""Mirror: copy a bucket's log keys into a folder, unchanged. List, skip what is there, fetch, write.

The folder can serve as a log bucket afterwards. This module does not know Dagster, and needs no database.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from tamarin_dagster.failpoints import FailPoint, hit
from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.logkey import KeyFailure, LogKey
from tamarin_dagster.logstore import FetchError, LogStore
from tamarin_dagster.logstore.copies import Copies, CopiesError, NotCopiedError
from tamarin_dagster.logstore.threads import Threads
from tamarin_dagster.parallel import prefetch
from tamarin_dagster.pipeline.batches import make_batches
from tamarin_dagster.pipeline.discover import DAYS_AHEAD, Listing, list_days_with_keys, survey
from tamarin_dagster.settings import LoggedBucket

_log = logging.getLogger(__name__)

# A batch is fetched and written as a whole, while the next one is fetched; a larger log key goes alone, in chunks.
BATCH_BYTES = 8 * 1024 * 1024
BATCH_KEYS = 1000
# Each file waits until it is durable, so many threads write at the same time.
WRITE_THREADS = 16


@dataclass(frozen=True, slots=True)
class MirrorProgress:
    """The progress of a mirror.

    Attributes:
        period: the last day that was worked on.
        looked, periods: how many days were listed to their end, and the number of all.
        keys, bytes: what was fetched.
    """

    period: DeliveryPeriod
    looked: int
    periods: int
    keys: int
    bytes: int


@dataclass(slots=True)
class Mirrored:
    """The result of mirroring a bucket.

    Attributes:
        folder: where the copies are, by the log keys' names.
        present: log keys that were already copied.
        keys, bytes: what was fetched; bytes as stored.
        waiting: files of a folder that may still be written.
        strays: names within days that are not log keys; they are skipped.
        outside: names that belong to no day; at most MAX_STRAYS_NAMED.
        failures: log keys that could not be copied.
    """

    folder: Path
    present: int = 0
    keys: int = 0
    bytes: int = 0
    waiting: int = 0
    strays: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    failures: list[KeyFailure] = field(default_factory=list)
    seconds: float = 0.0


def mirror_bucket(
    bucket: LoggedBucket,
    store: LogStore,
    out: Path,
    *,
    first: date | None = None,
    last: date | None = None,
    progress: Callable[[MirrorProgress], None] | None = None,
) -> Mirrored:
    """Copy the log keys of the days from `first` to `last` into `choose_folder(bucket, out)`, unless they are there.

    `first` defaults to the bucket's start_date, `last` to tomorrow. A log key is copied unless there is a copy of the
    listed size and ETag. A log key that cannot be read or written is a failure, and the others continue. Nothing is
    deleted. Raises LogStoreError when the log bucket cannot be listed, CopiesError when the folder cannot hold copies,
    and OSError when it cannot be created; what was copied until then stays, and is not fetched again.
    """
    started = time.monotonic()
    folder = choose_folder(bucket, out)
    if bucket.log_folder and folder.resolve().is_relative_to(bucket.log_folder.resolve()):
        raise CopiesError(
            f"{folder}: lies within the log bucket {bucket.log_bucket_name} itself; choose another folder"
        )
    seen = survey(store, bucket)
    done = Mirrored(folder, outside=list(seen.strays))
    until = last or datetime.now(UTC).date() + timedelta(days=DAYS_AHEAD)
    days = list(list_days_with_keys(store, bucket, seen.roots, first or bucket.start_date, until, done.outside))
    with Copies(folder) as copies:
        _Mirror(bucket, store, copies, seen.roots, days, done, progress).run()
    done.seconds = time.monotonic() - started
    return done


def choose_folder(bucket: LoggedBucket, out: Path) -> Path:
    """Return the folder below `out` for the bucket's log bucket; logged buckets that share a log bucket share it.

    It has the log bucket's name. If the log bucket is a folder, a digest of its path is appended, which no bucket name
    has.
    """
    if bucket.log_folder is None:
        return out.absolute() / bucket.log_bucket_name
    digest = hashlib.sha256(str(bucket.log_folder).encode()).hexdigest()[:8]
    return out.absolute() / f"{bucket.log_folder.name}~{digest}"


class _Mirror:
    """A mirror in progress."""

    def __init__(
        self,
        bucket: LoggedBucket,
        store: LogStore,
        copies: Copies,
        roots: tuple[str, ...],
        days: Sequence[date],
        done: Mirrored,
        progress: Callable[[MirrorProgress], None] | None,
    ) -> None:
        self._bucket = bucket
        self._store = store
        self._copies = copies
        self._roots = roots
        self._days = days
        self._done = done
        self._progress = progress
        self._looked = 0
        self._threads = Threads(WRITE_THREADS)

    def run(self) -> None:
        """Copy batch by batch; fetch the next batch while one is written."""
        batches = make_batches(self._find_missing(), BATCH_BYTES, BATCH_KEYS, lambda key: key.object.size)
        with closing(prefetch(self._fetch_batches(batches))) as fetched:
            for batch in fetched:
                self._keep(batch)

    def _find_missing(self) -> Iterator[LogKey]:
        for day in self._days:
            listing = Listing(self._store, self._bucket, self._roots, day)
            for page in listing:
                for item, etag in zip(page, self._copies.etags(page), strict=True):
                    if etag == item.etag:
                        self._done.present += 1
                    else:
                        yield LogKey(item, day)
            self._done.strays += listing.strays
            self._done.waiting += listing.waiting
            self._looked += 1
            self._report(day)

    def _fetch_batches(self, batches: Iterable[Sequence[LogKey]]) -> Iterator[list[tuple[LogKey, bytes | None]]]:
        """Yield the batches with the bytes of each log key, or None for a log key that is too large for memory."""
        for batch in batches:
            if batch[0].object.size > BATCH_BYTES:
                yield [(batch[0], None)]
                continue
            hit(FailPoint.FETCH_BEFORE)
            results = self._store.fetch([key.object for key in batch])
            hit(FailPoint.FETCH_AFTER)
            bodies: list[tuple[LogKey, bytes | None]] = []
            for key, fetched in zip(batch, results, strict=True):
                if fetched.error is not None:
                    self._fail(key, fetched.error)
                else:
                    bodies.append((key, fetched.body))
            yield bodies

    def _keep(self, batch: Sequence[tuple[LogKey, bytes | None]]) -> None:
        """Write a batch, and note what is written even if it is interrupted."""
        written: list[LogKey] = []

        def write(one: tuple[LogKey, bytes | None]) -> None:
            if self._write(*one):
                written.append(one[0])

        try:
            self._threads.map(write, batch, lambda: WRITE_THREADS)
        except BaseException:
            with suppress(CopiesError, OSError):  # a full disk is reported above
                self._copies.note([key.object for key in written])
            raise
        self._copies.note([key.object for key in written])
        self._done.keys += len(written)
        self._done.bytes += sum(key.object.size for key in written)
        if batch:
            self._report(batch[-1][0].period)

    def _write(self, key: LogKey, body: bytes | None) -> bool:
        try:
            if body is None:
                with closing(self._store.open(key.object)) as opened:
                    self._copies.write(key.object, opened.chunks)
            else:
                self._copies.write(key.object, [body])
        except (FetchError, NotCopiedError) as error:
            self._fail(key, str(error))
            return False
        return True

    def _report(self, day: DeliveryPeriod) -> None:
        if self._progress:
            done = self._done
            self._progress(MirrorProgress(day, self._looked, len(self._days), done.keys, done.bytes))

    def _fail(self, key: LogKey, error: str) -> None:
        _log.warning("bucket %s, key %s: %s", self._bucket.name, key.object.key, error)
        self._done.failures.append(KeyFailure(key.object.key, key.delivery_date, error))
