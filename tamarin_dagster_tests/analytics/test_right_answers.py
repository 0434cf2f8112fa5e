"""Answers of a load, a roll-up and the views for lines whose meaning is easily mistaken."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from tamarin_dagster.analytics.consumers import ConsumerKind, find_largest_consumers
from tamarin_dagster.analytics.prices import price, read_prices
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.analytics.report.queries import ask_all
from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster_tests.recordstore.log_keys import load_keys, log_key

OWNER = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
ANNA = "arn:aws:iam::123456789012:user/anna"
ANONYMOUS_ID = "65a011a29cdf8ec533ec3d1ccaae921c"
JUNE, NOVEMBER = datetime(2026, 6, 1, 10, tzinfo=UTC), datetime(2026, 11, 26, 9, tzinfo=UTC)
PRICES = """
as_of: 2026-09-01
default_region: us-east-1
regions:
  us-east-1:
    {put_requests: 5, get_requests: 0.4, internet_gb: {0: 0}, interregion_gb: 0%s}
"""
TRANSITIONS = ", ia_transitions: 10, gir_transitions: 20, glacier_transitions: 30, deep_archive_transitions: 50"


def line(time: datetime, operation: str, key: str, **fields: object) -> bytes:
    """A line of S3: its own action without address, request or status; otherwise a request that succeeded."""
    is_own = operation.startswith("S3.")
    given = {"ip": "-" if is_own else "203.0.113.5", "requester": "AmazonS3" if is_own else ANNA, "error": "-"}
    given |= {"status": "-" if is_own else 200, "sent": "-", "size": 1000, "id": "3E57427F33A59F07"} | fields
    uri = '"-"' if is_own else "-" if operation.endswith("_GET") else f'"GET /{key} HTTP/1.1"'
    return (
        f"{OWNER} media [{time:%d/%b/%Y:%H:%M:%S +0000}] {given['ip']} {given['requester']} {given['id']} {operation}"
        f" {key} {uri} {given['status']} {given['error']} {given['sent']} {given['size']} 7 6"
        f' "-" "curl/8" - {"h" * 20}= SigV4 TLS_AES_128_GCM_SHA256 AuthHeader media.s3.amazonaws.com TLSv1.3 - - -\n'
    ).encode()


@pytest.fixture
def answer(engine: sa.Engine, rows: Callable[..., list[tuple[Any, ...]]]) -> Callable[..., Any]:
    """answer(lines, query, …): the answer after these lines are loaded and rolled up."""

    def answer(lines: list[bytes], query: str, **values: object) -> list[tuple[Any, ...]]:
        load_keys(engine, [log_key("a")], [b"".join(lines)])
        roll_up(engine)
        return rows(query, **values)

    return answer


def test_an_object_that_is_only_copied_is_read(answer, rows) -> None:
    lines = [
        line(JUNE, "REST.PUT.OBJECT", "master/film.mov", size=5 * 10**9),
        line(NOVEMBER, "REST.COPY.OBJECT_GET", "master/film.mov", size=5 * 10**9),
        line(NOVEMBER, "REST.COPY.PART_GET", "master/film.mov", status=206, size=5 * 10**9),
    ]
    assert answer(lines, "SELECT key FROM s3_cold_objects('media', 90, '2026-11-27')") == []
    query = "SELECT last_read, last_written FROM s3_cold_objects('media', 90, '2027-11-27')"
    assert rows(query) == [(NOVEMBER.date(), JUNE.date())]
    query = "SELECT sum(requests) FROM traffic_hourly WHERE operation_class = 'read'"
    assert rows(query) == [(2,)]
    assert rows("SELECT count(*) FROM s3_download") == [(0,)], "nobody downloaded it"


def test_an_expiry_deletes_the_object_that_requests_spell_in_another_way(answer, rows) -> None:
    lines = [
        line(JUNE, "REST.PUT.OBJECT", "date_%253D2021/a+b.txt"),
        line(JUNE, "REST.PUT.OBJECT", "b%2526c.txt"),
        line(NOVEMBER, "S3.EXPIRE.OBJECT", "date_%3D2021/a+b.txt"),
        line(NOVEMBER, "BATCH.DELETE.OBJECT", "b%26c.txt", status=204),
    ]
    assert answer(lines, "SELECT key FROM s3_cold_objects('media', 90, '2027-11-27')") == []
    query = "SELECT key, change FROM s3_change ORDER BY key, request_dtime"
    assert rows(query) == [
        ("b%2526c.txt", "write"),
        ("b%2526c.txt", "delete"),
        ("date_%253D2021/a+b.txt", "write"),
        ("date_%253D2021/a+b.txt", "expire"),
    ]
    query = "SELECT key FROM s3_log_record WHERE operation IN ('S3.EXPIRE.OBJECT', 'BATCH.DELETE.OBJECT') ORDER BY 1"
    assert rows(query) == [("b%26c.txt",), ("date_%3D2021/a+b.txt",)], "records keep the logged spelling"


@pytest.mark.parametrize(
    ("operation", "usd"),
    [
        ("S3.TRANSITION_SIA.OBJECT", 10),
        ("S3.TRANSITION_ZIA.OBJECT", 10),
        ("S3.TRANSITION_INT.OBJECT", 10),
        ("S3.TRANSITION_GIR.OBJECT", 20),
        ("S3.TRANSITION.OBJECT", 30),
        ("S3.TRANSITION_GDA.OBJECT", 50),
        ("S3.EXPIRE.OBJECT", 0),
    ],
)
def test_a_transition_costs_what_its_target_class_does(answer, engine, rows, tmp_path, operation, usd) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES % TRANSITIONS)
    answer([line(JUNE, operation, f"cold/{number}") for number in range(5)], "SELECT 1")
    price(engine, read_prices(path))
    query = "SELECT requests, estimated_requests_usd, unpriced_requests FROM s3_cost_daily"
    assert rows(query) == [(5, Decimal(5 * usd) / 1000, 0)]


def test_transitions_without_a_price_are_left_out_of_the_estimate_and_counted(answer, engine, rows, tmp_path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES % "")
    lines = [line(JUNE, "S3.TRANSITION_GDA.OBJECT", f"cold/{number}") for number in range(5)]
    answer([*lines, line(JUNE, "REST.PUT.OBJECT", "a")], "SELECT 1")
    price(engine, read_prices(path))
    query = "SELECT requests, estimated_requests_usd, unpriced_requests FROM s3_cost_daily"
    assert rows(query) == [(6, Decimal("0.005"), 5)]


def test_a_copy_is_two_records_and_one_billed_request(answer, engine, rows, tmp_path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES % TRANSITIONS)
    answer([line(JUNE, "REST.COPY.OBJECT_GET", "src"), line(JUNE, "REST.COPY.OBJECT", "dst")], "SELECT 1")
    price(engine, read_prices(path))
    query = "SELECT sum(requests), sum(put_requests), sum(unbilled_requests) FROM traffic_daily_by_requester"
    assert rows(query) == [(2, 1, 1)]
    assert rows("SELECT estimated_requests_usd FROM s3_cost_daily") == [(Decimal("0.005"),)]


@pytest.mark.parametrize("requester", ["-", ANONYMOUS_ID, "Anonymous", "anonymous", "ANONYMOUS"])
def test_who_is_not_authenticated_is_no_requester(answer, engine, rows, requester) -> None:
    public = line(JUNE, "REST.GET.OBJECT", "pub.jpg", requester=requester, sent=10**9)
    public = public.replace(b"SigV4", b"-").replace(b"AuthHeader", b"-")
    refused = line(JUNE, "REST.GET.OBJECT", "p", requester=requester, status=403, error="AccessDenied", sent=243)
    refused = refused.replace(b"SigV4", b"-").replace(b"AuthHeader", b"-")
    lines = [public, refused, line(JUNE, "REST.PUT.OBJECT", "a", sent=7)]
    found = answer(lines, "SELECT sum(requests), sum(refused_requests) FROM s3_anonymous_access")
    assert found == [(2, 1)]
    assert rows("SELECT consumer FROM s3_hogs('media', '2026-06-01', '2026-06-01') WHERE kind = 'requester'") == [
        (ANNA,)
    ]
    assert rows("SELECT sum(unbilled_requests) FROM traffic_daily_by_requester WHERE requester IS NULL") == [(1,)]
    with engine.connect() as connection:
        day = date(2026, 6, 1)
        found = find_largest_consumers(connection, "media", ConsumerKind.requester, day, day)
    assert [each.name for each in found.largest] == [ANNA]
    report = ask_all(engine, "media", Month(2026, 6), now=NOVEMBER)
    assert [each.name for each in report.requesters.largest] == [ANNA]
    assert (report.requesters.nobody.requests, report.requesters.nobody.bytes_sent) == (2, 10**9 + 243)


def test_a_completion_that_fails_with_200_is_an_error(answer, rows) -> None:
    lines = [
        line(JUNE, "REST.POST.UPLOAD", "a", status=200, error="InternalError"),
        line(JUNE, "REST.POST.UPLOAD", "b", status=200),
    ]
    assert answer(lines, "SELECT key, http_status, requests FROM s3_error") == [("a", 200, 1)]
    assert rows("SELECT key, error_count FROM traffic_daily_by_key ORDER BY key") == [("a", 1), ("b", 0)]
    assert rows("SELECT key FROM s3_change") == [("b",)]


def test_a_referrer_may_name_an_ipv6_host(answer) -> None:
    with_referrer = line(JUNE, "REST.GET.OBJECT", "a", sent=5).replace(
        b' "-" "curl', b' "http://[2001:DB8::1]:80/x?y" "curl'
    )
    assert answer([with_referrer], "SELECT referrer_host, bytes_sent FROM s3_hotlink") == [("[2001:db8::1]", 5)]


def test_the_report_and_hogs_give_the_same_times_the_median(answer, engine, rows) -> None:
    lines = [
        line(JUNE, "REST.GET.OBJECT", "a", ip=f"198.51.100.{number}", sent=1000 * number, requester="-")
        for number in range(1, 7)
    ]
    query = "SELECT consumer, times_median FROM s3_hogs('media', '2026-06-01', '2026-06-01') ORDER BY 2 DESC LIMIT 1"
    assert answer(lines, query) == [("198.51.100.6", pytest.approx(6000 / 3500))]
    addresses = ask_all(engine, "media", Month(2026, 6), now=NOVEMBER).addresses
    assert addresses.compare_with_median(addresses.largest[0]) == pytest.approx(6000 / 3500)
    with engine.connect() as connection:
        day = date(2026, 6, 1)
        found = find_largest_consumers(connection, "media", ConsumerKind.ip, day, day)
    assert found.largest[0].times_median == pytest.approx(6000 / 3500)
