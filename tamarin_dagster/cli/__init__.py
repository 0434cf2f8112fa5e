"""tamarin-dagster: the command line, for cron, for shells, and for a first look.

Exit status: 0 all is done; 1 something is left undone (it was said what); 2 the settings or the arguments are wrong;
130 interrupted.
What a person can mend is said in a line, without a traceback.
"""

import logging
import signal
import sys

import psycopg
import sqlalchemy as sa

from tamarin_dagster.cli import access, keys, records, setup  # noqa: F401 - each adds its commands
from tamarin_dagster.cli.app import EXIT_LEFT_UNDONE, EXIT_WRONG, app
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.recordstore.database import DatabaseError
from tamarin_dagster.recordstore.embedded import EmbeddedPostgresError
from tamarin_dagster.settings import SettingsError
from tamarin_dagster.terminal import LineHandler, complain


def main() -> None:
    """Runs the command line; what a person can mend comes out as one line."""
    for sign in (signal.SIGTERM, signal.SIGHUP):  # as ctrl-C: what is at hand is rolled back, the database given up
        signal.signal(sign, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[LineHandler()])
    try:
        app()
    except SettingsError as error:
        complain(str(error))
        sys.exit(EXIT_WRONG)
    except (DatabaseError, EmbeddedPostgresError, LogStoreError) as error:
        complain(str(error))
        sys.exit(EXIT_LEFT_UNDONE)
    except (sa.exc.DBAPIError, psycopg.Error) as error:
        complain(f"database: {str(error.orig if isinstance(error, sa.exc.DBAPIError) else error).strip()}")
        sys.exit(EXIT_LEFT_UNDONE)
