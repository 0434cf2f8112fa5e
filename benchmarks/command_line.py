"""The shared command line of all benchmarks, and the output of their results."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.sheet import Sheet

_FILE_WIDTH = 200
"""The width of a table in a file or a pipe."""


def command_line(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that has the module's docstring as its help, and the option --markdown."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="a file to write the tables to as well")
    return parser


def show(sheets: Sequence[Sheet], markdown: Path | None) -> None:
    """Print the tables. If there is a path, write them there as Markdown too."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    for sheet in sheets:
        console.print(sheet.table())
    if markdown:
        markdown.write_text("\n".join(sheet.markdown() for sheet in sheets), "utf-8")


def whole_numbers(text: str) -> list[int]:
    """Return the numbers of an option like `1,10,100`."""
    return [int(number) for number in text.split(",")]
