"""The tables, views and functions as Markdown, from the tables themselves.

`python -m tools.describe_tables > docs/tables.md`
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

_HEAD = "# Tables\n\nIn the database `tamarin`, schema `public`. Times are in UTC, sizes in bytes, durations in ms.\n"
_ROLLUPS = "# Rollups\n\nSums over the records of a day, made anew when more of it arrives: [rollups](rollups.md).\n"
_DIMENSIONS = "# Kinds and prices\n\nOf what is in the rollups: [bots](how-to/bots.md), [costs](how-to/costs.md).\n"
_VIEWS = (
    "# Views\n\nWhat they are good for: [completeness](completeness.md), [queries](queries.md),"
    " [costs](how-to/costs.md).\n"
)
_FUNCTIONS = "# Functions\n\nAs tables in a query: `SELECT * FROM s3_hogs('media', '2026-03-01', '2026-03-31')`.\n"


def describe_tables() -> str:
    """Each table, view and function with its columns: name, Postgres type, meaning."""
    tables = (s3_log_record, s3_log_key, s3_rejected_line, s3_logged_bucket, s3_archived_day, tamarin_database)
    rollups = (*ROLLUPS, traffic_day, traffic_fold, traffic_pending_day, traffic_part)
    dimensions = (*DIMENSIONS, dimension_day)
    views = (s3_duplicate_record, s3_delivery_lateness, *ANSWERS, *COST_VIEWS)
    parts = (
        *((_HEAD, tables), (_ROLLUPS, rollups), (_DIMENSIONS, dimensions)),
        *((_VIEWS, views), (_FUNCTIONS, FUNCTIONS)),
    )
    return "\n".join(text for head, described in parts for text in (head, *map(_described, described)))


def _described(table: sa.Table) -> str:
    rows = [f"| `{c.name}` | {_type_of(c)} | {_meaning(c)} |" for c in table.columns]
    call = f"`{table.name}({table.info['arguments']})`\n" if table.info else None
    head = [f"## {table.name}\n", *filter(None, [call]), f"{table.comment}\n"]
    return "\n".join([*head, "| column | type | |", "|---|---|---|", *rows, ""])


def _type_of(column: sa.Column[object]) -> str:
    name = column.type.compile(dialect=postgresql.dialect()).lower()  # type: ignore[no-untyped-call]
    return name.replace("timestamp with time zone", "timestamptz").split(" collate")[0]


def _meaning(column: sa.Column[object]) -> str:
    return (column.comment or "").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(describe_tables())
