"""Why a day's traffic rose: which keys, addresses, requesters, referrers and user agents brought more than usual."""

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

# Who brings much more than usual is among those who bring most; the past is read of so many.
CANDIDATES = 200
# How many of each kind are named.
NAMED = 5


class Measure(StrEnum):
    """What is summed up: a column of each rollup."""

    REQUESTS = "requests"
    BYTES = "bytes_sent"
    ERRORS = "error_count"


@dataclass(frozen=True, slots=True)
class Reason:
    """Who or what brought more than usual on a day.

    Attributes:
        dimension: what it is: `key`, `remote_ip`, `requester`, `referrer` or `user_agent`.
        name: None for requests that have none. Of the client's making.
        value: of the day.
        usual: the median of the known days before; 0 for one who comes seldom.
    """

    dimension: str
    name: str | None
    value: int
    usual: float

    @property
    def more(self) -> float:
        """How much more than usual."""
        return self.value - self.usual


_ROLLUPS: Mapping[str, sa.Table] = {
    "key": traffic_daily_by_key,
    "remote_ip": traffic_daily_by_remote_ip,
    "requester": traffic_daily_by_requester,
    "referrer": traffic_daily_by_referrer,
    "user_agent": traffic_daily_by_user_agent,
}


def reasons_for(
    connection: sa.Connection, bucket: str, measure: Measure, day: date, known: Collection[date], *, part: float = 1
) -> tuple[Reason, ...]:
    """The NAMED of each dimension that brought most more than usual, most first. `known` are the days before.

    A row that stands for several values is none of them.

    By whole days, since no rollup tells who brought what in an hour. `part` is how much of the day is over, up to 1:
    usual is that part of what its days were.
    """
    found = []
    for dimension, table in _ROLLUPS.items():
        past = _past_of_the_largest(connection, bucket, measure, day, known, table, dimension)
        reasons = sorted(
            (replace(reason, usual=part * reason.usual) for reason in past),
            key=lambda reason: reason.more,
            reverse=True,
        )
        found += [reason for reason in reasons[:NAMED] if reason.more > 0]
    return tuple(found)


def _past_of_the_largest(
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
    """As a text that equals itself, which null does not."""
    return sa.func.coalesce(sa.func.host(column) if column.name == "remote_ip" else column, "")


def _usual(values: list[int], days: int) -> float:
    """The median of so many days, of which those without a value had none."""
    return median(values + [0] * (days - len(values)) or [0])
