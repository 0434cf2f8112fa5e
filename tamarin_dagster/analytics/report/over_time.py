"""Read a month's traffic over time: by day, by hour of the week, and of the month before."""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.analytics.report.figures import Before, DayLatency, DayTraffic, HourOfWeek
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.analytics.report.query_parts import in_utc, read_traffic, select_hours, sum_columns
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_hourly


def traffic_by_day(connection: sa.Connection, bucket: str, month: Month) -> tuple[DayTraffic, ...]:
    """Return the traffic by day, operation class and status class."""
    hour = traffic_hourly.c
    day = in_utc(hour.hour, sa.Date)
    statement = (
        sa.select(day.label("day"), hour.operation_class, hour.status_class, *sum_columns(traffic_hourly))
        .where(*select_hours(bucket, month.start, month.end))
        .group_by(day, hour.operation_class, hour.status_class)
        .order_by(day, hour.operation_class, hour.status_class)
    )
    return tuple(
        DayTraffic(row.day, row.operation_class, row.status_class, read_traffic(row))
        for row in connection.execute(statement)
    )


def traffic_before(connection: sa.Connection, bucket: str, month: Month, now: datetime) -> Before | None:
    """Return the month before; if this month has not ended, only up to the hour of this month's newest records."""
    before, start, end = month.before, month.before.start, month.start
    is_part = now < month.end
    if is_part:
        hour = traffic_hourly.c.hour
        newest = connection.scalar(sa.select(sa.func.max(hour)).where(*select_hours(bucket, month.start, month.end)))
        if newest is None:
            return None
        end = min(end, start + (newest.astimezone(UTC) + timedelta(hours=1) - month.start))
    row = connection.execute(sa.select(*sum_columns(traffic_hourly)).where(*select_hours(bucket, start, end))).one()
    return Before(before, read_traffic(row), is_part) if row.requests else None


def traffic_by_hour(connection: sa.Connection, bucket: str, month: Month) -> tuple[HourOfWeek, ...]:
    """Return the average traffic of each hour of the week, over the weeks with records on that weekday."""
    hour = traffic_hourly.c
    weekday = sa.func.extract("isodow", in_utc(hour.hour, sa.DateTime))
    of_the_day = sa.func.extract("hour", in_utc(hour.hour, sa.DateTime))
    within = select_hours(bucket, month.start, month.end)
    days = (
        sa.select(weekday.label("weekday"), sa.func.count(in_utc(hour.hour, sa.Date).distinct()).label("days"))
        .where(*within)
        .group_by(weekday)
        .subquery()
    )
    of_the_hour = (
        sa.select(weekday.label("weekday"), of_the_day.label("hour"), *sum_columns(traffic_hourly))
        .where(*within)
        .group_by(weekday, of_the_day)
        .subquery()
    )
    statement = (
        sa.select(of_the_hour, days.c.days)
        .join_from(of_the_hour, days, of_the_hour.c.weekday == days.c.weekday)
        .order_by(of_the_hour.c.weekday, of_the_hour.c.hour)
    )
    return tuple(
        HourOfWeek(int(row.weekday), int(row.hour), int(row.requests) / row.days, int(row.bytes_sent) / row.days)
        for row in connection.execute(statement)
    )


def latencies(connection: sa.Connection, bucket: str, month: Month) -> tuple[DayLatency, ...]:
    """Return how long successful reads took, by day."""
    hour = traffic_hourly.c
    day = in_utc(hour.hour, sa.Date)
    half = sa.func.percentile_disc(0.5)
    statement: sa.Select[Any] = (
        sa.select(
            day.label("day"),
            half.within_group(hour.p50_total_time).label("p50"),
            half.within_group(hour.p95_total_time).label("p95"),
        )
        .where(
            *select_hours(bucket, month.start, month.end),
            hour.operation_class == "read",
            hour.status_class == 2,
            hour.p50_total_time.is_not(None),
        )
        .group_by(day)
        .order_by(day)
    )
    return tuple(DayLatency(row.day, row.p50, row.p95) for row in connection.execute(statement))
