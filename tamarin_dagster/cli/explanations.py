"""The errors that a person can correct: the line that the command shows, and its exit status."""

import psycopg
import sqlalchemy as sa

from tamarin_dagster.cli.app import EXIT_INCOMPLETE, EXIT_WRONG, PROGRAM
from tamarin_dagster.extras import MissingExtraError
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.recordstore.database import DatabaseError
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgresError
from tamarin_dagster.settings import SettingsError


def explain(error: Exception) -> tuple[str, int] | None:
    """Return the message and the exit status of an error, or None if only a programmer could correct it."""
    if isinstance(error, SettingsError):
        return str(error), EXIT_WRONG
    if isinstance(error, DatabaseError | EmbeddedPostgresError | LogStoreError | MissingExtraError):
        return str(error), EXIT_INCOMPLETE
    if isinstance(error, sa.exc.DBAPIError | psycopg.Error):
        return f"database: {_get_text(error)}", EXIT_INCOMPLETE
    return None


def _get_text(error: sa.exc.DBAPIError | psycopg.Error) -> str:
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    text = str(cause).strip()
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return f"{text} - run `{PROGRAM} doctor`: it names the missing privilege and the remedy"
    return text
