"""Compare a reading with our tables, for the tests and for the page."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tamarin_dagster_tests.peers.month import Month
from tamarin_dagster_tests.peers.readings import READINGS, Reading
from tamarin_dagster_tests.peers.traffic import Rule, Traffic, left_out, ours, records, rejected_lines, rolled_up


@dataclass(frozen=True)
class Entry:
    """The requests and bytes that a rule removes from those that earlier rules left."""

    rule: Rule
    requests: int
    bytes: int


@dataclass(frozen=True)
class Comparison:
    """The output of a program, and the entries by which it equals ours.

    Attributes:
        said, ours: the program's numbers and those of our tables.
        rolled_up: those of the rollups alone.
        expected: what it must have said, by its rules.
        unread, unsized, uncoded, unnamed: an entry for each of the rules.
        renamed: requests of files that it calls otherwise.
        rejected: lines of the log that we have rejected.
    """

    reading: Reading
    said: Traffic
    ours: Traffic
    rolled_up: Traffic
    expected: Traffic
    unread: tuple[Entry, ...]
    unsized: tuple[Entry, ...]
    uncoded: tuple[Entry, ...]
    unnamed: tuple[Entry, ...]
    renamed: int
    rejected: int

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All of them."""
        return self.unread + self.unsized + self.uncoded + self.unnamed

    @property
    def top_files_alike(self) -> int:
        """Return how many of our top files have the same number of requests in the program."""
        return sum(self.said.files[file] == count for file, count in self.ours.top_files())


def compared(month: Month) -> list[Comparison]:
    """Run the programs."""
    return [_compared(month, reading) for reading in READINGS]


def _compared(month: Month, reading: Reading) -> Comparison:
    renamed = sum(
        count
        for request, count, _ in records(month.engine, *reading.unread, *reading.unnamed)
        if reading.file_of(request) != request.path
    )

    def entries(rules: tuple[Rule, ...], without: tuple[Rule, ...] = ()) -> tuple[Entry, ...]:
        return tuple(
            Entry(rule, *left_out(month.engine, rule, *without, *rules[:number])) for number, rule in enumerate(rules)
        )

    return Comparison(
        reading,
        reading.run(month),
        ours(month.engine),
        rolled_up(month.engine),
        reading.expected(month.engine),
        entries(reading.unread),
        entries(reading.unsized, reading.unread),
        entries(reading.uncoded, reading.unread),
        entries(reading.unnamed, reading.unread),
        renamed,
        rejected_lines(month.engine),
    )


def as_markdown(comparisons: Iterable[Comparison]) -> str:
    """For each reading its requests and bytes as a sum, and what there is to say of statuses and files."""
    return "\n".join(line for each in comparisons for line in _lines(each)).strip() + "\n"


def _lines(each: Comparison) -> Iterator[str]:
    yield from ("", f"### {each.reading.name}", "", "| | requests | bytes |", "|---|--:|--:|")
    yield f"| we have | {each.ours.requests:,} | {each.ours.bytes:,} |"
    for entry in each.unread:
        yield f"| not read: {entry.rule.why} | {_less(entry.requests)} | {_less(entry.bytes)} |"
    for entry in each.unsized:
        yield f"| without their bytes: {entry.rule.why} | | {_less(entry.bytes)} |"
    yield f"| **it says** | **{each.said.requests:,}** | **{each.said.bytes:,}** |"
    yield ""
    if each.reading.takes_rejected:
        yield f"It refuses {each.said.refused:,} lines: these, and the {each.rejected:,} that we have rejected too."
        yield ""
    yield from _of_statuses(each)
    yield from _of_files(each)


def _of_statuses(each: Comparison) -> Iterator[str]:
    said, whole = each.said.statuses, each.ours.statuses
    left = [f"{entry.rule.why} ({_requests(entry.requests)})" for entry in each.uncoded]
    others = [
        f"`{status}` {said[status]:,} where we have {whole[status]:,}"
        for status in sorted(said)
        if said[status] != whole[status]
    ]
    alike = sum(said[status] == whole[status] for status in said)
    reported = f"- Statuses: it gives {len(said)}, {alike} of them equal to ours"
    yield f"{reported}; {'; '.join([*others, *each.reading.status_notes])}." if others else f"{reported}."
    if left:
        yield f"- Statuses that it does not give: {'; '.join(left)}."


def _of_files(each: Comparison) -> Iterator[str]:
    top = len(each.ours.top_files())
    others = "; the others lack what it does not read, or does not name" if each.top_files_alike < top else ""
    yield (
        f"- Files: it names {len(each.said.files):,}, we have {len(each.ours.files):,}; of our {top} with most requests"
        f" {each.top_files_alike} have our number{others}."
    )
    if each.unnamed:
        left = [f"{entry.rule.why} ({_requests(entry.requests)})" for entry in each.unnamed]
        yield f"- Files it does not name: {'; '.join(left)}."
    yield f"- Other names ({_requests(each.renamed)}): {each.reading.calls}."


def differences(said: Counter[str], expected: Counter[str]) -> dict[str, tuple[int, int]]:
    """Return the differences: the value of the program, and the expected value."""
    return {
        name: (said[name], expected[name]) for name in said.keys() | expected.keys() if said[name] != expected[name]
    }


def _less(number: int) -> str:
    """Return the number as written in a sum."""
    return f"\N{MINUS SIGN}{number:,}" if number else "0"


def _requests(number: int) -> str:
    return f"{number:,} request{'' if number == 1 else 's'}"
