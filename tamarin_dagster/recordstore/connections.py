"""The addresses of the databases, and psycopg's connection arguments. This module does not need SQLAlchemy."""

from functools import cache
from pathlib import Path
from typing import Any

from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster.settings import Settings
from tamarin_dagster.settings.values import drop_prepare_threshold, has_parameter, read_prepare_threshold

RECORDS_DATABASE = "tamarin"
DAGSTER_DATABASE = "dagster"

# Seconds until an unreachable server is reported as an error; otherwise a command would hang.
CONNECT_TIMEOUT_SECONDS = 10


def embedded_postgres(home: Path) -> EmbeddedPostgres:
    """Return the running embedded server of that home, with its two databases. All our processes share it."""
    server = _get_server(home)
    server.ensure_databases(RECORDS_DATABASE, DAGSTER_DATABASE)
    return server


@cache
def _get_server(home: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(home)


def records_url(settings: Settings, driver: str = "postgresql+psycopg") -> str:
    """Return the URL of the records' database, for any driver. Starts the embedded server if none is configured."""
    if settings.database_url:
        return driver + drop_prepare_threshold(settings.database_url).removeprefix("postgresql")
    return embedded_postgres(settings.home).url(RECORDS_DATABASE, driver=driver)


def dagster_url(settings: Settings) -> str:
    """Return the URL of Dagster's own storage. It names the driver, because SQLAlchemy 2.1 would choose psycopg 3."""
    if settings.dagster_database_url:
        return "postgresql+psycopg2" + drop_prepare_threshold(settings.dagster_database_url).removeprefix("postgresql")
    return embedded_postgres(settings.home).url(DAGSTER_DATABASE, driver="postgresql+psycopg2")


def connect_arguments(settings: Settings, application_name: str) -> dict[str, Any]:
    """Return psycopg's arguments for a connection to the records' database; those in its URL take precedence."""
    url = settings.database_url or ""
    arguments = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": application_name,
        # COPY is sent UTF-8, whatever PGCLIENTENCODING says.
        "client_encoding": "utf8",
        # Through PgBouncer the next statement may reach a server where another client has prepared the same name.
        "prepare_threshold": read_prepare_threshold(url),
    }
    return {
        name: value for name, value in arguments.items() if name == "prepare_threshold" or not has_parameter(url, name)
    }
