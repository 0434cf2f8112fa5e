"""tamarin-dagster: the command line, for cron, for shells, and for a first look.

Exit status: 0 all is done; 1 something is left undone (it was said what); 2 the settings or the arguments are wrong;
130 interrupted.
What a person can mend is said in a line, without a traceback.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import psycopg
import sqlalchemy as sa
import typer
from rich.markup import escape

from tamarin_dagster import ingest
from tamarin_dagster.logstore import FolderLogStore, LogStore, LogStoreError
from tamarin_dagster.purge import Purged, purge
from tamarin_dagster.recordstore.database import (
    DatabaseError,
    embedded_postgres,
    migrate,
    open_database,
    records_url,
)
from tamarin_dagster.recordstore.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tamarin_dagster.recordstore.loading import compile_ahead
from tamarin_dagster.recordstore.tables import SCHEMA_REVISION
from tamarin_dagster.reparse import reparse
from tamarin_dagster.retention import Expirable, expirable, expire, first_kept_day, unpurged_warning
from tamarin_dagster.settings import CONFIG_VARIABLE, LoggedBucket, Settings, SettingsError, load_settings
from tamarin_dagster.terminal import Format, LineHandler, bar, complain, err, show_rows

EXIT_LEFT_UNDONE = 1
EXIT_WRONG = 2
EXIT_INTERRUPTED = 130

BucketOption = Annotated[str | None, typer.Option("--bucket", help="Only this logged bucket.", metavar="NAME")]
FromOption = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], metavar="DAY", help="First delivery day (UTC).")
]
ToOption = Annotated[
    datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], metavar="DAY", help="Last delivery day (UTC).")
]

app = typer.Typer(
    help="S3 server access logs into Postgres, completely and exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


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


@app.callback()
def _options(
    config: Annotated[
        Path | None,
        typer.Option(help="The settings; default: $TAMARIN_CONFIG, else tamarin.yaml here.", metavar="FILE"),
    ] = None,
) -> None:
    if config:
        os.environ[CONFIG_VARIABLE] = str(config)


@app.command()
def pull(
    bucket: BucketOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    no_purge: Annotated[bool, typer.Option("--no-purge", help="Leave the loaded log keys where they are.")] = False,
) -> None:
    """Loads all log keys that are not loaded yet, then purges those that are proved loaded. For cron.

    Without --from it begins with each bucket's start_date (or with the first day that retention_months keeps), without
    --to it ends with today. Exit status 0 only if nothing is left undone.
    """
    settings = load_settings()
    buckets = _chosen(settings, bucket)
    first, last = _day(from_), _day(to)
    with _told_if_interrupted("What was committed stays and is not loaded again; run pull to go on."):
        engine = open_database(settings)
        complete = [_pull_bucket(settings, each, engine, first, last, purges=not no_purge) for each in buckets]
        engine.dispose()
    if not all(complete):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _chosen(settings: Settings, name: str | None) -> list[LoggedBucket]:
    """The bucket of that name, or all. Raises SettingsError if there is none."""
    if name:
        return [settings.bucket(name)]
    if not settings.buckets:
        raise SettingsError("no buckets are configured; list one in tamarin.yaml, under buckets:")
    return list(settings.buckets)


def _first_kept(settings: Settings, bucket: LoggedBucket) -> date:
    """Where a pull begins that is not told: rows of the days before would be dropped at once."""
    if settings.retention_months is None:
        return bucket.start_date
    return max(bucket.start_date, first_kept_day(settings.retention_months, datetime.now(UTC).date()))


def _day(given: datetime | None) -> date | None:
    return given.date() if given else None


@contextmanager
def _told_if_interrupted(text: str) -> Iterator[None]:
    """An interrupt ends the command with its own exit status, and with what has become of its work."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"Interrupted. {text}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _pull_bucket(
    settings: Settings, bucket: LoggedBucket, engine: sa.Engine, first: date | None, last: date | None, *, purges: bool
) -> bool:
    """Pulls and purges one bucket; whether nothing is left undone."""
    try:
        store = _open_log_store(bucket)
        with bar(bucket.name, "keys") as advance:
            pulled = ingest.pull(
                bucket,
                store,
                engine,
                first=first or _first_kept(settings, bucket),
                last=last,
                progress=lambda p: advance(p.keys, None, f"{p.day} {p.lines:,} lines"),
                connections=settings.load_connections,
            )
        purged = None
        if purges and settings.purges(bucket):
            purged = purge(bucket, store, engine, days=[day.day for day in pulled.days])
    except LogStoreError as error:
        complain(str(error))
        return False
    _summarise(bucket, pulled, purged)
    return not pulled.failures and not (purged and purged.failures)


