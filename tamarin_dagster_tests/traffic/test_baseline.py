"""What is usual: properties of the median and of the limit."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.traffic.baseline import Baseline, baseline_of
from tamarin_dagster_tests.examples import at_least

VALUES = st.lists(st.integers(0, 10**15), min_size=1, max_size=28)


@pytest.mark.parametrize(
    ("values", "baseline"),
    [
        # the deviation of each is 1: 11 + 6 * 1.4826
        ([10, 12] * 14, Baseline(11, 11 + 6 * 1.4826)),
        # as steady as can be: the minimum rise
        ([100] * 28, Baseline(100, 105)),
        # one outlier moves neither
        ([100] * 27 + [10**9], Baseline(100, 105)),
        ([7], Baseline(7, 12)),
    ],
)
def test_the_limit_is_so_many_deviations_above_the_median(values, baseline) -> None:
    assert baseline_of(values, 6, min_rise=5) == baseline


def test_what_is_less_than_a_multiple_is_usual() -> None:
    assert baseline_of([100] * 28, 6, min_rise=5, min_multiple=2).limit == 200


@given(VALUES, st.floats(0.1, 100), st.integers(0, 10**9), st.randoms())
@at_least(50)
def test_the_usual_is_the_median_in_any_order_and_the_limit_above_it(values, threshold, min_rise, random) -> None:
    found = baseline_of(values, threshold, min_rise=min_rise)
    mixed = random.sample(values, len(values))
    assert found == baseline_of(mixed, threshold, min_rise=min_rise)
    assert found.usual == median(values)
    assert found.limit >= found.usual + min_rise
    assert found.limit <= baseline_of(values, threshold + 1, min_rise=min_rise).limit


@given(st.lists(st.integers(90, 110), min_size=14, max_size=28), st.integers(0, 6), st.integers(0, 10**15))
@at_least(50)
def test_fewer_outliers_than_half_never_make_a_limit_of_their_own(values, outliers, outlier) -> None:
    found = baseline_of(values + [outlier] * outliers, 6, min_rise=0)
    assert 90 <= found.usual <= 110
    assert found.limit <= 110 + 6 * 1.4826 * 20
