"""Create the views and functions of the database from the files under views/, whenever their text has changed.

To change a view, edit its file: each database gets the new text the next time it is opened (`database.migrate`). To add
a view, add a file, its name below, and its columns with their comments in answer_views.py or cost_views.py. To remove
a view, delete all of these, and drop it in a migration. Each file must be able to run again: use CREATE OR REPLACE.
Definitions that views share, such as the class of an operation, are functions without a file (functions.py).

A migration does not deal with views. Before migrations run, all views that can be dropped are dropped, so that any
column may be changed. After the last migration, the current files create them again. A migration never creates a view,
and never reads one of these files (see migrations/env.py).

Grants and owners are kept. A view or function of somebody else is never dropped. If it depends on one of our views,
ours stays, and Postgres replaces it in place if it can. If it cannot, everything stays as before, and the error names
the view or function in the way.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import sqlalchemy as sa

from tamarin_dagster.recordstore.schema.answer_views import ANSWERS, FUNCTIONS
from tamarin_dagster.recordstore.schema.cost_views import COST_VIEWS
from tamarin_dagster.recordstore.schema.functions import DEFINITIONS, quote
from tamarin_dagster.recordstore.schema.tables import s3_delivery_lateness, s3_duplicate_record

# Each one comes after those that it uses.
VIEWS_AND_FUNCTIONS = (
    *(("FUNCTION", name) for name in DEFINITIONS),
    ("FUNCTION", "s3_estimated_cost"),
    ("VIEW", "s3_duplicate_record"),
    ("VIEW", "s3_delivery_lateness"),
    ("VIEW", "s3_cost_daily"),
    ("VIEW", "s3_cost_by_key"),
    ("VIEW", "s3_cost_by_prefix"),
    ("VIEW", "s3_cost_by_remote_ip"),
    ("VIEW", "s3_cost_by_requester"),
    ("VIEW", "s3_cost_by_referrer"),
    ("VIEW", "s3_cost_by_user_agent"),
    ("VIEW", "s3_bot_traffic"),
    ("VIEW", "s3_request_day"),
    ("VIEW", "s3_download"),
    ("VIEW", "s3_hotlink"),
    ("FUNCTION", "s3_hogs"),
    ("FUNCTION", "s3_cold_objects"),
    ("VIEW", "s3_cold_object"),
    ("VIEW", "s3_error"),
    ("VIEW", "s3_spike"),
    ("FUNCTION", "s3_spike_causes"),
    ("VIEW", "s3_change"),
    ("VIEW", "s3_anonymous_access"),
    ("VIEW", "s3_old_tls"),
    ("VIEW", "s3_acl_dependent"),
    ("VIEW", "s3_hidden_record"),
)
# Functions that compute columns. Migrations made them, and only a migration can change them.
FROZEN_FUNCTIONS = ("s3_key_digest", "s3_referrer_host")
_DESCRIBED = {
    table.name: table for table in (s3_duplicate_record, s3_delivery_lateness, *ANSWERS, *COST_VIEWS, *FUNCTIONS)
}
_FILES = Path(__file__).parent / "views"
_CANNOT_REPLACE = (psycopg.errors.InvalidTableDefinition, psycopg.errors.InvalidFunctionDefinition)
# Postgres' errors for a statement that would break another person's view.
_IN_USE = (psycopg.errors.DependentObjectsStillExist, psycopg.errors.FeatureNotSupported)


class InUseError(Exception):
    """A view or function of somebody else prevents a change. The text says which one, and what to do."""


def digest_of_files() -> str:
    """Return a digest of the text and comments of all views and functions, in their order."""
    digest = hashlib.sha256()
    for kind, name in VIEWS_AND_FUNCTIONS:
        comments = "".join(f"{item}: {comment}\n" for item, comment in _list_comments(kind, name))
        digest.update(f"{kind} {name}\n{_read_text(name)}\n{comments}".encode())
    return digest.hexdigest()


def replace_all(connection: sa.Connection) -> None:
    """Create all views and functions from their files, in the transaction of the connection.

    If Postgres can replace them in place, everything else stays as it is. Raises InUseError.
    """
    try:
        with connection.begin_nested():
            _make(connection)
    except sa.exc.DBAPIError as error:
        if not isinstance(error.orig, _CANNOT_REPLACE):
            raise
        with recreate(connection):
            pass


@contextmanager
def recreate(connection: sa.Connection) -> Iterator[None]:
    """Drop all views and functions before the body, and create them from their files after it, with their old grants.

    Views and functions that something else depends on are not dropped. Raises InUseError if they have to be dropped.
    """
    former = _access(connection)
    kept: dict[str, str] = {}
    for kind, name in reversed(VIEWS_AND_FUNCTIONS):
        if name in former:
            try:
                with connection.begin_nested():
                    connection.exec_driver_sql(f"DROP {kind} {name}")
            except sa.exc.InternalError as error:
                if not isinstance(error.orig, psycopg.errors.DependentObjectsStillExist):
                    raise
                kept[name] = _dependents(error.orig, kept)
    try:
        yield
        _make(connection)
    except sa.exc.DBAPIError as error:
        raise (_in_use(error, kept.values()) or error) from None
    for name, access in _access(connection, former.keys() - kept.keys()).items():
        _give(connection, name, access, former[name])


def _in_use(error: sa.exc.DBAPIError, dependents: Iterable[str]) -> InUseError | None:
    """Return the error to raise instead, if somebody else's view or function prevented the change; otherwise None."""
    cause = error.orig
    details = [*dependents]
    if isinstance(cause, _IN_USE) and cause.diag.message_detail:
        details.append(cause.diag.message_detail)
    if not details or not isinstance(cause, (*_IN_USE, *_CANNOT_REPLACE)):
        return None
    remedy = "save its definition (pg_get_viewdef), drop it, run `tamarin-dagster migrate`, and create it again"
    return InUseError(f"{cause.diag.message_primary}: {'; '.join(details)} - {remedy}".replace("\n", "; "))


