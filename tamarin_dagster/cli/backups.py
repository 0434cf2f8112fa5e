"""Commands about backups: write the database of the records to a file, and restore it."""

from datetime import UTC
from pathlib import Path
from typing import Annotated

import typer

from tamarin_dagster.cli.app import command, explain_interrupt, flag
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.terminal import bar, complain, err, printable
from tamarin_dagster.pipeline import backup as backups
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.connections import records_url
from tamarin_dagster.recordstore.database import open_migrated_engine
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION
from tamarin_dagster.recordstore.server.place import has_cluster
from tamarin_dagster.settings import Settings, SettingsError

_MEGABYTE = 1_000_000


@command(
    "backup",
    ("backup backups/tamarin.dump", "all records, rejected lines and the ledger, in one file"),
    ("backup --elsewhere", "after another program, such as pg_dump, has made a backup"),
)
def backup_command(
    file: Annotated[
        Path | None, typer.Argument(help="The file to write; it must not exist yet.", metavar="FILE", dir_okay=False)
    ] = None,
    elsewhere: Annotated[
        bool, flag("--elsewhere", "Write nothing; note for the doctor that another program has made a backup.")
    ] = False,
) -> None:
    """Write the database of the records to a file that `restore` can read.

    The file has pg_dump's custom format, and only its owner may read it. Pulls may go on meanwhile: the backup holds
    the database as it is at the start. The command does not migrate the database, so that you can make a backup before
    an upgrade. Dagster's own history is not in the backup.
    """
    if (file is None) != elsewhere:
        raise SettingsError("give either the FILE to write or --elsewhere")
    settings = load_settings()
    if not settings.database_url and not has_cluster(settings.home):
        raise SettingsError(f"home: there is no database in {settings.home} yet, so there is nothing to back up")
    url = records_url(settings, driver="postgresql")
    if file is None:
        if not backups.note_backup(url):
            raise backups.BackupError(
                f"the database is not at schema revision {SCHEMA_REVISION} and cannot store the note; run migrate first"
            )
        err.print("The database now has a note that a backup of it was made.")
        return
    with explain_interrupt("No backup was written."), bar("Backing up", "") as advance:
        done = backups.back_up(
            url, file, progress=lambda size: advance(size, None, f"{size / _MEGABYTE:,.1f} MB written")
        )
    err.print(
        f"{printable(str(file))}: {count_noun(done.bytes, 'byte')} in {done.seconds:.1f} s,"
        f" a backup of {_name(settings)}",
        highlight=False,
        soft_wrap=True,
    )
    if not done.noted:
        complain(f"the database is older than schema revision {SCHEMA_REVISION} and cannot store a note of the backup")


@command(
    "restore",
    ("restore backups/tamarin.dump", "into a new home, or a new database"),
)
def restore_command(
    file: Annotated[Path, typer.Argument(help="A file that `backup` has written.", metavar="FILE")],
) -> None:
    """Restore the database of the records from a backup, and migrate it.

    Restore only into a database without records: a new home (TAMARIN_HOME) or a new database (TAMARIN_DATABASE_URL).
    The whole restore is one transaction; after an error the database is unchanged. Privileges of other roles are not
    restored: run grant-reader again.

    Records of log keys that were loaded and purged after the backup was made are not in the backup, and their log keys
    are no longer in the log bucket. If you have an archive, the records are there.
    """
    settings = load_settings()
    backups.check_backup(file)  # before an embedded server is created for it
    with explain_interrupt("The database is unchanged."), err.status("Restoring"):
        done = backups.restore(records_url(settings, driver="postgresql"), file)
        engine, _ = open_migrated_engine(settings)
        engine.dispose()
    until = (
        f", loaded until {done.newest_loaded_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if done.newest_loaded_at else ""
    )
    err.print(
        f"Restored into {_name(settings)} in {done.seconds:.1f} s: {count_noun(done.keys, 'log key')} with"
        f" {count_noun(done.records, 'record')}{until}. Run pull to load the log keys that have arrived since.",
        highlight=False,
        soft_wrap=True,
    )


def _name(settings: Settings) -> str:
    """Name the database without its password."""
    return (
        "the configured database"
        if settings.database_url
        else f"the embedded Postgres in {printable(str(settings.home))}"
    )
