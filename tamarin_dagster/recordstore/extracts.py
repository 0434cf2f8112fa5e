"""Stream records out of the database: the rows that COPY sends, one request day at a time.

Each day is a transaction of its own. One transaction for all days would keep `expire` waiting, and the loads after it.
So an export of several days shows each day as it was when its turn came.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import cast

import psycopg
import sqlalchemy as sa
from psycopg import sql

from tamarin_dagster.recordstore.days import midnight
from tamarin_dagster.recordstore.schema.tables import s3_log_key
from tamarin_dagster.recordstore.whole_numbers import WholeNumber

# A day's rows are sorted in memory up to this size; if they are larger, Postgres sorts them on its disk.
SORT_MEMORY = "64MB"
# Times are written the same way, whatever the server, the role or the URL prefers. JIT is off: compiling a query of one
# day takes longer than it saves.
_SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "standard_conforming_strings": "on",
    "work_mem": SORT_MEMORY,
    "jit": "off",
    "transaction_read_only": "on",
}


@dataclass(frozen=True, slots=True)
class Extract:
    """A selection of records.

    Attributes:
        day: the UTC day of their request.
        buckets: the values of their column `bucket`; None in the list is NULL. None for the list means all.
    """

    day: date
    buckets: tuple[str | None, ...] | None = None

    def copy(self, columns: sql.Composable, options: sql.Composable) -> sql.Composed:
        """Return the statement that sends these columns of them, in the order of the requests."""
        return sql.SQL(
            "COPY (SELECT {} FROM s3_log_record WHERE {} ORDER BY request_dtime, log_key_id, line_number)"
            " TO STDOUT ({})"
        ).format(columns, self.condition(), options)

    def condition(self) -> sql.Composable:
        """Return the condition on records."""
        first, following = midnight(self.day), midnight(self.day + timedelta(days=1))
        condition = sql.SQL("request_dtime >= {} AND request_dtime < {}").format(first, following)
        if self.buckets is None:
            return condition
        named = [sql.SQL("bucket = {}").format(name) for name in self.buckets if name is not None]
        null = [sql.SQL("bucket IS NULL")] if None in self.buckets else []
        return sql.SQL("{} AND ({})").format(condition, sql.SQL(" OR ").join([*named, *null] or [sql.SQL("false")]))


def list_request_days(connection: sa.Connection, first: date | None = None, last: date | None = None) -> list[date]:
    """Return the UTC days from the earliest to the latest request that may have records, within `first` and `last`."""
    key = s3_log_key.c
    statement = sa.select(sa.func.min(key.first_request_dtime), sa.func.max(key.last_request_dtime))
    earliest, latest = connection.execute(statement.where(key.superseded_at.is_(None))).one()
    if earliest is None:
        return []
    utc = sa.literal("UTC")
    start, end = connection.execute(
        sa.select(sa.cast(sa.func.timezone(utc, earliest), sa.Date), sa.cast(sa.func.timezone(utc, latest), sa.Date))
    ).one()
    start, end = max(start, first or start), min(end, last or end)
    return [start + timedelta(days=number) for number in range((end - start).days + 1)]


def delivered_days(
    connection: sa.Connection, buckets: Sequence[str] | None = None, first: date | None = None, last: date | None = None
) -> list[tuple[str, date, int]]:
    """Return the delivery days that have records, each with its logged bucket and the number of its records."""
    key = s3_log_key.c
    rows = sa.type_coerce(sa.func.sum(key.record_count), WholeNumber())
    statement = sa.select(key.bucket, key.delivery_date, rows).where(key.superseded_at.is_(None), key.record_count > 0)
    if buckets is not None:
        statement = statement.where(key.bucket.in_(buckets))
    if first is not None:
        statement = statement.where(key.delivery_date >= first)
    if last is not None:
        statement = statement.where(key.delivery_date <= last)
    grouped = statement.group_by(key.bucket, key.delivery_date).order_by(key.delivery_date, key.bucket)
    return [(row[0], row[1], row[2]) for row in connection.execute(grouped)]


@contextmanager
def open_snapshot(engine: sa.Engine, *, keeps_partitions: bool = False) -> Iterator[sa.Connection]:
    """Begin a transaction that writes nothing and whose statements all see the same rows.

    With `keeps_partitions`, no month is dropped meanwhile: every transaction sees a drop at once.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        if keeps_partitions:  # before anything else: the next statement takes the snapshot
            connection.exec_driver_sql("LOCK TABLE s3_log_record IN ACCESS SHARE MODE")
        connection.execute(sa.select(*(sa.func.set_config(name, value, True) for name, value in _SESSION.items())))
        yield connection


@contextmanager
def copy_out(connection: sa.Connection, statement: sql.Composed) -> Iterator[Iterator[bytes]]:
    """Yield what COPY … TO STDOUT sends, each row with its end of line. An error in the body cancels the COPY.

    Raises psycopg.Error.
    """
    cursor = cast("psycopg.Cursor", connection.connection.cursor())
    with cursor.copy(statement) as copy:
        yield map(bytes, copy)
