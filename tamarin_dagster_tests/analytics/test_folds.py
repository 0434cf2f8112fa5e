"""Folded rows: views, report and commands keep their traffic, and name none of their values."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from tamarin_dagster.analytics.agents import _find_unknown
from tamarin_dagster.analytics.consumers import ConsumerKind, find_largest_consumers, find_unseen
from tamarin_dagster.analytics.folds import Fold, find_folds
from tamarin_dagster.analytics.networks import _find_unknown as unknown_addresses_of
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.analytics.report.queries import ask_all
from tamarin_dagster.analytics.rise_reasons import Measure, find_reasons
from tamarin_dagster.analytics.unseen_days import UnseenDay
from tamarin_dagster.recordstore.schema.tables import metadata
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_fold
from tamarin_dagster_tests.analytics.traffic_rows import DAY, Traffic, daily_row

FIRST, LAST = date(2026, 3, 4), date(2026, 3, 5)
MARCH = Month(2026, 3)
NOW = datetime(2026, 4, 5, tzinfo=UTC)


def fold(traffic: Traffic, dimension: str, day: date, parent: str, values: int, bytes_sent: int, missing: int) -> None:
    """A folded row, and the day's row of traffic_fold."""
    row = daily_row(dimension, day, parent, bytes_sent) | {dimension: parent, "folded_values": values}
    traffic.insert(metadata.tables[f"traffic_daily_by_{dimension}"], [row])
    traffic.insert(
        traffic_fold,
        [
            {
                "request_date": day,
                "dimension": dimension,
                "folded_values": values,
                "requests": bytes_sent // 1000,
                "bytes_sent": bytes_sent,
                "missing_requests": 1,
                "missing_bytes": missing,
            }
        ],
    )


@pytest.fixture
def folded(traffic: Traffic) -> Traffic:
    """Two days; on the second one 500 addresses, keys, agents and referrers have no rows of their own."""
    traffic.days(FIRST, LAST)
    for day in (FIRST, LAST):
        traffic.daily("remote_ip", day, **{"192.0.2.1": 40_000, "192.0.2.2": 5000, "2001:db8::1": 5000})
        traffic.daily("key", day, **{"films/a": 30_000})
        traffic.daily("user_agent", day, **{"curl/8": 30_000, "Mozilla": 1000})
        traffic.daily("referrer", day, **{"https://own.example/a": 9000})
    fold(traffic, "remote_ip", LAST, "198.51.100.0/24", 500, 100_000, 300)
    fold(traffic, "key", LAST, "films/", 500, 50_000, 400)
    fold(traffic, "user_agent", LAST, "Mozilla", 500, 60_000, 500)
    fold(traffic, "referrer", LAST, "https://thief.example/", 500, 7000, 600)
    return traffic


def test_folded_values_are_reported_by_dimension(folded, connection) -> None:
    found = find_folds(connection, folded.bucket, FIRST, LAST)
    assert found["remote_ip"] == Fold("remote_ip", 1, 500, 100, 100_000, 300)
    assert set(found) == {"remote_ip", "key", "user_agent", "referrer"}
    assert find_folds(connection, folded.bucket, FIRST, FIRST) == {}
    assert str(found["key"]) == (
        "On 1 day with too many object keys, 500 object keys have no rows of their own in the rollups (50 requests)."
    )
    assert "1 IP address has no row of its own" in str(replace(found["remote_ip"], values=1))


def test_a_folded_network_is_no_consumer_and_its_bytes_are_in_the_whole(folded, connection) -> None:
    found = find_largest_consumers(connection, folded.bucket, ConsumerKind.ip, FIRST, LAST)
    assert [(each.name, each.bytes_sent, each.times_median) for each in found.largest] == [
        ("192.0.2.1", 80_000, None),
        ("192.0.2.2", 10_000, None),
        ("2001:db8::1", 10_000, None),
    ]
    assert (found.count, found.bytes_sent, found.median_bytes) == (3, 200_000, None)
    assert found.largest[0].share == 0.4
    assert found.fold == Fold("remote_ip", 1, 500, 100, 100_000, 300)
    assert find_unseen(connection, folded.bucket, ConsumerKind.ip, ["198.51.100.0"], FIRST, LAST) == {"198.51.100.0"}

    whole = find_largest_consumers(connection, folded.bucket, ConsumerKind.ip, FIRST, FIRST)
    assert (whole.median_bytes, whole.fold, whole.largest[0].times_median) == (5000, None, 8)