@app.command("reparse")
def reparse_command(bucket: BucketOption = None, from_: FromOption = None, to: ToOption = None) -> None:
    """Reads rejected lines again, and moves those that are records now into the records. After an upgrade.

    Without --from and --to: of all days. Exit status 0 only if no key was left as it was by an error.
    """
    settings = load_settings()
    buckets = _chosen(settings, bucket)
    with _told_if_interrupted("What was committed stays; run reparse to go on."):
        engine = open_database(settings)
        complete = [_reparse_bucket(each, engine, _day(from_), _day(to)) for each in buckets]
        engine.dispose()
    if not all(complete):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _reparse_bucket(bucket: LoggedBucket, engine: sa.Engine, first: date | None, last: date | None) -> bool:
    """Reparses the rejected lines of one bucket; whether no key was left alone."""
    with bar(bucket.name, "keys") as advance:
        done = reparse(
            bucket,
            engine,
            first=first,
            last=last,
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
    with _told_if_interrupted("What was dropped stays so; run expire to go on."):
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
def stop() -> None:
    """Stops the embedded Postgres if nothing else of the project uses it."""
    settings = load_settings()
    if settings.database_url:
        raise SettingsError("database_url is set: there is no embedded Postgres to stop")
    server = embedded_postgres(settings.home)
    server.keep_running(keep=False)
    server.release()
    err.print("The embedded Postgres runs on: other processes use it." if server.is_running() else "Stopped.")


@app.command()
def demo_logs(
    lines: Annotated[int, typer.Option(min=1, help="How many lines in all.")],
    out: Annotated[Path, typer.Option(help="The folder to write log keys to.", file_okay=False)],
    keys: Annotated[
        int | None, typer.Option(min=1, help="How many log keys; default: one per about 500 lines.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Days, up to today, that the keys are spread over.")] = 21,
    seed: Annotated[int, typer.Option(help="The same seed gives the same lines.")] = 2011,
) -> None:
    """Writes believable log keys of a media site to a folder; a file:// URL of it serves as log_bucket_name."""
    from tamarin_dagster.demo import write_log_keys  # noqa: PLC0415 - only this command needs it

    with bar("Writing", "lines") as advance:
        written = write_log_keys(
            out, lines=lines, keys=keys, days=days, seed=seed, progress=lambda n: advance(n, lines)
        )
    err.print(
        f"{written.lines:,} lines in {written.keys:,} log keys ({written.bytes:,} bytes) under {escape(str(out))}"
    )


@app.command("compile")
def compile_command() -> None:
    """Compiles the parser, which its first use does else. For installations and images; takes some seconds."""
    with err.status("Compiling the parser"):
        compile_ahead()


@app.command(hidden=True)
def dev(
    host: Annotated[str, typer.Option(help="Where the page listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The page's port; the next free one is taken if it is in use.")] = 3000,
) -> None:
    """What `make dev` runs: the database, the demo if no bucket is configured, and Dagster."""
    from tamarin_dagster.dev import run  # noqa: PLC0415 - only this command needs it

    raise typer.Exit(run(host, port))


def _open_log_store(bucket: LoggedBucket) -> LogStore:
    if bucket.log_folder is not None:
        return FolderLogStore(bucket.log_folder, bucket.log_bucket_name)
    # dagster-aws has the S3Resource; a folder needs none, and Dagster takes a second to import.
    from tamarin_dagster.defs.s3_resource import open_s3_log_store  # noqa: PLC0415

    return open_s3_log_store(bucket)


def _summarise(bucket: LoggedBucket, pulled: ingest.Pulled, purged: Purged | None) -> None:
    """What the pull did, one line a truth; what is left undone comes last."""

    def total(name: str) -> int:
        return sum(getattr(day, name) for day in pulled.days)

    rate = total("lines") / pulled.seconds if pulled.seconds else 0
    err.print(
        f"[bold]{escape(bucket.name)}[/]: {total('keys'):,} keys loaded ({total('seen'):,} were loaded before);"
        f" {total('lines'):,} lines = {total('records'):,} records + {total('rejected'):,} rejected"
        f" + {total('blank'):,} blank; {pulled.seconds:.1f} s, {rate:,.0f} lines/s",
        highlight=False,
    )
    if purged is not None:
        err.print(f"  purged {purged.keys:,} keys ({purged.bytes:,} bytes)", highlight=False)
    strays = [*(name for day in pulled.days for name in day.strays), *pulled.strays]
    if strays:
        err.print(f"  {len(strays):,} strays were left alone, for example {escape(repr(strays[0]))}", highlight=False)
    for failure in [*pulled.failures, *(purged.failures if purged else [])]:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")


def _psql(settings: Settings) -> None:
    """Psql as a child, not in our place: while we live the embedded server does."""
    url = records_url(settings, driver="postgresql")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is psql's: it cancels a query
    raise typer.Exit(subprocess.call([EmbeddedPostgres(settings.home).psql, url]))


if __name__ == "__main__":
    main()
