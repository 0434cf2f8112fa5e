"""Sum up records by dimension, and merge sums.

Sums are Arrow tables of SUMS_SCHEMA (by a dimension) and HOURS_SCHEMA (by hour). A measure that is 0 in all rows, and a
column that is null in all rows, may be left out. Merged sums are exact in whatever order they are merged. Bytes are
int64 if the sum fits, otherwise decimal128.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamarin_dagster.traffic.dimensions import DIMENSIONS, Dimension
from tamarin_dagster.traffic.measures import BYTES, COUNTS, Encoded, Measured, encode, integers_of, measure
from tamarin_dagster.traffic.times import BINS, bins_of

SUMS_SCHEMA = pa.schema(
    [
        pa.field("value", pa.string()),
        *(pa.field(name, pa.int64(), nullable=False) for name in (*COUNTS, *BYTES)),
        # the largest; null if none was logged
        pa.field("object_size", pa.int64()),
        # number of values in the row; null for one
        pa.field("folded_values", pa.int64()),
    ]
)
"""Sums by a dimension. The value has the dimension's type."""
HOURS_SCHEMA = pa.schema(
    [
        pa.field("hour", pa.int64(), nullable=False),
        pa.field("operation_class", pa.string(), nullable=False),
        # null without a status
        pa.field("status_class", pa.int64()),
        # of `times`; null without a response time
        pa.field("time_bin", pa.int64()),
        pa.field("requests", pa.int64(), nullable=False),
        pa.field("error_count", pa.int64(), nullable=False),
        pa.field("bytes_sent", pa.int64(), nullable=False),
        # in ms; null without a response time
        pa.field("max_total_time", pa.int64()),
    ]
)
"""Sums by hour of the UTC day, operation class, status class and bin of the response time."""

HOUR = "hour"
_WIDE = pa.decimal128(38, 0)
# A sum of float64 is exact below 2**53. This is half of it, because the estimate of the sum may be rounded.
_EXACT_SUM = 2.0**52
_LOW_BITS = 32

Codes = npt.NDArray[np.integer]
Integers = npt.NDArray[np.int64]


def schema_of(dimension: Dimension) -> pa.Schema:
    """Return the schema of sums by the dimension."""
    return SUMS_SCHEMA.set(0, pa.field("value", dimension.type))


def sum_up(records: pa.Table, region: str | None = None) -> dict[str, pa.Table]:
    """Return the sums of records of one bucket and UTC day: by the name of each dimension, and by HOUR.

    Args:
        records: columns of `logformat.RECORDS_SCHEMA`.
        region: of the bucket; see `measure`.
    """
    measured = measure(records, region)
    return {each.name: _by_dimension(measured, each) for each in DIMENSIONS} | {HOUR: _by_hour(measured)}


def _by_dimension(measured: Measured, dimension: Dimension) -> pa.Table:
    encoded = measured.dimensions[dimension.name]
    codes, size = encoded.codes, len(encoded.values)
    is_key = dimension.name == "key"
    counts = {name: flags for name, flags in measured.counts.items() if is_key or name not in ("reads", "deletes")}
    columns: dict[str, pa.Array] = {"value": encoded.values, "requests": pa.array(np.bincount(codes, minlength=size))}
    columns |= {name: _count(codes, size, flags) for name, flags in counts.items()}
    columns |= {name: _total(codes, size, values) for name, values in measured.sizes.items()}
    if is_key:
        columns["object_size"] = _largest(codes, size, measured.object_sizes)
    return pa.table(columns)