def _make(connection: sa.Connection) -> None:
    for kind, name in VIEWS_AND_FUNCTIONS:
        comments = (
            f"COMMENT ON {f'{kind} {name}' if column is None else f'COLUMN {name}.{column}'} IS {quote(comment)}"
            for column, comment in _list_comments(kind, name)
        )
        _execute(connection, ";\n".join((_read_text(name).rstrip().rstrip(";"), *comments)))


def _execute(connection: sa.Connection, statement: str) -> None:
    # Without parameters, a percent sign is not a placeholder.
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _read_text(name: str) -> str:
    return DEFINITIONS[name][0] if name in DEFINITIONS else (_FILES / f"{name}.sql").read_text("utf-8")


def _list_comments(kind: str, name: str) -> list[tuple[str | None, str]]:
    """Return the comments of a view or function and of its columns: a column (None for the whole), and a text."""
    if name in DEFINITIONS:
        return [(None, DEFINITIONS[name][1])]
    table = _DESCRIBED[name]
    columns = [(column.name, column.comment or "") for column in table.columns] if kind == "VIEW" else []
    return [(None, table.comment or ""), *columns]


def _dependents(error: psycopg.errors.DependentObjectsStillExist, kept: Collection[str]) -> str:
    """Return Postgres' list of dependents, without our own views that only matter because others depend on them."""
    ours = tuple(f"{kind.lower()} {name}" for kind, name in VIEWS_AND_FUNCTIONS if name in kept)
    lines = (error.diag.message_detail or "").splitlines()
    return "; ".join(line for line in lines if not line.startswith(ours))


@dataclass(frozen=True, slots=True)
class _Access:
    """The owner and the grants of a view or function. All names are quoted for SQL.

    Attributes:
        kind: TABLE or FUNCTION, as in GRANT.
        granted: the roles with their privileges, a column (or None), and whether they have the grant option.
        columns: all columns of the view.
    """

    kind: str
    owner: str
    granted: frozenset[tuple[str, str, str | None, bool]]
    columns: frozenset[str]


_ACCESS = sa.text("""
WITH ours AS (
    SELECT name, 'TABLE' AS kind, c.oid, c.relowner AS owner, coalesce(c.relacl, acldefault('r', c.relowner)) AS acl
    FROM unnest(CAST(:views AS text[])) AS name
    JOIN pg_class c ON c.oid = to_regclass(name)
    UNION ALL
    SELECT name, 'FUNCTION', p.oid, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    FROM unnest(CAST(:functions AS text[])) AS name
    JOIN pg_proc p ON p.oid = to_regproc(name)
),
granted AS (
    SELECT ours.name, NULL AS attname, item.*
    FROM ours, aclexplode(ours.acl) AS item
    UNION ALL
    SELECT ours.name, a.attname, item.*
    FROM ours JOIN pg_attribute a ON a.attrelid = ours.oid AND ours.kind = 'TABLE', aclexplode(a.attacl) AS item
)
SELECT
    ours.name,
    ours.kind,
    CAST(CAST(ours.owner AS regrole) AS text),
    ARRAY(
        SELECT jsonb_build_array(
            CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(g.grantee AS regrole) AS text) END,
            g.privilege_type,
            quote_ident(g.attname),
            g.is_grantable
        )
        FROM granted g
        WHERE g.name = ours.name
    ),
    ARRAY(
        SELECT quote_ident(a.attname)
        FROM pg_attribute a
        WHERE a.attrelid = ours.oid AND ours.kind = 'TABLE' AND a.attnum > 0
    )
FROM ours
""")


def _access(connection: sa.Connection, names: Collection[str] | None = None) -> dict[str, _Access]:
    """Return the owners and grants of the views and functions (by default all) that exist in the database."""
    wanted: dict[str, list[str]] = {"VIEW": [], "FUNCTION": []}
    for kind, name in VIEWS_AND_FUNCTIONS:
        if names is None or name in names:
            wanted[kind].append(name)
    rows = connection.execute(_ACCESS, {"views": wanted["VIEW"], "functions": wanted["FUNCTION"]})
    return {
        name: _Access(kind, owner, frozenset(map(tuple, granted)), frozenset(columns))
        for name, kind, owner, granted, columns in rows
    }


def _give(connection: sa.Connection, name: str, present: _Access, former: _Access) -> None:
    """Restore the old owner and grants, and no others: grants from default privileges are revoked."""
    for statement in _changes(name, present, former):
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _changes(name: str, present: _Access, former: _Access) -> Iterable[str]:
    thing = f"{former.kind} {name}"
    if (present.owner, present.granted) == (former.owner, former.granted):
        return
    for role in sorted({role for role, *_ in present.granted}):
        yield f"REVOKE ALL ON {thing} FROM {role}"
    if present.owner != former.owner:
        yield f"ALTER {thing} OWNER TO {former.owner}"
    for role, privilege, column, may_hand_on in sorted(former.granted, key=str):
        if column is None or column in present.columns:
            of_column = f" ({column})" if column else ""
            yield f"GRANT {privilege}{of_column} ON {thing} TO {role}{' WITH GRANT OPTION' if may_hand_on else ''}"
