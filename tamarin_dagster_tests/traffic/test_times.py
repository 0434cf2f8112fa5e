"""Response times in bins: monotonous, and as exact as the module says."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.traffic.times import BINS, EXACT_BELOW, MAX_RELATIVE_ERROR, bins_of, largest_of

TIMES = st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 100_000), min_size=1, max_size=50)
EDGES = [0, 1, EXACT_BELOW - 1, EXACT_BELOW, 2**53 - 1, 2**53 + 1, 2**62 - 1, 2**62, 2**63 - 1]


@given(TIMES)
def test_no_time_is_larger_than_the_largest_of_its_bin_and_none_is_much_smaller(times):
    given_times = np.array(sorted([*times, *EDGES]), np.int64)
    bins = bins_of(given_times)
    largest = largest_of(bins)
    assert (largest >= given_times).all()
    assert ((largest - given_times).astype(float) <= MAX_RELATIVE_ERROR * given_times).all()
    assert (np.diff(bins) >= 0).all()
    assert 0 <= bins.min() <= bins.max() < BINS


def test_short_times_are_exact():
    times = np.arange(EXACT_BELOW)
    assert largest_of(bins_of(times)).tolist() == times.tolist()
