"""Roll up traffic: merge the parts of a day, and write the day's rows, in one transaction.

Each load stores the sums of its records (`recordstore.stored_parts`). So the cost of a roll-up grows with the records
that were loaded since the last one, not with the size of the day. If records were deleted (by a newer generation of a
log key), the records of the day are read again, and summed up by the same functions. So a rollup is exact, or its day
is due.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType

import sqlalchemy as sa

from tamarin_dagster.recordstore.days import of_day
from tamarin_dagster.recordstore.failures import DayFailure, isolate_failure
from tamarin_dagster.recordstore.pending_days import BUCKET_BYTES, select_due_days
from tamarin_dagster.recordstore.schema.tables import s3_log_record
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day, traffic_pending_day
from tamarin_dagster.settings import DEFAULT_ROLLUP_PARTS_DAYS, DEFAULT_ROLLUP_ROWS, Settings

# The maximum share of the time that the roll-ups of a growing day may take: a day that took 6 s is skipped for a
# minute. So the work for a day grows with its hours, not with the number of its loads.
PATIENT_SHARE = 0.1
_REMEDY = "the other days are not affected and this one stays noted: fix the cause, then run `tamarin-dagster roll-up`"


@dataclass(frozen=True, slots=True)
class RolledUpDay:
    """One UTC day of a bucket's requests after its roll-up."""

    bucket: str
    day: date
    requests: int
    seconds: float


@dataclass(slots=True)
class RolledUp:
    """The result of a roll-up.

    Attributes:
        days: the days whose rows were written, in order.
        waiting: number of days left for later, because they were rolled up a moment ago.
        kept: number of days that needed no work: retention has dropped their records, so that their rollups stay as
            they are, or another process was faster.
        failures: days that could not be rolled up; each is as it was, and stays noted.
        seconds: duration.
    """

    days: list[RolledUpDay] = field(default_factory=list)
    waiting: int = 0
    kept: int = 0
    failures: list[DayFailure] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """Return the number of records of all these days."""
        return sum(day.requests for day in self.days)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a day is kept.

    Attributes:
        rows: the maximum number of rows of single values in each dimension; other values are folded.
        part_days: the number of days for which the parts of a day are kept after its last roll-up.
    """

    rows: int = DEFAULT_ROLLUP_ROWS
    part_days: int = DEFAULT_ROLLUP_PARTS_DAYS


def get_limits(settings: Settings) -> Limits:
    """Return how much of a day the settings keep."""
    return Limits(settings.rollup_rows, settings.rollup_parts_days)


def pending_days(connection: sa.Connection, *, skips: Collection[str] = ()) -> list[tuple[str, date]]:
    """Return the buckets and days that are due, in order, without the buckets `skips`."""
    due = select_due_days().c
    statement = (
        sa.select(due.bucket, due.request_date)
        .where(due.bucket.not_in(skips))
        .distinct()
        .order_by(due.bucket, due.request_date)
    )
    return [(row.bucket, row.request_date) for row in connection.execute(statement)]


def roll_up(
    engine: sa.Engine,
    *,
    regions: Mapping[str, str] = MappingProxyType({}),
    skips: Collection[str] = (),
    last: date | None = None,
    patient: bool = False,
    limits: Limits = Limits(),
    progress: Callable[[RolledUpDay, int], None] | None = None,
) -> RolledUp:
    """Roll up each day whose records have changed. After a kill, the current day is unchanged and all others are noted.

    A day that cannot be rolled up does not stop the others: it is one of the result's `failures`.

    Args:
        engine: connects to the records' database.
        regions: the regions of buckets, as far as they are known: they separate transfer within a region from transfer
            to another region.
        skips: buckets that other processes roll up.
        last: the last day to roll up; default: all days.
        patient: skip days that were rolled up a moment ago (see PATIENT_SHARE); for runs that come often.
        limits: how much of a day is kept.
        progress: called after each day, with the number of days left.
    """
    started = time.monotonic()
    done = RolledUp()
    _name_buckets(engine)
    with engine.connect() as connection:
        pending = pending_days(connection, skips=skips)
        lately = _rolled_up_lately(connection) if patient else set()
    pending = [each for each in pending if last is None or each[1] <= last]
    chosen = [each for each in pending if each not in lately]
    done.waiting = len(pending) - len(chosen)
    if chosen:
        _roll_up_days(engine, chosen, regions, limits, done, progress)
    done.seconds = time.monotonic() - started
    return done


def _roll_up_days(
    engine: sa.Engine,
    chosen: Sequence[tuple[str, date]],
    regions: Mapping[str, str],
    limits: Limits,
    done: RolledUp,
    progress: Callable[[RolledUpDay, int], None] | None,
) -> None:
    # This imports pyarrow, which takes longer than finding that no day is pending.
    from tamarin_dagster.analytics import rollup_day  # noqa: PLC0415

    for left, (bucket, day) in zip(reversed(range(len(chosen))), chosen, strict=True):
        with isolate_failure(done.failures, "roll up", bucket, day, _REMEDY):
            rolled_up = rollup_day.roll_up_day(engine, bucket, day, regions.get(bucket), limits)
            if rolled_up is None:
                done.kept += 1
                continue
            done.days.append(rolled_up)
            if progress:
                progress(rolled_up, left)
    with engine.begin() as connection:
        rollup_day.delete_old_parts(connection, limits.part_days)


def _name_buckets(engine: sa.Engine) -> None:
    """Replace each note for all buckets by notes for the buckets that have records or rollups of its day."""
    pending, record, rolled_up = traffic_pending_day.c, s3_log_record.c, traffic_day.c
    with engine.connect() as connection:
        days = connection.scalars(
            sa.select(pending.request_date).where(pending.bucket.is_(None)).distinct().order_by(pending.request_date)
        ).all()
    for day in days:
        names = sa.union(
            sa.select(record.bucket).where(of_day(day), sa.func.octet_length(record.bucket) <= BUCKET_BYTES),
            sa.select(rolled_up.bucket).where(rolled_up.request_date == day),
        ).subquery()
        unnamed = sa.delete(traffic_pending_day).where(pending.bucket.is_(None), pending.request_date == day)
        named = sa.select(names.c.bucket, sa.literal(day, sa.Date))
        with engine.begin() as connection:
            connection.execute(unnamed)
            connection.execute(sa.insert(traffic_pending_day).from_select(["bucket", "request_date"], named))


def _rolled_up_lately(connection: sa.Connection) -> set[tuple[str, date]]:
    """Return the days whose last roll-up took more than PATIENT_SHARE of the time since then."""
    day = traffic_day.c
    age = sa.extract("epoch", sa.func.now() - day.rolled_up_at)
    statement = sa.select(day.bucket, day.request_date).where(day.seconds > PATIENT_SHARE * age)
    return {(row.bucket, row.request_date) for row in connection.execute(statement)}
