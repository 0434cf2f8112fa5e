"""What is usual: properties of the median and of the limit."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.analytics.habit import Habit, habit_of
from tamarin_dagster_tests.examples import at_least

VALUES = st.lists(st.integers(0, 10**15), min_size=1, max_size=28)


@pytest.mark.parametrize(
    ("values", "habit"),
    [
        # the deviation of each is 1: 11 + 6 * 1.4826
        ([10, 12] * 14, Habit(11, 11 + 6 * 1.4826)),
        # as steady as can be: the least rise
        ([100] * 28, Habit(100, 105)),
        # one outlier moves neither
        ([100] * 27 + [10**9], Habit(100, 105)),
        ([7], Habit(7, 12)),
    ],
)
def test_the_limit_is_so_many_deviations_above_the_median(values, habit) -> None:
    assert habit_of(values, 6, least_rise=5) == habit


def test_what_is_less_than_a_multiple_is_usual() -> None:
    assert habit_of([100] * 28, 6, least_rise=5, least_multiple=2).limit == 200


@given(VALUES, st.floats(0.1, 100), st.integers(0, 10**9), st.randoms())
@at_least(50)
def test_the_usual_is_the_median_in_any_order_and_the_limit_above_it(values, threshold, least_rise, random) -> None:
    found = habit_of(values, threshold, least_rise=least_rise)
    mixed = random.sample(values, len(values))
    assert found == habit_of(mixed, threshold, least_rise=least_rise)
    assert found.usual == median(values)
    assert found.limit >= found.usual + least_rise
    assert found.limit <= habit_of(values, threshold + 1, least_rise=least_rise).limit


@given(st.lists(st.integers(90, 110), min_size=14, max_size=28), st.integers(0, 6), st.integers(0, 10**15))
@at_least(50)
def test_fewer_outliers_than_half_never_make_a_limit_of_their_own(values, outliers, outlier) -> None:
    found = habit_of(values + [outlier] * outliers, 6, least_rise=0)
    assert 90 <= found.usual <= 110
    assert found.limit <= 110 + 6 * 1.4826 * 20
