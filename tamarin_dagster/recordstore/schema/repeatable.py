"""The views and functions of the database: the files under views/, made again whenever their text has changed.

To change a view, edit its file: each database gets the new text when it is opened the next time (`database.migrate`).
To add one, add a file, its name below, and its columns with their comments in answer_views.py or cost_views.py. To
remove one, delete all of them, and drop it in a migration. Write each file so that it can run again: CREATE OR REPLACE.
What views need to know of a record, such as the class of an operation, are functions without a file (definitions.py).

A migration does not care for views. Before one runs, all views that can be dropped are dropped, so that it may change
any column; after the last one they are made by today's files. A migration never makes a view, and never reads one of
these files (see migrations/env.py).

Grants and owners are kept. No view or function of somebody else's is ever dropped. If one depends on a view of ours,
ours stays, and Postgres replaces it in place if it can. If it cannot, everything is as before, and the error names what
is in the way.
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
from tamarin_dagster.recordstore.schema.functions import DEFINITIONS, quoted
from tamarin_dagster.recordstore.schema.tables import s3_delivery_lateness, s3_duplicate_record

# Each after those that it is made of.
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
# Functions that columns are computed with. Revision 0007 makes them; a change of one takes a migration.
FROZEN_FUNCTIONS = ("s3_key_digest", "s3_referrer_host")
_DESCRIBED = {
    table.name: table for table in (s3_duplicate_record, s3_delivery_lateness, *ANSWERS, *COST_VIEWS, *FUNCTIONS)
}
_FILES = Path(__file__).parent / "views"
_CANNOT_REPLACE = (psycopg.errors.InvalidTableDefinition, psycopg.errors.InvalidFunctionDefinition)
# What Postgres says to a statement that would break a view of somebody else's.
_IN_USE = (psycopg.errors.DependentObjectsStillExist, psycopg.errors.FeatureNotSupported)


class InUseError(Exception):
    """A view or function of somebody else's stands in the way of a change. Its text says which, and what to do."""


def digest_of_files() -> str:
    """Returns a digest of the text and comments of all views and functions, in their order."""
    digest = hashlib.sha256()
    for kind, name in VIEWS_AND_FUNCTIONS:
        comments = "".join(f"{item}: {comment}\n" for item, comment in _comments_of(kind, name))
        digest.update(f"{kind} {name}\n{_text_of(name)}\n{comments}".encode())
    return digest.hexdigest()


def replace_all(connection: sa.Connection) -> None:
    """Makes all views and functions by their files, in the transaction of the connection.

    In place if Postgres can do that, which leaves everything else as it is. Raises InUseError.
    """
    try:
        with connection.begin_nested():
            _make(connection)
    except sa.exc.DBAPIError as error:
        if not isinstance(error.orig, _CANNOT_REPLACE):
            raise
        with dropped(connection):
            pass


@contextmanager
def dropped(connection: sa.Connection) -> Iterator[None]:
    """Drops all views and functions before its body, and makes them by their files after it, with the former grants.

    Those that something else depends on are not dropped. Raises InUseError if they had to be.
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
    """The error to raise instead, if what a view or function of somebody else's depends on could not be changed."""
    cause = error.orig
    told = [*dependents]
    if isinstance(cause, _IN_USE) and cause.diag.message_detail:
        told.append(cause.diag.message_detail)
    if not told or not isinstance(cause, (*_IN_USE, *_CANNOT_REPLACE)):
        return None
    remedy = "keep its definition (pg_get_viewdef), drop it, run `tamarin-dagster migrate`, and make it again"
    return InUseError(f"{cause.diag.message_primary}: {'; '.join(told)} - {remedy}".replace("\n", "; "))


def _make(connection: sa.Connection) -> None:
    for kind, name in VIEWS_AND_FUNCTIONS:
        comments = (
            f"COMMENT ON {f'{kind} {name}' if column is None else f'COLUMN {name}.{column}'} IS {quoted(comment)}"
            for column, comment in _comments_of(kind, name)
        )
        _execute(connection, ";\n".join((_text_of(name).rstrip().rstrip(";"), *comments)))


def _execute(connection: sa.Connection, statement: str) -> None:
    # Without parameters: a percent sign is no placeholder then.
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _text_of(name: str) -> str:
    return DEFINITIONS[name][0] if name in DEFINITIONS else (_FILES / f"{name}.sql").read_text("utf-8")


def _comments_of(kind: str, name: str) -> list[tuple[str | None, str]]:
    """The comment of a view or function, and of its columns: a name (None for the whole), and the text."""
    if name in DEFINITIONS:
        return [(None, DEFINITIONS[name][1])]
    table = _DESCRIBED[name]
    columns = [(column.name, column.comment or "") for column in table.columns] if kind == "VIEW" else []
    return [(None, table.comment or ""), *columns]


def _dependents(error: psycopg.errors.DependentObjectsStillExist, kept: Collection[str]) -> str:
    """What Postgres says depends on it, without views of ours that are in the way only since others depend on them."""
    ours = tuple(f"{kind.lower()} {name}" for kind, name in VIEWS_AND_FUNCTIONS if name in kept)
    lines = (error.diag.message_detail or "").splitlines()
    return "; ".join(line for line in lines if not line.startswith(ours))


@dataclass(frozen=True, slots=True)
class _Access:
    """Who owns a view or function and who may use it. All names are quoted as SQL needs it.

    Attributes:
        kind: TABLE or FUNCTION, as GRANT wants it.
        granted: the roles with their privileges, a column (or None), and whether they may hand them on.
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
    """Looks up the access to those of the views and functions (by default all) that the database has."""
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
    """Gives it the owner and the grants that it had, and no others: not those of default privileges either."""
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
