"""What all measurements have on their command line, and how they show what they found."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.sheet import Sheet

_FILE_WIDTH = 200
"""Columns of a table that goes to a file or a pipe, which have no width of their own."""


def command_line(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring, and that knows --markdown."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="a file to write the tables to as well")
    return parser


def show(sheets: Sequence[Sheet], markdown: Path | None) -> None:
    """Prints the tables, and writes them as markdown where that is wanted."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    for sheet in sheets:
        console.print(sheet.table())
    if markdown:
        markdown.write_text("\n".join(sheet.markdown() for sheet in sheets), "utf-8")


def whole_numbers(text: str) -> list[int]:
    """The value of an option like `1,10,100`."""
    return [int(number) for number in text.split(",")]
