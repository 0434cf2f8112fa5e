"""Commands about the database itself: migrate it, let others read it, stop the embedded server."""

from typing import Annotated

import typer
from rich.markup import escape

from tamarin_dagster.cli.app import command, flag
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.terminal import err
from tamarin_dagster.recordstore.database import migrated_engine, open_database
from tamarin_dagster.recordstore.roles import grant_reading
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster.settings import SettingsError


@command("migrate", ("migrate", "after an upgrade, before Dagster is started again"))
def migrate_command() -> None:
    """Brings the database to the present schema.

    All other commands do so by themselves; this one does nothing else, for a deployment that wants it done first.
    """
    settings = load_settings()
    engine, done = migrated_engine(settings)
    engine.dispose()
    err.print(f"The schema {'is at' if done else 'was already at'} revision {SCHEMA_REVISION}.")


@command(
    "grant-reader",
    ("grant-reader analysts", "make the role, or bring its rights up to date after an upgrade"),
    ("sql \"CREATE ROLE anna LOGIN PASSWORD '...' IN ROLE analysts\"", "make a login in it"),
)
def grant_reader(
    role: Annotated[
        str, typer.Argument(help="The role; it is made, without a login, if there is none.", metavar="ROLE")
    ],
) -> None:
    """Lets a role of Postgres read the tables, and change nothing.

    For people and BI tools that ask. The bytes of rejected lines are left out, since those may hold signatures of
    presigned URLs.
    """
    settings = load_settings()
    engine = open_database(settings)
    made = grant_reading(engine, role)
    err.print(f"{escape(role)} {'is made, and ' if made else ''}may read.", highlight=False)
    engine.dispose()


@command(
    "stop",
    ("stop", "after `sql --url`"),
    ("stop --now", "also while others use it; what they are doing is rolled back"),
)
def stop(now: Annotated[bool, flag("--now", "Also while other processes use it.")] = False) -> None:
    """Stops the embedded Postgres if nothing else of the project uses it.

    It stops by itself with its last user, but for one whose URL was asked for with `sql --url`. This command takes
    seconds, also while the server is starting, recovering or stuck: it never starts it or waits for it. Nothing that
    was committed is lost.
    """
    settings = load_settings()
    if settings.database_url:
        raise SettingsError("database_url is set: there is no embedded Postgres to stop")
    err.print(EmbeddedPostgres(settings.home).stop(now=now), markup=False, highlight=False)
