"""Count the log keys of a bucket that are not loaded yet, within a time limit.

Without a purge a log bucket holds millions of log keys, and a full listing takes many minutes. So the newest days come
first, because most new log keys are there; then the other days from the first one on, until the time is up.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta

import sqlalchemy as sa

from tamarin_dagster.logstore import LogStore
from tamarin_dagster.pipeline.discover import Look, list_days_with_keys, survey
from tamarin_dagster.settings import LoggedBucket

# S3 lists a page of 1,000 names in about 0.1 s, so this allows 100,000 to 200,000 log keys, and is as long as people
# wait.
LOOK_SECONDS = 20.0
# Each night late log keys are looked for in this many days; older days are never looked at again.
NEWEST_DAYS = 7


@dataclass(slots=True)
class Backlog:
    """The log keys that a listing of a log bucket has found.

    Attributes:
        first, last: the range of delivery days to look at.
        unloaded: log keys that are not loaded; a minimum unless `is_complete`.
        listed: log keys that were listed.
        outdated: how many of them are skipped because a newer generation of their name is loaded and purged.
        waiting: other files of the bucket that may still be written.
        is_complete: whether all days were listed to their end.
    """

    first: date
    last: date
    unloaded: int = 0
    listed: int = 0
    outdated: int = 0
    waiting: int = 0
    is_complete: bool = False


def count_backlog(
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
    """Count the log keys of these delivery days that are not loaded, in at most `seconds` (default: LOOK_SECONDS).

    A request that is under way when the time is up is completed. Raises LogStoreError, and
    sqlalchemy.exc.OperationalError when the database is gone.
    """
    end = clock() + (LOOK_SECONDS if seconds is None else seconds)
    found = Backlog(first, last)
    roots = survey(store, bucket).roots
    for number, day in enumerate(_days(bucket, store, roots, first, last)):
        if number and clock() > end:  # there may also be thousands of days without any log key
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
    """Yield the newest days, backwards, then the earlier days that have log keys; each is searched for on demand."""
    newest = min(NEWEST_DAYS, (last - first).days + 1)
    back = (last - timedelta(days=number) for number in range(newest))
    return itertools.chain(back, list_days_with_keys(store, bucket, roots, first, last - timedelta(days=newest)))
