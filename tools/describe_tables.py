"""Print the page about the tables, views and functions, made from their definitions.

`python -m tools.describe_tables > docs/reference/tables.md`
"""

import sys

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.recordstore.schema.answer_views import ANSWERS, FUNCTIONS
from tamarin_dagster.recordstore.schema.cost_views import COST_VIEWS
from tamarin_dagster.recordstore.schema.dimension_tables import DIMENSIONS, dimension_day
from tamarin_dagster.recordstore.schema.tables import (
    s3_archived_day,
    s3_delivery_lateness,
    s3_duplicate_record,
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

_HEAD = """# Tables

All tables are in the schema `public` of the database `tamarin`. Times are in UTC, sizes in bytes, durations in
milliseconds. `-` in a line is NULL in a column. Other words: [glossary](../GLOSSARY.md).
"""
_ROLLUPS = "# Rollups\n\nSums of a day's records: [rollups](../explanation/rollups.md).\n"
_DIMENSIONS = "# Kinds and prices\n\nFor [bots](../how-to/bots.md) and [costs](../how-to/costs.md).\n"
_VIEWS = "# Views\n\nExamples: [queries](../how-to/queries.md), [completeness](../explanation/completeness.md).\n"
_FUNCTIONS = "# Functions\n\nUse them like tables: `SELECT * FROM s3_hogs('media', '2026-03-01', '2026-03-31')`.\n"


# If a table shares at least this number of columns with an earlier table, they are not described again.
_MIN_COMMON_COLUMNS = 8


def describe_tables() -> str:
    """Return a description of each table, view and function with its columns: name, Postgres type, meaning."""
    tables = (s3_log_record, s3_log_key, s3_rejected_line, s3_logged_bucket, s3_archived_day, tamarin_database)
    rollups = (*ROLLUPS, traffic_day, traffic_fold, traffic_pending_day, traffic_part)
    dimensions = (*DIMENSIONS, dimension_day)
    views = (s3_duplicate_record, s3_delivery_lateness, *ANSWERS, *COST_VIEWS)
    parts = (
        *((_HEAD, tables), (_ROLLUPS, rollups), (_DIMENSIONS, dimensions)),
        *((_VIEWS, views), (_FUNCTIONS, FUNCTIONS)),
    )
    described: dict[str, dict[str, str]] = {}
    return "\n".join(
        text for head, group in parts for text in (head, *(_described(table, described) for table in group))
    )


def _described(table: sa.Table, earlier: dict[str, dict[str, str]]) -> str:
    rows = {c.name: f"| `{c.name}` | {_type_of(c)} | {_meaning(c)} |" for c in table.columns}
    call = f"`{table.name}({table.info['arguments']})`\n" if table.info else None
    head = [f"## {table.name}\n", *filter(None, [call]), f"{table.comment}\n"]
    other, common = _most_alike(rows, earlier)
    if len(common) >= _MIN_COMMON_COLUMNS:
        names = ", ".join(f"`{name}`" for name in common)
        head.append(f"These columns are as in [{other}](#{other}): {names}.\n")
        rows = {name: row for name, row in rows.items() if name not in common}
    else:
        earlier[table.name] = rows
    if not rows:
        return "\n".join(head)
    return "\n".join([*head, "| column | type | meaning |", "|---|---|---|", *rows.values(), ""])


def _most_alike(rows: dict[str, str], earlier: dict[str, dict[str, str]]) -> tuple[str, list[str]]:
    """Return the earlier table that shares most of these rows, and the columns of these rows."""
    common = {table: [name for name in rows if known.get(name) == rows[name]] for table, known in earlier.items()}
    return max(common.items(), key=lambda item: len(item[1]), default=("", []))


def _type_of(column: sa.Column[object]) -> str:
    name = column.type.compile(dialect=postgresql.dialect()).lower()  # type: ignore[no-untyped-call]
    return name.replace("timestamp with time zone", "timestamptz").split(" collate")[0]


def _meaning(column: sa.Column[object]) -> str:
    return (column.comment or "").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(describe_tables())
