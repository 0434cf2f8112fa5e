"""Commands about log keys: load them, delete them once they are proved loaded."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.markup import escape

from tamarin_dagster import ingest
from tamarin_dagster.cli.app import (
    EXIT_LEFT_UNDONE,
    BucketOption,
    FromOption,
    ToOption,
    app,
    chosen_buckets,
    day_of,
    open_log_store,
    told_if_interrupted,
)
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.purge import Purged, purge
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.retention import first_kept_day
from tamarin_dagster.settings import FIRST_LOG_DATE, LoggedBucket, Settings, load_settings
from tamarin_dagster.terminal import Format, bar, complain, err, show_rows


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
    buckets = chosen_buckets(settings, bucket)
    first, last = day_of(from_), day_of(to)
    with told_if_interrupted("What was committed stays and is not loaded again; run pull to go on."):
        engine = open_database(settings)
        complete = [_pull_bucket(settings, each, engine, first, last, purges=not no_purge) for each in buckets]
        engine.dispose()
    if not all(complete):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _first_kept(settings: Settings, bucket: LoggedBucket) -> date:
    """Where a pull begins that is not told: rows of the days before would be dropped at once."""
    if settings.retention_months is None:
        return bucket.start_date
    return max(bucket.start_date, first_kept_day(settings.retention_months, datetime.now(UTC).date()))


def _pull_bucket(
    settings: Settings, bucket: LoggedBucket, engine: sa.Engine, first: date | None, last: date | None, *, purges: bool
) -> bool:
    """Pulls and purges one bucket; whether nothing is left undone."""
    try:
        store = open_log_store(bucket)
        with bar(bucket.name, "days") as advance:
            pulled = ingest.pull(
                bucket,
                store,
                engine,
                first=first or _first_kept(settings, bucket),
                last=last,
                progress=lambda p: advance(p.looked, p.periods, f"{p.period}: {p.keys:,} keys, {p.lines:,} lines"),
                connections=settings.load_connections,
                redacts=settings.redact_query_secrets,
            )
        purged = None
        if purges and settings.purges(bucket):
            purged = purge(
                bucket,
                store,
                engine,
                periods=[each.period for each in pulled.periods],
                with_rejected=settings.purges_rejected(bucket),
            )
    except LogStoreError as error:
        complain(str(error))
        return False
    _summarise(bucket, pulled, purged)
    return not pulled.failures and not (purged and purged.failures)


@app.command("purge")
def purge_command(
    bucket: BucketOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prove, and only say what would be deleted.")] = False,
) -> None:
    """Deletes log keys that are proved loaded. `pull` does so too; this one loads nothing.

    Each key's rows are counted just before, and only the very generation that was loaded is deleted. Exit status 0 only
    if no key was left that should have gone.
    """
    settings = load_settings()
    buckets = chosen_buckets(settings, bucket)
    with told_if_interrupted("What was deleted is noted, or will be found gone; run purge to go on."):
        engine = open_database(settings)
        complete = [_purge_bucket(settings, each, engine, day_of(from_), day_of(to), dry_run) for each in buckets]
        engine.dispose()
    if not all(complete):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _purge_bucket(
    settings: Settings, bucket: LoggedBucket, engine: sa.Engine, first: date | None, last: date | None, dry_run: bool
) -> bool:
    """Purges one bucket; whether no key was left that should have gone."""
    if not settings.purges(bucket):
        err.print(f"[bold]{escape(bucket.name)}[/]: purge_parsed_keys is off, its log keys stay", highlight=False)
        return True
    try:
        with bar(bucket.name, "keys") as advance:
            purged = purge(
                bucket,
                open_log_store(bucket),
                engine,
                periods=_days(first, last),
                with_rejected=settings.purges_rejected(bucket),
                dry_run=dry_run,
                progress=lambda keys: advance(keys, None, ""),
            )
    except LogStoreError as error:
        complain(str(error))
        return False
    err.print(
        f"[bold]{escape(bucket.name)}[/]: {_told(purged, 'would purge' if dry_run else 'purged')}", highlight=False
    )
    if dry_run and purged.by_day:
        show_rows(["day", "keys"], sorted(purged.by_day.items()), Format.table)
    for failure in purged.failures:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
    return not purged.failures


def _days(first: date | None, last: date | None) -> list[date] | None:
    """The delivery days from `first` to `last`; None means all."""
    if first is None and last is None:
        return None
    start, end = first or FIRST_LOG_DATE, last or datetime.now(UTC).date() + timedelta(days=ingest.DAYS_AHEAD)
    return [start + timedelta(days=number) for number in range((end - start).days + 1)]


def _told(purged: Purged, done: str = "purged") -> str:
    """A purge in a line."""
    told = f"{done} {purged.keys:,} keys ({purged.bytes:,} bytes), proved by {purged.rows:,} rows"
    if kept := purged.kept.keys:
        told += f"; {kept:,} keys with rejected lines stay"
    return told


def _summarise(bucket: LoggedBucket, pulled: ingest.Pulled, purged: Purged | None) -> None:
    """What the pull did, one line a truth; what is left undone comes last."""

    def total(name: str) -> int:
        return sum(getattr(each, name) for each in pulled.periods)

    rate = total("lines") / pulled.seconds if pulled.seconds else 0
    err.print(
        f"[bold]{escape(bucket.name)}[/]: {total('keys'):,} keys loaded ({total('seen'):,} were loaded before);"
        f" {total('lines'):,} lines = {total('records'):,} records + {total('rejected'):,} rejected"
        f" + {total('blank'):,} blank; {pulled.seconds:.1f} s, {rate:,.0f} lines/s",
        highlight=False,
    )
    if purged is not None:
        err.print(f"  {_told(purged)}", highlight=False)
    strays = [*(name for each in pulled.periods for name in each.strays), *pulled.strays]
    if strays:
        err.print(f"  {len(strays):,} strays were left alone, for example '{escape(strays[0])}'", highlight=False)
    for failure in [*pulled.failures, *(purged.failures if purged else [])]:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
