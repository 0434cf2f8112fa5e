"""The baseline of an hour, told from the hours before it, and the limit above which an hour is an anomaly.

The checks judge by it, and so does the view `s3_spike`: `recordstore.schema.functions` makes SQL of these numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

PAST_DAYS = 28
"""Days before, whose same hours make the baseline: each hour of the week four times."""
MIN_DAYS = 14
"""Known days that a baseline needs. A median of fewer follows each of them."""
MIN_WEEKS = 3
"""Of the four same days of the week. So what comes once a week is usual from the fourth time on."""
MIN_MULTIPLE = 2.0
"""However steady the past was, nobody wants to be woken for less than twice the usual."""
MIN_BYTES_RISE = 1_000_000_000
"""A quiet bucket doubles its traffic whenever somebody looks. So many bytes cost 9 cents (0.09 USD a GB)."""
MIN_REQUESTS_RISE = 10_000
"""In an hour these are three a second."""
MAD_TO_SIGMA = 1.4826
"""Of normally distributed values, the standard deviation is so many median absolute deviations (MAD)."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is usual, and up to which limit a value is not an anomaly. Both in the unit of the values."""

    usual: float
    limit: float


def baseline_of(values: Sequence[float], threshold: float, *, min_rise: float, min_multiple: float = 1) -> Baseline:
    """Return the baseline of at least one past value. Outliers do not change it, if they are fewer than half.

    Args:
        values: of the past, in any order.
        threshold: a value may be this many MADs (as standard deviations) above the median.
        min_rise: a value may always be this much above the median, however steady the past was.
        min_multiple: a value may always be this many times the median.
    """
    usual = median(values)
    deviation = MAD_TO_SIGMA * median(abs(value - usual) for value in values)
    return Baseline(usual, max(usual + threshold * deviation, usual + min_rise, min_multiple * usual))
