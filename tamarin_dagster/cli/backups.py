"""Commands about backups: write the records' database to a file, and make it again from one."""

from datetime import UTC
from pathlib import Path
from typing import Annotated

import typer

from tamarin_dagster.cli.app import command, flag, told_if_interrupted
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.terminal import bar, complain, err, printable
from tamarin_dagster.pipeline import backup as backups
from tamarin_dagster.recordstore.connections import records_url
from tamarin_dagster.recordstore.database import migrated_engine
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION
from tamarin_dagster.recordstore.server.place import has_cluster
from tamarin_dagster.settings import Settings, SettingsError

_MEGABYTE = 1_000_000


@command(
    "backup",
    ("backup backups/tamarin.dump", "all records, rejected lines and the ledger, in one file"),
    ("backup --elsewhere", "another program, such as pg_dump, has just made one"),
)
def backup_command(
    file: Annotated[
        Path | None, typer.Argument(help="The file to write; it must not exist yet.", metavar="FILE", dir_okay=False)
    ] = None,
    elsewhere: Annotated[
        bool, flag("--elsewhere", "Write nothing; note for the doctor that another program has made a backup.")
    ] = False,
) -> None:
    """Writes the records' database into a file, from which restore makes it again.

    The file is in pg_dump's custom format, and only its owner may read it. Pulls may go on meanwhile: the backup has
    the database as it is at the begin. It does not migrate the database, so that it can be made before an upgrade.
    Dagster's own history is not in it.
    """
    if (file is None) != elsewhere:
        raise SettingsError("name either the FILE to write, or --elsewhere")
    settings = load_settings()
    if not settings.database_url and not has_cluster(settings.home):
        raise SettingsError(f"home: there is no database in {settings.home} yet: there is nothing to back up")
    url = records_url(settings, driver="postgresql")
    if file is None:
        if not backups.note_backup(url):
            raise backups.BackupError(
                f"the database is not at schema revision {SCHEMA_REVISION} and cannot take the note; run migrate first"
            )
        err.print("The database has a note now that a backup of it was made.")
        return
    with told_if_interrupted("No backup was written."), bar("Backing up", "") as advance:
        done = backups.back_up(
            url, file, progress=lambda size: advance(size, None, f"{size / _MEGABYTE:,.1f} MB written")
        )
    err.print(
        f"{printable(str(file))}: {done.bytes:,} bytes in {done.seconds:.1f} s, a backup of {_name(settings)}",
        highlight=False,
        soft_wrap=True,
    )
    if not done.noted:
        complain(f"the database is older than schema revision {SCHEMA_REVISION}: it takes no note of the backup")


@command(
    "restore",
    ("restore backups/tamarin.dump", "into a new home, or a new database"),
)
def restore_command(
    file: Annotated[Path, typer.Argument(help="A file that backup has written.", metavar="FILE")],
) -> None:
    """Makes the records' database what it was when a backup was made, and migrates it.

    Only into a database without records: with a new home (TAMARIN_HOME) or a new database (TAMARIN_DATABASE_URL). All
    of it is one transaction; after an error the database is as it was. Rights of other roles are not restored: run
    grant-reader again.

    Log keys that were purged after the backup was made are not in it, and no longer in the log bucket. Their records
    are in the archive, if there is one.
    """
    settings = load_settings()
    backups.check_backup(file)  # before an embedded server is made for it
    with told_if_interrupted("The database is as it was."), err.status("Restoring"):
        done = backups.restore(records_url(settings, driver="postgresql"), file)
        engine, _ = migrated_engine(settings)
        engine.dispose()
    until = (
        f", loaded until {done.newest_loaded_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if done.newest_loaded_at else ""
    )
    err.print(
        f"Restored into {_name(settings)} in {done.seconds:.1f} s: {done.keys:,} log keys with {done.records:,}"
        f" records{until}. Run pull for the log keys that have come since.",
        highlight=False,
        soft_wrap=True,
    )


def _name(settings: Settings) -> str:
    """The database, without its password."""
    return (
        "the configured database"
        if settings.database_url
        else f"the embedded Postgres in {printable(str(settings.home))}"
    )
