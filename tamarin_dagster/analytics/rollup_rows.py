"""Make the rows of a day's rollup from its sums: folded, as CSV for COPY, and the sums as bytes."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import sqlalchemy as sa

from tamarin_dagster.recordstore.days import midnight
from tamarin_dagster.recordstore.schema.traffic_tables import ROLLUPS, traffic_hourly
from tamarin_dagster.traffic.dimensions import DIMENSIONS, Dimension
from tamarin_dagster.traffic.folding import fold
from tamarin_dagster.traffic.hourly import hourly_rows
from tamarin_dagster.traffic.measures import IPV4_LEAD
from tamarin_dagster.traffic.parts import to_bytes
from tamarin_dagster.traffic.sums import HOUR, complete, schema_of, split
from tamarin_dagster.traffic.totals import Total

_DIMENSIONS = {each.name: each for each in DIMENSIONS}
_TABLES = {table.name.removeprefix("traffic_daily_by_"): table for table in ROLLUPS if table is not traffic_hourly}
# COPY reads an empty field as null, and a quoted empty field as an empty text.
_CSV = pyarrow.csv.WriteOptions(include_header=False, quoting_style="all_valid")


@dataclass(frozen=True, slots=True)
class DayRows:
    """The rows of a day in one rollup.

    Attributes:
        dimension: the name of a dimension, or HOUR.
        columns: the columns of `table`, in the order of the CSV.
        packed: the sums that the rows are made of, with all values, as bytes.
        fold: the row of `traffic_fold`; None if no value is folded.
    """

    dimension: str
    table: sa.Table
    columns: tuple[str, ...]
    csv: pa.Buffer
    packed: bytes
    requests: int
    bytes_sent: int
    fold: Mapping[str, object] | None = None


def make_day_rows(total: Total, bucket: str, day: date, limit: int) -> DayRows | None:
    """Return the rows of a day in the rollup of that dimension; None if there are no sums.

    Args:
        total: the sums of the day by one dimension, or by hour.
        bucket: the logged bucket.
        day: the UTC day of the requests.
        limit: the maximum number of rows of single values.
    """
    sums = total.sums()
    if sums is None:
        return None
    packed = to_bytes(sums)
    if total.dimension == HOUR:
        rows = _of_bucket(bucket, _hours(hourly_rows(sums), day))
        return _day_rows(HOUR, traffic_hourly, rows, packed)
    dimension = _DIMENSIONS[total.dimension]
    limited = complete(fold(sums, dimension, limit).sums, schema_of(dimension))
    table = _TABLES[dimension.name]
    rows = _of_bucket(bucket, _values(limited, dimension, table, day))
    return _day_rows(dimension.name, table, rows, packed, _fold_row(limited, bucket, day, total))


def _day_rows(
    dimension: str, table: sa.Table, rows: pa.Table, packed: bytes, fold_row: Mapping[str, object] | None = None
) -> DayRows:
    requests, bytes_sent = _sum(rows["requests"]), _sum(rows["bytes_sent"])
    return DayRows(dimension, table, tuple(rows.column_names), _csv(rows), packed, requests, bytes_sent, fold_row)


def _fold_row(limited: pa.Table, bucket: str, day: date, total: Total) -> dict[str, object] | None:
    """Return how much of the day is folded, and how much a row of a single value may lack."""
    _, folded = split(limited)
    if not folded.num_rows:
        return None
    return {
        "bucket": bucket,
        "request_date": day,
        "dimension": total.dimension,
        "folded_values": _sum(folded["folded_values"]),
        "requests": _sum(folded["requests"]),
        "bytes_sent": _sum(folded["bytes_sent"]),
        "missing_requests": total.missing_requests,
        "missing_bytes": total.missing_bytes,
    }


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column.cast(pa.decimal128(38, 0))).as_py())


def _hours(rows: pa.Table, day: date) -> dict[str, pa.Array | pa.ChunkedArray]:
    """Return the columns of `hourly_rows` in the form of `traffic_hourly`."""
    names = np.array([str(midnight(day) + timedelta(hours=hour)) for hour in range(24)])
    hours = pa.array(names[np.asarray(rows["hour"])], pa.string())
    return {"hour": hours} | {name: rows[name] for name in rows.column_names[1:]}


def _values(sums: pa.Table, dimension: Dimension, table: sa.Table, day: date) -> dict[str, pa.Array | pa.ChunkedArray]:
    """Return the columns of sums in the form of their dimension's rollup."""
    values = _addresses(sums["value"]) if dimension.name == "remote_ip" else sums["value"]
    columns = {"request_date": pa.array(np.full(sums.num_rows, str(day)), pa.string()), dimension.name: values}
    for name in (column.name for column in table.columns if column.name in sums.column_names):
        columns[name] = _or_null(sums[name]) if name.endswith("_transitions") else sums[name]
    return columns


def _or_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column with null for 0, as in the rollups."""
    return pc.if_else(pc.equal(column, 0), pa.scalar(None, column.type), column)


def _of_bucket(bucket: str, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    rows = len(next(iter(columns.values())))
    return pa.table({"bucket": pa.array(np.full(rows, bucket), pa.string()), **columns})


def _addresses(packed: pa.ChunkedArray) -> pa.Array:
    """Return addresses and networks, given in Postgres' binary form, as texts."""
    texts: list[str | None] = []
    for value in packed.to_pylist():
        if value is None:
            texts.append(None)
            continue
        family = socket.AF_INET if value[0] == IPV4_LEAD[0] else socket.AF_INET6
        texts.append(f"{socket.inet_ntop(family, value[4:])}/{value[1]}")
    return pa.array(texts, pa.string())


def _csv(rows: pa.Table) -> pa.Buffer:
    texts = [column.cast(pa.string()) if pa.types.is_decimal(column.type) else column for column in rows.columns]
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(texts, names=rows.column_names), sink, _CSV)
    return sink.getvalue()
