"""Compute the baseline of an hour from the hours before it, and the limit above which the hour is an anomaly.

The checks use it, and so does the view `s3_spike`: `recordstore.schema.functions` puts these numbers into SQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

PAST_DAYS = 28
"""The number of days before whose same hours make the baseline: each hour of the week occurs four times."""
MIN_DAYS = 14
"""The minimum number of known days. A single day would move the median of fewer too much."""
MIN_WEEKS = 3
"""The minimum of the four same days of the week. So weekly traffic is usual from its fourth time on."""
MIN_MULTIPLE = 2.0
"""However steady the past was, nobody wants to be woken for less than twice the usual."""
MIN_BYTES_RISE = 1_000_000_000
"""A single visitor can double the traffic of a quiet bucket. This many bytes cost 9 cents (0.09 USD per GB)."""
MIN_REQUESTS_RISE = 10_000
"""This is three requests a second over an hour."""
MAD_TO_SIGMA = 1.4826
"""The standard deviation of normally distributed values, in median absolute deviations (MAD)."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The usual value, and the limit up to which a value is not an anomaly, both in the unit of the values."""

    usual: float
    limit: float


def baseline_of(values: Sequence[float], threshold: float, *, min_rise: float, min_multiple: float = 1) -> Baseline:
    """Return the baseline of at least one past value. Fewer than half of the values may be outliers.

    Args:
        values: past values, in any order.
        threshold: a value may be this many MADs (as standard deviations) above the median.
        min_rise: a value may always be this much above the median, however steady the past was.
        min_multiple: a value may always be this many times the median.
    """
    usual = median(values)
    deviation = MAD_TO_SIGMA * median(abs(value - usual) for value in values)
    return Baseline(usual, max(usual + threshold * deviation, usual + min_rise, min_multiple * usual))
