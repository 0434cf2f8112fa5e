"""Read the whole schema of a database from Postgres, as rows that can be compared."""

import sqlalchemy as sa

_OURS = "relnamespace = CAST('public' AS regnamespace)"
_QUERIES = {
    "relations": "SELECT relname, relkind, relpersistence, relispartition, pg_get_expr(relpartbound, oid),"
    " CASE relkind WHEN 'p' THEN pg_get_partkeydef(oid) END, ARRAY(SELECT unnest(reloptions) ORDER BY 1),"
    f" CAST(CAST(relowner AS regrole) AS text), obj_description(oid, 'pg_class') FROM pg_class WHERE {_OURS}",
    "columns": "SELECT relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attgenerated,"
    " attidentity, pg_get_expr(adbin, adrelid), CAST(CAST(nullif(attcollation, 0) AS regcollation) AS text),"
    " col_description(c.oid, attnum) FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid"
    f" LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = attnum WHERE {_OURS} AND attnum > 0 AND NOT attisdropped",
    "constraints": "SELECT relname, conname, contype, pg_get_constraintdef(k.oid) FROM pg_constraint k"
    f" JOIN pg_class c ON c.oid = conrelid WHERE {_OURS}",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "views": f"SELECT relname, pg_get_viewdef(oid) FROM pg_class WHERE {_OURS} AND relkind = 'v'",
    "functions": "SELECT proname, pg_get_functiondef(oid), obj_description(oid, 'pg_proc'),"
    " CAST(CAST(proowner AS regrole) AS text) FROM pg_proc WHERE pronamespace = CAST('public' AS regnamespace)",
    "sequences": "SELECT sequencename, data_type, start_value, increment_by FROM pg_sequences"
    " WHERE schemaname = 'public'",
    "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger",
}
# The grantor does not matter; the privileges of the roles do.
_GRANTS = f"""
SELECT item.name, item.attname, coalesce(CAST(CAST(nullif(a.grantee, 0) AS regrole) AS text), 'PUBLIC'),
       a.privilege_type, a.is_grantable
FROM (
    SELECT relname AS name, NULL AS attname,
           coalesce(relacl, acldefault(CAST(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END AS "char"), relowner)) AS acl
    FROM pg_class WHERE {_OURS} AND relkind IN ('r', 'p', 'v', 'S')
    UNION ALL
    SELECT relname, attname, attacl
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE {_OURS} AND attacl IS NOT NULL
    UNION ALL
    SELECT proname, NULL, coalesce(proacl, acldefault('f', proowner))
    FROM pg_proc WHERE pronamespace = CAST('public' AS regnamespace)
) item, aclexplode(item.acl) AS a
"""


def schema_of(connection: sa.Connection) -> dict[str, set[tuple]]:
    """Return relations, columns, constraints, indexes, views, functions and sequences, with everything but grants."""
    return {name: _rows(connection, query) for name, query in _QUERIES.items()}


def grants_of(connection: sa.Connection) -> set[tuple]:
    """Return name, column, role, privilege, and whether the role may grant it."""
    return _rows(connection, _GRANTS)


def _rows(connection: sa.Connection, query: str) -> set[tuple]:
    rows = connection.exec_driver_sql(query, execution_options={"no_parameters": True})
    return {tuple(tuple(value) if isinstance(value, list) else value for value in row) for row in rows}
