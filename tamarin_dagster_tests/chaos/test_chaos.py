"""The reduced matrix: of each kind of fault some rows. `make chaos` plays all, `make test` some kinds' first one."""

from pathlib import Path

import pytest

from tamarin_dagster_tests.chaos.matrix import Scenario, played
from tamarin_dagster_tests.chaos.rows import SCENARIOS
from tamarin_dagster_tests.chaos.worlds import Bench

_REDUCED = [each for each in SCENARIOS if each.reduced]
_QUICK_GROUPS = ("kill -9", "The archive", "S3 in trouble that passes")
_QUICK = [next(each for each in _REDUCED if each.group == group) for group in _QUICK_GROUPS]


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(each, id=f"{each.group}: {each.fault}", marks=() if each in _QUICK else pytest.mark.slow)
        for each in _REDUCED
    ],
)
def test_what_is_left_after_a_fault_is_what_is_left_without(shared: Bench, scenario: Scenario) -> None:
    (row,) = played(shared, [scenario])
    assert row.as_expected, row.seen


def test_the_page_on_reliability_has_each_fault_and_nothing_unexpected() -> None:
    """Renew it with: make chaos."""
    page = (Path(__file__).parents[2] / "docs/explanation/reliability.md").read_text("utf-8")
    table = page.split("<!-- matrix -->")[1].split("<!-- /matrix -->")[0]
    faults = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]
    assert sorted(fault for fault in faults if fault != "fault") == sorted(each.fault for each in SCENARIOS)
    assert "not as expected" not in table


def test_each_fault_stands_once_in_the_matrix() -> None:
    names = [(each.group, each.fault) for each in SCENARIOS]
    assert len(names) == len(set(names))
    assert len(_REDUCED) > 10
