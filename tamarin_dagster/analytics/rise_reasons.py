"""Find why a day's traffic rose: object keys, addresses, requesters, referrers, user agents with more than usual."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from statistics import median
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.recordstore.schema.traffic_tables import (
    traffic_daily_by_key,
    traffic_daily_by_referrer,
    traffic_daily_by_remote_ip,
    traffic_daily_by_requester,
    traffic_daily_by_user_agent,
)
from tamarin_dagster.recordstore.whole_numbers import total

# A value with much more than usual is among the largest of the day. So the past is read only for this many of them.
CANDIDATES = 200
# The number of reasons named for each dimension.
NAMED = 5


class Measure(StrEnum):
    """A column that each rollup sums up."""

    REQUESTS = "requests"
    BYTES = "bytes_sent"
    ERRORS = "error_count"


@dataclass(frozen=True, slots=True)
class Reason:
    """A value of a dimension that brought more than usual on a day.

    Attributes:
        dimension: `key`, `remote_ip`, `requester`, `referrer` or `user_agent`.
        name: the value, which a client may have made up; None for requests without one.
        value: the measure on that day.
        usual: the median of the known days before; 0 for one that is seen on fewer than half of them.
    """

    dimension: str
    name: str | None
    value: int
    usual: float

    @property
    def more(self) -> float:
        """Return how much more than usual it brought."""
        return self.value - self.usual


_ROLLUPS: Mapping[str, sa.Table] = {
    "key": traffic_daily_by_key,
    "remote_ip": traffic_daily_by_remote_ip,
    "requester": traffic_daily_by_requester,
    "referrer": traffic_daily_by_referrer,
    "user_agent": traffic_daily_by_user_agent,
}


def find_reasons(
    connection: sa.Connection, bucket: str, measure: Measure, day: date, known: Collection[date], *, part: float = 1
) -> tuple[Reason, ...]:
    """Return, for each dimension, the NAMED values that rose most above the usual, the largest rise first.

    Whole days are compared, because no rollup has these values by hour. Folded rows are left out.

    Args:
        connection: to the records' database.
        bucket: the logged bucket.
        measure: the column to compare.
        day: the UTC day that rose.
        known: the known days before it.
        part: the share of the day that is over, up to 1: the usual is this part of the median of a whole day.
    """
    found = []
    for dimension, table in _ROLLUPS.items():
        past = _read_past_of_largest(connection, bucket, measure, day, known, table, dimension)
        reasons = sorted(
            (replace(reason, usual=part * reason.usual) for reason in past),
            key=lambda reason: reason.more,
            reverse=True,
        )
        found += [reason for reason in reasons[:NAMED] if reason.more > 0]
    return tuple(found)


def _read_past_of_largest(
    connection: sa.Connection,
    bucket: str,
    measure: Measure,
    day: date,
    known: Collection[date],
    table: sa.Table,
    dimension: str,
) -> list[Reason]:
    name, value = _name(table.c[dimension]), total(table.c[measure])
    largest = (
        sa.select(name.label("name"), value.label("value"))
        .where(table.c.bucket == bucket, table.c.request_date == day, table.c.folded_values.is_(None))
        .group_by(name)
        .order_by(value.desc(), name)
        .limit(CANDIDATES)
        .cte("largest")
    )
    past = (
        sa.select(name.label("name"), table.c.request_date, value.label("value"))
        .where(table.c.bucket == bucket, table.c.request_date.in_(known), table.c.folded_values.is_(None))
        .where(name.in_(sa.select(largest.c.name)))
        .group_by(name, table.c.request_date)
    )
    values: dict[str, int] = {row.name: row.value for row in connection.execute(sa.select(largest))}
    before: dict[str, list[int]] = {each: [] for each in values}
    for row in connection.execute(past):
        before[row.name].append(row.value)
    return [Reason(dimension, each or None, value, _usual(before[each], len(known))) for each, value in values.items()]


def _name(column: sa.Column[Any]) -> sa.ColumnElement[str]:
    """Return the column as text, with '' for null, because null does not equal itself."""
    return sa.func.coalesce(sa.func.host(column) if column.name == "remote_ip" else column, "")


def _usual(values: list[int], days: int) -> float:
    """Return the median over that many days; a day without a value counts as 0."""
    return median(values + [0] * (days - len(values)) or [0])
