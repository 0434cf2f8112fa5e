"""A report shows the rollups of its bucket and month, and nothing else."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from tamarin_dagster.analytics.report import Month, evidence, write_report
from tamarin_dagster.analytics.report.figures import Before, DayLatency, File, Traffic
from tamarin_dagster.analytics.report.pseudonyms import make_pseudonyms
from tamarin_dagster.analytics.report.queries import ask_all
from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.recordstore.schema.traffic_tables import (
    traffic_daily_by_key,
    traffic_daily_by_referrer,
    traffic_daily_by_remote_ip,
    traffic_daily_by_requester,
    traffic_daily_by_user_agent,
    traffic_hourly,
)
from tamarin_dagster_tests.analytics.report.months import fill_dimensions, insert, price
from tamarin_dagster_tests.lines import line

MARCH = Month(2026, 3)
DAY = date(2026, 3, 31)
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def hour(*at: int, kind: str = "read", status: int | None = 2, **values: int) -> dict[str, object]:
    return {
        "bucket": "media",
        "hour": datetime(*at, tzinfo=UTC),
        "operation_class": kind,
        "status_class": status,
        **values,
    }


def put(engine: sa.Engine, table: sa.Table, *rows: dict[str, object]) -> None:
    with engine.begin() as connection:
        insert(connection, table, [{"bucket": "media", "request_date": DAY} | row for row in rows])


def hours(engine: sa.Engine, *rows: dict[str, object]) -> None:
    with engine.begin() as connection:
        insert(connection, traffic_hourly, rows)


def test_a_month_has_its_first_and_its_last_hour_and_no_other_bucket(engine) -> None:
    hours(
        engine,
        hour(2026, 2, 28, 23, requests=1),
        hour(2026, 3, 1, 0, requests=2, bytes_sent=20),
        hour(2026, 3, 31, 23, requests=4, bytes_sent=40, error_count=4, status=4, kind="write"),
        hour(2026, 4, 1, 0, requests=8),
        hour(2026, 3, 9, 5, requests=16) | {"bucket": "other"},
    )
    with engine.begin() as connection:  # a session's own time zone moves no day
        connection.execute(sa.text(f"ALTER DATABASE \"{engine.url.database}\" SET timezone = 'America/New_York'"))
    engine.dispose()

    report = ask_all(engine, "media", MARCH, now=NOW)

    found = [(each.day, each.operation_class, each.status_class, each.traffic) for each in report.days]
    assert found == [
        (date(2026, 3, 1), "read", 2, Traffic(2, 20, 0)),
        (date(2026, 3, 31), "write", 4, Traffic(4, 40, 4)),
    ]
    assert [(each.weekday, each.hour, each.requests) for each in report.hours] == [(2, 23, 4.0), (7, 0, 2.0)]
    assert report.before == Before(Month(2026, 2), Traffic(1, 0, 0), is_part=False)
    assert report.traffic == Traffic(6, 60, 4)


def test_a_month_that_goes_on_is_held_against_as_much_of_the_one_before(engine) -> None:
    hours(
        engine,
        hour(2026, 3, 2, 7, requests=1),
        hour(2026, 3, 2, 8, requests=2),
        hour(2026, 4, 2, 7, requests=4),
    )
    going_on = ask_all(engine, "media", Month(2026, 4), now=datetime(2026, 4, 2, 9, tzinfo=UTC)).before
    over = ask_all(engine, "media", Month(2026, 4), now=NOW).before

    assert (going_on.traffic.requests, going_on.is_part) == (1, True)
    assert (over.traffic.requests, over.is_part) == (3, False)


def test_an_hour_of_the_week_is_the_average_of_the_days_with_records(engine) -> None:
    hours(
        engine,
        hour(2026, 3, 2, 7, requests=10, bytes_sent=100),
        hour(2026, 3, 9, 7, requests=20, bytes_sent=0),
        hour(2026, 3, 9, 8, requests=5, status=4),
        hour(2026, 3, 9, 8, requests=3),
    )
    found = ask_all(engine, "media", MARCH, now=NOW).hours
    assert [(each.weekday, each.hour, each.requests, each.bytes_sent) for each in found] == [
        (1, 7, 15.0, 50.0),
        (1, 8, 4.0, 0.0),
    ]


def test_a_day_took_as_long_as_the_middle_one_of_its_hours(engine) -> None:
    rows = [
        hour(2026, 3, 2, at, requests=1, p50_total_time=p50, p95_total_time=p95)
        for at, p50, p95 in ((1, 10, 900), (2, 20, 100), (3, 90, 200))
    ]
    failed = hour(2026, 3, 2, 4, requests=1, status=4, p50_total_time=1, p95_total_time=1)
    hours(engine, *rows, failed)
    hours(engine, hour(2026, 3, 3, 4, requests=1))
    assert ask_all(engine, "media", MARCH, now=NOW).latencies == (DayLatency(date(2026, 3, 2), 20, 200),)


def test_files_are_listed_by_their_bytes_their_errors_and_their_size(engine) -> None:
    at = {"requests": 3, "bytes_sent": 30, "object_size": 16 * 1024}
    put(
        engine,
        traffic_daily_by_key,
        {"key": "a", **at, "put_requests": 1, "unbilled_requests": 1, "unbilled_bytes": 10, "interregion_bytes": 5},
        {"key": "a", **at, "request_date": MARCH.first, "object_size": 16 * 1024 - 1},
        {"key": "b", "requests": 9, "bytes_sent": 9, "error_count": 9, "object_size": None},
        {"key": None, "requests": 50, "bytes_sent": 500, "object_size": None},
        {"key": "c", "requests": 1, "bytes_sent": 61, "request_date": date(2026, 4, 1), "object_size": 1},
        *({"key": f"n{number}", "requests": 1, "bytes_sent": 1, "object_size": 5} for number in range(30)),
    )
    with engine.begin() as connection:
        price(connection, "media", MARCH)

    files = ask_all(engine, "media", MARCH, now=NOW).files

    assert files.count == 32
    # a PUT, 4 GETs, 45 bytes to the internet, 5 to other regions
    dollars = 0.0000054 + 4 * 0.00000043 + 45 * 8.38e-11 + 5 * 1.86e-11
    assert files.largest[0] == File("a", Traffic(6, 60, 0), 16 * 1024, pytest.approx(dollars))
    assert files.largest[1].key == "b"
    assert len(files.largest) == 20
    assert [(each.key, each.traffic.error_count) for each in files.failing] == [("b", 9)]
    assert [
        (each.min_bytes, each.below, each.files, each.traffic.bytes_sent) for each in files.sizes if each.files
    ] == [
        (0, 16 * 1024, 30, 30),
        (16 * 1024, 128 * 1024, 1, 60),
    ]


def test_consumers_are_held_against_the_median_and_addresses_have_other_names_if_wanted(engine) -> None:
    rows = ({"remote_ip": f"192.0.2.{number}", "requests": 1, "bytes_sent": number} for number in range(1, 26))
    put(engine, traffic_daily_by_remote_ip, *rows, {"remote_ip": None, "requests": 7, "bytes_sent": 7000})
    put(
        engine,
        traffic_daily_by_requester,
        {"requester": None, "requests": 2, "bytes_sent": 400},
        {"requester": "anna", "requests": 1, "bytes_sent": 100},
    )
    name = make_pseudonyms(b"sixteen bytes ok")

    found = ask_all(engine, "media", MARCH, now=NOW)
    other = ask_all(engine, "media", MARCH, now=NOW, name_of=name)

    assert (found.addresses.count, found.addresses.median_bytes, len(found.addresses.largest)) == (25, 13, 20)
    first = found.addresses.largest[0]
    assert (first.name, found.addresses.compare_with_median(first)) == ("192.0.2.25", 25 / 13)
    assert [each.name for each in found.requesters.largest] == ["anna"], "who is not authenticated is no requester"
    assert (found.requesters.count, found.requesters.median_bytes) == (1, 100)
    assert [each.name for each in other.addresses.largest] == [name(each.name) for each in found.addresses.largest]
    assert (found.anonymous, other.anonymous) == (False, True)


def test_referrers_are_listed_by_their_site(engine) -> None:
    referrers = {
        "https://www.Example.org/a": 1,
        "http://www.example.org:8080": 2,
        "https://anna:secret@www.example.org/": 4,
        "https://[2001:db8::1]:443/x": 8,
        "javascript:alert(1)": 16,
        "https://": 32,
        "": 64,
        None: 128,
        "https://other.example?x=/": 256,
    }
    rows = ({"referrer": each, "requests": 1, "bytes_sent": sent} for each, sent in referrers.items())
    put(engine, traffic_daily_by_referrer, *rows)

    found = ask_all(engine, "media", MARCH, now=NOW).referrers

    assert {each.site: each.traffic.bytes_sent for each in found} == {
        "www.example.org": 7,
        "[2001:db8::1]": 8,
        "": 112,
        None: 128,
        "other.example": 256,
    }


def test_user_agents_have_kinds_as_far_as_these_are_known(engine) -> None:
    agents = {"curl/8.9.1": 1, "python-requests/2.32.3": 2, "something/1": 4, None: 8}
    rows = ({"user_agent": each, "requests": 1, "bytes_sent": sent} for each, sent in agents.items())
    put(engine, traffic_daily_by_user_agent, *rows)
    unknown = ask_all(engine, "media", MARCH, now=NOW).agents
    with engine.begin() as connection:
        fill_dimensions(connection, "media", MARCH)

    known = ask_all(engine, "media", MARCH, now=NOW).agents

    assert unknown.kinds == ()
    assert [(each.name, each.kind) for each in unknown.largest] == [
        *((None, None), ("something/1", None)),
        *(("python-requests/2.32.3", None), ("curl/8.9.1", None)),
    ]
    assert known.kinds == (("unknown", Traffic(2, 12, 0)), ("library/CLI", Traffic(2, 3, 0)))
    assert known.largest[2].kind == "library/CLI"


def test_the_cost_is_that_of_the_view(engine) -> None:
    billed = {"put_requests": 3, "unbilled_requests": 2, "unbilled_bytes": 10**8, "interregion_bytes": 10**7}
    put(
        engine,
        traffic_daily_by_requester,
        {"requester": "anna", "requests": 10, "bytes_sent": 10**10, **billed},
        {"requester": None, "requests": 10**6, "bytes_sent": 10**12, "request_date": MARCH.first},
    )
    assert ask_all(engine, "media", MARCH, now=NOW).cost is None
    with engine.begin() as connection:
        price(connection, "media", MARCH)
        query = sa.text("SELECT sum(estimated_usd) FROM s3_cost_daily WHERE request_date >= '2026-03-01'")
        expected = connection.scalar(query)

    cost = ask_all(engine, "media", MARCH, now=NOW).cost

    assert isinstance(expected, Decimal)
    assert cost.dollars == pytest.approx(float(expected), rel=1e-9)
    assert [amount for _, amount, _ in cost.parts] == [10**12 + 10**10 - 10**8 - 10**7, 10**7, 10**6 + 5, 3]
    assert (cost.prices.region, cost.prices.price_date) == ("eu-central-1", date(2026, 9, 1))


@pytest.fixture
def loaded(engine, folder_bucket, folder_place, put_key) -> None:
    """Load records of two days of March: some are late, some are delivered twice, some lines are no records."""
    early, late = line("30/Mar/2026:10:00:00 +0000"), line("31/Mar/2026:22:00:00 +0000", request_id="B" * 16)
    put_key(early + line("30/Mar/2026:10:00:00 +0000", request_id="A" * 16), day="2026-03-30", time="10-30-00")
    put_key(early + b"no record\n" * 3, day="2026-03-31", time="10-00-00")
    put_key(late, day="2026-04-01", time="00-00-01")
    pull_bucket(folder_bucket, folder_place.store, engine)
    roll_up(engine)


def test_the_completeness_of_the_records_is_reported(engine, loaded, rows) -> None:
    found = ask_all(engine, "media", MARCH, now=NOW).completeness

    assert (found.days, found.rolled_up_days, found.log_keys, found.rejected_lines) == (31, 2, 2, 3)
    assert (found.measured_from, found.duplicate_records) == (date(2026, 3, 30), 1)
    assert found.lateness.median == timedelta(minutes=30)
    assert (found.pending_days, found.open_days, found.is_complete) == ((), (), False)

    soon = ask_all(engine, "media", MARCH, now=datetime(2026, 4, 1, 12, tzinfo=UTC)).completeness
    assert soon.open_days == (date(2026, 3, 31),)

    rows(
        "INSERT INTO traffic_pending_day VALUES ('media', '2026-03-30'), ('other', '2026-03-29'), (NULL, '2026-03-31')"
    )
    again = ask_all(engine, "media", MARCH, now=NOW).completeness
    assert again.pending_days == (date(2026, 3, 30), date(2026, 3, 31))


def test_no_more_records_are_read_than_a_person_waits_for(engine, loaded, rows, monkeypatch) -> None:
    monkeypatch.setattr(evidence, "MEASURED_RECORDS", 3)
    newest = ask_all(engine, "media", MARCH, now=NOW).completeness
    assert (newest.measured_from, newest.duplicate_records) == (date(2026, 3, 31), 0)

    monkeypatch.setattr(evidence, "MEASURED_RECORDS", 0)
    none = ask_all(engine, "media", MARCH, now=NOW).completeness
    assert (none.measured_from, none.duplicate_records, none.lateness) == (None, None, None)

    monkeypatch.setattr(evidence, "MEASURED_RECORDS", 100)
    rows("UPDATE traffic_day SET expired_at = now() WHERE request_date = '2026-03-30'")
    assert ask_all(engine, "media", MARCH, now=NOW).completeness.measured_from == date(2026, 3, 31)


def test_a_report_is_written_in_one_piece_and_in_the_place_of_the_last(engine, loaded, tmp_path) -> None:
    path = tmp_path / "new folder" / "media.html"
    first = write_report(engine, "media", MARCH, path, now=NOW)
    text = path.read_text("utf-8")
    assert first.bytes == path.stat().st_size
    assert "192.0.2.3" in text
    assert "video/intro.mp4" in text

    write_report(engine, "media", MARCH, path, now=NOW, anonymize_ips=True)
    assert "192.0.2.3" not in path.read_text("utf-8")
    assert [each.name for each in path.parent.iterdir()] == ["media.html"]