def test_the_function_has_the_same_consumers(folded, connection) -> None:
    query = sa.text(
        "SELECT consumer, bytes_sent, byte_share, times_median, times_mean, missing_bytes"
        " FROM s3_hogs(:bucket, :first, :last) WHERE kind = 'remote_ip' ORDER BY bytes_sent DESC, consumer"
    )
    rows = connection.execute(query, {"bucket": folded.bucket, "first": FIRST, "last": LAST}).all()
    assert rows == [
        ("192.0.2.1", 80_000, 0.4, None, None, 300),
        ("192.0.2.2", 10_000, 0.05, None, None, 300),
        ("2001:db8::1", 10_000, 0.05, None, None, 300),
    ]
    rows = connection.execute(query, {"bucket": folded.bucket, "first": FIRST, "last": FIRST}).all()
    assert rows[0] == ("192.0.2.1", 40_000, 0.8, 8, 2.4, 0)


def test_the_costs_of_a_day_add_up_and_say_which_rows_are_folded(folded, connection) -> None:
    rows = connection.execute(
        sa.text(
            "SELECT key, bytes_sent, folded_values FROM s3_cost_by_key"
            " WHERE bucket = :bucket AND request_date = :day ORDER BY key"
        ),
        {"bucket": folded.bucket, "day": LAST},
    ).all()
    assert rows == [("films/", 50_000, 500), ("films/a", 30_000, None)]
    rows = connection.execute(
        sa.text("SELECT prefix, bytes_sent FROM s3_cost_by_prefix WHERE bucket = :bucket AND request_date = :day"),
        {"bucket": folded.bucket, "day": LAST},
    ).all()
    assert rows == [("films/", 80_000)]
    rows = connection.execute(
        sa.text(
            "SELECT referrer_host, referrers, folded_values FROM s3_hotlink"
            " WHERE bucket = :bucket AND request_date = :day ORDER BY 1"
        ),
        {"bucket": folded.bucket, "day": LAST},
    ).all()
    assert rows == [("own.example", 1, None), ("thief.example", 500, 500)]


def test_a_folded_agent_has_no_kind_though_an_agent_has_its_name(folded, connection) -> None:
    connection.execute(sa.text("INSERT INTO user_agent_kind VALUES ('Mozilla', 'browser', 'Firefox', '1', now())"))
    rows = connection.execute(
        sa.text(
            "SELECT kind, name, user_agents, bytes_sent, folded_values FROM s3_bot_traffic"
            " WHERE bucket = :bucket AND request_date = :day ORDER BY bytes_sent"
        ),
        {"bucket": folded.bucket, "day": LAST},
    ).all()
    assert rows == [("browser", "Firefox", 1, 1000, None), ("unknown", None, 501, 90_000, 500)]


def test_look_ups_skip_folded_rows(folded, connection) -> None:
    day = UnseenDay(folded.bucket, LAST, datetime.now(UTC))
    assert sorted(connection.scalars(_find_unknown(day))) == ["Mozilla", "curl/8"]
    assert "198.51.100.0" not in set(connection.scalars(unknown_addresses_of(day)))


def test_a_folded_row_is_no_reason_of_a_rise(folded, connection) -> None:
    found = find_reasons(connection, folded.bucket, Measure.BYTES, LAST, [LAST - DAY])
    assert {each.name for each in found} == set(), "nobody brought more than the day before"


def test_cold_objects_say_how_far_back_they_are_exact(folded, connection) -> None:
    connection.execute(
        sa.text("UPDATE traffic_daily_by_key SET object_size = 7, reads = 1 WHERE folded_values IS NULL")
    )
    query = sa.text("SELECT key, last_read, last_folded FROM s3_cold_objects(:bucket, 90, :as_of)")
    rows = connection.execute(query, {"bucket": folded.bucket, "as_of": date(2026, 9, 1)}).all()
    assert rows == [("films/a", LAST, LAST)]
    connection.execute(sa.text("DELETE FROM traffic_fold"))
    rows = connection.execute(query, {"bucket": folded.bucket, "as_of": date(2026, 9, 1)}).all()
    assert rows == [("films/a", LAST, None)]


def test_the_report_lists_no_folded_row_and_says_what_is_folded(folded) -> None:
    report = ask_all(folded.engine, folded.bucket, MARCH, now=NOW)
    assert [each.key for each in report.files.largest] == ["films/a"]
    assert [each.name for each in report.addresses.largest] == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
    assert (report.addresses.median_bytes, report.addresses.compare_with_median(report.addresses.largest[0])) == (
        None,
        None,
    )
    assert [(each.name, each.traffic.bytes_sent) for each in report.agents.largest] == [
        ("curl/8", 60_000),
        ("Mozilla", 2000),
    ]
    assert {each.site: each.traffic.bytes_sent for each in report.referrers} == {
        "own.example": 18_000,
        "thief.example": 7000,
    }
    assert report.folds["key"].values == 500
