"""The command `roll-up`, and the roll-up after a pull and before records are dropped."""

from datetime import UTC, date, datetime

import sqlalchemy as sa
import typer

from tamarin_dagster.analytics.dimension_refresh import refresh_dimensions
from tamarin_dagster.analytics.rollups import RolledUp, RolledUpDay, get_limits, roll_up
from tamarin_dagster.cli.app import EXIT_INCOMPLETE, FromOption, ToOption, command, explain_interrupt
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.shared import check_days
from tamarin_dagster.cli.terminal import bar, complain, err
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore import pending_days
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.settings import FIRST_LOG_DATE, Settings, SettingsError


@command(
    "roll-up",
    ("roll-up", "after `pull --no-rollups`"),
    ("roll-up --from 2026-01-01 --to 2026-01-31", "roll up a month of requests again"),
)
def roll_up_command(from_: FromOption = None, to: ToOption = None) -> None:
    """Roll up each day whose records have changed.

    A pull rolls up too; Dagster does so after each load and once an hour. The views and the report read the rollups. A
    day is rolled up in one transaction, or not at all.

    With --from or --to, the request days between them are rolled up again, even if they have not changed. Do this after
    you set `region`, which decides whether a transfer stays within the region.

    If a day cannot be rolled up, the command names it and continues with the others. The exit status is then 1.
    """
    settings = load_settings()
    first, last = check_days(from_, to)
    with explain_interrupt("Days that are done stay done; run roll-up to continue."):
        engine = open_database(settings)
        if first or last:
            _note_again(engine, first or FIRST_LOG_DATE, last or datetime.now(UTC).date())
        done = roll_up_due(settings, engine)
        if not (done.days or done.failures):
            err.print("All days are rolled up.")
        engine.dispose()
    if done.failures:
        raise typer.Exit(EXIT_INCOMPLETE)


def _note_again(engine: sa.Engine, first: date, last: date) -> None:
    with engine.begin() as connection:
        pending_days.note_rolled_up(connection, first, last)


def roll_up_due(settings: Settings, engine: sa.Engine, *, last: date | None = None) -> RolledUp:
    """Roll up each day whose records have changed, show a bar, and report how many days there were, if any.

    Also refresh the dimensions: agents, addresses and prices. `last` limits the days. Days that failed are reported,
    and are in the `failures` of the result.
    """
    days = 0

    def tell(day: RolledUpDay, left: int) -> None:
        nonlocal days
        days += 1
        advance(days, days + left, f"{day.day}: {day.requests:,} requests")

    with bar("Rolling up", "days") as advance:
        done = roll_up(engine, regions=settings.regions, limits=get_limits(settings), last=last, progress=tell)
    if done.days:
        err.print(
            f"{count_noun(len(done.days), 'day')} rolled up: {count_noun(done.requests, 'request')}"
            f" in {done.seconds:.1f} s",
            highlight=False,
        )
    try:
        refreshed = refresh_dimensions(engine, settings)
        done.failures += refreshed.failures
        if done.days and refreshed.lacking:
            err.print(refreshed.lacking, markup=False, highlight=False)
    except SettingsError as error:
        complain(f"the rollups are up to date, but agents, prices and networks are not: {error}")
    for failure in done.failures:
        complain(str(failure))
    return done
