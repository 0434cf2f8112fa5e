"""What the command line shows: answers on standard output; progress, warnings and complaints on standard error."""

import csv
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tamarin_dagster.logkey import shown

out = Console()
err = Console(stderr=True, soft_wrap=True)


class Format(StrEnum):
    """How the answer of a query is shown."""

    table = "table"
    csv = "csv"
    json = "json"


def show_rows(names: list[str], rows: Sequence[Sequence[Any]], format_: Format) -> None:
    """A query's answer on standard output."""
    if format_ is Format.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows(rows)
    elif format_ is Format.json:
        json.dump([dict(zip(names, row, strict=True)) for row in rows], sys.stdout, default=str, indent=2)
        sys.stdout.write("\n")
    else:
        table = Table(header_style="bold")
        for name, values in zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True):
            numbers = all(isinstance(value, int | float | Decimal) for value in values if value is not None)
            table.add_column(escape(name), justify="right" if numbers and rows else "left")
        for row in rows:
            table.add_row(*("" if value is None else printable(str(value)) for value in row))
        # In a pipe nothing is folded to a width that nobody has.
        out.print(table, width=None if out.is_terminal else out.measure(table).maximum, crop=False)


def printable(text: str) -> str:
    """Fields of a log line are the client's: no markup, and no control sequence for the terminal."""
    return escape(shown(text))


@contextmanager
def bar(title: str, unit: str) -> Iterator[Any]:
    """A progress bar on a terminal, nothing elsewhere; yields advance(done, total=None, text='')."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rest = (TextColumn(unit), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    with Progress(*columns, *rest, console=err, transient=True, disable=not err.is_terminal) as shown:
        task = shown.add_task(escape(title), total=None, text="")
        yield lambda done, total=None, text="": shown.update(task, completed=done, total=total, text=text)


class LineHandler(logging.Handler):
    """Warnings as lines on standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        err.print(printable(self.format(record)), style="yellow", highlight=False)


def complain(text: str) -> None:
    """What is wrong, in red on standard error."""
    for line in text.splitlines():
        err.print(f"[red]{printable(line)}[/]", highlight=False)
