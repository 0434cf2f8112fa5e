"""The command line's frame: the program, its exit statuses, and what its commands share."""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import psycopg
import sqlalchemy as sa
import typer
from rich.markup import escape
from typer.core import TyperGroup

from tamarin_dagster.logstore import FolderLogStore, LogStore, LogStoreError
from tamarin_dagster.logstore.archiving import ArchivePlace, FolderArchive
from tamarin_dagster.recordstore.database import DatabaseError
from tamarin_dagster.recordstore.embedded import EmbeddedPostgresError
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, cause_of, raise_if_lost
from tamarin_dagster.retention import first_kept_day
from tamarin_dagster.settings import CONFIG_VARIABLE, LoggedBucket, Settings, SettingsError
from tamarin_dagster.terminal import complain

EXIT_LEFT_UNDONE = 1
EXIT_WRONG = 2
EXIT_INTERRUPTED = 130
EXIT_READER_GONE = 141

EXIT_STATUSES = {
    0: "all is done",
    EXIT_LEFT_UNDONE: "something is left undone or could not be reached: it was said what",
    EXIT_WRONG: "the settings or the arguments are wrong; nothing was done",
    EXIT_INTERRUPTED: "interrupted (ctrl-C, SIGTERM, SIGHUP); what was committed stays",
    EXIT_READER_GONE: "whoever read the answer has gone (`| head`)",
}

PROGRAM = "tamarin-dagster"


class Panel(StrEnum):
    """The groups of commands, in the order of the help."""

    LOADING = "Load, and delete what is loaded"
    LOOKING = "Look and ask"
    SETTING_UP = "Set up and look after"


BucketOption = Annotated[str | None, typer.Option("--bucket", help="Only this logged bucket.", metavar="NAME")]
FromOption = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], metavar="DAY", help="First delivery day (UTC).")
]
ToOption = Annotated[
    datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], metavar="DAY", help="Last delivery day (UTC).")
]


def flag(name: str, help_: str) -> Any:
    """An option without a value; typer would show `<bool>` for one."""
    return typer.Option(name, help=help_, metavar="")


JsonOption = Annotated[bool, flag("--json", "One JSON document on standard output; text for people on standard error.")]


class _Commands(TyperGroup):
    """The program; what fails in a command ends it with its exit status."""

    def list_commands(self, ctx: Any) -> list[str]:
        """See click.Group: by panel, within one as they were added."""
        order = list(Panel)
        return sorted(super().list_commands(ctx), key=lambda name: order.index(COMMANDS[name].panel))

    def invoke(self, ctx: Any) -> Any:
        """See click.Group."""
        with failures_told():
            done = super().invoke(ctx)
            sys.stdout.flush()  # while a reader that has gone, or a full disk, can still be told
            return done


