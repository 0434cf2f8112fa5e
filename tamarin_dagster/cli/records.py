"""Commands about what is loaded: read rejected lines again, drop old months, ask, migrate, stop the server."""

import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import psycopg
import sqlalchemy as sa
import typer
from rich.markup import escape

from tamarin_dagster.backup import connection_arguments
from tamarin_dagster.cli.app import (
    EXIT_LEFT_UNDONE,
    BucketOption,
    FromOption,
    JsonOption,
    Panel,
    ToOption,
    asked_days,
    chosen_buckets,
    command,
    flag,
    tell_bucket_failure,
    told_if_interrupted,
)
from tamarin_dagster.cli.documents import ReparsedBucket, expired_months, reparsed_bucket, show_documents
from tamarin_dagster.cli.rollups import roll_up_due
from tamarin_dagster.logstore.archiving import place_name
from tamarin_dagster.recordstore.asking import ask
from tamarin_dagster.recordstore.database import (
    connect_arguments,
    embedded_postgres,
    migrated_engine,
    open_database,
    records_url,
)
from tamarin_dagster.recordstore.embedded import EmbeddedPostgres
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS
from tamarin_dagster.recordstore.roles import grant_reading
from tamarin_dagster.recordstore.tables import SCHEMA_REVISION
from tamarin_dagster.reparse import reparse
from tamarin_dagster.retention import Expirable, expirable, expire, first_kept_day, owed_warning, unpurged_warning
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError, load_settings
from tamarin_dagster.terminal import Format, bar, complain, err, json_answers, printable, show_csv, show_rows
from tamarin_dagster.urls import clean_errors


@command(
    "reparse",
    Panel.LOADING,
    ("reparse", "after an upgrade, all buckets"),
    ("reparse --bucket media --from 2026-03-01 --json", "newer days of one bucket, told to a script"),
)
def reparse_command(
    bucket: BucketOption = None, from_: FromOption = None, to: ToOption = None, as_json: JsonOption = False
) -> None:
    """Reads rejected lines again, and moves those that are records now into the records.

    After an upgrade whose parser knows more. The lines come from the database, the log keys need not be there any more;
    a key without a rejected line left is purged by the next purge.

    Without --from and --to: of all days. The status is 0 only if no key was left as it was by an error.
    """
    settings = load_settings()
    buckets = chosen_buckets(settings, bucket)
    first, last = asked_days(from_, to)
    with told_if_interrupted("What was committed stays; run reparse to go on."):
        engine = open_database(settings)
        done = [_reparse_bucket(each, engine, first, last, settings) for each in buckets]
        engine.dispose()
    if as_json:
        show_documents(done)
    if any(each.error or each.failures for each in done):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _reparse_bucket(
    bucket: LoggedBucket, engine: sa.Engine, first: date | None, last: date | None, settings: Settings
) -> ReparsedBucket:
    """Reparses the rejected lines of one bucket, and says so."""
    try:
        with bar(bucket.name, "keys") as advance:
            done = reparse(
                bucket,
                engine,
                first=first,
                last=last,
                redacts=settings.redact_query_secrets,
                parser=settings.parser,
                progress=lambda d: advance(d.keys, None, f"{d.moved:,} of {d.lines:,} rejected lines are records now"),
            )
    except DATABASE_ERRORS as error:
        return ReparsedBucket(bucket=bucket.name, error=tell_bucket_failure(bucket.name, error))
    err.print(f"[bold]{escape(bucket.name)}[/]: {done}", highlight=False)
    for failure in done.failures:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
    return reparsed_bucket(bucket.name, done)


