"""Commands about what is loaded: parse rejected lines again, drop old months."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.markup import escape

from tamarin_dagster.cli.app import (
    EXIT_INCOMPLETE,
    BucketOption,
    FromOption,
    JsonOption,
    ToOption,
    command,
    explain_interrupt,
    flag,
)
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import ReparsedBucket, describe_expired, make_document, show_documents
from tamarin_dagster.cli.rollup_command import roll_up_due
from tamarin_dagster.cli.shared import check_days, report_bucket_failure, select_buckets
from tamarin_dagster.cli.terminal import bar, complain, err, show_rows
from tamarin_dagster.logstore.archiving import place_name
from tamarin_dagster.pipeline.reparse import reparse_bucket
from tamarin_dagster.pipeline.retain import (
    Expirable,
    describe_owed,
    describe_unpurged,
    expire,
    find_first_kept_day,
    make_lake_proof,
    plan_expiry,
)
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError


@command(
    "reparse",
    ("reparse", "after an upgrade, all buckets"),
    ("reparse --bucket media --from 2026-03-01 --json", "newer days of one bucket, for a script"),
)
def reparse_command(
    bucket: BucketOption = None, from_: FromOption = None, to: ToOption = None, as_json: JsonOption = False
) -> None:
    """Parse rejected lines again, and store those that are valid now as records.

    Run it after an upgrade whose parser knows more. The lines come from the database, so the log keys need not exist
    any more. The next purge deletes a key that has no rejected lines left.

    Without --from and --to, all days are parsed. The exit status is 0 only if no key failed.
    """
    settings = load_settings()
    buckets = select_buckets(settings, bucket)
    first, last = check_days(from_, to)
    with explain_interrupt("What was committed stays; run reparse to continue."):
        engine = open_database(settings)
        done = [_reparse_bucket(each, engine, first, last, settings) for each in buckets]
        engine.dispose()
    if as_json:
        show_documents(done)
    if any(each.error or each.failures for each in done):
        raise typer.Exit(EXIT_INCOMPLETE)


def _reparse_bucket(
    bucket: LoggedBucket, engine: sa.Engine, first: date | None, last: date | None, settings: Settings
) -> ReparsedBucket:
    """Reparse the rejected lines of one bucket, and report it."""
    try:
        with bar(bucket.name, "keys") as advance:
            done = reparse_bucket(
                bucket,
                engine,
                first=first,
                last=last,
                redacts=settings.redact_query_secrets,
                parser=settings.parser,
                progress=lambda d: advance(d.keys, None, f"{d.moved:,} of {d.lines:,} rejected lines are records now"),
            )
    except DATABASE_ERRORS as error:
        return ReparsedBucket(bucket=bucket.name, error=report_bucket_failure(bucket.name, error))
    err.print(f"[bold]{escape(bucket.name)}[/]: {done}", highlight=False)
    for failure in done.failures:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
    return make_document(ReparsedBucket, done, bucket=bucket.name)


@command(
    "expire",
    ("expire --dry-run", "see which months would go, and how large they are"),
    ("expire", "drop them; from cron, once a day"),
)
def expire_command(
    dry_run: Annotated[bool, flag("--dry-run", "Only show what would be dropped.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Drop the months of records that are older than retention_months.

    Run it from cron; with Dagster a job does the same daily. The ledger keeps its row of each key, so that no key is
    loaded again. If retention_months is not set, records are kept forever, and this command refuses to run.

    The days of these months are rolled up first. If one of its days cannot be rolled up, a month is kept and named. If
    archive is set, a month with records that are not archived yet is kept. If a lake is configured, a month is kept
    until the lake holds each of its log keys with the same counts. The exit status is 0 only if no month had to be
    kept.
    """
    settings = load_settings()
    months = settings.retention_months
    if months is None:
        raise SettingsError("retention_months is not set, so records are kept forever; set it to drop old months")
    archives = {name: place_name(url) for name, url in settings.archives().items()}
    with explain_interrupt("What was dropped stays dropped; run expire to continue."):
        engine = open_database(settings)
        if dry_run:
            found = plan_expiry(engine, months, archives=archives, proof=make_lake_proof(settings, engine))
            _report_expirable(found, with_table=not as_json)
            if as_json:
                show_documents(describe_expired(found))
            return
        # Roll up only the days that would be dropped: no other day can prevent it.
        first_kept = find_first_kept_day(months, datetime.now(UTC).date())
        roll_up_due(settings, engine, last=first_kept - timedelta(days=1))
        with bar("Expiring", "keys") as advance:
            done = expire(
                engine,
                months,
                archives=archives,
                proof=make_lake_proof(settings, engine),
                progress=lambda d: advance(d.keys, None, f"{len(d.partitions)} months"),
            )
        engine.dispose()
    err.print(str(done), highlight=False)
    for bucket in settings.buckets:
        if settings.should_purge(bucket) and (left := done.unpurged.get(bucket.name)):
            complain(describe_unpurged(bucket.name, left))
    for month in done.kept_back:
        complain(str(month))
    for owed in done.owed:
        complain(describe_owed(owed))
    if as_json:
        show_documents(describe_expired(done))
    if done.kept_back or done.owed:
        raise typer.Exit(EXIT_INCOMPLETE)


def _report_expirable(found: Expirable, *, with_table: bool) -> None:
    rows = [(partition.name, partition.rows, partition.bytes) for partition in found.partitions]
    if with_table:
        show_rows(["partition", "rows (estimate)", "bytes"], rows)
    err.print(
        f"{count_noun(len(rows), 'month')} would be dropped, {count_noun(found.keys, 'key')} marked as expired,"
        f" {count_noun(found.rejected_lines, 'rejected line')} deleted;"
        f" records of requests from {found.first_kept} on are kept",
        highlight=False,
    )
    for owed in found.owed:
        complain(describe_owed(owed))
