"""A progress bar for a terminal, with rate and remaining time after the first second. Imported where one is shown."""

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

# Before that a rate is a guess.
FIRST_RATE_SECONDS = 1.0
# From there on without decimals.
EVEN_RATE = 10


class Rate(ProgressColumn):
    """How much was done in a second so far, and how long the rest takes at that rate."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """See rich.progress.ProgressColumn."""
        return Text(rate_and_rest(task.completed, task.total, task.elapsed or 0.0, self._unit))


def rate_and_rest(done: float, total: float | None, seconds: float, unit: str) -> str:
    """Return what a bar says of rate and remaining time; nothing in the first second, or without a unit."""
    if seconds < FIRST_RATE_SECONDS or not done or not unit:
        return ""
    rate = done / seconds
    said = f"{rate:,.0f} {unit}/s" if rate >= EVEN_RATE else f"{rate:.2g} {unit}/s"
    if total is None or total < done:
        return said
    rest = round((total - done) / rate)
    hours, minutes = divmod(rest // 60, 60)
    return f"{said}, {f'{hours} h {minutes:02} min' if hours else f'{minutes}:{rest % 60:02}'} left"


def progress_bar(console: Console, title: str, unit: str) -> tuple[Progress, TaskID]:
    """Return a bar that its caller starts, and its only task."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[text]}"),
        Rate(unit),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    return bar, bar.add_task(escape(title), total=None, text="")
