"""Requests, bytes, statuses and files of a month are ours to the last, for the lines that a program can read."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tamarin_dagster_tests.peers.comparison import Comparison, as_markdown, compared, differences
from tamarin_dagster_tests.peers.month import month
from tamarin_dagster_tests.peers.programs import S3_RECIPE, missing_programs
from tamarin_dagster_tests.peers.readings import READINGS, Reading
from tamarin_dagster_tests.peers.traffic import Request, Traffic

_PAGE = Path(__file__).parents[2] / "docs/reference/peers.md"


@pytest.fixture(scope="module")
def comparisons() -> Iterator[dict[str, Comparison]]:
    """The output of each program."""
    if missing := missing_programs():
        pytest.skip(f"not installed: {' '.join(missing)}; they are Debian's packages")
    with month() as loaded:
        yield {each.reading.name: each for each in compared(loaded)}


@pytest.mark.peers
@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.name)
class TestReading:
    def test_requests_and_bytes_are_ours(self, comparisons, reading: Reading) -> None:
        said, expected = comparisons[reading.name].said, comparisons[reading.name].expected
        assert (said.requests, said.bytes, said.refused) == (expected.requests, expected.bytes, expected.refused)
        assert said.requests > 28_000

    def test_statuses_are_ours(self, comparisons, reading: Reading) -> None:
        each = comparisons[reading.name]
        assert differences(each.said.statuses, each.expected.statuses) == {}
        assert each.said.statuses["404"] > 500

    def test_files_are_ours_and_so_are_the_first_twenty(self, comparisons, reading: Reading) -> None:
        each = comparisons[reading.name]
        assert differences(each.said.files, each.expected.files) == {}
        assert each.said.top_files() == each.expected.top_files()
        assert len(each.said.top_files()) >= 20

    def test_what_the_rules_take_away_is_the_whole_difference(self, comparisons, reading: Reading) -> None:
        """The page's sums add up, and no rule is about nothing."""
        each = comparisons[reading.name]
        assert each.ours.requests - sum(entry.requests for entry in each.unread) == each.said.requests
        assert each.ours.bytes - sum(entry.bytes for entry in each.unread + each.unsized) == each.said.bytes
        assert [entry.rule.why for entry in each.entries if not entry.requests] == []


@pytest.mark.peers
@pytest.mark.parametrize("name", ["GoAccess, the combined export", "Analog, the combined export"])
def test_the_rollups_name_the_same_files_first(comparisons, name: str) -> None:
    each = comparisons[name]
    rolled_up = Traffic()
    for path, count in each.rolled_up.files.items():
        rolled_up.files[each.reading.file_of(Request("200", "GET", path, "HTTP/1.1"))] += count
    assert rolled_up.top_files() == each.said.top_files()


@pytest.mark.peers
def test_the_rollups_have_the_statuses_of_a_program_that_reads_all_requests(comparisons) -> None:
    each = comparisons["GoAccess, the combined export"]
    said = Counter[str]()
    for status, count in each.said.statuses.items():
        said[status[0]] += count
    assert each.rolled_up.statuses - Counter({"-": each.said.refused}) == said


@pytest.mark.peers
def test_the_page_on_peers_has_these_numbers(comparisons) -> None:
    """Renew it with: python -m tamarin_dagster_tests.peers --markdown docs/reference/peers.md."""
    assert as_markdown(comparisons.values()) in _PAGE.read_text("utf-8")


def test_the_page_on_peers_has_each_reading_and_each_rule() -> None:
    page = _PAGE.read_text("utf-8")
    rules = [rule for each in READINGS for rule in (*each.unread, *each.unsized, *each.uncoded, *each.unnamed)]
    assert [each.name for each in READINGS if f"### {each.name}\n" not in page] == []
    assert [rule.why for rule in rules if rule.why not in page] == []
    assert f"LOGFORMAT {S3_RECIPE}\n" in page
