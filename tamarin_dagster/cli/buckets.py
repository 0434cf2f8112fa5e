"""The buckets with their state: what is loaded, what is not yet, what is to be purged."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
import typer
from rich import box
from rich.table import Table

from tamarin_dagster.cli.app import EXIT_LEFT_UNDONE, BucketOption, JsonOption, command, flag, told_if_interrupted
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import BucketState, LastKey, Unloaded, show_documents
from tamarin_dagster.cli.shared import first_pulled_day
from tamarin_dagster.cli.terminal import bar, err, printable, show_table
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.archiving import place_name
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline import backlog
from tamarin_dagster.pipeline.discover import DAYS_AHEAD
from tamarin_dagster.recordstore import archived, ledger
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.holdings import Holding, holdings, newest_key
from tamarin_dagster.settings import LoggedBucket, Settings


@command(
    "buckets",
    ("buckets", "is everything loaded, and does the purge keep up?"),
    ("buckets --no-list", "what the database knows, at once"),
    ("buckets --json | jq '.[] | select(.unloaded.keys > 1000)'", "for a monitoring script"),
)
def buckets_command(
    bucket: BucketOption = None,
    as_json: JsonOption = False,
    no_list: Annotated[bool, flag("--no-list", "Ask only the database, not the log buckets.")] = False,
) -> None:
    """Shows the configured buckets with their state: what is loaded, what is not, what is to be purged.

    What is not loaded yet is counted by listing the log bucket, for 20 seconds each at most: the newest week first,
    then the days before from the first on. "At least" says that there may be more. A bucket that the settings no longer
    name, or whose log bucket was another one, is shown as long as the ledger knows it.

    "Waiting" are files of a folder that changed within quiet_seconds, "outdated" are log keys that are skipped since a
    newer generation of their name is loaded and purged, "returned" are those that were found again after their purge.

    The status is 1 if a log bucket could not be listed; its row says why, and the others are looked at. What is not
    loaded or not purged yet does not change it.
    """
    settings = load_settings()
    with told_if_interrupted("Nothing was changed."):
        engine = open_database(settings)
        states = _states(settings, engine, bucket, lists=not no_list)
        engine.dispose()
    if as_json:
        show_documents(states)
    elif states:
        show_table(_as_table(states))
    if not settings.buckets:
        err.print("No buckets are configured; list one in tamarin.yaml, under buckets:", style="yellow")
    if any(state.error for state in states):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _states(settings: Settings, engine: sa.Engine, name: str | None, *, lists: bool) -> list[BucketState]:
    """The configured buckets in the order of the settings, then what the ledger knows beside them."""
    configured = {(each.name, each.log_bucket_name): each for each in settings.buckets if name in {None, each.name}}
    with err.status("Asking the ledger"), engine.connect() as connection:
        known = {(each.bucket, each.log_bucket_name): each for each in holdings(connection)}
    others = [each for place, each in known.items() if place not in configured and name in {None, each.bucket}]
    if name and not configured and not others:
        settings.bucket(name)  # says which there are
    states = [
        _configured_state(settings, each, known.get(place, Holding(*place)), engine, lists=lists)
        for place, each in configured.items()
    ]
    return states + [_state(each, engine) for each in others]


def _state(held: Holding, engine: sa.Engine) -> BucketState:
    """What the ledger knows of it."""
    with engine.connect() as connection:
        newest = newest_key(connection, held.bucket, held.log_bucket_name)
    return BucketState(
        bucket=held.bucket,
        is_configured=False,
        log_bucket_name=held.log_bucket_name,
        log_prefix=None,
        monitored=False,
        purges=False,
        last_key=LastKey.model_validate(newest) if newest else None,
        loaded_keys=held.keys,
        purged_keys=held.purged_keys,
        returned_keys=held.returned_keys,
        expired_keys=held.expired_keys,
        records=held.records,
        rejected_lines=held.rejected_lines,
        unloaded=None,
        to_purge_keys=0,
        waiting_keys=0,
        failing_purge_keys=held.failing_keys,
    )


def _configured_state(
    settings: Settings, bucket: LoggedBucket, held: Holding, engine: sa.Engine, *, lists: bool
) -> BucketState:
    """What ledger, settings and log bucket know of it; an error of the log bucket is its own."""
    unloaded = error = None
    if lists:
        try:
            unloaded = _unloaded(settings, bucket, engine)
        except LogStoreError as failure:
            error = str(failure)
    purges = settings.should_purge(bucket)
    waiting = _waiting(settings, bucket, engine)
    return _state(held, engine).model_copy(
        update={
            "is_configured": True,
            "log_prefix": bucket.log_prefix,
            "monitored": bucket.monitor_bucket,
            "purges": purges,
            "error": error,
            "unloaded": unloaded,
            "to_purge_keys": _to_purge(settings, bucket, held, engine) - waiting if purges else 0,
            "waiting_keys": waiting,
        }
    )


def _to_purge(settings: Settings, bucket: LoggedBucket, held: Holding, engine: sa.Engine) -> int:
    """The loaded keys that the next purge would take, if all of them are in the archive where there is one."""
    if not settings.should_purge_rejected(bucket):
        return held.unpurged_keys
    with engine.connect() as connection:
        kept = ledger.kept_keys(connection, bucket.name, bucket.log_bucket_name)
    return held.unpurged_keys + kept.keys - kept.oversized_keys


def _waiting(settings: Settings, bucket: LoggedBucket, engine: sa.Engine) -> int:
    """The loaded keys that a purge would take if their records were in the archive."""
    url = settings.archive_of(bucket)
    if url is None:
        return 0
    with engine.connect() as connection:
        return archived.waiting_purgeable_keys(
            connection,
            bucket.name,
            bucket.log_bucket_name,
            place_name(url),
            with_rejected=settings.should_purge_rejected(bucket),
        )


def _unloaded(settings: Settings, bucket: LoggedBucket, engine: sa.Engine) -> Unloaded:
    """What a pull would find. Raises LogStoreError."""
    first = first_pulled_day(settings, bucket)
    last = max(first, datetime.now(UTC).date() + timedelta(days=DAYS_AHEAD))
    with bar(bucket.name, "keys listed") as advance:
        found = backlog.count_backlog(
            bucket,
            open_log_store(bucket),
            engine,
            first,
            last,
            progress=lambda b: advance(b.listed, None, f"{b.unloaded:,} not loaded"),
        )
    return Unloaded(
        keys=found.unloaded,
        listed_keys=found.listed,
        outdated_keys=found.outdated,
        waiting_files=found.waiting,
        is_complete=found.is_complete,
        first_day=found.first,
        last_day=found.last,
    )


def _as_table(states: Sequence[BucketState]) -> Table:
    """A row each, of a few lines, so that it fits 80 columns."""
    table = Table(box=box.SIMPLE, pad_edge=False, show_lines=False, leading=1, header_style="bold")
    table.add_column("Bucket\nits log keys", overflow="fold")
    table.add_column("Last key\n(UTC)")
    for title in ("Keys\nrecords", "Not loaded\nkeys", "Rejected\nlines", "To purge\nfailing"):
        table.add_column(title, justify="right")
    for state in states:
        table.add_row(*_cells(state))
    return table


def _cells(state: BucketState) -> tuple[str, ...]:
    last = state.last_key
    delivered = last.delivered_at if last else None
    return (
        "\n".join(_described(state)),
        f"{delivered:%Y-%m-%d\n%H:%M:%S}" if delivered else "-" if last is None else "?",
        f"{state.loaded_keys:,}\n{state.records:,}"
        + (f"\n[yellow]{state.returned_keys:,} returned[/]" if state.returned_keys else ""),
        _not_loaded(state),
        f"{state.rejected_lines:,}",
        (f"{state.to_purge_keys:,}" if state.purges else "-")
        + (f"\n[red]{state.failing_purge_keys:,}[/]" if state.failing_purge_keys else "\n0" * state.purges)
        + (f"\n{state.waiting_keys:,} wait\nfor archive" if state.waiting_keys else ""),
    )


def _described(state: BucketState) -> list[str]:
    where = state.log_bucket_name + (f"/{state.log_prefix}" if state.log_prefix else "")
    lines = [f"[bold]{printable(state.bucket)}[/]", printable(where)]
    if not state.is_configured:
        return [*lines, "[yellow]not in the settings[/]"]
    lines.append(f"{'monitored' if state.monitored else 'not monitored'}, {'purged' if state.purges else 'not purged'}")
    return [*lines, f"[red]{printable(state.error)}[/]"] if state.error else lines


def _not_loaded(state: BucketState) -> str:
    if state.unloaded is None:
        return "[red]?[/]" if state.error else "-"
    found = state.unloaded
    told = f"{found.keys:,}" if found.is_complete else f"at least\n{found.keys:,}"
    if found.waiting_files:
        told += f"\n[yellow]{found.waiting_files:,} waiting[/]"
    return told + (f"\n[yellow]{found.outdated_keys:,} outdated[/]" if found.outdated_keys else "")
