"""Commands about what is loaded: read rejected lines again, drop old months, ask, migrate, stop the server."""

import signal
import subprocess
import sys
from datetime import date
from typing import Annotated

import psycopg
import sqlalchemy as sa
import typer
from rich.markup import escape

from tamarin_dagster.cli.app import (
    EXIT_LEFT_UNDONE,
    BucketOption,
    FromOption,
    ToOption,
    app,
    chosen_buckets,
    day_of,
    told_if_interrupted,
)
from tamarin_dagster.recordstore.database import (
    embedded_postgres,
    migrate,
    open_database,
    records_url,
)
from tamarin_dagster.recordstore.embedded import EmbeddedPostgres
from tamarin_dagster.recordstore.roles import grant_reading
from tamarin_dagster.recordstore.tables import SCHEMA_REVISION
from tamarin_dagster.reparse import reparse
from tamarin_dagster.retention import Expirable, expirable, expire, unpurged_warning
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError, load_settings
from tamarin_dagster.terminal import Format, bar, complain, err, show_rows


@app.command("reparse")
def reparse_command(bucket: BucketOption = None, from_: FromOption = None, to: ToOption = None) -> None:
    """Reads rejected lines again, and moves those that are records now into the records. After an upgrade.

    Without --from and --to: of all days. Exit status 0 only if no key was left as it was by an error.
    """
    settings = load_settings()
    buckets = chosen_buckets(settings, bucket)
    with told_if_interrupted("What was committed stays; run reparse to go on."):
        engine = open_database(settings)
        complete = [
            _reparse_bucket(each, engine, day_of(from_), day_of(to), settings.redact_query_secrets) for each in buckets
        ]
        engine.dispose()
    if not all(complete):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _reparse_bucket(
    bucket: LoggedBucket, engine: sa.Engine, first: date | None, last: date | None, redacts: bool
) -> bool:
    """Reparses the rejected lines of one bucket; whether no key was left alone."""
    with bar(bucket.name, "keys") as advance:
        done = reparse(
            bucket,
            engine,
            first=first,
            last=last,
            redacts=redacts,
            progress=lambda d: advance(d.keys, None, f"{d.moved:,} of {d.lines:,} rejected lines are records now"),
        )
    err.print(f"[bold]{escape(bucket.name)}[/]: {done}", highlight=False)
    for failure in done.failures:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
    return not done.failures


@app.command("expire")
def expire_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be dropped.")] = False,
) -> None:
    """Drops the months of records that are older than retention_months. With Dagster this is done daily."""
    settings = load_settings()
    months = settings.retention_months
    if months is None:
        raise SettingsError("retention_months is not set: records are kept for ever; set it to have old months dropped")
    with told_if_interrupted("What was dropped stays so; run expire to go on."):
        engine = open_database(settings)
        if dry_run:
            _show_expirable(expirable(engine, months))
            return
        with bar("Expiring", "keys") as advance:
            done = expire(engine, months, progress=lambda d: advance(d.keys, None, f"{len(d.partitions)} months"))
        engine.dispose()
    err.print(str(done), highlight=False)
    for bucket in settings.buckets:
        if settings.purges(bucket) and (left := done.unpurged.get(bucket.name)):
            complain(unpurged_warning(bucket.name, left))


def _show_expirable(found: Expirable) -> None:
    rows = [(partition.name, partition.rows, partition.bytes) for partition in found.partitions]
    show_rows(["partition", "rows (estimate)", "bytes"], rows, Format.table)
    err.print(
        f"{len(rows):,} months would be dropped, {found.keys:,} keys marked as expired, {found.rejected_lines:,}"
        f" rejected lines deleted; kept is what was requested from {found.first_kept} on",
        highlight=False,
    )


@app.command("migrate")
def migrate_command() -> None:
    """Brings the database to the present schema. All other commands do so by themselves."""
    settings = load_settings()
    engine = sa.create_engine(records_url(settings))
    done = migrate(engine)
    err.print(f"The schema {'is at' if done else 'was already at'} revision {SCHEMA_REVISION}.")


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="A statement; without one: psql.")] = None,
    url: Annotated[bool, typer.Option("--url", help="Print the database's URL, for other programs.")] = False,
    format_: Annotated[Format, typer.Option("--format", help="How to show the answer.")] = Format.table,
) -> None:
    """Asks the records' database: a query, psql without one, or only its URL."""
    settings = load_settings()
    if url:
        open_database(settings).dispose()
        if not settings.database_url:
            embedded_postgres(settings.home).keep_running()
        sys.stdout.write(records_url(settings, driver="postgresql") + "\n")
    elif query:
        open_database(settings).dispose()
        # Straight to the driver: a % of the query is its own, and each statement commits, as in psql.
        with psycopg.connect(records_url(settings, driver="postgresql"), autocommit=True) as connection:
            for answer in connection.execute(query).results():
                if answer.description:
                    show_rows([column.name for column in answer.description], answer.fetchall(), format_)
                else:
                    err.print(answer.statusmessage)
    else:
        open_database(settings).dispose()
        _psql(settings)


@app.command()
def grant_reader(
    role: Annotated[str, typer.Argument(help="The role; it is made, without a login, if there is none.")],
) -> None:
    """Lets a role of Postgres read the tables, and change nothing. For people and BI tools that ask.

    Make a login in it: CREATE ROLE anna LOGIN PASSWORD '...' IN ROLE that_role. The bytes of rejected lines are left
    out, since those may hold signatures of presigned URLs.
    """
    settings = load_settings()
    engine = open_database(settings)
    made = grant_reading(engine, role)
    err.print(f"{escape(role)} {'is made, and ' if made else ''}may read.", highlight=False)
    engine.dispose()


@app.command()
def stop() -> None:
    """Stops the embedded Postgres if nothing else of the project uses it."""
    settings = load_settings()
    if settings.database_url:
        raise SettingsError("database_url is set: there is no embedded Postgres to stop")
    server = embedded_postgres(settings.home)
    server.keep_running(keep=False)
    server.release()
    err.print("The embedded Postgres runs on: other processes use it." if server.is_running() else "Stopped.")


def _psql(settings: Settings) -> None:
    """Psql as a child, not in our place: while we live the embedded server does."""
    url = records_url(settings, driver="postgresql")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is psql's: it cancels a query
    raise typer.Exit(subprocess.call([EmbeddedPostgres(settings.home).psql, url]))
