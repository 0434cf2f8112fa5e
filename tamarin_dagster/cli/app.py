"""The command line's frame: the program, its exit statuses, and what its commands share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from tamarin_dagster.logstore import FolderLogStore, LogStore
from tamarin_dagster.settings import CONFIG_VARIABLE, LoggedBucket, Settings, SettingsError
from tamarin_dagster.terminal import complain

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


@app.callback()
def _options(
    config: Annotated[
        Path | None,
        typer.Option(help="The settings; default: $TAMARIN_CONFIG, else tamarin.yaml here.", metavar="FILE"),
    ] = None,
) -> None:
    if config:
        os.environ[CONFIG_VARIABLE] = str(config)


def chosen_buckets(settings: Settings, name: str | None) -> list[LoggedBucket]:
    """The bucket of that name, or all. Raises SettingsError if there is none."""
    if name:
        return [settings.bucket(name)]
    if not settings.buckets:
        raise SettingsError("no buckets are configured; list one in tamarin.yaml, under buckets:")
    return list(settings.buckets)


def day_of(given: datetime | None) -> date | None:
    """The day that was given as an option, if any was."""
    return given.date() if given else None


@contextmanager
def told_if_interrupted(text: str) -> Iterator[None]:
    """An interrupt ends the command with its own exit status, and with what has become of its work."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"Interrupted. {text}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def open_log_store(bucket: LoggedBucket) -> LogStore:
    """The store of the bucket's log keys. Raises LogStoreError."""
    if bucket.log_folder is not None:
        return FolderLogStore(bucket.log_folder, bucket.log_bucket_name)
    # dagster-aws has the S3Resource; a folder needs none, and Dagster takes a second to import.
    from tamarin_dagster.defs.s3_resource import open_s3_log_store  # noqa: PLC0415

    return open_s3_log_store(bucket)