@command(
    "expire",
    Panel.LOADING,
    ("expire --dry-run", "see which months would go, and how large they are"),
    ("expire", "drop them; from cron, once a day"),
)
def expire_command(
    dry_run: Annotated[bool, flag("--dry-run", "Only say what would be dropped.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Drops the months of records that are older than retention_months.

    For cron; with Dagster a job does so daily. The ledger keeps its row of each key, so that none is loaded again.
    While the setting is missing records are kept for ever, and this command is refused.

    The days of these months are rolled up first. A month with a day that cannot be rolled up stays, and is named. With
    archive set, months with records that are not in the archive yet stay. The status is 0 only if there was none.
    """
    settings = load_settings()
    months = settings.retention_months
    if months is None:
        raise SettingsError("retention_months is not set: records are kept for ever; set it to have old months dropped")
    archives = {name: place_name(url) for name, url in settings.archives().items()}
    with told_if_interrupted("What was dropped stays so; run expire to go on."):
        engine = open_database(settings)
        if dry_run:
            found = expirable(engine, months, archives=archives)
            _tell_expirable(found, with_table=not as_json)
            if as_json:
                show_documents(expired_months(found))
            return
        # Only the days that would go: no other day can stop this.
        first_kept = first_kept_day(months, datetime.now(UTC).date())
        roll_up_due(settings, engine, last=first_kept - timedelta(days=1))
        with bar("Expiring", "keys") as advance:
            done = expire(
                engine,
                months,
                archives=archives,
                progress=lambda d: advance(d.keys, None, f"{len(d.partitions)} months"),
            )
        engine.dispose()
    err.print(str(done), highlight=False)
    for bucket in settings.buckets:
        if settings.purges(bucket) and (left := done.unpurged.get(bucket.name)):
            complain(unpurged_warning(bucket.name, left))
    for month in done.kept_back:
        complain(str(month))
    for owed in done.owed:
        complain(owed_warning(owed))
    if as_json:
        show_documents(expired_months(done))
    if done.kept_back or done.owed:
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _tell_expirable(found: Expirable, *, with_table: bool) -> None:
    rows = [(partition.name, partition.rows, partition.bytes) for partition in found.partitions]
    if with_table:
        show_rows(["partition", "rows (estimate)", "bytes"], rows)
    err.print(
        f"{len(rows):,} months would be dropped, {found.keys:,} keys marked as expired, {found.rejected_lines:,}"
        f" rejected lines deleted; kept is what was requested from {found.first_kept} on",
        highlight=False,
    )
    for owed in found.owed:
        complain(owed_warning(owed))


@command("migrate", Panel.SETTING_UP, ("migrate", "after an upgrade, before Dagster is started again"))
def migrate_command() -> None:
    """Brings the database to the present schema.

    All other commands do so by themselves; this one does nothing else, for a deployment that wants it done first.
    """
    settings = load_settings()
    engine, done = migrated_engine(settings)
    engine.dispose()
    err.print(f"The schema {'is at' if done else 'was already at'} revision {SCHEMA_REVISION}.")


@command(
    "sql",
    Panel.LOOKING,
    ('sql "SELECT key, count(*) FROM s3_log_record GROUP BY key"', "a query, as a table"),
    ('sql --format csv "SELECT * FROM s3_log_key" > keys.csv', "with a header, row by row, however many there are"),
    ('sql --format json "SELECT key FROM s3_log_key" | jq length', "for a script"),
    ("sql", "psql, with its \\d and its history"),
    ("sql --url", "for a BI tool, or pandas"),
)
def sql(
    query: Annotated[
        str | None, typer.Argument(help="Statements, parted by semicolons; without one: psql.", metavar="QUERY")
    ] = None,
    url: Annotated[bool, flag("--url", "Print the database's URL, for other programs.")] = False,
    format_: Annotated[
        Format, typer.Option("--format", help="How to show the answer.", metavar="table|csv|json")
    ] = Format.table,
) -> None:
    """Asks the records' database: a query, psql without one, or only its URL.

    Several statements are one transaction, as with psql -c; the answer to each is shown. As csv and json values are as
    Postgres writes them: json has numbers, booleans and lists as such, and is one list of rows, or a list of such lists
    if several statements have an answer. A table is held in memory until it is complete.

    --url keeps the embedded server running, until `tamarin-dagster stop`. The tables: docs/tables.md.
    """
    settings = load_settings()
    open_database(settings).dispose()
    if url:
        if not settings.database_url:
            embedded_postgres(settings.home).keep_running()
        sys.stdout.write(records_url(settings, driver="postgresql") + "\n")
    elif query is not None:
        with told_if_interrupted("The query is cancelled."):
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
            with json_answers() as take:
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


@command(
    "grant-reader",
    Panel.SETTING_UP,
    ("grant-reader analysts", "make the role, or bring its rights up to date after an upgrade"),
    ("sql \"CREATE ROLE anna LOGIN PASSWORD '...' IN ROLE analysts\"", "make a login in it"),
)
def grant_reader(
    role: Annotated[
        str, typer.Argument(help="The role; it is made, without a login, if there is none.", metavar="ROLE")
    ],
) -> None:
    """Lets a role of Postgres read the tables, and change nothing.

    For people and BI tools that ask. The bytes of rejected lines are left out, since those may hold signatures of
    presigned URLs.
    """
    settings = load_settings()
    engine = open_database(settings)
    made = grant_reading(engine, role)
    err.print(f"{escape(role)} {'is made, and ' if made else ''}may read.", highlight=False)
    engine.dispose()


@command(
    "stop",
    Panel.SETTING_UP,
    ("stop", "after `sql --url`"),
    ("stop --now", "also while others use it; what they are doing is rolled back"),
)
def stop(now: Annotated[bool, flag("--now", "Also while other processes use it.")] = False) -> None:
    """Stops the embedded Postgres if nothing else of the project uses it.

    It stops by itself with its last user, but for one whose URL was asked for with `sql --url`. This command takes
    seconds, also while the server is starting, recovering or stuck: it never starts it or waits for it. Nothing that
    was committed is lost.
    """
    settings = load_settings()
    if settings.database_url:
        raise SettingsError("database_url is set: there is no embedded Postgres to stop")
    err.print(EmbeddedPostgres(settings.home).stop(now=now), markup=False, highlight=False)


def _psql(settings: Settings) -> None:
    """Psql as a child, not in our place: while we live the embedded server does. Its password is on no command line."""
    url = records_url(settings, driver="postgresql")
    with clean_errors(url):
        place, environment = connection_arguments(url)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is psql's: it cancels a query
    program = EmbeddedPostgres(settings.home).psql
    raise typer.Exit(subprocess.call([program, place], env=environment))
