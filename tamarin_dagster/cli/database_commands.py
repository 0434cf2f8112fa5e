"""Commands about the database itself: migrate it, let others read it, stop the embedded server."""

from typing import Annotated

import typer
from rich.markup import escape

from tamarin_dagster.cli.app import command, flag
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.terminal import err
from tamarin_dagster.recordstore.database import open_database, open_migrated_engine
from tamarin_dagster.recordstore.roles import grant_reading
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster.settings import SettingsError


@command("migrate", ("migrate", "after an upgrade, before you start Dagster again"))
def migrate_command() -> None:
    """Migrate the database to the current schema.

    All other commands migrate by themselves. Run this one in a deployment where the migration comes first.
    """
    settings = load_settings()
    engine, done = open_migrated_engine(settings)
    engine.dispose()
    err.print(f"The schema {'is at' if done else 'was already at'} revision {SCHEMA_REVISION}.")


@command(
    "grant-reader",
    ("grant-reader analysts", "create the role, or update its privileges after an upgrade"),
    ("sql \"CREATE ROLE anna LOGIN PASSWORD '...' IN ROLE analysts\"", "create a login in it"),
)
def grant_reader(
    role: Annotated[
        str, typer.Argument(help="The role; it is created, without a login, if it does not exist.", metavar="ROLE")
    ],
) -> None:
    """Let a Postgres role read the tables, and change nothing.

    Use it for people and BI tools that query. The role cannot read the bytes of rejected lines, since those may hold
    signatures of presigned URLs.
    """
    settings = load_settings()
    engine = open_database(settings)
    created = grant_reading(engine, role)
    err.print(f"{escape(role)} {'was created and ' if created else ''}may read.", highlight=False)
    engine.dispose()


@command(
    "stop",
    ("stop", "after `sql --url`"),
    ("stop --now", "also while others use it; their current work is rolled back"),
)
def stop(now: Annotated[bool, flag("--now", "Stop even while other processes use it.")] = False) -> None:
    """Stop the embedded Postgres unless another process uses it.

    The server stops by itself with its last user, unless its URL was requested with `sql --url`. This command takes
    seconds, also while the server is starting, recovering or stuck: it never starts the server or waits for it. Nothing
    that was committed is lost.
    """
    settings = load_settings()
    if settings.database_url:
        raise SettingsError("database_url is set: there is no embedded Postgres to stop")
    err.print(EmbeddedPostgres(settings.home).stop(now=now), markup=False, highlight=False)
