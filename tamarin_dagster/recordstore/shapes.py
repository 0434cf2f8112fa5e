"""Find stored records whose columns lack their documented shapes, with the patterns of `logformat.fields` in SQL.

The parser of an earlier version guessed columns at the end of a line, and the log key was purged. This finds such
records, one request day at a time, and changes nothing.
"""

import operator
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce

import sqlalchemy as sa

from tamarin_dagster.logformat.fields import FIELDS, TAIL_FIELDS, Field
from tamarin_dagster.recordstore.schema.answer_views import s3_request_day
from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_log_record

CHECKED_FIELDS: tuple[Field, ...] = tuple(
    field for field in FIELDS if field.name == "bucket_owner" or field.name in TAIL_FIELDS
)
"""The columns that may have a wrong shape: an earlier version checked all others as this one does."""

FETCHED_KEYS = 1_000
"""Log keys in one answer of the server. A day may have hundreds of thousands."""


@dataclass(frozen=True, slots=True)
class DaySpan:
    """A UTC day of requests: its first moment, and that of the next day."""

    day: date
    starts: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class MisshapenRecords:
    """Records of one log key and one request day that violate the shapes of the same columns.

    Attributes:
        log_key_id: the ledger row of the log key.
        columns: the columns whose shape they violate.
        records: the number of the records.
        line_number: the first of their lines.
        bucket: the configured bucket that loaded the log key; None if the ledger lacks the row.
        log_key: its name; None if the ledger lacks the row.
        is_purged: whether the log key was deleted from the log bucket.
    """

    log_key_id: int
    columns: tuple[str, ...]
    records: int
    line_number: int
    bucket: str | None
    log_key: str | None
    is_purged: bool


def violates_shape(field: Field, column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    r"""Return the condition that the column is not what a line may hold in the field; NULL, which is `-`, is legal.

    Postgres reads the patterns as Python's `re.fullmatch` does: they have no look-around and no class such as `\d`.
    """
    violated = sa.not_(column.regexp_match(f"^(?:{field.pattern})$"))
    return sa.or_(violated, column.regexp_match(f"^(?:{field.excludes})$")) if field.excludes else violated


_VIOLATIONS = {field.name: violates_shape(field, s3_log_record.c[field.name]) for field in CHECKED_FIELDS}
_VARIED = ("version_id", "host_id")
"""Columns with mostly different values. The others have few, so it is cheaper to check each value once."""


def list_request_days(connection: sa.Connection, first: date | None = None, last: date | None = None) -> list[DaySpan]:
    """Return the days from `first` to `last` for which there are partitions of records, in their order."""
    day = s3_request_day.c
    statement = sa.select(day.request_date, day.starts, day.ends).order_by(day.request_date)
    if first is not None:
        statement = statement.where(day.request_date >= first)
    if last is not None:
        statement = statement.where(day.request_date <= last)
    return [DaySpan(*row) for row in connection.execute(statement)]


def has_log_keys(connection: sa.Connection, bucket: str) -> bool:
    """Return whether any log key was ever loaded for the bucket."""
    return bool(connection.scalar(sa.select(sa.exists().where(s3_log_key.c.bucket == bucket))))


def find_misshapen_records(
    connection: sa.Connection, day: DaySpan, bucket: str | None = None
) -> Generator[MisshapenRecords]:
    """Yield the day's records that violate a shape, by log key and columns, in the order of the log keys.

    Args:
        connection: its transaction lasts until the answer, which arrives in parts, is read.
        day: the day of the requests; no other partition is read.
        bucket: a configured bucket whose log keys are checked; None means all records.
    """
    record, key = s3_log_record.c, s3_log_key.c
    suspects = _VIOLATIONS if _has_wrong_value(connection, day) else {name: _VIOLATIONS[name] for name in _VARIED}
    bits = (sa.case((violation, 1 << number), else_=0) for number, violation in enumerate(_VIOLATIONS.values()))
    violated = reduce(operator.add, bits)
    found = (
        sa.select(record.log_key_id, record.line_number, violated.label("violated"))
        .where(*_requested_on(day), sa.or_(*suspects.values()))
        .subquery()
    )
    grouped = (
        sa.select(
            found.c.log_key_id,
            found.c.violated,
            sa.func.count().label("records"),
            sa.func.min(found.c.line_number).label("line_number"),
        )
        .group_by(found.c.log_key_id, found.c.violated)
        .subquery()
    )
    # By index for each log key that was found. A join could read the whole ledger for each day.
    held = (
        sa.select(key.bucket, key.key, key.purged_at)
        .where(key.id == grouped.c.log_key_id)
        .offset(sa.literal_column("0"))
        .lateral()
    )
    statement = sa.select(
        grouped.c.log_key_id,
        grouped.c.violated,
        grouped.c.records,
        grouped.c.line_number,
        held.c.bucket,
        held.c.key,
        held.c.purged_at.is_not(None).label("is_purged"),
    ).select_from(grouped.outerjoin(held, sa.true()))
    if bucket is not None:
        statement = statement.where(held.c.bucket == bucket)
    statement = statement.order_by(grouped.c.log_key_id, grouped.c.violated)
    with connection.execute(statement, execution_options={"yield_per": FETCHED_KEYS}) as rows:
        for row in rows:
            columns = tuple(field.name for number, field in enumerate(CHECKED_FIELDS) if row.violated >> number & 1)
            yield MisshapenRecords(
                row.log_key_id, columns, row.records, row.line_number, row.bucket, row.key, row.is_purged
            )


def _requested_on(day: DaySpan) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return s3_log_record.c.request_dtime >= day.starts, s3_log_record.c.request_dtime < day.ends


def _has_wrong_value(connection: sa.Connection, day: DaySpan) -> bool:
    """Return whether any record of the day violates a shape of a column that has few different values.

    Grouping the values first checks each pattern once a group, which takes a third of the time for all values.
    """
    fields = [field for field in CHECKED_FIELDS if field.name not in _VARIED]
    columns = [s3_log_record.c[field.name] for field in fields]
    # OFFSET 0 keeps the planner from checking the patterns before it groups.
    groups = sa.select(*columns).where(*_requested_on(day)).group_by(*columns).offset(sa.literal_column("0")).subquery()
    wrong = sa.or_(*(violates_shape(field, groups.c[field.name]) for field in fields))
    return bool(connection.scalar(sa.select(sa.exists().select_from(groups).where(wrong))))


def read_values(
    connection: sa.Connection, day: DaySpan, lines: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], dict[str, str | None]]:
    """Return the checked columns of these records of the day, by ledger row of the log key and line number."""
    record = s3_log_record.c
    ids = [log_key_id for log_key_id, _ in lines]
    statement = sa.select(
        record.log_key_id, record.line_number, *(record[field.name] for field in CHECKED_FIELDS)
    ).where(
        *_requested_on(day),
        record.log_key_id.between(min(ids), max(ids)),
        sa.tuple_(record.log_key_id, record.line_number).in_(lines),
    )
    return {
        (row["log_key_id"], row["line_number"]): {field.name: row[field.name] for field in CHECKED_FIELDS}
        for row in connection.execute(statement).mappings()
    }
