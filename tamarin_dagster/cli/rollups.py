"""Rollups as commands make them: behind a pull, and before records go."""

import sqlalchemy as sa

from tamarin_dagster.analysis.rollups import RolledUp, RolledUpDay, roll_up
from tamarin_dagster.settings import Settings
from tamarin_dagster.terminal import bar, err


def roll_up_due(settings: Settings, engine: sa.Engine) -> RolledUp:
    """Rolls up each day whose records have changed, with a bar, and says how many there were if any."""
    days = 0

    def tell(day: RolledUpDay, left: int) -> None:
        nonlocal days
        days += 1
        advance(days, days + left, f"{day.day}: {day.requests:,} requests")

    with bar("Rolling up", "days") as advance:
        done = roll_up(engine, regions=settings.regions, progress=tell)
    if done.days:
        err.print(
            f"{len(done.days):,} days rolled up: {done.requests:,} requests in {done.seconds:.1f} s", highlight=False
        )
    return done
