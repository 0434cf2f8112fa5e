"""The command that shows the state of each bucket."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
import typer
from rich import box
from rich.table import Table

from tamarin_dagster.cli.app import EXIT_INCOMPLETE, BucketOption, JsonOption, command, explain_interrupt, flag
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import BucketState, LastKey, Unloaded, show_documents
from tamarin_dagster.cli.shared import first_pulled_day
from tamarin_dagster.cli.terminal import bar, err, printable, show_table
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.archiving import place_name
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline import backlog
from tamarin_dagster.pipeline.discover import DAYS_AHEAD
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.holdings import Holding, find_newest_key, list_holdings
from tamarin_dagster.settings import LoggedBucket, Settings


@command(
    "buckets",
    ("buckets", "is everything loaded, and does the purge keep up?"),
    ("buckets --no-list", "only what the database knows; this is fast"),
    ("buckets --json | jq '.[] | select(.unloaded.keys > 1000)'", "for a monitoring script"),
)
def buckets_command(
    bucket: BucketOption = None,
    as_json: JsonOption = False,
    no_list: Annotated[bool, flag("--no-list", "Ask only the database, and do not list the log buckets.")] = False,
) -> None:
    """Show the state of each bucket: what is loaded, what is not, and what the next purge would delete.

    To count what is not loaded, the command lists each log bucket for at most 20 seconds: first the newest week, then
    the earlier days from the first one on. "At least" means that there may be more. A bucket that is no longer in the
    settings, or whose log bucket has changed, is shown as long as the ledger has rows of it.

    "Waiting" counts files of a folder that changed within quiet_seconds. "Outdated" counts log keys that are skipped
    because a newer generation of the same name is loaded and purged. "Returned" counts log keys that were found again
    after their purge.

    The exit status is 1 if a log bucket could not be listed; its row says why, and the other buckets are still shown.
    Keys that are not loaded or not purged yet do not change it.
    """
    settings = load_settings()
    with explain_interrupt("Nothing was changed."):
        engine = open_database(settings)
        states = _list_states(settings, engine, bucket, lists=not no_list)
        engine.dispose()
    if as_json:
        show_documents(states)
    elif states:
        show_table(_as_table(states))
    if not settings.buckets:
        err.print("No buckets are configured; list one in tamarin.yaml, under buckets:", style="yellow")
    if any(state.error for state in states):
        raise typer.Exit(EXIT_INCOMPLETE)


def _list_states(settings: Settings, engine: sa.Engine, name: str | None, *, lists: bool) -> list[BucketState]:
    """Return the configured buckets in the order of the settings, then the others that the ledger knows."""
    configured = {(each.name, each.log_bucket_name): each for each in settings.buckets if name in {None, each.name}}
    with err.status("Asking the ledger"), engine.connect() as connection:
        known = {(each.bucket, each.log_bucket_name): each for each in list_holdings(connection)}
    others = [each for place, each in known.items() if place not in configured and name in {None, each.bucket}]
    if name and not configured and not others:
        settings.bucket(name)  # its error lists the configured buckets
    states = [
        _read_configured_state(settings, each, known.get(place, Holding(*place)), engine, lists=lists)
        for place, each in configured.items()
    ]
    return states + [_read_state(each, engine) for each in others]


def _read_state(held: Holding, engine: sa.Engine) -> BucketState:
    """Return what the ledger knows of a bucket."""
    with engine.connect() as connection:
        newest = find_newest_key(connection, held.bucket, held.log_bucket_name)
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


def _read_configured_state(
    settings: Settings, bucket: LoggedBucket, held: Holding, engine: sa.Engine, *, lists: bool
) -> BucketState:
    """Return what ledger, settings and log bucket know of a bucket, or the error of the log bucket."""
    unloaded = error = None
    if lists:
        try:
            unloaded = _count_unloaded(settings, bucket, engine)
        except LogStoreError as failure:
            error = str(failure)
    purges = settings.should_purge(bucket)
    waiting = _count_waiting(settings, bucket, engine)
    return _read_state(held, engine).model_copy(
        update={
            "is_configured": True,
            "log_prefix": bucket.log_prefix,
            "monitored": bucket.monitor_bucket,
            "purges": purges,
            "error": error,
            "unloaded": unloaded,
            "to_purge_keys": _count_to_purge(settings, bucket, held, engine) - waiting if purges else 0,
            "waiting_keys": waiting,
        }
    )


def _count_to_purge(settings: Settings, bucket: LoggedBucket, held: Holding, engine: sa.Engine) -> int:
    """Count the loaded keys that the next purge would delete, if the archive (where there is one) holds them all."""
    if not settings.should_purge_rejected(bucket):
        return held.unpurged_keys
    with engine.connect() as connection:
        kept = ledger.count_kept_keys(connection, bucket.name, bucket.log_bucket_name)
    return held.unpurged_keys + kept.keys - kept.oversized_keys


def _count_waiting(settings: Settings, bucket: LoggedBucket, engine: sa.Engine) -> int:
    """Count the loaded keys that a purge would delete if their records were in the archive."""
    url = settings.archive_of(bucket)
    if url is None:
        return 0
    from tamarin_dagster.recordstore import archived  # noqa: PLC0415 - only settings with an archive need it

    with engine.connect() as connection:
        return archived.waiting_purgeable_keys(
            connection,
            bucket.name,
            bucket.log_bucket_name,
            place_name(url),
            with_rejected=settings.should_purge_rejected(bucket),
        )


def _count_unloaded(settings: Settings, bucket: LoggedBucket, engine: sa.Engine) -> Unloaded:
    """Return what a pull would find. Raises LogStoreError."""
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
    """Return a table with one row of a few lines for each bucket, so that it fits 80 columns."""
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
        "\n".join(_describe(state)),
        f"{delivered:%Y-%m-%d\n%H:%M:%S}" if delivered else "-" if last is None else "?",
        f"{state.loaded_keys:,}\n{state.records:,}"
        + (f"\n[yellow]{state.returned_keys:,} returned[/]" if state.returned_keys else ""),
        _describe_not_loaded(state),
        f"{state.rejected_lines:,}",
        (f"{state.to_purge_keys:,}" if state.purges else "-")
        + (f"\n[red]{state.failing_purge_keys:,}[/]" if state.failing_purge_keys else "\n0" * state.purges)
        + (f"\n{state.waiting_keys:,} wait\nfor archive" if state.waiting_keys else ""),
    )


def _describe(state: BucketState) -> list[str]:
    where = state.log_bucket_name + (f"/{state.log_prefix}" if state.log_prefix else "")
    lines = [f"[bold]{printable(state.bucket)}[/]", printable(where)]
    if not state.is_configured:
        return [*lines, "[yellow]not in the settings[/]"]
    lines.append(f"{'monitored' if state.monitored else 'not monitored'}, {'purged' if state.purges else 'not purged'}")
    return [*lines, f"[red]{printable(state.error)}[/]"] if state.error else lines


def _describe_not_loaded(state: BucketState) -> str:
    if state.unloaded is None:
        return "[red]?[/]" if state.error else "-"
    found = state.unloaded
    text = f"{found.keys:,}" if found.is_complete else f"at least\n{found.keys:,}"
    if found.waiting_files:
        text += f"\n[yellow]{found.waiting_files:,} waiting[/]"
    return text + (f"\n[yellow]{found.outdated_keys:,} outdated[/]" if found.outdated_keys else "")
