"""What is usual, told from the past: the median, and how far from it is too far. Pure numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

# Makes of a median absolute deviation (MAD) the standard deviation of values that are normally distributed.
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class Habit:
    """What is usual, and up to where a value is. Both in the unit of the values."""

    usual: float
    limit: float


def habit_of(values: Sequence[float], threshold: float, *, least_rise: float, least_multiple: float = 1) -> Habit:
    """The habit of at least one past value. Neither figure follows an outlier, as long as less than half of them are.

    Args:
        values: of the past, in any order.
        threshold: how many MADs (as standard deviations) above the median are still usual.
        least_rise: what is no further above the median is usual, however steady the past was.
        least_multiple: what is less than so many times the median is usual, too.
    """
    usual = median(values)
    deviation = MAD_TO_SIGMA * median(abs(value - usual) for value in values)
    return Habit(usual, max(usual + threshold * deviation, usual + least_rise, least_multiple * usual))