@contextmanager
def failures_told() -> Iterator[None]:
    """What a person can mend is said in a line, without a traceback, and has an exit status of its own."""
    try:
        yield
    except SettingsError as error:
        complain(str(error))
        raise typer.Exit(EXIT_WRONG) from None
    except (DatabaseError, EmbeddedPostgresError, LogStoreError) as error:
        complain(str(error))
        raise typer.Exit(EXIT_LEFT_UNDONE) from None
    except (sa.exc.DBAPIError, psycopg.Error) as error:
        complain(f"database: {_said_of(error)}")
        raise typer.Exit(EXIT_LEFT_UNDONE) from None
    except KeyboardInterrupt:
        complain("Interrupted.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        _forget_output()
        raise typer.Exit(EXIT_READER_GONE) from None
    except OSError as error:
        _forget_output()
        complain(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
        raise typer.Exit(EXIT_LEFT_UNDONE) from None


def tell_bucket_failure(bucket: str, error: Exception, consequence: str = "") -> str:
    """Say what failed for one bucket, so that the others go on, and the consequence; returns what failed.

    Raises the error again if it means that the server is gone.
    """
    raise_if_lost(error)
    text = f"database: {cause_of(error)}" if isinstance(error, DATABASE_ERRORS) else str(error)
    complain(f"bucket {bucket}: {text}" + (f"; {consequence}" if consequence else ""))
    return text


def _said_of(error: sa.exc.DBAPIError | psycopg.Error) -> str:
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    said = str(cause).strip()
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return f"{said} - `{PROGRAM} doctor` says which right the user lacks, and what to do"
    return said


def _forget_output() -> None:
    """What is still to be written would fail once more, with a traceback, when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):  # a stream that is no file
        return
    finally:
        os.close(nowhere)


_ABOUT = """S3 server access logs into Postgres, completely and exactly once.

The buckets are listed in tamarin.yaml. For a first time: "doctor" says whether all is in reach, "pull" loads, "sql"
asks. Then "pull" from cron, or Dagster ("make dev"), and "buckets" to see whether it keeps up. --help behind a command
has examples.
"""

app = typer.Typer(
    cls=_Commands,
    help="\n\n".join(" ".join(each.split()) for each in _ABOUT.split("\n\n")),
    epilog="Exit status:\n" + "\n".join(f"  {number:>3}  {meaning}" for number, meaning in EXIT_STATUSES.items()),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@dataclass(frozen=True, slots=True)
class CommandHelp:
    """What is told of a command beside its options.

    Attributes:
        panel: the group it stands in.
        text: paragraphs, parted by an empty line; the first says what it does.
        examples: what stands behind the program's name, each with when one wants it.
    """

    panel: Panel
    text: str
    examples: tuple[tuple[str, str], ...]


COMMANDS: dict[str, CommandHelp] = {}
_Function = TypeVar("_Function", bound=Callable[..., None])


def command(
    name: str, panel: Panel, *examples: tuple[str, str], hidden: bool = False
) -> Callable[[_Function], _Function]:
    """Adds a command, whose help is its docstring with the examples; each line as wide as the terminal has it."""

    def add(function: _Function) -> _Function:
        paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        told = CommandHelp(panel, "\n\n".join(" ".join(each.split()) for each in paragraphs), examples)
        COMMANDS[name] = told
        app.command(
            name, help=escape(told.text), epilog=_as_epilog(examples), rich_help_panel=panel.value, hidden=hidden
        )(function)
        return function

    return add


def _as_epilog(examples: tuple[tuple[str, str], ...]) -> str | None:
    """Each example as it is typed, below what it is for."""
    if not examples:
        return None
    return escape("\n".join(f"\n# {meaning}\n{PROGRAM} {typed}" for typed, meaning in examples).strip())


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
    if name is not None:
        return [settings.bucket(name)]
    if not settings.buckets:
        raise SettingsError("no buckets are configured; list one in tamarin.yaml, under buckets:")
    return list(settings.buckets)


def asked_days(from_: datetime | None, to: datetime | None) -> tuple[date | None, date | None]:
    """The first and the last day that were given as options, if any were. Raises SettingsError if they are swapped."""
    first, last = from_.date() if from_ else None, to.date() if to else None
    if first and last and first > last:
        raise SettingsError(f"--from {first} is after --to {last}: no day lies between them")
    return first, last


def first_pulled_day(settings: Settings, bucket: LoggedBucket) -> date:
    """Where a pull begins that is not told: rows of days that retention_months leaves out would be dropped at once."""
    if settings.retention_months is None:
        return bucket.start_date
    return max(bucket.start_date, first_kept_day(settings.retention_months, datetime.now(UTC).date()))


@contextmanager
def told_if_interrupted(text: str) -> Iterator[None]:
    """An interrupt ends the command with its own exit status, and with what has become of its work."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"Interrupted. {text}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def open_archive(bucket: LoggedBucket, url: str) -> ArchivePlace:
    """Where the bucket's records are archived. Raises ArchiveError."""
    if not url.startswith("s3:"):
        return FolderArchive(url)
    from tamarin_dagster.defs.s3_resource import open_s3_archive  # noqa: PLC0415 - a folder needs none of it

    return open_s3_archive(bucket, url)


def open_log_store(bucket: LoggedBucket) -> LogStore:
    """The store of the bucket's log keys. Raises LogStoreError."""
    if bucket.log_folder is not None:
        return FolderLogStore(bucket.log_folder, bucket.log_bucket_name, quiet_seconds=bucket.quiet_seconds or 0)
    # dagster-aws has the S3Resource; a folder needs none, and Dagster takes a second to import.
    from tamarin_dagster.defs.s3_resource import open_s3_log_store  # noqa: PLC0415

    return open_s3_log_store(bucket)
