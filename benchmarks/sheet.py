"""A table for the terminal, and the same table as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class Sheet:
    """Rows under headings."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Sequence[str]
    """The headings of the columns with text. The other columns have numbers."""

    def table(self) -> Table:
        """Return the table for the terminal."""
        table = Table(title=self.title)
        for heading in self.headings:
            table.add_column(heading, justify="left" if heading in self.texts else "right")
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """Return the table as Markdown."""
        rules = ["---" if heading in self.texts else "---:" for heading in self.headings]
        lines = [self.headings, rules, *self.rows]
        return f"{self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
