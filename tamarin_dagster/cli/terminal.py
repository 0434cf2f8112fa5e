"""What the command line shows: answers on standard output; progress, warnings and complaints on standard error."""

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

# Of JSON that waits until it is complete.
HELD_JSON_BYTES = 8 * 1024 * 1024
# Columns of a table that goes to no terminal, at most.
_ENDLESS = 1_000_000


class _Console(Console):
    """Rich takes a broken pipe for an end that is somebody else's business."""

    def on_broken_pipe(self) -> None:
        """See rich.console.Console."""
        raise BrokenPipeError


out = _Console()
err = Console(stderr=True, soft_wrap=True)


class Format(StrEnum):
    """How the answer of a query is shown."""

    table = "table"
    csv = "csv"
    json = "json"


def show_rows(names: Sequence[str], rows: Iterable[Sequence[Any]], are_numbers: Sequence[bool] | None = None) -> None:
    """Rows as a table on standard output."""
    from rich.table import Table  # noqa: PLC0415 - many commands show none

    held = list(rows)
    table = Table(header_style="bold")
    for number, name in enumerate(names):
        right = are_numbers[number] if are_numbers else all(isinstance(row[number], int) for row in held)
        table.add_column(printable(name), justify="right" if right and held else "left")
    for row in held:
        table.add_row(*("" if value is None else printable(str(value)) for value in row))
    show_table(table)


def show_table(table: "Table") -> None:
    """A table on standard output; in a pipe nothing is folded to a width that nobody has."""
    if out.is_terminal:
        out.print(table, crop=False)
        return
    from rich.measure import Measurement  # noqa: PLC0415 - many commands show no table

    endless = out.options.copy()
    endless.max_width = _ENDLESS
    _Console(width=Measurement.get(out, endless, table).maximum).print(table, crop=False)


def show_csv(names: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    """Rows as CSV on standard output, each as it comes; NULL is an empty field."""
    # In a pipe a value is what it is. On a terminal a control character would be obeyed.
    escapes = sys.stdout.isatty()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for row in itertools.chain([names], rows):
        writer.writerow([make_printable(value) if value and escapes else value for value in row])


def show_json(value: Any) -> None:
    """A JSON document on standard output, in ASCII: no control character is in it, whatever the value holds."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


@contextmanager
def json_answers() -> Iterator[Callable[[Sequence[str], Iterable[Sequence[Any]]], None]]:
    """Takes answers and shows them as one JSON document: a list of rows, or a list of such lists if they are several.

    Nothing is shown if the body fails. What is large waits in a file.
    """
    count = 0
    with tempfile.SpooledTemporaryFile(HELD_JSON_BYTES, "w+", encoding="ascii") as held:

        def take(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
            nonlocal count
            held.write(",\n" if count else "")
            count += 1
            keys = distinct(names)
            held.write("[")
            separator = "\n  "
            for row in rows:
                held.write(separator + json.dumps(dict(zip(keys, row, strict=True)), default=str))
                separator = ",\n  "
            held.write("]" if separator == "\n  " else "\n]")

        yield take
        held.seek(0)
        before, after = ("", "\n") if count == 1 else ("[", "]\n")
        sys.stdout.write(before)
        shutil.copyfileobj(held, sys.stdout)
        sys.stdout.write(after)


def distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that stood there before: `a, a` as `a, a_2`."""
    found: list[str] = []
    for name in names:
        number, new = 2, name
        while new in found:
            number, new = number + 1, f"{name}_{number}"
        found.append(new)
    return found


def printable(text: str) -> str:
    """Fields of a log line are the client's: no markup, and no control sequence for the terminal."""
    return escape(make_printable(text))


@contextmanager
def bar(title: str, unit: str) -> Iterator[Any]:
    """A progress bar on a terminal, nothing elsewhere; yields advance(done, total=None, text='').

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
    """Warnings as lines on standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        err.print(printable(self.format(record)), style="yellow", highlight=False)


def complain(text: str) -> None:
    """What is wrong, in red on standard error."""
    for line in text.rstrip("\n").split("\n"):  # at no other character: a name may hold a U+2028
        err.print(f"[red]{printable(line)}[/]", highlight=False)
