"""The command line's frame: the program, its exit statuses, and what its commands share."""

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


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day; write it as year-month-day, like 2026-01-31") from None


def day_option(name: str, help_: str) -> Any:
    """An option whose value is a day."""
    return typer.Option(name, parser=_day, metavar="DAY", help=help_)


FromOption = Annotated[date | None, day_option("--from", "First delivery day (UTC).")]
ToOption = Annotated[date | None, day_option("--to", "Last delivery day (UTC).")]


def flag(name: str, help_: str) -> Any:
    """An option without a value; typer would show `<bool>` for one."""
    return typer.Option(name, help=help_, metavar="")


JsonOption = Annotated[bool, flag("--json", "One JSON document on standard output; text for people on standard error.")]


@dataclass(frozen=True, slots=True)
class Listed:
    """A command as the help lists it, without its module, which may take long to import.

    Attributes:
        panel: its group in the help.
        module: the module of this package that has it.
        summary: the first paragraph of its own help.
        hidden: whether the help leaves it out.
    """

    panel: Panel
    module: str
    summary: str
    hidden: bool = False


LISTED: Mapping[str, Listed] = {
    "roll-up": Listed(Panel.LOADING, "rollups", "Makes the rollups of each day whose records have changed since."),
    "pull": Listed(
        Panel.LOADING,
        "keys",
        "Loads all log keys that are not loaded yet, purges those that are proved loaded, and rolls up their days.",
    ),
    "purge": Listed(Panel.LOADING, "keys", "Deletes log keys that are proved loaded."),
    "mirror": Listed(Panel.LOADING, "mirroring", "Downloads log keys as they are, those that are not there yet."),
    "reparse": Listed(
        Panel.LOADING, "records", "Reads rejected lines again, and moves those that are records now into the records."
    ),
    "expire": Listed(Panel.LOADING, "records", "Drops the months of records that are older than retention_months."),
    "doctor": Listed(
        Panel.LOOKING,
        "access",
        "Looks whether settings, database and log buckets are fit for use, and says what to do.",
    ),
    "buckets": Listed(
        Panel.LOOKING,
        "buckets",
        "Shows the configured buckets with their state: what is loaded, what is not, what is to be purged.",
    ),
    "recheck": Listed(
        Panel.LOOKING, "recheck", "Finds stored records that this version would not load, and changes nothing."
    ),
    "export": Listed(Panel.LOOKING, "export", "Writes records for other tools, in the order of the requests."),
    "hogs": Listed(
        Panel.LOOKING, "hogs", "Shows who takes more of a bucket's bytes than others, or writes a list to ban them by."
    ),
    "sql": Listed(Panel.LOOKING, "sql", "Asks the records' database: a query, psql without one, or only its URL."),
    "report": Listed(
        Panel.LOOKING,
        "report",
        "Writes a bucket's month as one HTML file: traffic, files, consumers, referrers, bots, cost, completeness.",
    ),
    "enable-logging": Listed(
        Panel.SETTING_UP, "access", "Switches a bucket's server access logging on, as the settings say."
    ),
    "iam-policy": Listed(
        Panel.SETTING_UP,
        "access",
        "Prints the IAM policy that reading the configured log buckets takes, or purging, or examining them.",
    ),
    "backup": Listed(
        Panel.SETTING_UP, "backups", "Writes the records' database into a file, from which restore makes it again."
    ),
    "restore": Listed(
        Panel.SETTING_UP, "backups", "Makes the records' database what it was when a backup was made, and migrates it."
    ),
    "migrate": Listed(Panel.SETTING_UP, "database", "Brings the database to the present schema."),
    "grant-reader": Listed(
        Panel.SETTING_UP, "database", "Lets a role of Postgres read the tables, and change nothing."
    ),
    "stop": Listed(Panel.SETTING_UP, "database", "Stops the embedded Postgres if nothing else of the project uses it."),
    "demo": Listed(
        Panel.SETTING_UP, "setup", "Runs the demo: Postgres, an S3 endpoint with a media site's log, and Dagster."
    ),
    "demo-logs": Listed(Panel.SETTING_UP, "setup", "Writes believable log keys of a media site to a folder."),
    "compile": Listed(Panel.SETTING_UP, "setup", "Compiles the parser, which its first use does else."),
    "dev": Listed(
        Panel.SETTING_UP,
        "setup",
        "What `make dev` runs: the database, the demo if no bucket is configured, and Dagster.",
        hidden=True,
    ),
}
"""All commands, in the order of the help."""


class _Commands(TyperGroup):
    """The program; what fails in a command ends it with its exit status."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: _listed(name, each) for name, each in LISTED.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See click.Group: only the module of the command that is called is imported."""
        if args and args[0] in LISTED:
            self.commands[args[0]] = load_command(args[0])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """See click.Group."""
        with failures_told():
            done = super().invoke(ctx)
            sys.stdout.flush()  # while a reader that has gone, or a full disk, can still be told
            return done


def _listed(name: str, listed: Listed) -> TyperCommand:
    """Return what the list of commands shows of a command."""
    return TyperCommand(name, help=escape(listed.summary), rich_help_panel=listed.panel.value, hidden=listed.hidden)


@contextmanager
def failures_told() -> Iterator[None]:
    """What a person can mend is said in a line, without a traceback, and has an exit status of its own."""
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
        raise typer.Exit(EXIT_LEFT_UNDONE) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        # It knows the errors of many modules, and is imported only for an error.
        from tamarin_dagster.cli.failures import explain  # noqa: PLC0415

        if (explained := explain(error)) is None:
            raise
        text, status = explained
        complain(text)
        raise typer.Exit(status) from None


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
    add_completion=True,
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
_LOADED: dict[str, Any] = {}
_Function = TypeVar("_Function", bound=Callable[..., None])


def command(name: str, *examples: tuple[str, str]) -> Callable[[_Function], _Function]:
    """Adds a command of `LISTED`, whose help is its docstring with the examples, as wide as the terminal."""

    def add(function: _Function) -> _Function:
        listed = LISTED[name]
        paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        told = CommandHelp(listed.panel, "\n\n".join(" ".join(each.split()) for each in paragraphs), examples)
        COMMANDS[name] = told
        alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        alone.command(name, help=escape(told.text), epilog=_as_epilog(examples), hidden=listed.hidden)(function)
        _LOADED[name] = typer.main.get_command(alone)
        return function

    return add


def load_command(name: str) -> Any:
    """Return the click command of that name, whose module is imported for it."""
    if name not in _LOADED:
        # What modules make stays: to look for garbage in it takes an eighth of the time that importing takes.
        gc.disable()
        try:
            importlib.import_module(f"tamarin_dagster.cli.{LISTED[name].module}")
        finally:
            gc.freeze()
            gc.enable()
    return _LOADED[name]


def load_commands() -> dict[str, Any]:
    """Return all click commands by name, in the order of the help; afterwards `COMMANDS` has the help of each."""
    return {name: load_command(name) for name in LISTED}


def _as_epilog(examples: tuple[tuple[str, str], ...]) -> str | None:
    """Each example as it is typed, below what it is for."""
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
        typer.Option(help="The settings; default: $TAMARIN_CONFIG, else tamarin.yaml here.", metavar="FILE"),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", metavar="", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    if config:
        os.environ[CONFIG_VARIABLE] = str(config)


@contextmanager
def told_if_interrupted(text: str) -> Iterator[None]:
    """An interrupt ends the command with its own exit status, and with what has become of its work."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"Interrupted. {text}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
