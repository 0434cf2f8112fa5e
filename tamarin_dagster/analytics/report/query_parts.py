"""Define what a report's queries share: the sums that they select, and the rows."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.analytics.consumers import is_one_value
from tamarin_dagster.analytics.report.figures import Billed, MonthPrices, Traffic
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_hourly
from tamarin_dagster.recordstore.whole_numbers import total
from tamarin_dagster.traffic.operations import TRANSITIONS

MEASURES = ("requests", "bytes_sent", "error_count")
BILLED = ("put_requests", "get_requests", "internet_bytes", "interregion_bytes")
_TRANSITIONS = tuple(f"{name}s" for name in TRANSITIONS)


def select_by(dimension: sa.Column[Any], bucket: str, month: Month, *more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Select the month's sums of each value of a rollup's dimension, without folded values."""
    table = dimension.table
    return (
        sa.select(dimension, *sum_columns(table), *more)
        .where(*select_days(table, bucket, month), is_one_value(table))
        .group_by(dimension)
    )


def take_largest(statement: sa.Select[Any], measure: str, count: int) -> sa.Subquery:
    """Select the rows with the largest `measure`; among equal rows, those with more requests."""
    return statement.order_by(sa.desc(measure), sa.desc("requests")).limit(count).subquery()


def sum_columns(table: sa.FromClause) -> tuple[sa.Label[int], ...]:
    """Return the sums of requests, bytes and errors as columns."""
    return tuple(sa.func.coalesce(total(table.c[name]), 0, type_=table.c[name].type).label(name) for name in MEASURES)


def billed_sums(table: sa.FromClause) -> tuple[sa.Label[int], ...]:
    """Return the sums of what is billed as columns, from a rollup by day."""
    return tuple(
        sa.func.coalesce(sa.func.sum(each), 0).label(name)
        for name, each in zip((*BILLED, *_TRANSITIONS), _billed_columns(table), strict=True)
    )


def dollars_sum(table: sa.FromClause, prices: MonthPrices | None) -> sa.Label[Any]:
    """Return the estimated cost of the rows of a rollup by day as a column; null if no prices are known."""
    if prices is None:
        return sa.cast(sa.null(), sa.Double).label("dollars")
    put, get, internet, interregion, *transitions = _billed_columns(table)
    cost = (
        put * prices.put_request
        + get * prices.get_request
        + internet * prices.internet_byte
        + interregion * prices.interregion_byte
    )
    for count, price in zip(transitions, prices.transitions, strict=True):
        if price is not None:
            cost += count * price
    return sa.cast(sa.func.sum(cost), sa.Double).label("dollars")


def _billed_columns(table: sa.FromClause) -> tuple[sa.ColumnElement[Any], ...]:
    """Return the columns of BILLED, then the transitions."""
    of = table.c
    transitions = [sa.func.coalesce(of[name], 0) for name in _TRANSITIONS]
    return (
        of.put_requests,
        of.requests - of.put_requests - of.unbilled_requests - sum(transitions[1:], transitions[0]),
        of.bytes_sent - of.unbilled_bytes - of.interregion_bytes,
        of.interregion_bytes,
        *transitions,
    )


def select_days(table: sa.FromClause, bucket: str, month: Month) -> tuple[sa.ColumnElement[bool], ...]:
    """The rows of a bucket and month in a rollup by day, as its index has them."""
    return table.c.bucket == bucket, table.c.request_date.between(month.first, month.last)


def select_hours(bucket: str, start: datetime, end: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for a bucket's rows in the rollup by hour, in the form that its index supports."""
    hour = traffic_hourly.c
    return hour.bucket == bucket, hour.hour >= start, hour.hour < end


def in_utc(time: sa.ColumnElement[datetime], as_type: type[sa.types.TypeEngine[Any]]) -> sa.ColumnElement[Any]:
    """Return a time in UTC, whatever the session's time zone is."""
    return sa.cast(sa.func.timezone(sa.literal_column("'UTC'"), time), as_type)


def read_traffic(row: Any) -> Traffic:
    """Return the traffic in a row of `sum_columns`."""
    return Traffic(int(row.requests), int(row.bytes_sent), int(row.error_count))


def read_billed(row: Any) -> Billed:
    """Return the billed traffic in a row of `billed_sums`."""
    put, get, internet, interregion = (int(getattr(row, name)) for name in BILLED)
    return Billed(put, get, internet, interregion, tuple(int(getattr(row, name)) for name in _TRANSITIONS))
