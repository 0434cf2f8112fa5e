"""Findings on the encoding of the databases; none if it is UTF8."""

from collections.abc import Iterator

import sqlalchemy as sa

from tamarin_dagster.logstore.errors import summarize_error
from tamarin_dagster.operations.doctor.finding import Finding, fail
from tamarin_dagster.recordstore.connections import CONNECT_TIMEOUT_SECONDS
from tamarin_dagster.recordstore.database import create_engine
from tamarin_dagster.recordstore.encoding import encoding_problem, encoding_remedy
from tamarin_dagster.settings import Settings
from tamarin_dagster.settings.values import drop_prepare_threshold


def encoding_findings(subject: str, connection: sa.Connection) -> Iterator[Finding]:
    """Yield what is wrong with the encoding of the connection's database."""
    if problem := encoding_problem(connection):
        yield fail(f"{subject} encoding", problem, encoding_remedy(connection.engine.url.database))


def dagster_findings(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with Dagster's own database, if configured: its events contain keys and errors."""
    url = settings.dagster_database_url
    if not url:
        return
    subject = "dagster database"
    engine = create_engine(
        "postgresql+psycopg" + drop_prepare_threshold(url).removeprefix("postgresql"),
        connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "client_encoding": "utf8"},
    )
    try:
        with engine.connect() as connection:
            yield from encoding_findings(subject, connection)
    except sa.exc.DBAPIError as error:
        text = summarize_error(error.orig if isinstance(error.orig, Exception) else error)
        yield fail(subject, text, "check that the server is running and that TAMARIN_DAGSTER_DATABASE_URL is right")
    finally:
        engine.dispose()
