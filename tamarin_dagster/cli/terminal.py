"""Output of the command line: answers on standard output; progress, warnings and errors on standard error."""

import csv
import itertools
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from tamarin_dagster.logkey import make_printable

if TYPE_CHECKING:
    from rich.table import Table

# JSON up to this size waits in memory until it is complete; more waits in a file.
MAX_JSON_BYTES_IN_MEMORY = 8 * 1024 * 1024
# Maximum width of a table that does not go to a terminal.
_ENDLESS = 1_000_000


class _Console(Console):
    """A console that raises BrokenPipeError; rich would exit instead."""

    def on_broken_pipe(self) -> None:
        """See rich.console.Console."""
        raise BrokenPipeError


out = _Console()
err = Console(stderr=True, soft_wrap=True)


class Format(StrEnum):
    """The format of a query's answer."""

    table = "table"
    csv = "csv"
    json = "json"


def show_rows(names: Sequence[str], rows: Iterable[Sequence[Any]], are_numbers: Sequence[bool] | None = None) -> None:
    """Print rows as a table on standard output."""
    from rich.table import Table  # noqa: PLC0415 - many commands show no table

    held = list(rows)
    table = Table(header_style="bold")
    for number, name in enumerate(names):
        right = are_numbers[number] if are_numbers else all(isinstance(row[number], int) for row in held)
        table.add_column(printable(name), justify="right" if right and held else "left")
    for row in held:
        table.add_row(*("" if value is None else printable(str(value)) for value in row))
    show_table(table)


def show_table(table: "Table") -> None:
    """Print a table on standard output. In a pipe no cell is wrapped, since there is no width."""
    if out.is_terminal:
        out.print(table, crop=False)
        return
    from rich.measure import Measurement  # noqa: PLC0415 - many commands show no table

    endless = out.options.copy()
    endless.max_width = _ENDLESS
    _Console(width=Measurement.get(out, endless, table).maximum).print(table, crop=False)


def show_csv(names: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    """Print rows as CSV on standard output, each as it arrives; NULL is an empty field."""
    # A terminal would obey a control character. A pipe gets each value unchanged.
    escapes = sys.stdout.isatty()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for row in itertools.chain([names], rows):
        writer.writerow([make_printable(value) if value and escapes else value for value in row])


def show_json(value: Any) -> None:
    """Print a JSON document on standard output, in ASCII, so that no value can contain a control character."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


@contextmanager
def collect_json() -> Iterator[Callable[[Sequence[str], Iterable[Sequence[Any]]], None]]:
    """Collect answers and print one JSON document: a list of rows, or a list of such lists if there are several.

    Prints nothing if the body fails. A large document waits in a file.
    """
    answers = 0
    with tempfile.SpooledTemporaryFile(MAX_JSON_BYTES_IN_MEMORY, "w+", encoding="ascii") as held:

        def take(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
            nonlocal answers
            held.write(",\n" if answers else "")
            answers += 1
            keys = make_distinct(names)
            held.write("[")
            separator = "\n  "
            for row in rows:
                held.write(separator + json.dumps(dict(zip(keys, row, strict=True)), default=str))
                separator = ",\n  "
            held.write("]" if separator == "\n  " else "\n]")

        yield take
        held.seek(0)
        before, after = ("", "\n") if answers == 1 else ("[", "]\n")
        sys.stdout.write(before)
        shutil.copyfileobj(held, sys.stdout)
        sys.stdout.write(after)


def make_distinct(names: Sequence[str]) -> list[str]:
    """Make names unique by a number after repeated ones: `a, a` becomes `a, a_2`."""
    found: list[str] = []
    for name in names:
        number, new = 2, name
        while new in found:
            number, new = number + 1, f"{name}_{number}"
        found.append(new)
    return found


def printable(text: str) -> str:
    """Escape markup and control sequences: the client chose the fields of a log line."""
    return escape(make_printable(text))


@contextmanager
def bar(title: str, unit: str) -> Iterator[Any]:
    """Show a progress bar on a terminal, and nothing elsewhere. Yields advance(done, total=None, text='').

    After the first second it shows the rate, and the remaining time if there is a total.
    """
    if not err.is_terminal:
        yield lambda _done, _total=None, _text="": None
        return
    from tamarin_dagster.cli.progress import progress_bar  # noqa: PLC0415 - only a terminal needs it

    make_printable, task = progress_bar(err, title, unit)
    with make_printable:
        yield lambda done, total=None, text="": make_printable.update(task, completed=done, total=total, text=text)


class LineHandler(logging.Handler):
    """Prints warnings as lines on standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        err.print(printable(self.format(record)), style="yellow", highlight=False)


def complain(text: str) -> None:
    """Print an error or warning in red on standard error."""
    for line in text.rstrip("\n").split("\n"):  # splitlines would also split at U+2028, which a name may contain
        err.print(f"[red]{printable(line)}[/]", highlight=False)
