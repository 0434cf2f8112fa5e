"""What a person can mend, said in a line: of the exceptions that end a command."""

import psycopg
import sqlalchemy as sa

from tamarin_dagster.cli.app import EXIT_LEFT_UNDONE, EXIT_WRONG, PROGRAM
from tamarin_dagster.extras import MissingExtraError
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.recordstore.database import DatabaseError
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgresError
from tamarin_dagster.settings import SettingsError


def explain(error: Exception) -> tuple[str, int] | None:
    """Return what to say of an error and the exit status; None if it is no mistake of a person's."""
    if isinstance(error, SettingsError):
        return str(error), EXIT_WRONG
    if isinstance(error, DatabaseError | EmbeddedPostgresError | LogStoreError | MissingExtraError):
        return str(error), EXIT_LEFT_UNDONE
    if isinstance(error, sa.exc.DBAPIError | psycopg.Error):
        return f"database: {_said_of(error)}", EXIT_LEFT_UNDONE
    return None


def _said_of(error: sa.exc.DBAPIError | psycopg.Error) -> str:
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    said = str(cause).strip()
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return f"{said} - `{PROGRAM} doctor` says which right the user lacks, and what to do"
    return said
