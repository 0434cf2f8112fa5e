"""Delete log keys that the ledger proves to be loaded.

A listing never leads to a deletion. Only log keys of the ledger are candidates, each is proved by a query on committed
data just before, and only the exact generation that was loaded is deleted.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tamarin_dagster.failpoints import FailPoint, hit
from tamarin_dagster.lake.place import LakePlace
from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.logkey import KeyFailure
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.logstore.archiving import ArchivePlace
from tamarin_dagster.pipeline.archive import make_proof
from tamarin_dagster.recordstore import archived, ledger
from tamarin_dagster.recordstore.ledger import KeptKeys, LoadedKey
from tamarin_dagster.settings import LoggedBucket

if TYPE_CHECKING:
    from tamarin_dagster.pipeline.archive import ArchiveProof
    from tamarin_dagster.pipeline.lake.archiving import LakeProof

_log = logging.getLogger(__name__)

# Log keys that are proved and deleted together. After a kill -9 they are deleted again, which finds them gone.
PURGE_PAGE_KEYS = 1000


@dataclass(slots=True)
class Purged:
    """The result of a purge, or of a dry run.

    Attributes:
        keys, bytes: what was deleted.
        rows: records and rejected lines that were counted to prove it.
        by_day: deleted log keys, by delivery day.
        failures: log keys that stay because the proof or the deletion failed, with the reason.
        kept: log keys that stay because of their rejected lines.
        archive_problems: delivery days of which nothing was deleted, because the archive does not hold their records as
            they were written, with the reason.
        waiting_keys: log keys that stay until their records are in the archive.
    """

    keys: int = 0
    bytes: int = 0
    rows: int = 0
    by_day: dict[date, int] = field(default_factory=dict)
    failures: list[KeyFailure] = field(default_factory=list)
    kept: KeptKeys = field(default_factory=lambda: KeptKeys(0, 0))
    archive_problems: dict[date, str] = field(default_factory=dict)
    waiting_keys: int = 0
    seconds: float = 0.0

    def days_by_archive_problem(self) -> dict[str, list[date]]:
        """Group the days of `archive_problems` by their reason; a missing archive has the same reason for all."""
        found: dict[str, list[date]] = {}
        for day, problem in self.archive_problems.items():
            found.setdefault(problem, []).append(day)
        return found

    def add(self, key: LoadedKey) -> None:
        """Count a deleted log key."""
        self.keys += 1
        self.bytes += key.object.size
        self.rows += key.record_count + key.rejected_count
        self.by_day[key.delivery_date] = self.by_day.get(key.delivery_date, 0) + 1


def _keep_archived(page: list[LoadedKey], proof: "ArchiveProof | LakeProof | None", done: Purged) -> list[LoadedKey]:
    """Return the log keys whose delivery day is in the archive; note the days of the others."""
    if proof is None:
        return page
    found = {day: proof.problem(day) for day in sorted({key.delivery_date for key in page})}
    done.archive_problems |= {day: problem for day, problem in found.items() if problem}
    return [key for key in page if key.delivery_date not in done.archive_problems]


def purge_bucket(
    bucket: LoggedBucket,
    store: LogStore,
    engine: sa.Engine,
    *,
    periods: Collection[DeliveryPeriod] | None = None,
    with_rejected: bool = False,
    archive: ArchivePlace | LakePlace | None = None,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Purged:
    """Delete the loaded log keys of these delivery periods (default: all) whose rows are proved complete.

    These log keys stay: one with rejected lines, unless `with_rejected`; one with an oversized line; an expired one;
    and one whose rows differ from the ledger. With an `archive`, a log key also stays unless the ledger says that its
    records are archived there, and the place still holds what was written, which is checked once for each delivery day.

    A failed deletion is recorded in the ledger, and the next purge tries it again. A dry run proves, and deletes
    nothing. `progress` gets the number of log keys deleted so far.
    """
    started = time.monotonic()
    done = Purged()
    place = archive.name if archive else None
    proof = make_proof(bucket, archive, engine) if archive else None
    for page in _find_pages(bucket, store, engine, periods, with_rejected, place):
        proved = _prove(engine, bucket, _keep_archived(page, proof, done), done, place)
        if dry_run:
            for key in proved:
                done.add(key)
        else:
            _delete(store, engine, bucket, proved, done)
        if progress:
            progress(done.keys)
    with engine.connect() as connection:
        done.kept = ledger.count_kept_keys(connection, bucket.name, store.name, periods)
        if place:
            done.waiting_keys = archived.waiting_purgeable_keys(
                connection, bucket.name, store.name, place, periods, with_rejected=with_rejected
            )
    for problem, days_of_it in done.days_by_archive_problem().items():
        _log.warning("bucket %s: nothing of %d delivery days is purged: %s", bucket.name, len(days_of_it), problem)
    done.seconds = time.monotonic() - started
    return done


def _find_pages(
    bucket: LoggedBucket,
    store: LogStore,
    engine: sa.Engine,
    periods: Collection[DeliveryPeriod] | None,
    with_rejected: bool,
    place: str | None,
) -> Iterator[list[LoadedKey]]:
    last_id = 0
    while True:
        hit(FailPoint.PURGE_QUERY_BEFORE)
        with engine.connect() as connection:
            page = ledger.list_purgeable(
                connection,
                bucket.name,
                store.name,
                periods,
                PURGE_PAGE_KEYS,
                last_id,
                with_rejected=with_rejected,
                archive_place=place,
            )
        if not page:
            return
        yield page
        last_id = page[-1].id


def _prove(
    engine: sa.Engine, bucket: LoggedBucket, page: list[LoadedKey], done: Purged, place: str | None
) -> list[LoadedKey]:
    """Return the log keys whose rows, counted now, agree with the ledger; the others are failures."""
    ids = [key.id for key in page]
    with engine.connect() as connection:
        unproved = {difference.key: difference for difference in ledger.count_differences(connection, ids)}
        # Ask after the count, which leaves out what retention has marked meanwhile and so proves nothing about it.
        left_out = ledger.list_expired_ids(connection, ids)
        if place:  # a reparse may have moved lines into the records meanwhile
            left_out |= archived.unarchived_ids(connection, ids, place)
    hit(FailPoint.PURGE_QUERY_AFTER)
    for key in page:
        if difference := unproved.get(key.object.key):
            _fail(done, bucket, key, f"its rows differ from the ledger: {difference}")
    return [key for key in page if key.object.key not in unproved and key.id not in left_out]


def _delete(store: LogStore, engine: sa.Engine, bucket: LoggedBucket, proved: list[LoadedKey], done: Purged) -> None:
    gone: list[int] = []
    errors: dict[int, str] = {}
    hit(FailPoint.DELETE_BEFORE)
    results = store.delete([key.object for key in proved])
    hit(FailPoint.DELETE_AFTER)
    for key, deleted in zip(proved, results, strict=True):
        if deleted.error is None:
            gone.append(key.id)
            done.add(key)
        else:
            errors[key.id] = deleted.error
            _fail(done, bucket, key, deleted.error)
    hit(FailPoint.MARK_PURGED_BEFORE)
    with engine.begin() as connection:
        if gone:
            ledger.mark_purged(connection, gone)
        if errors:
            ledger.note_purge_errors(connection, errors)
    hit(FailPoint.MARK_PURGED_AFTER)


def _fail(done: Purged, bucket: LoggedBucket, key: LoadedKey, error: str) -> None:
    _log.warning("bucket %s, key %s is not purged: %s", bucket.name, key.object.key, error)
    done.failures.append(KeyFailure(key.object.key, key.delivery_date, error))