def _by_hour(measured: Measured) -> pa.Table:
    bins = np.where(measured.times < 0, -1, bins_of(np.maximum(measured.times, 0)))
    statuses = np.where(measured.statuses < 0, -1, measured.statuses // 100)
    codes, size, columns = _hour_codes(measured.hours, measured.kinds, statuses, bins)
    nothing = np.zeros(len(codes), np.int64)
    columns |= {
        "requests": pa.array(np.bincount(codes, minlength=size)),
        "bytes_sent": _total(codes, size, measured.sizes.get("bytes_sent", nothing)),
        "max_total_time": _largest(codes, size, measured.times),
    }
    if "error_count" in measured.counts:
        columns["error_count"] = _count(codes, size, measured.counts["error_count"])
    return pa.table(columns)


# A status has ten classes (0 to 9), and one more for requests without a status.
_STATUS_CLASSES, _TIME_BINS = 11, BINS + 1


def _hour_codes(
    hours: Integers, kinds: Encoded, statuses: Integers, bins: npt.NDArray[np.integer]
) -> tuple[Codes, int, dict[str, pa.Array]]:
    """Return a code for each row, the number of codes, and the columns of each code. In the input, -1 is none."""
    room = max(len(kinds.values), 1)
    combined = ((hours * room + kinds.codes) * _STATUS_CLASSES + statuses + 1) * _TIME_BINS + bins + 1
    found, codes = np.unique(combined, return_inverse=True)
    rest, of_bins = np.divmod(found, _TIME_BINS)
    rest, of_statuses = np.divmod(rest, _STATUS_CLASSES)
    of_hours, of_kinds = np.divmod(rest, room)
    columns = {
        "hour": pa.array(of_hours),
        "operation_class": kinds.values.take(pa.array(of_kinds)),
        "status_class": pa.array(of_statuses - 1, mask=of_statuses == 0),
        "time_bin": pa.array(of_bins - 1, mask=of_bins == 0),
    }
    return codes, len(found), columns


def _merge_hours(table: pa.Table) -> pa.Table:
    """Return the rows with those of the same hour, class and bin merged."""
    table = complete(table, HOURS_SCHEMA)
    kinds = encode(table["operation_class"])
    hours, statuses, bins = (
        integers_of(table["hour"], 0),
        integers_of(table["status_class"], -1),
        integers_of(table["time_bin"], -1),
    )
    codes, size, columns = _hour_codes(hours, kinds, statuses, bins)
    for name in ("requests", "error_count", "bytes_sent"):
        columns[name] = _sum_of_sums(codes, size, table[name])
    columns["max_total_time"] = _largest(codes, size, integers_of(table["max_total_time"], -1))
    return pa.table(columns)


def merge(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the sums of several tables of sums by one dimension, or by hour."""
    if len(tables) == 1:
        return tables[0]
    whole = concat(tables)
    if HOUR in whole.column_names:
        return _merge_hours(whole)
    own, folded = split(whole)
    return concat([_merge_values(own), _merge_values(folded)]) if folded.num_rows else _merge_values(own)


def split(sums: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the rows of single values, and the folded rows."""
    if "folded_values" not in sums.column_names:
        return sums, sums.slice(0, 0)
    is_own = pc.is_null(sums["folded_values"])
    return sums.filter(is_own).drop_columns("folded_values"), sums.filter(pc.invert(is_own))


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables; if one table has wide bytes, the result has."""
    return pa.concat_tables(tables, promote_options="permissive")


def _merge_values(table: pa.Table) -> pa.Table:
    """Return the rows with those of the same value merged; all of them single values, or all folded."""
    encoded = encode(table["value"])
    codes, size = encoded.codes, len(encoded.values)
    columns: dict[str, pa.Array] = {"value": encoded.values}
    for name in table.column_names[1:]:
        if name == "object_size":
            columns[name] = _largest(codes, size, integers_of(table[name], -1))
        else:
            columns[name] = _sum_of_sums(codes, size, table[name])
    return pa.table(columns)


def _count(codes: Codes, size: int, flags: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.array(np.bincount(codes[flags], minlength=size))


def _sum_of_sums(codes: Codes, size: int, column: pa.ChunkedArray) -> pa.Array:
    if column.type == _WIDE:
        totals = np.zeros(size, object)
        np.add.at(totals, codes, np.array([0 if each is None else int(each) for each in column.to_pylist()], object))
        return _narrowest(totals)
    return _total(codes, size, integers_of(column, 0))


def _total(codes: Codes, size: int, values: Integers) -> pa.Array:
    """Return the exact sum of the values (not negative) of each code."""
    if not values.any():
        return pa.array(np.zeros(size, np.int64))
    if values.sum(dtype=np.float64) < _EXACT_SUM:
        return pa.array(np.bincount(codes, values, size).astype(np.int64))
    low = np.bincount(codes, values & ((1 << _LOW_BITS) - 1), size)
    high = np.bincount(codes, values >> _LOW_BITS, size)
    whole = [(int(above) << _LOW_BITS) + int(below) for above, below in zip(high, low, strict=True)]
    return _narrowest(np.array(whole, object))


def _narrowest(totals: npt.NDArray[np.object_]) -> pa.Array:
    """Return whole numbers as int64, or as decimal128 if one is too large for that."""
    if max(totals, default=0) < 2**63:
        return pa.array(totals.astype(np.int64))
    return pa.array([Decimal(int(each)) for each in totals], _WIDE)


def _largest(codes: Codes, size: int, values: Integers) -> pa.Array:
    """Return the largest value of each code; null if all are -1."""
    chosen = values >= 0
    largest = np.full(size, -1, np.int64)
    np.maximum.at(largest, codes[chosen], values[chosen])
    return pa.array(largest, mask=largest < 0)


def complete(columns: Mapping[str, pa.Array] | pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table of the schema: a missing column becomes null if it may be, otherwise 0. Bytes may be wide."""
    names = columns.column_names if isinstance(columns, pa.Table) else columns.keys()
    rows = len(columns[next(iter(names))])
    given = []
    for field in schema:
        column = columns[field.name] if field.name in names else None
        if column is None:
            column = pa.nulls(rows, field.type) if field.nullable else pa.array(np.zeros(rows, np.int64))
        given.append(column if column.type in (field.type, _WIDE) else column.cast(field.type))
    return pa.table(given, names=schema.names)
