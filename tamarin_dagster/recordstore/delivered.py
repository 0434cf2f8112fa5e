"""Read the rest of a delivery day, except its records: its rows of the ledger, and its rejected lines."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pyarrow as pa
import sqlalchemy as sa

from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_rejected_line

_KEY = s3_log_key.c
# Rows of the ledger that are fetched together.
_PAGE = 10_000


def _is_of(bucket: str, day: date, *, with_expired: bool = False) -> sa.ColumnElement[bool]:
    live = sa.and_(_KEY.bucket == bucket, _KEY.delivery_date == day, _KEY.superseded_at.is_(None))
    return live if with_expired else sa.and_(live, _KEY.expired_at.is_(None))


def list_delivered_keys(
    connection: sa.Connection, bucket: str, day: date, loaded_by: str, *, with_expired: bool = False
) -> pa.Table:
    """Return the live log keys of a delivery day whose records are all in the database; `with_expired`, all live ones.

    The columns are those of the lake's ledger; `loaded_by` is the value of that one.
    """
    statement = sa.select(
        _KEY.bucket.label("logged_bucket"),
        _KEY.delivery_date.label("delivery_day"),
        _KEY.key.label("log_key"),
        *(
            _KEY[name]
            for name in (
                "log_bucket_name",
                "etag",
                "size",
                "last_modified",
                "line_count",
                "record_count",
                "rejected_count",
                "blank_count",
                "first_request_dtime",
                "last_request_dtime",
            )
        ),
    )
    result = connection.execute(statement.where(_is_of(bucket, day, with_expired=with_expired)).order_by(_KEY.key))
    names = [*result.keys(), "loaded_at", "loaded_by"]
    now = datetime.now(UTC)
    rows = [(*row, now, loaded_by) for row in result]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return pa.table({name: _to_array(name, column) for name, column in zip(names, columns, strict=True)})


def _to_array(name: str, values: tuple[object, ...]) -> pa.Array:
    if name.endswith(("_at", "_dtime", "_modified")):
        return pa.array(values, pa.timestamp("us", "UTC"))
    if name == "delivery_day":
        return pa.array(values, pa.date32())
    return pa.array(values, pa.int64() if name.endswith(("_count", "size")) else pa.string())


def rejected_lines(connection: sa.Connection, bucket: str, day: date, size: int) -> Iterator[pa.Table]:
    """Yield the rejected lines of a delivery day, `size` at a time, with `log_key` instead of `log_key_id`."""
    line = s3_rejected_line.c
    statement = (
        sa.select(_KEY.key.label("log_key"), line.line_number, line.reason, line.line, line.line_bytes, line.sha256)
        .join(s3_log_key, _KEY.id == line.log_key_id)
        .where(_is_of(bucket, day), _KEY.rejected_count > 0)
        .order_by(_KEY.key, line.line_number)
    )
    result = connection.execution_options(stream_results=True, max_row_buffer=size).execute(statement)
    for rows in result.partitions(size):
        yield pa.table(dict(zip(result.keys(), map(list, zip(*rows, strict=True)), strict=True)))


def list_live_keys(connection: sa.Connection) -> pa.Table:
    """Return all live log keys whose records are all in the database: their place, generation, id and record count."""
    statement = sa.select(
        _KEY.bucket.label("logged_bucket"),
        _KEY.delivery_date.label("delivery_day"),
        _KEY.key.label("log_key"),
        _KEY.etag,
        _KEY.record_count,
        _KEY.id.label("log_key_id"),
    ).where(_KEY.superseded_at.is_(None), _KEY.expired_at.is_(None))
    result = connection.execution_options(stream_results=True, max_row_buffer=_PAGE).execute(statement)
    names = list(result.keys())
    types = pa.schema([
        ("logged_bucket", pa.string()), ("delivery_day", pa.date32()), ("log_key", pa.string()), ("etag", pa.string()),
        ("record_count", pa.int64()), ("log_key_id", pa.int64()),
    ])  # fmt: skip
    pages = [
        pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)), schema=types)
        for rows in result.partitions(_PAGE)
    ]
    return pa.concat_tables(pages) if pages else types.empty_table()
