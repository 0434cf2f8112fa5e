"""Insert rows of rollups directly."""

from collections.abc import Mapping
from datetime import UTC, date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.recordstore.schema.tables import metadata
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day

DAY = date(2026, 3, 5)
_MEASURES = ("bytes_sent", "error_count", "put_requests", "unbilled_requests", "unbilled_bytes", "interregion_bytes")


def put_rollup(
    engine: sa.Engine,
    dimension: str,
    rows: Mapping[str | None, Mapping[str, int]],
    *,
    bucket: str = "media",
    day: date = DAY,
) -> None:
    """Insert a day's rollup by that dimension: the measures of each value, by default one request and no bytes."""
    table = metadata.tables[f"traffic_daily_by_{dimension}"]
    zeros = dict.fromkeys(_MEASURES, 0) | ({"reads": 0, "deletes": 0} if dimension == "key" else {})
    filled = [
        {"bucket": bucket, "request_date": day, dimension: value, "requests": 1} | zeros | measures
        for value, measures in rows.items()
    ]
    with engine.begin() as connection:
        connection.execute(sa.insert(table), filled)
    roll_up_again(engine, bucket=bucket, day=day)


def roll_up_again(engine: sa.Engine, *, bucket: str = "media", day: date = DAY) -> None:
    """Make the day's rollups newer than anything that has read them."""
    insert = postgresql.insert(traffic_day)
    row = {
        "bucket": bucket,
        "request_date": day,
        "requests": 1,
        "bytes_sent": 0,
        "rolled_up_at": datetime.now(UTC),
        "seconds": 0.1,
    }
    key = ["bucket", "request_date"]
    again = {"rolled_up_at": insert.excluded.rolled_up_at}
    with engine.begin() as connection:
        connection.execute(insert.on_conflict_do_update(index_elements=key, set_=again), row)


def select_rows(engine: sa.Engine, query: str) -> list[tuple[object, ...]]:
    """Return the result of the query."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]
