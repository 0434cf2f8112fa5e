"""What the questions of a report have in common: the sums that they ask for, and of which rows."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.analytics.consumers import is_one_value
from tamarin_dagster.analytics.report.figures import Billed, Prices, Traffic
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_hourly
from tamarin_dagster.recordstore.whole_numbers import total
from tamarin_dagster.traffic.operations import TRANSITIONS

MEASURES = ("requests", "bytes_sent", "error_count")
BILLED = ("put_requests", "get_requests", "internet_bytes", "interregion_bytes")
_TRANSITIONS = tuple(f"{name}s" for name in TRANSITIONS)


def by(dimension: sa.Column[Any], bucket: str, month: Month, *more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """The month's sums of each value of a rollup's dimension; of those that are folded there are none."""
    table = dimension.table
    return (
        sa.select(dimension, *sums(table), *more)
        .where(*days_of(table, bucket, month), is_one_value(table))
        .group_by(dimension)
    )


def most(statement: sa.Select[Any], measure: str, count: int) -> sa.Subquery:
    """The rows with the most of it; of equal ones those with more requests."""
    return statement.order_by(sa.desc(measure), sa.desc("requests")).limit(count).subquery()


def sums(table: sa.FromClause) -> tuple[sa.Label[int], ...]:
    """Of the rows: requests, bytes and errors."""
    return tuple(sa.func.coalesce(total(table.c[name]), 0, type_=table.c[name].type).label(name) for name in MEASURES)


def billed_sums(table: sa.FromClause) -> tuple[sa.Label[int], ...]:
    """What is paid for, of a rollup by day."""
    return tuple(
        sa.func.coalesce(sa.func.sum(each), 0).label(name)
        for name, each in zip((*BILLED, *_TRANSITIONS), _billed(table), strict=True)
    )


def dollars_sum(table: sa.FromClause, prices: Prices | None) -> sa.Label[Any]:
    """What the rows of a rollup by day are estimated to cost; null if no prices are known."""
    if prices is None:
        return sa.cast(sa.null(), sa.Double).label("dollars")
    put, get, internet, interregion, *transitions = _billed(table)
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


def _billed(table: sa.FromClause) -> tuple[sa.ColumnElement[Any], ...]:
    """As BILLED has them, and then the transitions."""
    of = table.c
    transitions = [sa.func.coalesce(of[name], 0) for name in _TRANSITIONS]
    return (
        of.put_requests,
        of.requests - of.put_requests - of.unbilled_requests - sum(transitions[1:], transitions[0]),
        of.bytes_sent - of.unbilled_bytes - of.interregion_bytes,
        of.interregion_bytes,
        *transitions,
    )


def days_of(table: sa.FromClause, bucket: str, month: Month) -> tuple[sa.ColumnElement[bool], ...]:
    """The rows of a bucket and month in a rollup by day, as its index has them."""
    return table.c.bucket == bucket, table.c.request_date.between(month.first, month.last)


def hours_of(bucket: str, start: datetime, end: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """The rows of a bucket in the rollup by hour, as its index has them."""
    hour = traffic_hourly.c
    return hour.bucket == bucket, hour.hour >= start, hour.hour < end


def in_utc(time: sa.ColumnElement[datetime], as_type: type[sa.types.TypeEngine[Any]]) -> sa.ColumnElement[Any]:
    """A time as UTC has it, whatever the session's own time zone."""
    return sa.cast(sa.func.timezone(sa.literal_column("'UTC'"), time), as_type)


def traffic_of(row: Any) -> Traffic:
    """What `sums` gave."""
    return Traffic(int(row.requests), int(row.bytes_sent), int(row.error_count))


def billed_of(row: Any) -> Billed:
    """What `billed_sums` gave."""
    put, get, internet, interregion = (int(getattr(row, name)) for name in BILLED)
    return Billed(put, get, internet, interregion, tuple(int(getattr(row, name)) for name in _TRANSITIONS))
