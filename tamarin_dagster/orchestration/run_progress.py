"""Progress of long steps, as lines in the log of the run."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import dagster as dg

from tamarin_dagster.analytics.rollups import RolledUpDay
from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.logkey import count_periods
from tamarin_dagster.pipeline.pull import Progress

# Seconds between two lines of progress in the log of a run.
PROGRESS_SECONDS = 10


class _Throttle:
    """Limits the lines to one in PROGRESS_SECONDS."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()

    def is_due(self) -> bool:
        """Return whether PROGRESS_SECONDS have passed since this last returned True, or since the start."""
        now = time.monotonic()
        is_due = now - self._last >= PROGRESS_SECONDS
        self._last = now if is_due else self._last
        return is_due

    def count_seconds(self) -> float:
        """Return the seconds from the start to the last line."""
        return self._last - self._started


def log_loading(log: dg.DagsterLogManager, periods: Sequence[DeliveryPeriod]) -> Callable[[Progress], None]:
    """Return a callback for `pull` that logs the progress of a load."""
    throttle, count = _Throttle(), count_periods(periods)

    def report(progress: Progress) -> None:
        if throttle.is_due():
            seconds = throttle.count_seconds()
            left = progress.seconds_left(seconds)
            remains = f"; about {timedelta(seconds=round(left))} left" if left else ""
            log.info(
                f"at {progress.period}, {progress.looked:,} of {count} done: {progress.keys:,} keys,"
                f" {progress.lines:,} lines, {progress.lines / seconds:,.0f} lines/s{remains}"
            )

    return report


def log_roll_up(log: dg.DagsterLogManager) -> Callable[[RolledUpDay, int], None]:
    """Return a callback for `roll_up` that logs the rolled-up days."""
    throttle = _Throttle()

    def report(day: RolledUpDay, left: int) -> None:
        if throttle.is_due():
            log.info(f"{day.bucket}, {day.day}: {day.requests:,} requests rolled up; {left:,} days left")

    return report
