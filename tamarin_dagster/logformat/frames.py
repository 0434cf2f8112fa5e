"""The records as a DataFrame: the one schema that the parser makes and the record store takes.

A frame is an Arrow-backed pandas DataFrame (each column a `pandas.ArrowDtype`), so that it is handed on without a copy.
The columns are those of the record table, which `fields` defines, after the place of each record.

===========  =========================  ================================================================
column       Arrow type                 meaning
===========  =========================  ================================================================
log_index    int32                      position of the log object in its batch, from 0
line_number  int64                      number of the line in the log object, from 1
the fields   string, int16, int64,      see `fields.FIELDS`: text and inet are strings, smallint int16,
             timestamp[us, tz=UTC]      bigint int64, timestamptz a timestamp; null is null
===========  =========================  ================================================================
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamarin_dagster.logformat.fields import FIELDS
from tamarin_dagster.plurals import count_noun

if TYPE_CHECKING:
    import pandas as pd

_ARROW_TYPES = {
    "timestamptz": pa.timestamp("us", "UTC"),
    "inet": pa.string(),
    "smallint": pa.int16(),
    "bigint": pa.int64(),
    "text": pa.string(),
}
RECORDS_SCHEMA = pa.schema(
    [pa.field("log_index", pa.int32(), nullable=False), pa.field("line_number", pa.int64(), nullable=False)]
    + [pa.field(field.name, _ARROW_TYPES[field.sql_type], field.name != "request_dtime") for field in FIELDS]
)
"""The columns of a frame of records."""
REJECTED_SCHEMA = pa.schema(
    [
        pa.field("log_index", pa.int32(), nullable=False),
        pa.field("line_number", pa.int64(), nullable=False),
        # One of `RejectReason`.
        pa.field("reason", pa.string(), nullable=False),
        # As received, without its LF; only the first `KEPT_BYTES` of an oversized line.
        pa.field("line", pa.large_binary(), nullable=False),
        # The length and digest of the whole line.
        pa.field("line_bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.binary(), nullable=False),
    ]
)
"""The columns of a frame of rejected lines."""

_DAY_MICROSECONDS = 86_400_000_000
_EPOCH = date(1970, 1, 1)


class FrameError(ValueError):
    """A DataFrame does not have the schema of records or of rejected lines."""


def to_frame(table: pa.Table) -> "pd.DataFrame":
    """Return a table as an Arrow-backed DataFrame, without a copy."""
    import pandas as pd  # noqa: PLC0415 - takes half a second, in which the first log keys are fetched

    columns = {name: pd.arrays.ArrowExtensionArray(table[name]) for name in table.column_names}
    return pd.DataFrame(columns, copy=False)


def to_series(column: pa.ChunkedArray) -> "pd.Series[Any]":
    """Return a column as an Arrow-backed Series, without a copy."""
    import pandas as pd  # noqa: PLC0415

    return pd.Series(pd.arrays.ArrowExtensionArray(column), copy=False)


def get_column(frame: "pd.DataFrame", name: str, type_: pa.DataType | None = None) -> pa.ChunkedArray:
    """Return a column of a frame as an Arrow array, without a copy if it is Arrow-backed.

    Raises:
        FrameError: there is no such column, or its values are not of `type_`.
    """
    try:
        series = frame[name]
        # The array of an Arrow-backed column is passed on directly, because going through a Series is slower.
        values = pa.array(series.array if hasattr(series.array, "__arrow_array__") else series, from_pandas=True)
        column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
        return column if type_ is None or column.type == type_ else column.cast(type_)
    except KeyError:
        raise FrameError(f"the DataFrame has no column {name}") from None
    except (pa.ArrowException, TypeError) as error:
        raise FrameError(f"column {name} of the DataFrame is not of the type {type_}: {error}") from error


def to_table(frame: "pd.DataFrame", schema: pa.Schema) -> pa.Table:
    """Return a frame as an Arrow table of the schema, without a copy if it is Arrow-backed. Other columns are left out.

    Raises:
        FrameError: a column is missing, has another type, or has missing values where there must be none.
    """
    columns = [get_column(frame, field.name, field.type) for field in schema]
    for field, column in zip(schema, columns, strict=True):
        if column.null_count and not field.nullable:
            raise FrameError(
                f"column {field.name} of the DataFrame has {count_noun(column.null_count, 'missing value')}"
            )
    return pa.table(columns, schema=schema)


def map_chunks(function: Callable[[pa.Array], pa.Array], column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column with each chunk replaced by the function's; the same object if no chunk was."""
    given = column.chunks
    chunks = [function(chunk) for chunk in given]
    if all(new is old for new, old in zip(chunks, given, strict=True)):
        return column
    return pa.chunked_array(chunks, column.type)


def get_times(records: pa.Table) -> npt.NDArray[np.int64]:
    """Return the request times, in microseconds since 1970 (UTC)."""
    return np.asarray(records["request_dtime"].cast(pa.int64()))


def list_months(records: pa.Table) -> tuple[date, ...]:
    """Return the months of the request times, as their first days, in order."""
    months = np.unique(get_times(records).view("M8[us]").astype("M8[M]"))
    return tuple(months.astype("M8[D]").tolist())


@dataclass(frozen=True, slots=True)
class RequestDay:
    """The records of a bucket's UTC day, as the positions of their rows, in order."""

    bucket: str
    day: date
    rows: npt.NDArray[np.int64]


def group_by_day(records: pa.Table) -> list[RequestDay]:
    """Return the buckets in the records, each with the UTC days of its requests."""
    days = get_times(records) // _DAY_MICROSECONDS
    buckets = records["bucket"].combine_chunks().dictionary_encode(null_encoding="encode")
    names = buckets.dictionary.to_pylist()
    first = int(days.min()) if len(days) else 0
    codes = (days - first) * max(len(names), 1) + np.asarray(buckets.indices)
    found = []
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    for rows in np.split(order, starts[1:]) if len(codes) else ():
        day, name = divmod(int(codes[rows[0]]), max(len(names), 1))
        if names[name] is not None:
            found.append(RequestDay(names[name], _EPOCH + timedelta(days=first + day), rows))
    return found


def select_rows(table: pa.Table, logs: Sequence[int], *, renumbered: bool = False) -> pa.Table:
    """Return the rows of these log objects; with `renumbered`, `log_index` becomes the position in `logs`."""
    chosen = table.filter(pc.is_in(table["log_index"], pa.array(logs, pa.int32())))
    if not renumbered:
        return chosen
    positions = pc.index_in(chosen["log_index"], pa.array(logs, pa.int32()))
    return chosen.set_column(0, table.schema.field(0), positions)
