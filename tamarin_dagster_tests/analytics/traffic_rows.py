"""Write rows of rollups directly: traffic whose answers are known."""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta

import sqlalchemy as sa

from tamarin_dagster.recordstore.schema.traffic_tables import metadata, traffic_day, traffic_hourly

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GB = 1_000_000_000


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


class Traffic:
    """Writes rows of one bucket."""

    def __init__(self, engine: sa.Engine, bucket: str = "media") -> None:
        self.engine, self.bucket = engine, bucket

    def insert(self, table: sa.Table, rows: Iterable[dict]) -> None:
        if held := [{"bucket": self.bucket} | row for row in rows]:
            with self.engine.begin() as connection:
                connection.execute(sa.insert(table), held)

    def days(self, first: date, last: date, rolled_up_at: datetime | None = None) -> None:
        """Mark these days as rolled up, by default at a time after all of them."""
        made = rolled_up_at or midnight(last + 10 * DAY)
        days = [first + number * DAY for number in range((last - first).days + 1)]
        counts = {"requests": 1, "bytes_sent": 1, "seconds": 0.1, "rolled_up_at": made}
        self.insert(traffic_day, ({"request_date": day} | counts for day in days))

    def hours(
        self,
        first: datetime,
        last: datetime,
        bytes_sent: Callable[[datetime], int] = lambda _: 0,
        requests: Callable[[datetime], int] = lambda _: 1000,
        error_count: Callable[[datetime], int] = lambda _: 0,
    ) -> None:
        """Write a row for each hour and half of its traffic, in two operation classes."""
        hours = [first + number * HOUR for number in range(int((last - first) / HOUR) + 1)]
        self.insert(
            traffic_hourly,
            (
                {"hour": hour, "operation_class": name, "status_class": 2}
                | {
                    column: value // 2 + (value % 2) * number
                    for column, value in (
                        ("bytes_sent", bytes_sent(hour)),
                        ("requests", requests(hour)),
                        ("error_count", error_count(hour)),
                    )
                }
                for hour in hours
                for number, name in enumerate(("read", "list"))
            ),
        )

    def daily(self, dimension: str, day: date, **taken: int | tuple[int, int]) -> None:
        """daily("remote_ip", day, **{"192.0.2.1": bytes}), or (bytes, unbilled bytes)."""
        self.insert(
            metadata.tables[f"traffic_daily_by_{dimension}"],
            (daily_row(dimension, day, name, value) for name, value in taken.items()),
        )


def daily_row(dimension: str, day: date, name: str | None, value: int | tuple[int, int]) -> dict:
    """Return a request for each 1,000 bytes; every tenth is an error."""
    bytes_sent, unbilled = value if isinstance(value, tuple) else (value, 0)
    row = {dimension: name or None, "request_date": day, "bytes_sent": bytes_sent, "unbilled_bytes": unbilled}
    row |= {"requests": bytes_sent // 1000, "error_count": bytes_sent // 10_000}
    row |= dict.fromkeys(("put_requests", "unbilled_requests", "interregion_bytes"), 0)
    return row | (dict.fromkeys(("reads", "deletes"), 0) if dimension == "key" else {})
