"""The monthly partitions of `s3_log_record`, made on demand."""

from collections.abc import Iterable
from datetime import date

import sqlalchemy as sa
from psycopg import sql

# One maker at a time; the number has no meaning but must not change.
_LOCK = 2011_0301


def ensure_partitions(engine: sa.Engine, months: Iterable[date]) -> None:
    """Makes the partitions that are missing, each in a short transaction of its own.

    A table is made apart and then attached: that takes a weaker lock than `CREATE TABLE … PARTITION OF`, for which a
    load in progress elsewhere would have to end first.
    """
    wanted = {partition_name(month): month for month in months}
    with engine.connect() as connection:
        present = set(connection.scalars(_PRESENT, {"names": list(wanted)}))
    for name in sorted(wanted.keys() - present):
        _make(engine, name, wanted[name])


def partition_name(month: date) -> str:
    """`s3_log_record_2026_01` for any day of January 2026."""
    return f"s3_log_record_{month:%Y_%m}"


_PRESENT = sa.text(
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = 's3_log_record'::regclass AND c.relname = ANY(:names)"
)


def _following(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _make(engine: sa.Engine, name: str, month: date) -> None:
    first = date(month.year, month.month, 1)
    table = sql.Identifier(name)
    bounds = sql.SQL("FROM ({}) TO ({})").format(*(f"{day} 00:00:00+00" for day in (first, _following(first))))
    with engine.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        if connection.scalars(_PRESENT, {"names": [name]}).first():
            return
        cursor = connection.connection.cursor()
        for statement in (
            sql.SQL("CREATE TABLE IF NOT EXISTS {} (LIKE s3_log_record INCLUDING ALL)").format(table),
            sql.SQL("ALTER TABLE s3_log_record ATTACH PARTITION {} FOR VALUES ").format(table) + bounds,
        ):
            cursor.execute(statement)
