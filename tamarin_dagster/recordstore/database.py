"""Open the database of the records, the configured one or the embedded one, and migrate it."""

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import SetColumnComment, SetTableComment

# these modules describe tables too
import tamarin_dagster.recordstore.schema.dimension_tables
import tamarin_dagster.recordstore.schema.traffic_tables  # noqa: F401
from tamarin_dagster.recordstore.connections import connect_arguments, records_url
from tamarin_dagster.recordstore.encoding import encoding_problem, encoding_remedy
from tamarin_dagster.recordstore.failures import first_line
from tamarin_dagster.recordstore.rights import get_rights
from tamarin_dagster.recordstore.schema.repeatable import InUseError, digest_of_files, recreate, replace_all
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION, metadata, s3_logged_bucket, tamarin_database
from tamarin_dagster.recordstore.waiting import announce_wait
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster.urls import clean_error, describe_url, hide_secrets

_log = logging.getLogger(__name__)

_MIGRATIONS = Path(__file__).parent / "schema" / "migrations"
# Only one process migrates at a time. The number is arbitrary but must not change.
_MIGRATION_LOCK = 2011_0302
# While a migration waits for a table, every later statement waits too, so it must not wait for somebody's long query.
_LOCK_TIMEOUT = "10s"


# Postgres' code for a missing privilege.
_INSUFFICIENT_PRIVILEGE = "42501"
_INVALID_SCHEMA_NAME = "3F000"


class DatabaseError(Exception):
    """The database cannot be used. The text says which one, why, and what to do; it never contains the password."""


@sa.event.listens_for(sa.Engine, "handle_error")
def _hide_secrets_in_error(context: sa.engine.ExceptionContext) -> None:
    """Remove password and query parameters of the URL from an error, wherever it is shown later.

    libpq's errors repeat values of parameters. This applies to all engines, also those that Dagster makes for its
    storage.
    """
    if context.engine is None:
        return
    url = context.engine.url.render_as_string(hide_password=False)
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None:
            clean_error(error, url, parameters=context.statement is None)


def open_database(settings: Settings) -> sa.Engine:
    """Return an engine on the records' database: reachable, migrated, and with the configured buckets mirrored.

    Raises DatabaseError.
    """
    engine, _ = open_migrated_engine(settings)
    if settings.buckets:
        with (
            _explain_errors(engine),
            announce_wait(f"Waiting for {_place(engine)}, to write the configured buckets to it"),
        ):
            mirror_buckets(engine, settings.buckets)
    return engine


def open_migrated_engine(settings: Settings) -> tuple[sa.Engine, bool]:
    """Return an engine on the migrated records' database, and whether it had to migrate. Raises DatabaseError."""
    engine = create_engine(
        records_url(settings),
        connect_args=connect_arguments(settings, "tamarin"),
        pool_pre_ping=True,
        # logs and the Dagster UI show an error of a statement, and must not show the values in it
        hide_parameters=True,
    )
    with (
        _explain_errors(engine),
        announce_wait(f"Waiting for {_place(engine)}: it has not answered yet, or is being migrated"),
    ):
        _check_encoding(engine)
        return engine, migrate(engine)


def create_engine(url: str, **options: Any) -> sa.Engine:
    """Make an engine. Raises DatabaseError if SQLAlchemy refuses a parameter of the URL."""
    try:
        return sa.create_engine(url, **options)
    except (sa.exc.ArgumentError, TypeError, ValueError) as error:
        remedy = "check the parameters after the ? in TAMARIN_DATABASE_URL"
        raise DatabaseError(f"{describe_url(url)}: {hide_secrets(first_line(error), url)} - {remedy}") from None


@contextmanager
def _explain_errors(engine: sa.Engine) -> Iterator[None]:
    """Raise an error again with the name of the database, and the remedy; without the password."""
    try:
        yield
    except sa.exc.OperationalError as error:
        remedy = "check that the server is running and that TAMARIN_DATABASE_URL is right"
        raise DatabaseError(f"{_place(engine)}: {first_line(error.orig)} - {remedy}") from None
    except sa.exc.ProgrammingError as error:
        remedy = describe_missing_right(engine, error) or "see the error; `tamarin-dagster doctor` checks the database"
        raise DatabaseError(f"{_place(engine)}: {first_line(error.orig)} - {remedy}") from None


def _check_encoding(engine: sa.Engine) -> None:
    """Refuse an empty database that is not UTF8. One in use may go on: keys that do not fit fail, and say so.

    Raises DatabaseError.
    """
    with engine.connect() as connection:
        problem = encoding_problem(connection)
    if problem and schema_revision(engine) is None:
        raise DatabaseError(f"{_place(engine)}: {problem} - {encoding_remedy(engine.url.database)}")


def describe_missing_right(engine: sa.Engine, error: sa.exc.DBAPIError) -> str:
    """Return which privilege the user lacks, and what to do, if the error is about that; otherwise an empty text."""
    if getattr(error.orig, "sqlstate", None) not in (_INSUFFICIENT_PRIVILEGE, _INVALID_SCHEMA_NAME):
        return ""
    with engine.connect() as connection:
        rights = get_rights(connection)
    return f"{rights.problem}; {rights.remedy}" if rights.problem else ""


