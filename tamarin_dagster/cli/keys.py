"""Commands about log keys: load them, delete them once they are proved loaded."""

from collections.abc import Callable
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
from tamarin_dagster.cli.documents import (
    PulledBucket,
    PurgedBucket,
    PurgedKeys,
    archived_days,
    pulled_bucket,
    pulled_days,
    purged_keys,
    show_documents,
)
from tamarin_dagster.cli.misnamed import complain_of_foreign_records, complain_of_misplaced_keys
from tamarin_dagster.cli.rollups import roll_up_due
from tamarin_dagster.cli.shared import asked_days, chosen_buckets, first_pulled_day, tell_bucket_failure
from tamarin_dagster.cli.terminal import bar, complain, err, printable, show_rows
from tamarin_dagster.logformat import delivery_day
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.opening import open_archive, open_log_store
from tamarin_dagster.pipeline import pull as pulling
from tamarin_dagster.pipeline.archive import Archived, archive
from tamarin_dagster.pipeline.discover import DAYS_AHEAD, count_strays, describe_outdated, describe_waiting
from tamarin_dagster.pipeline.pull import PulledPeriod
from tamarin_dagster.pipeline.purge import Purged, purge
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS
from tamarin_dagster.settings import FIRST_LOG_DATE, LoggedBucket, Settings


