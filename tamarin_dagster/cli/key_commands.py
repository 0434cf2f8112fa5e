"""Commands about log keys: load them, and delete them when they are proved loaded."""

from collections.abc import Callable
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
from tamarin_dagster.cli.documents import (
    ArchivedDays,
    PulledBucket,
    PulledDay,
    PurgedBucket,
    PurgedKeys,
    make_document,
    show_documents,
)
from tamarin_dagster.cli.misnamed import (
    complain_of_foreign_records,
    complain_of_former_name,
    complain_of_misplaced_keys,
)
from tamarin_dagster.cli.rollup_command import roll_up_due
from tamarin_dagster.cli.shared import (
    check_days,
    describe_strays,
    first_pulled_day,
    report_bucket_failure,
    select_buckets,
)
from tamarin_dagster.cli.terminal import bar, complain, err, printable, show_rows
from tamarin_dagster.logformat import delivery_day
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline import pull as pulling
from tamarin_dagster.pipeline.archive import Archived, archive_bucket, open_place
from tamarin_dagster.pipeline.discover import DAYS_AHEAD, count_strays, describe_outdated, describe_waiting
from tamarin_dagster.pipeline.pull import PulledPeriod
from tamarin_dagster.pipeline.purge import Purged, purge_bucket
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS
from tamarin_dagster.settings import FIRST_LOG_DATE, LoggedBucket, Settings