def schema_revision(engine: sa.Engine) -> str | None:
    """Return the schema revision of the database; None if it is empty."""
    with engine.connect() as connection:
        return _revision(connection)


def _revision(connection: sa.Connection) -> str | None:
    if connection.scalar(sa.select(sa.func.to_regclass("alembic_version"))) is None:
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision


def migrate(engine: sa.Engine) -> bool:
    """Migrate tables, views and functions to this version, and return whether anything had to change.

    It is one transaction: if it fails, the database is unchanged. Several processes may call it at once. A role that
    may not change the database may use one with other views than ours; so may an older version than the one that made
    them. Of two versions with the same number, the one that opened the database last has made its views.

    Raises DatabaseError for a schema of a newer version, and if an object of another owner is in the way.
    """
    with engine.connect() as connection:
        if _is_present(connection):
            return False
    try:
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            if _is_present(connection):
                return False
            connection.execute(sa.select(sa.func.set_config("lock_timeout", _LOCK_TIMEOUT, True)))
            _change(connection)
    except InUseError as error:
        raise DatabaseError(f"{_place(engine)}: {error}") from None
    except sa.exc.ProgrammingError as error:
        # Somebody else owns a view. That must not stop a load, which needs no view.
        if (
            not isinstance(error.orig, psycopg.errors.InsufficientPrivilege)
            or schema_revision(engine) != SCHEMA_REVISION
        ):
            raise
        remedy = "they stay unchanged until their owner runs `tamarin-dagster migrate`"
        _log.warning("%s: has the views of another version: %s - %s", _place(engine), first_line(error.orig), remedy)
        return False
    except sa.exc.OperationalError as error:
        if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise
        remedy = "another session uses the tables or views; wait until it has ended, and run `tamarin-dagster migrate`"
        raise DatabaseError(f"{_place(engine)}: {first_line(error.orig)} - {remedy}") from None
    _log.info("The database is at revision %s now, with the views of this version", SCHEMA_REVISION)
    return True


def _is_present(connection: sa.Connection) -> bool:
    """Return whether there is nothing to do, or nothing that this role and this version may do.

    Raises DatabaseError for a schema of a newer version.
    """
    revision = _revision(connection)
    if revision is not None and revision > SCHEMA_REVISION:
        remedy = "a newer version of tamarin_dagster has migrated it; upgrade this one"
        text = f"at revision {revision}, which this version does not know (its own is {SCHEMA_REVISION})"
        raise DatabaseError(f"{_place(connection.engine)}: {text} - {remedy}")
    if revision != SCHEMA_REVISION:
        return False
    if not connection.scalar(_MAY_CHANGE):
        return True
    made = connection.execute(sa.select(tamarin_database.c.views_digest, tamarin_database.c.views_version)).first()
    if made is None:
        return False
    return made.views_digest == _digest() or _numbers(made.views_version or "") > _numbers(_own_version())


# An owner may read its table, but a reader may have no privilege on it, so this reads only the catalogs.
_MAY_CHANGE = sa.text(
    "SELECT pg_has_role(relowner, 'USAGE') AND has_schema_privilege(relnamespace, 'CREATE')"
    " AND NOT CAST(current_setting('transaction_read_only') AS boolean)"
    " FROM pg_class WHERE oid = to_regclass('tamarin_database')"
)


def _change(connection: sa.Connection) -> None:
    if _revision(connection) == SCHEMA_REVISION:
        replace_all(connection)
    else:
        # Alembic takes a fifth of a second to import, and is needed only for a new database and after an upgrade.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        with recreate(connection):
            command.upgrade(config, "head")
    for table in metadata.tables.values():
        connection.execute(SetTableComment(table))
        for column in table.columns:
            if column.comment:
                connection.execute(SetColumnComment(column))
    made = {"views_digest": _digest(), "views_version": _own_version()}
    connection.execute(sa.update(tamarin_database).values(made))


@cache
def _digest() -> str:
    """Return a digest of all that is made again when its text changes: views, functions, and comments, for psql."""
    comments = [f"{item} {item.comment}" for table in metadata.tables.values() for item in (table, *table.columns)]
    return hashlib.sha256("\n".join((digest_of_files(), *comments)).encode()).hexdigest()


def _own_version() -> str:
    return version("tamarin-dagster")


def _numbers(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]


def mirror_buckets(engine: sa.Engine, buckets: Sequence[LoggedBucket]) -> None:
    """Make `s3_logged_bucket` show the configured buckets."""
    rows = [bucket.model_dump(mode="json", include={c.name for c in s3_logged_bucket.columns}) for bucket in buckets]
    with engine.begin() as connection:
        shown = [dict(row) for row in connection.execute(sa.select(s3_logged_bucket)).mappings()]
        if sorted(shown, key=_name) == sorted(rows, key=_name):
            return
        names = [row["name"] for row in rows]
        connection.execute(sa.delete(s3_logged_bucket).where(s3_logged_bucket.c.name.not_in(names)))
        if rows:
            insert = postgresql.insert(s3_logged_bucket)
            changed = {c.name: insert.excluded[c.name] for c in s3_logged_bucket.columns}
            connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=changed), rows)


def _place(engine: sa.Engine) -> str:
    return describe_url(engine.url.render_as_string(hide_password=False))


def _name(row: dict[str, object]) -> str:
    return str(row["name"])
