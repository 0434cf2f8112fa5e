"""The monthly partitions of `s3_log_record`: created on demand, dropped by retention."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from psycopg import sql

# Only one process creates partitions at a time. The number is arbitrary but must not change.
_LOCK = 2011_0301
# A process that waits here may hold, on another connection, a lock that the other process needs: a deadlock that
# Postgres cannot see. Creating a partition takes milliseconds.
LOCK_TIMEOUT = "10s"
# For rows that are written once, in time order. A partitioned table has no parameters, so each partition gets these.
STORAGE_PARAMETERS: dict[str, float] = {
    # A vacuum freezes the pages it visits, so that no page of a month must be rewritten years later because of its age.
    "autovacuum_freeze_min_age": 0,
    # A vacuum also summarizes new pages for the BRIN index; until then each query reads them. It skips earlier pages,
    # so many small vacuums cost no more than one: at most 10,000 rows and a minute's load are outstanding.
    "autovacuum_vacuum_insert_threshold": 10_000,
    "autovacuum_vacuum_insert_scale_factor": 0,
    # A day is a thirtieth of a month: with the default of a tenth the planner would not know the last three days.
    "autovacuum_analyze_scale_factor": 0.02,
}


@dataclass(frozen=True, slots=True)
class MonthPartition:
    """A partition of the record table.

    Attributes:
        start: its rows were requested at that time or later; None if there is no bound.
        end: its rows were requested before that.
        rows: their number, by the planner's estimate; 0 if it has none.
        bytes: its size on disk, with indexes.
    """

    name: str
    start: datetime | None
    end: datetime
    rows: int
    bytes: int


def ensure_partitions(engine: sa.Engine, months: Iterable[date]) -> None:
    """Create the missing partitions, each in its own short transaction.

    A table is created separately and then attached, which needs a weaker lock than `CREATE TABLE … PARTITION OF`: that
    would wait for a load in progress elsewhere. Raises sqlalchemy.exc.OperationalError if it has to wait longer than
    LOCK_TIMEOUT.
    """
    wanted = {partition_name(month): month for month in months}
    with engine.connect() as connection:
        present = set(connection.scalars(_PRESENT, {"names": list(wanted)}))
    for name in sorted(wanted.keys() - present):
        _make(engine, name, wanted[name])


def partition_name(month: date) -> str:
    """Return the partition's name: `s3_log_record_2026_01` for any day of January 2026."""
    return f"s3_log_record_{month:%Y_%m}"


def partitions_before(connection: sa.Connection, end: datetime) -> list[MonthPartition]:
    """Return the partitions that lie wholly before `end`, oldest first, by their bounds and not by their names."""
    return [MonthPartition(*row) for row in connection.execute(_BEFORE, {"end": end})]


def drop_partition(connection: sa.Connection, name: str) -> None:
    """Drop a partition with its rows, if it still exists. Lock the record table in ACCESS EXCLUSIVE mode before."""
    connection.exec_driver_sql(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)).as_string())


_PRESENT = sa.text(
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = 's3_log_record'::regclass AND c.relname = ANY(:names)"
)
# Postgres shows a bound in the session's own time zone, and the cast reads it in the same. DEFAULT, MAXVALUE: no bound.
_BEFORE = sa.text(
    "SELECT name, starts, ends, estimate, coalesce(pg_total_relation_size(id), 0) AS bytes FROM ("
    " SELECT c.oid AS id, c.relname AS name, CAST(greatest(c.reltuples, 0) AS bigint) AS estimate,"
    " CAST(substring(pg_get_expr(c.relpartbound, c.oid) FROM $$FROM \\('([^']*)'\\)$$) AS timestamptz) AS starts,"
    " CAST(substring(pg_get_expr(c.relpartbound, c.oid) FROM $$TO \\('(.*)'\\)$$) AS timestamptz) AS ends"
    " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 's3_log_record'::regclass"
    ") p WHERE ends <= :end ORDER BY ends"
)


def _following(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _make(engine: sa.Engine, name: str, month: date) -> None:
    first = date(month.year, month.month, 1)
    table = sql.Identifier(name)
    storage = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.SQL(parameter), value) for parameter, value in STORAGE_PARAMETERS.items()
    )
    bounds = sql.SQL("FROM ({}) TO ({})").format(*(f"{day} 00:00:00+00" for day in (first, _following(first))))
    with engine.begin() as connection:
        connection.execute(sa.select(sa.func.set_config("lock_timeout", LOCK_TIMEOUT, True)))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        if connection.scalars(_PRESENT, {"names": [name]}).first():
            return
        for statement in (
            sql.SQL("CREATE TABLE IF NOT EXISTS {} (LIKE s3_log_record INCLUDING ALL) WITH ({})").format(
                table, storage
            ),
            sql.SQL("ALTER TABLE s3_log_record ATTACH PARTITION {} FOR VALUES ").format(table) + bounds,
        ):
            connection.exec_driver_sql(statement.as_string())
