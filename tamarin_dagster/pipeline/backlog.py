"""How many log keys of a bucket are not loaded yet: a look that ends in time, whatever the log bucket holds.

Where nothing is purged a log bucket holds millions of keys, and to list them all takes many minutes. So the newest days
come first, where most of what is new lies, then the others from the first on, until the time is up.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta

import sqlalchemy as sa

from tamarin_dagster.logstore import LogStore
from tamarin_dagster.pipeline.discover import Look, days_with_keys, survey
from tamarin_dagster.settings import LoggedBucket

# A page of 1,000 keys takes S3 about 0.1 s: a hundred thousand keys or two, which is as long as a person waits.
LOOK_SECONDS = 20.0
# Late keys are looked for in so many days, each night; nobody looks at older ones again.
NEWEST_DAYS = 7


@dataclass(slots=True)
class Backlog:
    """What a look at a log bucket has found.

    Attributes:
        first, last: the delivery days that were to be looked at.
        unloaded: log keys that are not loaded; at least so many, if not `is_complete`.
        listed: log keys that were looked at.
        outdated: those of them that are skipped, since a newer generation of their name is loaded and purged.
        waiting: other files of the bucket that may still be written.
        is_complete: whether all days were looked at to their end.
    """

    first: date
    last: date
    unloaded: int = 0
    listed: int = 0
    outdated: int = 0
    waiting: int = 0
    is_complete: bool = False


def backlog(
    bucket: LoggedBucket,
    store: LogStore,
    engine: sa.Engine,
    first: date,
    last: date,
    *,
    seconds: float | None = None,
    progress: Callable[[Backlog], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Backlog:
    """Counts the log keys of these delivery days that are not loaded, for so many `seconds` at most (default:
    LOOK_SECONDS).

    A request that is under way when the time is up is waited for. Raises LogStoreError, and
    sqlalchemy.exc.OperationalError when the database is gone.
    """
    end = clock() + (LOOK_SECONDS if seconds is None else seconds)
    found = Backlog(first, last)
    roots = survey(store, bucket).roots
    for number, day in enumerate(_days(bucket, store, roots, first, last)):
        if number and clock() > end:  # of days without a key too there may be thousands
            return found
        look = Look(store, engine, bucket, roots, day)
        listed, unloaded = found.listed, found.unloaded
        outdated, waiting = found.outdated, found.waiting
        with closing(look.pages()) as pages:
            for page in pages:
                unloaded += len(page)
                found.listed, found.unloaded = listed + look.listed, unloaded
                found.outdated, found.waiting = outdated + look.outdated, waiting + look.waiting
                if progress:
                    progress(found)
                if clock() > end:
                    return found
    found.is_complete = True
    return found


def _days(bucket: LoggedBucket, store: LogStore, roots: tuple[str, ...], first: date, last: date) -> Iterator[date]:
    """The newest days, backwards; then those of the days before that have any key, each found when it is asked for."""
    newest = min(NEWEST_DAYS, (last - first).days + 1)
    back = (last - timedelta(days=number) for number in range(newest))
    return itertools.chain(back, days_with_keys(store, bucket, roots, first, last - timedelta(days=newest)))
