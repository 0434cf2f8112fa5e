"""Deleting log keys that the ledger proves loaded.

There is no way from a listing to a deletion: only keys of the ledger are candidates, each is proved by a query on
committed data just before, and only the very generation that was loaded is deleted.
"""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date

import sqlalchemy as sa

from tamarin_dagster.logkey import KeyFailure
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.settings import LoggedBucket

_log = logging.getLogger(__name__)

# Keys that are proved and deleted at a time; what a kill -9 interrupts is deleted again, which finds it gone.
PURGE_PAGE_KEYS = 1000


@dataclass(slots=True)
class Purged:
    """What a purge did.

    Attributes:
        keys, bytes: what was deleted.
        by_day: keys deleted, by delivery day.
        failures: keys that stay, with the reason: the proof failed, or the deletion did.
    """

    keys: int = 0
    bytes: int = 0
    by_day: dict[date, int] = field(default_factory=dict)
    failures: list[KeyFailure] = field(default_factory=list)
    seconds: float = 0.0


def purge(
    bucket: LoggedBucket,
    store: LogStore,
    engine: sa.Engine,
    *,
    days: Collection[date] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Purged:
    """Deletes the loaded keys of these delivery days (default: all) that have no rejected line.

    A key that expired, or whose rows are not what the ledger says, is left alone. A failed deletion is kept in the
    ledger and tried again by the next purge. `progress` gets the number of keys deleted so far.
    """
    started = time.monotonic()
    done = Purged()
    last_id = 0
    while True:
        with engine.connect() as connection:
            page = ledger.purgeable(connection, bucket.name, store.name, days, PURGE_PAGE_KEYS, last_id)
            if not page:
                break
            ids = [key.id for key in page]
            unproved = {d.key: d for d in ledger.count_differences(connection, ids)}
            # Asked after the count, which leaves out what retention has marked meanwhile: that is not proved.
            expired = ledger.expired_ids(connection, ids)
        last_id = page[-1].id
        for key in page:
            if difference := unproved.get(key.object.key):
                _fail(done, bucket, key, f"its rows are not what the ledger says: {difference}")
        proved = [key for key in page if key.object.key not in unproved and key.id not in expired]
        _delete(store, engine, bucket, proved, done)
        if progress:
            progress(done.keys)
    done.seconds = time.monotonic() - started
    return done


def _delete(
    store: LogStore, engine: sa.Engine, bucket: LoggedBucket, proved: list[ledger.LoadedKey], done: Purged
) -> None:
    gone: list[int] = []
    errors: dict[int, str] = {}
    for key, deleted in zip(proved, store.delete([key.object for key in proved]), strict=True):
        if deleted.error is None:
            gone.append(key.id)
            done.keys += 1
            done.bytes += key.object.size
            done.by_day[key.delivery_date] = done.by_day.get(key.delivery_date, 0) + 1
        else:
            errors[key.id] = deleted.error
            _fail(done, bucket, key, deleted.error)
    with engine.begin() as connection:
        if gone:
            ledger.mark_purged(connection, gone)
        if errors:
            ledger.note_purge_errors(connection, errors)


def _fail(done: Purged, bucket: LoggedBucket, key: ledger.LoadedKey, error: str) -> None:
    _log.warning("bucket %s, key %s is not purged: %s", bucket.name, key.object.key, error)
    done.failures.append(KeyFailure(key.object.key, key.delivery_date, error))
