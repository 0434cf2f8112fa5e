"""Rollups: behind a pull, before records go, and for themselves."""

from datetime import UTC, date, datetime

import sqlalchemy as sa
import typer

from tamarin_dagster.analytics.dimensions import refresh_dimensions
from tamarin_dagster.analytics.rollups import RolledUp, RolledUpDay, limits_of, roll_up
from tamarin_dagster.cli.app import EXIT_LEFT_UNDONE, FromOption, ToOption, command, told_if_interrupted
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.shared import asked_days
from tamarin_dagster.cli.terminal import bar, complain, err
from tamarin_dagster.recordstore import pending_days
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.settings import FIRST_LOG_DATE, Settings, SettingsError


@command(
    "roll-up",
    ("roll-up", "after `pull --no-rollups`"),
    ("roll-up --from 2026-01-01 --to 2026-01-31", "make the rollups of a month's requests again"),
)
def roll_up_command(from_: FromOption = None, to: ToOption = None) -> None:
    """Makes the rollups of each day whose records have changed since.

    A pull does so too, and Dagster behind each load and hourly: rollups are what the views and the report read. A day
    is made in one transaction, or stays as it was.

    With --from or --to the days of requests between them are made again, whether or not they have changed: after
    `region` was set, by which transfer within the region is told from that to another.

    A day that cannot be rolled up is named, and the others go on; the status is 0 only if there was none.
    """
    settings = load_settings()
    first, last = asked_days(from_, to)
    with told_if_interrupted("Days that are done stay so; run roll-up to go on."):
        engine = open_database(settings)
        if first or last:
            _note_again(engine, first or FIRST_LOG_DATE, last or datetime.now(UTC).date())
        done = roll_up_due(settings, engine)
        if not (done.days or done.failures):
            err.print("All days are rolled up.")
        engine.dispose()
    if done.failures:
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _note_again(engine: sa.Engine, first: date, last: date) -> None:
    with engine.begin() as connection:
        pending_days.note_rolled_up(connection, first, last)


def roll_up_due(settings: Settings, engine: sa.Engine, *, last: date | None = None) -> RolledUp:
    """Rolls up each day whose records have changed, with a bar, and says how many there were if any.

    And what is to be known of the agents and addresses in them. `last`: only days up to this one. Days that failed are
    named, and are among the answer's `failures`.
    """
    days = 0

    def tell(day: RolledUpDay, left: int) -> None:
        nonlocal days
        days += 1
        advance(days, days + left, f"{day.day}: {day.requests:,} requests")

    with bar("Rolling up", "days") as advance:
        done = roll_up(engine, regions=settings.regions, limits=limits_of(settings), last=last, progress=tell)
    if done.days:
        err.print(
            f"{len(done.days):,} days rolled up: {done.requests:,} requests in {done.seconds:.1f} s", highlight=False
        )
    try:
        refreshed = refresh_dimensions(engine, settings)
        done.failures += refreshed.failures
        if done.days and refreshed.lacking:
            err.print(refreshed.lacking, markup=False, highlight=False)
    except SettingsError as error:
        complain(f"the rollups are made; agents, prices and networks are not up to date: {error}")
    for failure in done.failures:
        complain(str(failure))
    return done
