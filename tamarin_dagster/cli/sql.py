"""The command that queries the database of the records."""

import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from tamarin_dagster.cli.app import command, explain_interrupt, flag
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.terminal import Format, collect_json, err, printable, show_csv, show_rows
from tamarin_dagster.extras import MissingExtraError, needing, why_missing
from tamarin_dagster.lake.place import lake_of
from tamarin_dagster.pipeline.backup import connection_arguments
from tamarin_dagster.recordstore.asking import ask
from tamarin_dagster.recordstore.connections import connect_arguments, embedded_postgres, records_url
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster.settings import Settings, SettingsError
from tamarin_dagster.urls import clean_errors


@command(
    "sql",
    ('sql "SELECT key, count(*) FROM s3_log_record GROUP BY key"', "a query, as a table"),
    ('sql --format csv "SELECT * FROM s3_log_key" > keys.csv', "with a header, row by row, for any number of rows"),
    ('sql --format json "SELECT key FROM s3_log_key" | jq length', "for a script"),
    ("sql", "psql, with its \\d and its history"),
    ("sql --url", "for a BI tool, or pandas"),
)
def sql_command(
    query: Annotated[
        str | None, typer.Argument(help="Statements, separated by semicolons; without one: psql.", metavar="QUERY")
    ] = None,
    lake: Annotated[bool, flag("--lake", "Query the lake, and what only Postgres has, with DuckDB.")] = False,
    url: Annotated[bool, flag("--url", "Print the database's URL, for other programs.")] = False,
    format_: Annotated[
        Format, typer.Option("--format", help="The format of the answer.", metavar="table|csv|json")
    ] = Format.table,
) -> None:
    """Query the database of the records, open psql, or print the database's URL.

    Several statements run in one transaction, as with psql -c, and the answer to each is shown. csv has values as
    Postgres writes them. json keeps numbers, booleans and lists as such; it is a list of rows, or a list of such lists
    if several statements return rows. A table is held in memory until it is complete.

    --lake runs the query with DuckDB. Its table s3_log_record has all records of the lake, and those of Postgres that
    the lake does not have yet; standard error says how many come from where. Changes are not kept.

    --url keeps the embedded server running until `tamarin-dagster stop`. docs/reference/tables.md describes the tables.
    """
    settings = load_settings()
    if lake:
        if query is None:
            raise SettingsError("--lake needs a query")
        with explain_interrupt("The query is cancelled."):
            _ask_lake(settings, query, format_)
        return
    open_database(settings).dispose()
    if url:
        if not settings.database_url:
            embedded_postgres(settings.home).keep_running()
        sys.stdout.write(records_url(settings, driver="postgresql") + "\n")
    elif query is not None:
        with explain_interrupt("The query is cancelled."):
            _show_answers(settings, query, format_)
    else:
        _psql(settings)


def _show_answers(settings: Settings, query: str, format_: Format) -> None:
    url = records_url(settings, driver="postgresql")
    with clean_errors(url):
        connection = psycopg.connect(url, autocommit=True, **connect_arguments(settings, "tamarin sql"))
    connection.add_notice_handler(lambda said: err.print(f"{said.severity}: {printable(said.message_primary or '')}"))
    with closing(connection):
        if format_ is Format.json:
            with collect_json() as take:
                for answer in ask(connection, query, for_json=True):
                    if isinstance(answer, str):
                        err.print(answer)
                    else:
                        take(answer.names, answer.rows)
            return
        count = 0
        for answer in ask(connection, query):
            if isinstance(answer, str):
                err.print(answer)
            elif format_ is Format.table:
                show_rows(answer.names, answer.rows, answer.are_numbers)
            else:
                sys.stdout.write("\n" if count else "")
                show_csv(answer.names, answer.rows)
                count += 1


def _ask_lake(settings: Settings, query: str, format_: Format) -> None:
    place = lake_of(settings)
    engine = open_database(settings)
    tables = place.open(engine)
    with needing("lake", "`sql --lake`"):
        from tamarin_dagster.lake.query import open_lake  # noqa: PLC0415 - needs the extra
    with open_lake(tables, engine) as found:
        err.print(f"s3_log_record: {found.of_lake} from the lake; {found.of_postgres} from Postgres", highlight=False)
        if format_ is Format.json:
            with collect_json() as take:
                for answer in found.ask(query):
                    take(answer.names, answer.rows)
            return
        for number, answer in enumerate(found.ask(query)):
            if format_ is Format.table:
                show_rows(answer.names, answer.rows)
            else:
                sys.stdout.write("\n" if number else "")
                show_csv(answer.names, (tuple(map(_show_value, row)) for row in answer.rows))
    engine.dispose()


def _show_value(value: object) -> str | None:
    """Return a value as CSV has it; booleans as Postgres writes them."""
    if isinstance(value, bool):
        return "t" if value else "f"
    return None if value is None else str(value)


def _psql(settings: Settings) -> None:
    """Run psql as a child, not in our place: the embedded server runs as long as we do. Pass its password unseen."""
    url = records_url(settings, driver="postgresql")
    with clean_errors(url):
        place, environment = connection_arguments(url)
    program = _psql_program(settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # psql uses ctrl-C to cancel a query
    raise typer.Exit(subprocess.call([program, place], env=environment))


def _psql_program(settings: Settings) -> Path:
    """Return the psql of the embedded Postgres, or the one on the PATH. Raises MissingExtraError."""
    if missing := why_missing("embedded", "`sql` without a query, where no psql is on the PATH,"):
        if on_path := shutil.which("psql"):
            return Path(on_path)
        raise MissingExtraError(missing)
    return EmbeddedPostgres(settings.home).psql
