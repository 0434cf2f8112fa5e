"""The progress bar: rate and remaining time, as soon as they can be known."""

import io

import pytest
from rich.console import Console

from tamarin_dagster.cli.progress import progress_bar, rate_and_rest


@pytest.mark.parametrize(
    ("done", "total", "seconds", "said"),
    [
        (50, 100, 0.9, ""),
        (0, 100, 5, ""),
        (50, None, 2, "25 days/s"),
        (2000, 20000, 4, "500 days/s, 0:36 left"),
        (3, 12, 4, "0.75 days/s, 0:12 left"),
        (100, 1_000_000, 10, "10 days/s, 27 h 46 min left"),
        (12, 10, 2, "6 days/s"),
    ],
)
def test_the_rate_comes_after_the_first_second_and_the_rest_with_a_total(done, total, seconds, said) -> None:
    assert rate_and_rest(done, total, seconds, "days") == said


def test_a_bar_on_a_terminal_shows_both() -> None:
    out = io.StringIO()
    bar, task = progress_bar(Console(file=out, force_terminal=True, width=120), "media", "days")
    bar.tasks[0].start_time = bar.get_time() - 4
    bar.update(task, completed=2, total=8, text="2026-03-05: 7 keys")
    bar.console.print(bar.get_renderable())

    assert "2026-03-05: 7 keys" in out.getvalue()
    assert "0.5 days/s, 0:12 left" in out.getvalue()