@command(
    "pull",
    ("pull", "everything new in all buckets; for a crontab"),
    ("pull --bucket media --from 2026-01-01 --to 2026-01-31", "a month of one bucket"),
    ("pull --no-purge --json > pulled.json", "delete nothing, and write for a script what was loaded"),
)
def pull_command(
    bucket: BucketOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    no_purge: Annotated[bool, flag("--no-purge", "Do not delete the loaded log keys.")] = False,
    no_rollups: Annotated[bool, flag("--no-rollups", "Leave the rollups to `roll-up` or to Dagster.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Load all log keys that are not loaded yet, purge those that are proved loaded, and roll up their days.

    Run it from cron, or by hand for a first load; with Dagster the sensor does the same. You may run it at any time,
    and twice at the same time: what is loaded already costs only a listing, and nothing is loaded twice.

    Without --from the pull begins with each bucket's start_date, or with the first day that retention_months keeps.
    Without --to it ends with today. The exit status is 0 only if nothing is incomplete: each key that was skipped is
    named, and a bucket that cannot be listed does not stop the others. If files of a folder changed within
    quiet_seconds, they wait for the next pull, and the exit status is 1.
    """
    settings = load_settings()
    buckets = select_buckets(settings, bucket)
    first, last = check_days(from_, to)
    with explain_interrupt("What was committed stays and is not loaded again; run pull to continue."):
        engine = open_database(settings)
        done: list[PulledBucket] = []
        try:
            for each in buckets:
                done.append(PulledBucket(bucket=each.name))
                _pull_bucket(settings, each, engine, first, last, done, purges=not no_purge)
            failures = [] if no_rollups else roll_up_due(settings, engine).failures
        finally:
            if as_json:  # also after an error: what was committed must be reported
                show_documents(done)
        engine.dispose()
    if failures or any(_is_undone(each) for each in done):
        raise typer.Exit(EXIT_INCOMPLETE)


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
    """Pull, archive and purge one bucket, and report it. The last of `done` holds at each moment what was done."""
    loaded: list[PulledPeriod] = []
    try:
        store = open_log_store(bucket)
        with bar(bucket.name, "days") as advance:
            pulled = pulling.pull_bucket(
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
        done[-1] = done[-1].model_copy(update={"error": report_bucket_failure(bucket.name, error)})
        return
    finally:
        done[-1] = done[-1].model_copy(update={"days": tuple(map(PulledDay.model_validate, loaded))})
    done[-1] = make_document(PulledBucket, pulled, bucket=bucket.name, days=pulled.periods)
    _summarise(bucket, pulled)
    days = [delivery_day(each.period) for each in pulled.periods]
    if not days:
        complain_of_misplaced_keys(settings, bucket, store, engine)
    complain_of_former_name(settings, bucket, engine)
    complain_of_foreign_records(engine, bucket.name)
    try:
        if settings.archive_of(bucket):
            # The days of the options may have purged keys that were never archived; no listing shows those.
            archived = _archive(settings, bucket, engine, _days(first, last) or days)
            _report_archive(bucket, archived)
            done[-1] = done[-1].model_copy(update={"archived": ArchivedDays.model_validate(archived)})
    except (LogStoreError, *DATABASE_ERRORS) as error:
        text = report_bucket_failure(bucket.name, error, "its log keys stay")
        done[-1] = done[-1].model_copy(update={"archive_error": text})
        return
    if not (purges and settings.should_purge(bucket)):
        return
    try:
        with bar(bucket.name, "keys") as advance:
            purged = _purge(settings, bucket, engine, days, progress=lambda keys: advance(keys, None, "purged"))
    except (LogStoreError, *DATABASE_ERRORS) as error:
        done[-1] = done[-1].model_copy(update={"purge_error": report_bucket_failure(bucket.name, error)})
        return
    _report_purge(bucket, purged, "  ")
    done[-1] = done[-1].model_copy(update={"purged": PurgedKeys.model_validate(purged)})


def _purge(
    settings: Settings,
    bucket: LoggedBucket,
    engine: sa.Engine,
    days: list[date] | None,
    *,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Purged:
    """Purge a bucket as its settings say. Raises LogStoreError."""
    return purge_bucket(
        bucket,
        open_log_store(bucket),
        engine,
        periods=days,
        with_rejected=settings.should_purge_rejected(bucket),
        archive=open_place(settings, bucket),
        dry_run=dry_run,
        progress=progress,
    )


def _archive(settings: Settings, bucket: LoggedBucket, engine: sa.Engine, days: list[date] | None) -> Archived:
    """Archive the due days of `days`; None means all days. Raises ArchiveError."""
    place = open_place(settings, bucket)
    if place is None:  # the callers ask before
        return Archived()
    with bar(bucket.name, "days") as advance:
        return archive_bucket(
            bucket,
            place,
            engine,
            days=days,
            progress=lambda a: advance(len(a.days), len(days) if days else None, f"{a.rows:,} records archived"),
        )


def _is_undone(done: PulledBucket) -> bool:
    """Return whether anything of the bucket is incomplete."""
    return bool(
        done.error
        or done.archive_error
        or done.purge_error
        or any(day.failures or day.waiting for day in done.days)
        or (done.archived and done.archived.problems)
        or (done.purged and _has_unpurged(done.purged))
    )


def _has_unpurged(purged: PurgedKeys) -> bool:
    """Return whether a purge left keys that it should have deleted."""
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
    dry_run: Annotated[bool, flag("--dry-run", "Only prove, and show what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete log keys that are proved loaded.

    A pull purges too; this command loads nothing. Run it for the keys that remain after --no-purge, after you granted a
    permission, or after a reparse. The rows of each key are counted just before it is deleted, and only the very
    generation that was loaded is deleted. Keys with rejected lines stay unless purge_rejected is set. If archive is
    set, the records are archived first, and a key whose records are not in the archive stays.

    The exit status is 0 only if every key that should go was deleted.
    """
    settings = load_settings()
    buckets = select_buckets(settings, bucket)
    first, last = check_days(from_, to)
    with explain_interrupt("The ledger has what was deleted, or will find it gone; run purge to continue."):
        engine = open_database(settings)
        done = [_purge_bucket(settings, each, engine, _days(first, last), dry_run) for each in buckets]
        engine.dispose()
    if as_json:
        show_documents(done)
    else:
        _show_days(done)
    if any(_is_unpurged(each) for each in done):
        raise typer.Exit(EXIT_INCOMPLETE)


def _is_unpurged(done: PurgedBucket) -> bool:
    """Return whether keys remain that should have been deleted."""
    archived, purged = done.archived, done.purged
    failed = done.error or done.archive_error
    return bool(failed or (archived and archived.problems) or (purged and _has_unpurged(purged)))


def _purge_bucket(
    settings: Settings, bucket: LoggedBucket, engine: sa.Engine, days: list[date] | None, dry_run: bool
) -> PurgedBucket:
    """Purge one bucket, and report it."""
    purged_bucket = PurgedBucket(bucket=bucket.name, dry_run=dry_run)
    if not settings.should_purge(bucket):
        err.print(f"[bold]{escape(bucket.name)}[/]: purge_parsed_keys is off, its log keys stay", highlight=False)
        return purged_bucket
    if settings.archive_of(bucket) and not dry_run:
        try:
            archived = _archive(settings, bucket, engine, days)
        except (LogStoreError, *DATABASE_ERRORS) as error:
            text = report_bucket_failure(bucket.name, error, "its log keys stay")
            return purged_bucket.model_copy(update={"archive_error": text})
        _report_archive(bucket, archived)
        purged_bucket = purged_bucket.model_copy(update={"archived": ArchivedDays.model_validate(archived)})
    try:
        with bar(bucket.name, "keys") as advance:
            progress = lambda keys: advance(keys, None, "")  # noqa: E731 - short, and used only here
            purged = _purge(settings, bucket, engine, days, dry_run=dry_run, progress=progress)
    except (LogStoreError, *DATABASE_ERRORS) as error:
        return purged_bucket.model_copy(update={"error": report_bucket_failure(bucket.name, error)})
    _report_purge(bucket, purged, f"[bold]{escape(bucket.name)}[/]: ", "would purge" if dry_run else "purged")
    complain_of_former_name(settings, bucket, engine)
    return purged_bucket.model_copy(update={"purged": PurgedKeys.model_validate(purged)})


def _report_purge(bucket: LoggedBucket, purged: Purged, before: str, done: str = "purged") -> None:
    """Report what a purge did, and each key and each archive that kept it from deleting more."""
    err.print(f"{before}{_describe_purge(purged, done)}", highlight=False)
    for failure in purged.failures:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
    for problem, days in purged.days_by_archive_problem().items():
        span = f"{days[0]}" if len(days) == 1 else f"{len(days):,} delivery days, {days[0]} to {days[-1]}"
        complain(f"bucket {bucket.name}, {span}: nothing is purged: {problem}")


def _report_archive(bucket: LoggedBucket, archived: Archived | None) -> None:
    """Report what was archived and what was not; nothing without an archive."""
    if archived is None:
        return
    err.print(f"[bold]{escape(bucket.name)}[/]: {archived}", highlight=False)
    for day, problem in archived.problems.items():
        complain(f"bucket {bucket.name}, delivery day {day}: {problem}")


def _show_days(done: list[PurgedBucket]) -> None:
    """Show how many keys of each bucket and day a dry run would delete."""
    rows = [(each.bucket, day, keys) for each in done if each.purged for day, keys in each.purged.by_day.items()]
    if rows and done[0].dry_run:
        show_rows(["bucket", "day", "keys"], rows)


def _days(first: date | None, last: date | None) -> list[date] | None:
    """Return the delivery days from `first` to `last`; None means all."""
    if first is None and last is None:
        return None
    start, end = first or FIRST_LOG_DATE, last or datetime.now(UTC).date() + timedelta(days=DAYS_AHEAD)
    return [start + timedelta(days=number) for number in range((end - start).days + 1)]


def _describe_purge(purged: Purged, done: str = "purged") -> str:
    """Describe a purge in a line."""
    text = (
        f"{done} {count_noun(purged.keys, 'key')} ({purged.bytes:,} bytes), proved by {count_noun(purged.rows, 'row')}"
    )
    if kept := purged.kept.keys:
        text += f"; {count_noun(kept, 'key')} with rejected lines {'stays' if kept == 1 else 'stay'}"
    if waiting := purged.waiting_keys:
        text += f"; {count_noun(waiting, 'key')} {'waits' if waiting == 1 else 'wait'} for the archive"
    return text


def _summarise(bucket: LoggedBucket, pulled: pulling.Pulled) -> None:
    """Report what was loaded, one fact a line, and failures last."""

    def total(name: str) -> int:
        return sum(getattr(each, name) for each in pulled.periods)

    rate = total("lines") / pulled.seconds if pulled.seconds else 0
    err.print(
        f"[bold]{escape(bucket.name)}[/]: {count_noun(total('keys'), 'key')} loaded ({total('seen'):,} loaded before);"
        f" {count_noun(total('lines'), 'line')} = {count_noun(total('records'), 'record')}"
        f" + {total('rejected'):,} rejected + {total('blank'):,} blank; {pulled.seconds:.1f} s, {rate:,.0f} lines/s",
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
        err.print(describe_strays(strays[0], count_strays(pulled.strays, len(within))), highlight=False)
    if outdated := total("outdated"):
        err.print(
            f"  {describe_outdated(outdated, printable(pulled.outdated_names[0]))}", highlight=False, markup=False
        )
    if pulled.waiting:
        complain(describe_waiting(bucket, pulled.waiting))
    for failure in pulled.failures:
        complain(f"bucket {bucket.name}, key {failure.key}: {failure.error}")
