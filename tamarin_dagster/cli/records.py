"""Commands about what is loaded: read rejected lines again, drop old months."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.markup import escape

from tamarin_dagster.cli.app import (
    EXIT_LEFT_UNDONE,
    BucketOption,
    FromOption,
    JsonOption,
    ToOption,
    command,
    flag,
    told_if_interrupted,
)
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import ReparsedBucket, expired_months, reparsed_bucket, show_documents
from tamarin_dagster.cli.rollups import roll_up_due
from tamarin_dagster.cli.shared import asked_days, chosen_buckets, tell_bucket_failure
from tamarin_dagster.cli.terminal import bar, complain, err, show_rows
from tamarin_dagster.logstore.archiving import place_name
from tamarin_dagster.pipeline.reparse import reparse
from tamarin_dagster.pipeline.retain import (
    Expirable,
    describe_owed,
    describe_unpurged,
    expire,
    first_kept_day,
    plan_expiry,
)
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError


@command(
    "reparse",
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
            found = plan_expiry(engine, months, archives=archives)
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
        if settings.should_purge(bucket) and (left := done.unpurged.get(bucket.name)):
            complain(describe_unpurged(bucket.name, left))
    for month in done.kept_back:
        complain(str(month))
    for owed in done.owed:
        complain(describe_owed(owed))
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
        complain(describe_owed(owed))