@command(
    "pull",
    ("pull", "all buckets, all that is new; for a crontab"),
    ("pull --bucket media --from 2026-01-01 --to 2026-01-31", "a month of one bucket"),
    ("pull --no-purge --json > pulled.json", "delete nothing, and tell a script what was loaded"),
)
def pull_command(
    bucket: BucketOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    no_purge: Annotated[bool, flag("--no-purge", "Leave the loaded log keys where they are.")] = False,
    no_rollups: Annotated[bool, flag("--no-rollups", "Leave the rollups to `roll-up`, or to Dagster.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Loads all log keys that are not loaded yet, purges those that are proved loaded, and rolls up their days.

    For cron, or for a first load by hand; with Dagster the sensor does the same. It may run at any time, also twice at
    a time: what is loaded already costs a listing, and nothing is loaded twice.

    Without --from it begins with each bucket's start_date (or with the first day that retention_months keeps), without
    --to it ends with today. The status is 0 only if nothing is left undone: each key that was left alone is named, and
    a bucket that cannot be listed does not stop the others. Files of a folder that changed within quiet_seconds are
    left to the next pull; the status is 1 then.
    """
    settings = load_settings()
    buckets = chosen_buckets(settings, bucket)
    first, last = asked_days(from_, to)
    with told_if_interrupted("What was committed stays and is not loaded again; run pull to go on."):
        engine = open_database(settings)
        done: list[PulledBucket] = []
        try:
            for each in buckets:
                done.append(PulledBucket(bucket=each.name))
                _pull_bucket(settings, each, engine, first, last, done, purges=not no_purge)
            failures = [] if no_rollups else roll_up_due(settings, engine).failures
        finally:
            if as_json:  # whatever fails later: what was committed is reported
                show_documents(done)
        engine.dispose()
    if failures or any(_is_undone(each) for each in done):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _pull_bucket(
    settings: Settings,
    bucket: LoggedBucket,
    engine: sa.Engine,
    first: date | None,
    last: date | None,
    done: list[PulledBucket],
    *,
    purges: bool,
) -> None:
    """Pulls, archives and purges one bucket, and says so. The last of `done` has all that was done, at each moment."""
    loaded: list[PulledPeriod] = []
    try:
        store = open_log_store(bucket)
        with bar(bucket.name, "days") as advance:
            pulled = pulling.pull(
                bucket,
                store,
                engine,
                first=first or first_pulled_day(settings, bucket),
                last=last,
                progress=lambda p: advance(p.looked, p.periods, f"{p.period}: {p.keys:,} keys, {p.lines:,} lines"),
                connections=settings.load_connections,
                redacts=settings.redact_query_secrets,
                parser=settings.parser,
                loaded=loaded,
            )
    except (LogStoreError, *DATABASE_ERRORS) as error:
        done[-1] = done[-1].model_copy(update={"error": tell_bucket_failure(bucket.name, error)})
        return
    finally:
        done[-1] = done[-1].model_copy(update={"days": pulled_days(loaded)})
    done[-1] = pulled_bucket(bucket.name, pulled)
    _summarise(bucket, pulled)
    days = [delivery_day(each.period) for each in pulled.periods]
    if not days:
        complain_of_misplaced_keys(settings, bucket, store, engine)
    complain_of_foreign_records(engine, bucket.name)
    try:
        if settings.archive_of(bucket):
            # Days that were asked for may have purged keys, which no listing shows, that were never archived.
            archived = _archive(settings, bucket, engine, _days(first, last) or days)
            _tell_archived(bucket, archived)
            done[-1] = done[-1].model_copy(update={"archived": archived_days(archived)})
    except (LogStoreError, *DATABASE_ERRORS) as error:
        text = tell_bucket_failure(bucket.name, error, "its log keys stay")
        done[-1] = done[-1].model_copy(update={"archive_error": text})
        return
    if not (purges and settings.should_purge(bucket)):
        return
    try:
        with bar(bucket.name, "keys") as advance:
            purged = _purge(settings, bucket, engine, days, progress=lambda keys: advance(keys, None, "purged"))
    except (LogStoreError, *DATABASE_ERRORS) as error:
        done[-1] = done[-1].model_copy(update={"purge_error": tell_bucket_failure(bucket.name, error)})
        return
    _tell_purged(bucket, purged, "  ")
    done[-1] = done[-1].model_copy(update={"purged": purged_keys(purged)})


def _purge(
    settings: Settings,
    bucket: LoggedBucket,
    engine: sa.Engine,
    days: list[date] | None,
    *,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Purged:
    """Purges a bucket as its settings say. Raises LogStoreError."""
    url = settings.archive_of(bucket)
    return purge(
        bucket,
        open_log_store(bucket),
        engine,
        periods=days,
        with_rejected=settings.should_purge_rejected(bucket),
        archive=open_archive(bucket, url) if url else None,
        dry_run=dry_run,
        progress=progress,
    )


def _archive(settings: Settings, bucket: LoggedBucket, engine: sa.Engine, days: list[date] | None) -> Archived:
    """Archives the days that are due of those; None means all. Raises ArchiveError."""
    place = open_archive(bucket, settings.archive_of(bucket) or "")
    with bar(bucket.name, "days") as advance:
        return archive(
            bucket,
            place,
            engine,
            days=days,
            progress=lambda a: advance(len(a.days), len(days) if days else None, f"{a.rows:,} records archived"),
        )


def _is_undone(done: PulledBucket) -> bool:
    """Whether anything of the bucket is left to do."""
    return bool(
        done.error
        or done.archive_error
        or done.purge_error
        or any(day.failures or day.waiting for day in done.days)
        or (done.archived and done.archived.problems)
        or (done.purged and _has_unpurged(done.purged))
    )


def _has_unpurged(purged: PurgedKeys) -> bool:
    """Whether a purge left keys that should have gone."""
    return bool(purged.failures or purged.archive_problems)


@command(
    "purge",
    ("purge --dry-run", "prove what is loaded, and see by day what would be deleted"),
    ("purge --bucket media.example.org", "delete the loaded log keys of one bucket"),
)
def purge_command(
    bucket: BucketOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    dry_run: Annotated[bool, flag("--dry-run", "Prove, and only say what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Deletes log keys that are proved loaded.

    A pull does so too; this one loads nothing. For what was left: after --no-purge, after a permission was granted, or
    after a reparse. Each key's rows are counted just before, and only the very generation that was loaded is deleted.
    Keys with rejected lines stay, unless purge_rejected is set. With archive set, records go there first, and a key
    whose records are not there yet stays.

    The status is 0 only if no key was left that should have gone.
    """
    settings = load_settings()
    buckets = chosen_buckets(settings, bucket)
    first, last = asked_days(from_, to)
    with told_if_interrupted("What was deleted is noted, or will be found gone; run purge to go on."):
        engine = open_database(settings)
        done = [_purge_bucket(settings, each, engine, _days(first, last), dry_run) for each in buckets]
        engine.dispose()
    if as_json:
        show_documents(done)
    else:
        _show_days(done)
    if any(_is_unpurged(each) for each in done):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _is_unpurged(done: PurgedBucket) -> bool:
    """Whether keys are left that should have gone."""
    archived, purged = done.archived, done.purged
    failed = done.error or done.archive_error
    return bool(failed or (archived and archived.problems) or (purged and _has_unpurged(purged)))


def _purge_bucket(
    settings: Settings, bucket: LoggedBucket, engine: sa.Engine, days: list[date] | None, dry_run: bool
) -> PurgedBucket:
    """Purges one bucket, and says so."""
    told = PurgedBucket(bucket=bucket.name, dry_run=dry_run)
    if not settings.should_purge(bucket):
        err.print(f"[bold]{escape(bucket.name)}[/]: purge_parsed_keys is off, its log keys stay", highlight=False)
        return told
    if settings.archive_of(bucket) and not dry_run:
        try:
            archived = _archive(settings, bucket, engine, days)
        except (LogStoreError, *DATABASE_ERRORS) as error:
            text = tell_bucket_failure(bucket.name, error, "its log keys stay")
            return told.model_copy(update={"archive_error": text})
        _tell_archived(bucket, archived)
        told = told.model_copy(update={"archived": archived_days(archived)})
    try:
        with bar(bucket.name, "keys") as advance:
            progress = lambda keys: advance(keys, None, "")  # noqa: E731 - short, and only here
            purged = _purge(settings, bucket, engine, days, dry_run=dry_run, progress=progress)
    except (LogStoreError, *DATABASE_ERRORS) as error:
        return told.model_copy(update={"error": tell_bucket_failure(bucket.name, error)})
    _tell_purged(bucket, purged, f"[bold]{escape(bucket.name)}[/]: ", "would purge" if dry_run else "purged")
    return told.model_copy(update={"purged": purged_keys(purged)})


def _tell_purged(bucket: LoggedBucket, purged: Purged, before: str, done: str = "purged") -> None:
    """What a purge did, and each key and each archive that kept it from more."""
    err.print(f"{before}{_told(purged, done)}", highlight=False)
    for failure in purged.failures:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
    for problem, days in purged.days_by_archive_problem().items():
        span = f"{days[0]}" if len(days) == 1 else f"{len(days):,} delivery days, {days[0]} to {days[-1]}"
        complain(f"bucket {bucket.name}, {span}: nothing is purged: {problem}")


def _tell_archived(bucket: LoggedBucket, archived: Archived | None) -> None:
    """What went to the archive, and what did not; nothing if there is none."""
    if archived is None:
        return
    err.print(f"[bold]{escape(bucket.name)}[/]: {archived}", highlight=False)
    for day, problem in archived.problems.items():
        complain(f"bucket {bucket.name}, delivery day {day}: {problem}")


def _show_days(done: list[PurgedBucket]) -> None:
    """Of a dry run, what would go by bucket and day."""
    rows = [(each.bucket, day, keys) for each in done if each.purged for day, keys in each.purged.by_day.items()]
    if rows and done[0].dry_run:
        show_rows(["bucket", "day", "keys"], rows)


def _days(first: date | None, last: date | None) -> list[date] | None:
    """The delivery days from `first` to `last`; None means all."""
    if first is None and last is None:
        return None
    start, end = first or FIRST_LOG_DATE, last or datetime.now(UTC).date() + timedelta(days=DAYS_AHEAD)
    return [start + timedelta(days=number) for number in range((end - start).days + 1)]


def _told(purged: Purged, done: str = "purged") -> str:
    """A purge in a line."""
    told = f"{done} {purged.keys:,} keys ({purged.bytes:,} bytes), proved by {purged.rows:,} rows"
    if kept := purged.kept.keys:
        told += f"; {kept:,} keys with rejected lines stay"
    if waiting := purged.waiting_keys:
        told += f"; {waiting:,} keys wait for the archive"
    return told


def _summarise(bucket: LoggedBucket, pulled: pulling.Pulled) -> None:
    """Show what was loaded, one fact a line, and what failed last."""

    def total(name: str) -> int:
        return sum(getattr(each, name) for each in pulled.periods)

    rate = total("lines") / pulled.seconds if pulled.seconds else 0
    err.print(
        f"[bold]{escape(bucket.name)}[/]: {total('keys'):,} keys loaded ({total('seen'):,} were loaded before);"
        f" {total('lines'):,} lines = {total('records'):,} records + {total('rejected'):,} rejected"
        f" + {total('blank'):,} blank; {pulled.seconds:.1f} s, {rate:,.0f} lines/s",
        highlight=False,
    )
    if returned := total("returned"):
        what = "1 key was" if returned == 1 else f"{returned:,} keys were"
        err.print(
            f"  {what} loaded and purged before, and the same bytes are there again; they were not loaded twice",
            highlight=False,
        )
    within = [name for each in pulled.periods for name in each.strays]
    if strays := [*within, *pulled.strays]:
        count = count_strays(pulled.strays, len(within))
        err.print(f"  {count} strays were skipped, for example '{printable(strays[0])}'", highlight=False)
    if outdated := total("outdated"):
        err.print(
            f"  {describe_outdated(outdated, printable(pulled.outdated_names[0]))}", highlight=False, markup=False
        )
    if pulled.waiting:
        complain(describe_waiting(bucket, pulled.waiting))
    for failure in pulled.failures:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
