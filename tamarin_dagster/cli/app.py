"""The frame of the command line: the program, its exit statuses, and what all commands share."""

import gc
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from tamarin_dagster.cli.terminal import complain
from tamarin_dagster.homes import CONFIG_VARIABLE

EXIT_INCOMPLETE = 1
EXIT_WRONG = 2
EXIT_INTERRUPTED = 130
EXIT_READER_GONE = 141

EXIT_STATUSES = {
    0: "everything is done",
    EXIT_INCOMPLETE: "something is incomplete or could not be reached; standard error says what",
    EXIT_WRONG: "the settings or the arguments are wrong; nothing was done",
    EXIT_INTERRUPTED: "interrupted (ctrl-C, SIGTERM, SIGHUP); what was committed stays",
    EXIT_READER_GONE: "the program that reads the output has ended (`| head`)",
}

PROGRAM = "tamarin-dagster"


class Panel(StrEnum):
    """The groups of commands, in the order of the help."""

    LOADING = "Load, purge and expire"
    LOOKING = "Inspect and query"
    SETTING_UP = "Set up and maintain"


BucketOption = Annotated[str | None, typer.Option("--bucket", help="Only this logged bucket.", metavar="NAME")]


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day; write it as year-month-day, like 2026-01-31") from None


def day_option(name: str, help_: str) -> Any:
    """Return an option whose value is a day."""
    return typer.Option(name, parser=_day, metavar="DAY", help=help_)


FromOption = Annotated[date | None, day_option("--from", "First delivery day (UTC).")]
ToOption = Annotated[date | None, day_option("--to", "Last delivery day (UTC).")]


def flag(name: str, help_: str) -> Any:
    """Return an option without a value; typer alone would show `<bool>` as its value."""
    return typer.Option(name, help=help_, metavar="")


JsonOption = Annotated[bool, flag("--json", "Print one JSON document; text for people goes to standard error.")]


@dataclass(frozen=True, slots=True)
class Listed:
    """A command as the help lists it. Its module may take long to import, so the list does not import it.

    Attributes:
        panel: its group in the help.
        module: the module of this package that defines it.
        summary: the first paragraph of its own help.
        hidden: whether the help omits it.
    """

    panel: Panel
    module: str
    summary: str
    hidden: bool = False


LISTED: Mapping[str, Listed] = {
    "roll-up": Listed(Panel.LOADING, "rollup_command", "Roll up each day whose records have changed."),
    "pull": Listed(
        Panel.LOADING,
        "key_commands",
        "Load all log keys that are not loaded yet, purge those that are proved loaded, and roll up their days.",
    ),
    "purge": Listed(Panel.LOADING, "key_commands", "Delete log keys that are proved loaded."),
    "mirror": Listed(Panel.LOADING, "mirroring", "Download log keys unchanged, unless a copy is there already."),
    "reparse": Listed(
        Panel.LOADING, "record_commands", "Parse rejected lines again, and store those that are valid now as records."
    ),
    "expire": Listed(
        Panel.LOADING, "record_commands", "Drop the months of records that are older than retention_months."
    ),
    "lake-load": Listed(
        Panel.LOADING, "lake_commands", "Load delivery days from the log bucket into the lake, with Spark."
    ),
    "doctor": Listed(
        Panel.LOOKING,
        "access",
        "Check the settings, the database and the log buckets, and say what to do.",
    ),
    "buckets": Listed(
        Panel.LOOKING,
        "buckets",
        "Show the state of each bucket: what is loaded, what is not, and what the next purge would delete.",
    ),
    "recheck": Listed(
        Panel.LOOKING, "recheck_command", "Find stored records that this version would not load, and change nothing."
    ),
    "export": Listed(Panel.LOOKING, "export_command", "Write records for other tools, as text or as Parquet files."),
    "top-talkers": Listed(
        Panel.LOOKING,
        "top_talkers",
        "Show who takes a large share of a bucket's bytes, or write a list that bans them.",
    ),
    "hogs": Listed(Panel.LOOKING, "top_talkers", "The old name of top-talkers.", hidden=True),
    "sql": Listed(Panel.LOOKING, "sql", "Query the database of the records, open psql, or print the database's URL."),
    "lake-compare": Listed(
        Panel.LOOKING,
        "lake_commands",
        "Compare the lake's ledger with the ledger in Postgres, and both with the rows in the lake.",
    ),
    "report": Listed(
        Panel.LOOKING,
        "report_command",
        "Write one HTML file about a bucket's month: traffic, files, consumers, referrers, bots, cost, completeness.",
    ),
    "enable-logging": Listed(
        Panel.SETTING_UP, "access", "Switch on a bucket's server access logging, as configured in the settings."
    ),
    "iam-policy": Listed(
        Panel.SETTING_UP,
        "access",
        "Print the IAM policy for reading the configured log buckets, or for purging, archiving or examining them.",
    ),
    "backup": Listed(
        Panel.SETTING_UP, "backups", "Write the database of the records to a file that `restore` can read."
    ),
    "restore": Listed(
        Panel.SETTING_UP, "backups", "Restore the database of the records from a backup, and migrate it."
    ),
    "migrate": Listed(Panel.SETTING_UP, "database_commands", "Migrate the database to the current schema."),
    "grant-reader": Listed(
        Panel.SETTING_UP, "database_commands", "Let a Postgres role read the tables, and change nothing."
    ),
    "stop": Listed(Panel.SETTING_UP, "database_commands", "Stop the embedded Postgres unless another process uses it."),
    "demo": Listed(
        Panel.SETTING_UP, "setup", "Run the demo: Postgres, an S3 endpoint with a media site's log, and Dagster."
    ),
    "demo-logs": Listed(Panel.SETTING_UP, "setup", "Write realistic log keys of a media site to a folder."),
    "compile": Listed(Panel.SETTING_UP, "setup", "Compile the parser now; otherwise its first use compiles it."),
    "dev": Listed(
        Panel.SETTING_UP,
        "setup",
        "Run what `make dev` runs: the database, the demo if no bucket is configured, and Dagster.",
        hidden=True,
    ),
}
"""All commands, in the order of the help."""


