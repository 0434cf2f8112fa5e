"""The command that finds stored records that this version would not load."""

from datetime import date
from typing import Annotated

import typer

from tamarin_dagster.cli.app import (
    EXIT_INCOMPLETE,
    BucketOption,
    JsonOption,
    command,
    day_option,
    explain_interrupt,
)
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import RecheckedRecords, show_documents
from tamarin_dagster.cli.shared import check_days
from tamarin_dagster.cli.terminal import bar, complain, err, show_rows
from tamarin_dagster.pipeline.recheck import ConcernedKey, Rechecked, recheck_records
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.shapes import has_log_keys


@command(
    "recheck",
    ("recheck", "after an upgrade, all records"),
    ("recheck --bucket media --from 2026-03-01 --json", "newer days of one bucket, for a script"),
)
def recheck_command(
    bucket: BucketOption = None,
    from_: Annotated[date | None, day_option("--from", "First request day (UTC).")] = None,
    to: Annotated[date | None, day_option("--to", "Last request day (UTC).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find stored records that this version would not load, and change nothing.

    An earlier version loaded lines whose last columns had no documented shape. This command reads the records again,
    one request day at a time. It shows the columns with such values, some of the values, and the log keys that the
    records came from. docs/reference/lines.md says what to do with them.

    The days are those of the requests. Without --bucket, all records are read, also those of buckets that are not
    configured. The exit status is 1 if such a record was found.
    """
    settings = load_settings()
    first, last = check_days(from_, to)
    with explain_interrupt("Nothing was changed."):
        engine = open_database(settings)
        if bucket is not None:
            with engine.connect() as connection:
                is_loaded = has_log_keys(connection, bucket)
            if not is_loaded:
                settings.bucket(bucket)  # a bucket that was removed from them may have records; any other is an error
                complain(f"bucket {bucket}: no log key was ever loaded for it, so there is nothing to recheck")
        with bar("Rechecking", "days") as advance:
            done = recheck_records(
                engine,
                bucket=bucket,
                first=first,
                last=last,
                progress=lambda d, day: advance(d.days, d.day_count, f"{day.day}: {d.records:,} records found"),
            )
        engine.dispose()
    err.print(str(done), highlight=False)
    if as_json:
        show_documents(RecheckedRecords.model_validate(done))
    elif done.records:
        _show_columns(done)
        _show_keys(done)
    if done.records:
        raise typer.Exit(EXIT_INCOMPLETE)


def _show_columns(done: Rechecked) -> None:
    """Show each column with violations, and some of its values."""
    rows = [
        (
            column.column,
            column.records,
            sample.value,
            _describe_name(sample.log_key, sample.log_key_id),
            sample.line_number,
        )
        for column in done.columns
        for sample in column.samples
    ]
    show_rows(["column", "records", "for example", "log key", "line"], rows)


def _show_keys(done: Rechecked) -> None:
    """Show the first log keys, and how many more there are."""
    rows = [
        (key.bucket, _describe_name(key.key, key.id), key.id, key.records, _describe_place(key)) for key in done.keys
    ]
    show_rows(["bucket", "log key", "log_key_id", "records", "log bucket"], rows)
    if more := done.key_count - len(done.keys):
        at_least = "at least " if done.has_more_keys else ""
        err.print(f"and {at_least}{count_noun(more, 'more log key')}", highlight=False)
    err.print("What to do with these records: docs/reference/lines.md", highlight=False)


def _describe_name(log_key: str | None, log_key_id: int) -> str:
    return f"{log_key_id} (not in the ledger)" if log_key is None else log_key


def _describe_place(key: ConcernedKey) -> str:
    """Describe whether the log key can be read again, as far as the ledger knows."""
    if key.key is None:
        return "unknown"
    return "purged" if key.is_purged else "still there"
