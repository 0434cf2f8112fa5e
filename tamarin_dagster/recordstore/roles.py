"""Create a role for people who query: it may read the records and the ledger, and change nothing.

It may not read the bytes of rejected lines. They are stored as S3 wrote them, with any secrets of the URLs in them.
"""

from typing import cast

import psycopg
import sqlalchemy as sa
from psycopg import sql

from tamarin_dagster.recordstore.database import DatabaseError
from tamarin_dagster.recordstore.failures import first_line
from tamarin_dagster.recordstore.rights import get_rights
from tamarin_dagster.recordstore.schema.answer_views import ANSWERS
from tamarin_dagster.recordstore.schema.cost_views import COST_VIEWS
from tamarin_dagster.recordstore.schema.dimension_tables import DIMENSIONS, dimension_day
from tamarin_dagster.recordstore.schema.tables import (
    s3_archived_day,
    s3_log_key,
    s3_log_record,
    s3_logged_bucket,
    s3_rejected_line,
    tamarin_database,
)
from tamarin_dagster.recordstore.schema.traffic_tables import (
    ROLLUPS,
    traffic_day,
    traffic_fold,
    traffic_part,
    traffic_pending_day,
)

_READ_WHOLE = (
    s3_log_record.name,
    s3_log_key.name,
    s3_logged_bucket.name,
    s3_archived_day.name,
    tamarin_database.name,
    # without it no command of ours can check the database's version
    "alembic_version",
    "s3_duplicate_record",
    "s3_delivery_lateness",
    *(
        table.name
        for table in (
            *ROLLUPS,
            traffic_day,
            traffic_fold,
            traffic_pending_day,
            traffic_part,
            *DIMENSIONS,
            dimension_day,
            *COST_VIEWS,
            *ANSWERS,
        )
    ),
)
_NOT_READ = s3_rejected_line.c.line.name


def grant_reading(engine: sa.Engine, role: str) -> bool:
    """Let the role read; create it, without a login, if it does not exist. Return whether it was created.

    Raises DatabaseError if our own user lacks a privilege.
    """
    with engine.connect() as connection:
        rights = get_rights(connection)
    try:
        return _grant_reading(engine, role)
    except _MayNotCreateRoleError as error:
        name = sql.Identifier(role).as_string()
        remedy = (
            f"let an administrator run: CREATE ROLE {name} NOLOGIN, and then run grant-reader again;"
            f" or: ALTER ROLE {sql.Identifier(rights.user).as_string()} CREATEROLE"
        )
        raise DatabaseError(f"the user {rights.user} may not create the role {role}: {error} - {remedy}") from None
    except psycopg.errors.InsufficientPrivilege as error:
        remedy = rights.remedy or "run grant-reader as the owner of the database and its tables"
        problem = f"; {rights.problem}" if rights.problem else ""
        raise DatabaseError(f"the user {rights.user} may not grant: {first_line(error)}{problem} - {remedy}") from None


class _MayNotCreateRoleError(Exception):
    """The role does not exist, and our own user may not create it."""


def _grant_reading(engine: sa.Engine, role: str) -> bool:
    name = sql.Identifier(role)
    with engine.begin() as connection:
        cursor = cast("psycopg.Cursor", connection.connection.cursor())
        found = cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone()
        if found is None:
            try:
                cursor.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(name))
            except psycopg.errors.InsufficientPrivilege as error:
                raise _MayNotCreateRoleError(first_line(error)) from None
        database = sql.Identifier(connection.engine.url.database or "")
        cursor.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, name))
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
        for table in _READ_WHOLE:
            cursor.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(sql.Identifier(table), name))
        columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in s3_rejected_line.c if c.name != _NOT_READ)
        table_name = sql.Identifier(s3_rejected_line.name)
        cursor.execute(sql.SQL("GRANT SELECT ({}) ON {} TO {}").format(columns, table_name, name))
    return found is None