class _Commands(TyperGroup):
    """The program. An error in a command ends it with the exit status of that error."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: _list_command(name, each) for name, each in LISTED.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See click.Group. Imports only the module of the called command."""
        if args and args[0] in LISTED:
            self.commands[args[0]] = load_command(args[0])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """See click.Group."""
        with report_failures():
            done = super().invoke(ctx)
            sys.stdout.flush()  # while we can still report that the reader has gone or the disk is full
            return done


def _list_command(name: str, listed: Listed) -> TyperCommand:
    """Return a command as the list of commands shows it."""
    return TyperCommand(name, help=escape(listed.summary), rich_help_panel=listed.panel.value, hidden=listed.hidden)


@contextmanager
def report_failures() -> Iterator[None]:
    """Report an error that a person can correct in one line, without a traceback, and exit with its status."""
    try:
        yield
    except KeyboardInterrupt:
        complain("Interrupted.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        _forget_output()
        raise typer.Exit(EXIT_READER_GONE) from None
    except OSError as error:
        _forget_output()
        complain(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
        raise typer.Exit(EXIT_INCOMPLETE) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        # Imported only for an error, since it imports the modules of all errors.
        from tamarin_dagster.cli.explanations import explain  # noqa: PLC0415

        if (explained := explain(error)) is None:
            raise
        text, status = explained
        complain(text)
        raise typer.Exit(status) from None


def _forget_output() -> None:
    """Discard buffered output. Python would write it at exit, fail again, and print a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):  # the stream is no file
        return
    finally:
        os.close(nowhere)


_ABOUT = """Load S3 server access logs into Postgres, completely and exactly once.

List your buckets in tamarin.yaml. To begin, "doctor" checks that everything can be reached, "pull" loads, and "sql"
queries. Then run "pull" from cron, or Dagster ("make dev"), and "buckets" to see whether loading keeps up. Add --help
to a command for examples.
"""

app = typer.Typer(
    cls=_Commands,
    help="\n\n".join(" ".join(each.split()) for each in _ABOUT.split("\n\n")),
    epilog="Exit status:\n" + "\n".join(f"  {number:>3}  {meaning}" for number, meaning in EXIT_STATUSES.items()),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


@dataclass(frozen=True, slots=True)
class CommandHelp:
    """The help of a command, without its options.

    Attributes:
        panel: its group in the help.
        text: paragraphs, separated by an empty line; the first says what the command does.
        examples: arguments to type after the program's name, each with its purpose.
    """

    panel: Panel
    text: str
    examples: tuple[tuple[str, str], ...]


COMMANDS: dict[str, CommandHelp] = {}
_LOADED: dict[str, Any] = {}
_Function = TypeVar("_Function", bound=Callable[..., None])


def command(name: str, *examples: tuple[str, str], old_name: str | None = None) -> Callable[[_Function], _Function]:
    """Register a command of `LISTED`. Its help is the docstring with the examples, as wide as the terminal.

    The command also works under its `old_name`, which the help of all commands hides.
    """

    def add(function: _Function) -> _Function:
        paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        _register(name, paragraphs, examples, function)
        if old_name:
            _register(old_name, [LISTED[old_name].summary, *paragraphs], examples, function)
        return function

    return add


def _register(
    name: str, paragraphs: list[str], examples: tuple[tuple[str, str], ...], function: Callable[..., None]
) -> None:
    listed = LISTED[name]
    described = CommandHelp(listed.panel, "\n\n".join(" ".join(each.split()) for each in paragraphs), examples)
    COMMANDS[name] = described
    alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    alone.command(name, help=escape(described.text), epilog=_as_epilog(examples), hidden=listed.hidden)(function)
    _LOADED[name] = typer.main.get_command(alone)


def load_command(name: str) -> Any:
    """Return the click command of that name; import its module first."""
    if name not in _LOADED:
        # The objects that modules create stay alive. Looking for garbage in them takes an eighth of the import time.
        gc.disable()
        try:
            importlib.import_module(f"tamarin_dagster.cli.{LISTED[name].module}")
        finally:
            gc.freeze()
            gc.enable()
    return _LOADED[name]


def load_commands() -> dict[str, Any]:
    """Return all click commands by name, in the order of the help. Afterwards `COMMANDS` has the help of each."""
    return {name: load_command(name) for name in LISTED}


def _as_epilog(examples: tuple[tuple[str, str], ...]) -> str | None:
    """Return each example below its purpose."""
    if not examples:
        return None
    return escape("\n".join(f"\n# {meaning}\n{PROGRAM} {typed}" for typed, meaning in examples).strip())


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"{PROGRAM} {version('tamarin-dagster')}\n")
        raise typer.Exit


@app.callback()
def _options(
    config: Annotated[
        Path | None,
        typer.Option(help="The settings file; default: $TAMARIN_CONFIG, or ./tamarin.yaml.", metavar="FILE"),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", metavar="", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    if config:
        os.environ[CONFIG_VARIABLE] = str(config)


@contextmanager
def explain_interrupt(text: str) -> Iterator[None]:
    """End an interrupted command with its own exit status, and say what has become of its work."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"Interrupted. {text}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
