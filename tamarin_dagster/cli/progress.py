"""A progress bar with rate and remaining time. Import it only where one is shown, since rich.progress is slow."""

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

# Earlier a rate would be a guess.
FIRST_RATE_SECONDS = 1.0
# From this rate on without decimals.
EVEN_RATE = 10


class Rate(ProgressColumn):
    """The rate so far, and how long the rest takes at that rate."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """See rich.progress.ProgressColumn."""
        return Text(rate_and_rest(task.completed, task.total, task.elapsed or 0.0, self._unit))


def rate_and_rest(done: float, total: float | None, seconds: float, unit: str) -> str:
    """Return the text about rate and remaining time; empty in the first second, and without a unit."""
    if seconds < FIRST_RATE_SECONDS or not done or not unit:
        return ""
    rate = done / seconds
    text = f"{rate:,.0f} {unit}/s" if rate >= EVEN_RATE else f"{rate:.2g} {unit}/s"
    if total is None or total < done:
        return text
    rest = round((total - done) / rate)
    hours, minutes = divmod(rest // 60, 60)
    return f"{text}, {f'{hours} h {minutes:02} min' if hours else f'{minutes}:{rest % 60:02}'} left"


def progress_bar(console: Console, title: str, unit: str) -> tuple[Progress, TaskID]:
    """Return a bar, which the caller starts, and its only task."""
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
