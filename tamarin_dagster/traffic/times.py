"""Keep response times as a histogram that can be merged, for percentiles of a day without its records.

Each time below EXACT_BELOW ms has its own bin. Above that, each doubling is divided into BINS_PER_DOUBLING bins of
equal width. A percentile is the largest time of its bin: at least that share of the requests took no longer, and the
exact percentile is at most MAX_RELATIVE_ERROR smaller.
"""

import numpy as np
import numpy.typing as npt

BINS_PER_DOUBLING = 64
EXACT_BELOW = 2 * BINS_PER_DOUBLING
MAX_RELATIVE_ERROR = 1 / BINS_PER_DOUBLING
_FIRST_EXPONENT = EXACT_BELOW.bit_length() - 1
_LAST_EXPONENT = 62
BINS = EXACT_BELOW + (_LAST_EXPONENT - _FIRST_EXPONENT + 1) * BINS_PER_DOUBLING

Integers = npt.NDArray[np.int64]


def bins_of(times: Integers) -> npt.NDArray[np.int16]:
    """Return the bin of each time (ms, not negative)."""
    exponents = np.frexp(np.maximum(times, 1).astype(np.float64))[1].astype(np.int64) - 1
    # a float may have been rounded up to the next power of two
    exponents -= (times >> np.minimum(exponents, _LAST_EXPONENT)) == 0
    exponents = np.clip(exponents, _FIRST_EXPONENT, _LAST_EXPONENT)
    shifts = exponents - (_FIRST_EXPONENT - 1)
    large = EXACT_BELOW + (exponents - _FIRST_EXPONENT) * BINS_PER_DOUBLING + (times >> shifts) - BINS_PER_DOUBLING
    return np.where(times < EXACT_BELOW, times, large).astype(np.int16)


def largest_of(bins: npt.NDArray[np.int16]) -> Integers:
    """Return the largest time of each bin, in ms."""
    above = np.maximum(bins.astype(np.int64) - EXACT_BELOW, 0)
    shifts = above // BINS_PER_DOUBLING + 1
    smallest = (above % BINS_PER_DOUBLING + BINS_PER_DOUBLING) << shifts
    return np.where(bins < EXACT_BELOW, bins, smallest + ((np.int64(1) << shifts) - 1))
