"""Answers before the first ANALYZE of a rollup, when the planner expects one row and finds thousands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from tamarin_dagster.analytics.anomalies import find_bandwidth_spikes, find_new_top_consumers, top_talkers
from tamarin_dagster.analytics.consumers import ConsumerKind, find_largest_consumers
from tamarin_dagster.analytics.report import Month
from tamarin_dagster.analytics.report.queries import ask_all
from tamarin_dagster.recordstore.schema.traffic_tables import ROLLUPS, traffic_hourly

VALUES = 1500
DAY = date(2026, 3, 5)
NOW = datetime(2026, 3, 6, 12, tzinfo=UTC)
_OF_NUMBER = {
    "key": "'a/' || n || '.jpg'",
    "remote_ip": "inet '198.18.0.0' + n",
    "requester": "'arn:aws:iam::123456789012:user/u' || n",
    "referrer": "'https://site-' || n || '.example.org/'",
    "user_agent": "'client-' || n || '/1.0'",
}
# Views over days of rollups; s3_cold_objects asks by an index for each key.
QUERIES = (
    "SELECT * FROM s3_hogs('media', '2026-03-01', '2026-03-31')",
    "SELECT * FROM s3_hotlink",
    "SELECT * FROM s3_cost_by_key",
    "SELECT * FROM s3_cost_by_remote_ip",
    "SELECT * FROM s3_cost_by_requester",
    "SELECT * FROM s3_cost_by_referrer",
    "SELECT * FROM s3_cost_by_user_agent",
    "SELECT * FROM s3_cost_by_prefix",
    "SELECT * FROM s3_bot_traffic",
    "SELECT * FROM s3_spike",
    "SELECT * FROM s3_cold_objects('media', 0, '2026-03-31')",
)


@pytest.fixture
def unanalyzed(engine: sa.Engine) -> sa.Engine:
    with engine.begin() as connection:
        for table in ROLLUPS:
            connection.exec_driver_sql(f"ALTER TABLE {table.name} SET (autovacuum_enabled = false)")
            column = table.name.removeprefix("traffic_daily_by_")
            if table is traffic_hourly:
                values = {
                    "hour": f"timestamptz '{DAY} 00:00Z' - n * interval '1 hour'",
                    "operation_class": "'read'",
                    "status_class": "2",
                }
            else:
                values = {"request_date": f"date '{DAY}'", column: _OF_NUMBER[column], "error_count": "1"}
            values |= {"bucket": "'media'", "requests": "n", "bytes_sent": "n * 1000"}
            values |= {"object_size": "n"} if column == "key" else {}
            others = (
                each.name for each in table.columns if not (each.nullable or each.name in values or each.computed)
            )
            values |= dict.fromkeys(others, "0")
            connection.exec_driver_sql(
                f"INSERT INTO {table.name} ({', '.join(values)})"
                f" SELECT {', '.join(values.values())} FROM generate_series(1, {VALUES}) n"
            )
        connection.exec_driver_sql(
            "INSERT INTO traffic_day (bucket, request_date, requests, bytes_sent, seconds, rolled_up_at)"
            f" SELECT 'media', date '{DAY}' - n, 500, 500000, 0.1, now() FROM generate_series(0, 60) n"
        )
    return engine


@contextmanager
def asked(engine: sa.Engine) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that are executed in the body, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def note(_connection, _cursor, statement, parameters, _context, _many) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            statements.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def rows_handled(plan: dict[str, Any]) -> int:
    """Return the maximum number of rows that one node of a plan made or discarded, in all its loops."""
    of_each_loop = sum(
        plan.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    )
    return max([round(of_each_loop * plan["Actual Loops"]), *map(rows_handled, plan.get("Plans", ()))])


def most_rows_of(connection: sa.Connection, statement: str, parameters: Any = ()) -> int:
    explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
    (plan,) = json.loads(explained) if isinstance(explained, str) else explained
    return rows_handled(plan["Plan"])


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.split()[3].split("(")[0])
def test_a_view_does_not_sum_up_everything_for_each_row(unanalyzed, query):
    with unanalyzed.begin() as connection:
        assert VALUES // 2 <= most_rows_of(connection, query) <= 60 * VALUES


def test_a_report_does_not_sum_up_all_consumers_for_each_of_them(unanalyzed):
    """A report of 20,000 addresses took three minutes on the day of their first roll-up."""
    with asked(unanalyzed) as statements:
        report = ask_all(unanalyzed, "media", Month(2026, 3), now=NOW)
    assert report.addresses.count == report.requesters.count == VALUES
    with unanalyzed.begin() as connection:
        most = {statement: most_rows_of(connection, statement, given) for statement, given in statements}
    assert len(most) > 10
    assert VALUES <= max(most.values()) <= 10 * VALUES, max(most, key=lambda statement: most[statement])


def test_anomalies_and_top_talkers_do_not_sum_up_all_consumers_for_each_of_them(unanalyzed):
    with asked(unanalyzed) as statements, unanalyzed.connect() as connection:
        for by in ConsumerKind:
            assert find_largest_consumers(connection, "media", by, DAY, DAY).count == VALUES
        find_new_top_consumers(connection, "media", NOW)
        top_talkers(connection, "media", NOW, 0.1)
        find_bandwidth_spikes(connection, "media", NOW, 6)
    with unanalyzed.begin() as connection:
        most = max(most_rows_of(connection, statement, given) for statement, given in statements)
    assert VALUES <= most <= 10 * VALUES
