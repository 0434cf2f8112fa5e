"""The matrix: each fault with what is expected, played in a world of its own, and the table that comes out."""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tamarin_dagster_tests.chaos.worlds import Bench, State, World

SAME = "the same tables, the same log bucket"

Play = Callable[[Bench], str]


class UnexpectedError(Exception):
    """The result differs from the expected one."""


@dataclass(frozen=True)
class Scenario:
    """A fault.

    Attributes:
        group: what kind it is.
        fault: what goes wrong.
        expected: what should be seen: while it does, and in the end.
        play: lets it go wrong, and says what is seen. Raises UnexpectedError.
        reduced: whether it belongs to the small set that each test run plays.
    """

    group: str
    fault: str
    expected: str
    play: Play
    reduced: bool = False


SCENARIOS: list[Scenario] = []


def scenario(group: str, fault: str, expected: str, *, reduced: bool = False) -> Callable[[Play], Play]:
    """Put a function into the matrix."""

    def add(play: Play) -> Play:
        SCENARIOS.append(Scenario(group, fault, expected, play, reduced))
        return play

    return add


@dataclass(frozen=True)
class Row:
    """The result of a scenario."""

    scenario: Scenario
    seen: str
    as_expected: bool
    seconds: float


def played(bench: Bench, scenarios: Iterable[Scenario]) -> Iterator[Row]:
    """Plays each, one after the other."""
    for each in scenarios:
        started = time.monotonic()
        try:
            seen, fine = each.play(bench), True
        except Exception as error:  # noqa: BLE001 - it is the row's result
            said = str(error) if isinstance(error, UnexpectedError) else traceback.format_exc()
            seen, fine = said, False
        yield Row(each, seen, fine, time.monotonic() - started)


def same(world: World, expected: State) -> str:
    """Say that the world is as expected. Raises UnexpectedError."""
    if differences := world.state().differences(expected):
        raise UnexpectedError("; ".join(differences))
    return SAME


def require(truth: object, text: str) -> None:
    """Raises UnexpectedError if it is not true."""
    if not truth:
        raise UnexpectedError(text)


def as_markdown(rows: Iterable[Row]) -> str:
    """The table, by groups. What was seen is left out where it is what was expected, word for word."""
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for row in rows:
        seen = row.seen if row.as_expected else f"**not as expected**: {row.seen.splitlines()[-1]}"
        groups.setdefault(row.scenario.group, []).append((row.scenario.fault, row.scenario.expected, seen))
    return "\n".join(_group_as_markdown(*group) for group in groups.items()).strip() + "\n"


def _group_as_markdown(group: str, rows: Sequence[tuple[str, str, str]]) -> str:
    usual, times = Counter(expected for _, expected, _ in rows).most_common(1)[0]
    lines = ["", f"### {group}", ""]
    lines += [f"Expected, unless the row says otherwise: {usual}.", ""] if times > 1 else []
    lines += ["| fault | expected | seen |", "|---|---|---|"]
    for fault, expected, seen in rows:
        cells = (
            fault,
            "" if expected == usual and times > 1 else expected,
            "as expected" if seen == expected else seen,
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)
