"""Make the rows of `traffic_hourly` from a day's sums by hour: response times become percentiles."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamarin_dagster.traffic.measures import integers_of
from tamarin_dagster.traffic.sums import HOURS_SCHEMA, complete
from tamarin_dagster.traffic.times import largest_of

_KEYS = ("hour", "operation_class", "status_class")

Integers = npt.NDArray[np.int64]


def hourly_rows(hours: pa.Table) -> pa.Table:
    """Return a row for each hour, operation class and status class, with the response times (ms).

    A percentile is at most `times.MAX_RELATIVE_ERROR` too large, and never too small.

    Args:
        hours: sums by hour, of HOURS_SCHEMA.
    """
    hours = complete(hours, HOURS_SCHEMA).sort_by([(name, "ascending") for name in (*_KEYS, "time_bin")])
    kinds = hours["operation_class"].combine_chunks().dictionary_encode()
    hour, status = integers_of(hours["hour"], 0), integers_of(hours["status_class"], -1)
    keys = np.stack([hour, np.asarray(kinds.indices), status])
    starts = np.flatnonzero(np.r_[True, (np.diff(keys) != 0).any(axis=0)]) if hours.num_rows else np.empty(0, np.int64)
    groups = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, hours.num_rows]))
    bins, requests = integers_of(hours["time_bin"], -1), integers_of(hours["requests"], 0)
    timed = np.where(bins >= 0, requests, 0)
    largest = integers_of(hours["max_total_time"], -1)
    longest = np.maximum.reduceat(largest, starts) if len(starts) else largest
    columns = {
        "hour": pa.array(hour[starts]),
        "operation_class": kinds.dictionary.take(kinds.indices.take(pa.array(starts))),
        "status_class": hours["status_class"].combine_chunks().take(pa.array(starts)),
        "requests": _sums(hours["requests"], starts),
        "bytes_sent": _sums(hours["bytes_sent"], starts),
        "error_count": _sums(hours["error_count"], starts),
    }
    for name, share in (("p50_total_time", 0.50), ("p95_total_time", 0.95)):
        found = np.minimum(_percentile(bins, timed, groups, len(starts), share), longest)
        columns[name] = pa.array(found, mask=found < 0)
    columns["max_total_time"] = pa.array(longest, mask=longest < 0)
    return pa.table(columns)


def _sums(column: pa.ChunkedArray, starts: Integers) -> pa.Array:
    if not pa.types.is_decimal(column.type):
        values = integers_of(column, 0)
        if values.sum(dtype=np.float64) < 2.0**62:
            return pa.array(np.add.reduceat(values, starts) if len(starts) else values)
    exact = np.array([int(value) for value in column.to_pylist()], object)
    sums = np.add.reduceat(exact, starts) if len(starts) else exact
    return pa.array([str(value) for value in sums]).cast(pa.decimal128(38, 0))


def _percentile(bins: Integers, timed: Integers, groups: Integers, count: int, share: float) -> Integers:
    """Return for each group a time that at least this share of its timed requests did not exceed; -1 for none."""
    totals = np.bincount(groups, timed, count)
    before = np.r_[0.0, np.cumsum(totals)[:-1]] if count else totals
    so_far = np.cumsum(timed, dtype=np.float64) - before[groups]
    reached = np.flatnonzero((bins >= 0) & (so_far >= share * totals[groups]))
    found = np.full(count, -1, np.int64)
    # In reverse order, so that the first of each group is written last, and stays.
    found[groups[reached][::-1]] = largest_of(bins[reached].astype(np.int16))[::-1]
    return found
