"""The views and functions that answer the usual questions, on lines and rollups whose answers are known."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from benchmarks.queries import blocks_of, fill_month, touched
from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.recordstore.database import mirror_buckets
from tamarin_dagster.recordstore.partitions import partition_name
from tamarin_dagster.recordstore.roles import grant_reading
from tamarin_dagster.recordstore.schema.answer_views import ANSWERS, FUNCTIONS
from tamarin_dagster.recordstore.schema.tables import views
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_pending_day
from tamarin_dagster.settings import LoggedBucket
from tamarin_dagster_tests.docs.blocks import blocks_of as blocks_of_page
from tamarin_dagster_tests.lines import HOST_ID, OWNER
from tamarin_dagster_tests.recordstore.log_keys import DAY, load_keys, log_key

Rows = Callable[..., list[tuple[Any, ...]]]

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 6, tzinfo=UTC)
ANNA = "arn:aws:iam::123456789012:user/anna"
# Time zones far from UTC on both sides, and other output styles of times.
ZONES = ("UTC", "Pacific/Auckland", "America/Los_Angeles")


def request(time: datetime, operation: str = "REST.GET.OBJECT", **fields: object) -> bytes:
    """Return a line of S3, with `-` for missing values: key, status, error, sent, size, referrer, agent, …"""
    given = {name: "-" if value is None else value for name, value in fields.items()}
    method = operation.split(".")[1]
    key = given.get("key", "-")
    uri = f'"{method} /{key} HTTP/1.1"' if given.get("ip", "192.0.2.3") != "-" else "-"
    agent, referrer = given.get("agent", "curl/8.5.0"), given.get("referrer", "-")
    return (
        f"{OWNER} {given.get('bucket', 'media')} [{time:%d/%b/%Y:%H:%M:%S +0000}] {given.get('ip', '192.0.2.3')}"
        f" {given.get('requester', '-')} {given.get('id', '3E57427F33A59F07')} {operation} {key} {uri}"
        f" {given.get('status', 200)} {given.get('error', '-')} {given.get('sent', '-')} {given.get('size', '-')} 7 6"
        f' "{referrer}" "{agent}" {given.get("version", "-")} {HOST_ID} {given.get("signature", "-")}'
        f" {given.get('cipher', 'TLS_AES_128_GCM_SHA256')} {given.get('authentication', '-')}"
        f" media.s3.amazonaws.com {given.get('tls', 'TLSv1.3')} - {given.get('acl', '-')} us-east-1\n"
    ).encode()


def after(start: datetime, **units: float) -> datetime:
    return start + timedelta(**units)


def downloads() -> Iterator[bytes]:
    """Return reads of films by 192.0.2.3, unless the arguments differ."""
    # 206 ranges, the last of them a minute before 15:26
    for number in range(206):
        yield request(after(NOON, minutes=number), key="long.mp4", status=206, sent=100, size=20_600)
    # a pause of exactly 30 minutes belongs to the session, one of a second more does not
    for seconds in (0, 1800, 3601):
        yield request(after(NOON, seconds=seconds), key="pause.mp4", status=206, sent=400, size=1000)
    # the same file, second and address, by two agents, one without a name
    for agent in ("curl/8.5.0", "-"):
        yield request(NOON, key="agents.mp4", agent=agent, sent=1000, size=1000)
        yield request(NOON, key="agents.mp4", agent=agent, sent=1000, size=1000)
    # across midnight, up to the next day
    for minutes in (-10, 10, 30):
        yield request(after(MIDNIGHT, minutes=minutes), key="late.mp4", ip="2001:db8::1", status=206, sent=10, size=30)
    # exactly at midnight, 31 minutes after one of the day before
    for minutes in (-31, 0):
        yield request(after(MIDNIGHT, minutes=minutes), key="midnight.mp4", sent=5, size=10)
    yield request(NOON, key="empty.txt", sent=None, size=0)
    yield request(NOON, key="sizeless.txt", sent=7, size=None)
    # no downloads
    yield request(NOON, key="none.txt", status=304, size=10)
    yield request(NOON, key="none.txt", status=404, error="NoSuchKey", sent=300)
    yield request(NOON, key="none.txt", operation="REST.HEAD.OBJECT", size=10)
    yield request(NOON, key="none.txt", operation="REST.PUT.OBJECT", size=10)
    yield request(NOON, key="long.mp4", operation="REST.GET.OBJECT", bucket="other", sent=20_600, size=20_600)


HOSTILE = '<script>alert("1")</script>\';DROP/**/TABLE/**/s3_log_record;--'


def errors() -> Iterator[bytes]:
    day = after(NOON, days=5)
    for number in range(3):
        yield request(
            after(day, seconds=number),
            key=HOSTILE,
            status=404,
            error="NoSuchKey",
            referrer=f"https://a.example/{number % 2}",
            ip=f"192.0.2.{number}",
        )
    yield request(day, key="secret", status=403, error="AccessDenied", agent="-")
    yield request(day, key="fine", status=399)
    yield request(day, operation="REST.GET.BUCKET", status=500, error="InternalError")
    yield request(day.replace(hour=23, minute=59, second=59), key="last", status=404, error="NoSuchKey")
    yield request(after(day, days=1).replace(hour=0), key="next", status=404, error="NoSuchKey")


def changes() -> Iterator[bytes]:
    day = after(NOON, days=10)
    who = {"requester": ANNA, "signature": "SigV4", "authentication": "AuthHeader"}
    yield request(day, "REST.PUT.OBJECT", key="a", size=10, id="01", **who)
    yield request(after(day, seconds=1), "REST.COPY.OBJECT", key="a", size=20, id="02", **who)
    yield request(after(day, seconds=1), "REST.COPY.OBJECT_GET", key="source", id="02", **who)
    yield request(after(day, seconds=2), "REST.POST.UPLOAD", key="b", size=30, id="03", **who)
    yield request(after(day, seconds=3), "REST.DELETE.OBJECT", key="a", status=204, version="v1", id="04", **who)
    yield request(after(day, seconds=4), "REST.POST.MULTI_OBJECT_DELETE", id="05", **who)
    for key in ("b", "c"):
        yield request(after(day, seconds=4), "BATCH.DELETE.OBJECT", key=key, status=204, id="05", **who)
    yield request(after(day, seconds=4), "BATCH.DELETE.OBJECT", key="d", status=403, error="AccessDenied", id="05")
    yield request(after(day, seconds=5), "REST.PUT.OBJECT", key="e", status=403, error="AccessDenied", id="06")
    own = {"ip": None, "status": None, "requester": "AmazonS3", "agent": "-", "tls": None, "cipher": None}
    yield request(after(day, seconds=6), "S3.EXPIRE.OBJECT", key="f", id="07", **own)
    yield request(after(day, seconds=7), "S3.TRANSITION_INT.OBJECT", key="g", id="08", **own)


def accesses() -> Iterator[bytes]:
    day = after(NOON, days=15)
    signed = {"requester": ANNA, "signature": "SigV4", "authentication": "AuthHeader"}
    yield request(day, key="a", sent=5)
    yield request(day, key="b", sent=6, ip="192.0.2.4", requester="Anonymous")
    yield request(day, key="c", status=403, error="AccessDenied", sent=7)
    yield request(
        day, key="d", status=403, error="SignatureDoesNotMatch", signature="SigV4", authentication="AuthHeader"
    )
    yield request(day, "S3.EXPIRE.OBJECT", key="e", ip=None, status=None, requester=None, tls=None, cipher=None)
    for _ in range(2):
        yield request(day, key="f", tls="TLSv1", **signed)
    yield request(day, key="f", tls="TLSV1.1", **signed)
    yield request(day, key="f", tls="TLSv1.2", **signed)
    yield request(day, key="f", tls=None, cipher=None, **signed)
    yield request(day, key="f", tls=None, cipher="ECDHE-RSA-AES128-GCM-SHA256", **signed)
    yield request(day, key="f", acl="Yes", **signed)
    yield request(day, "REST.PUT.OBJECT", key="f", acl="Yes", status=403, error="AccessDenied", **signed)


def hidden() -> Iterator[bytes]:
    """Return a line that contains two more records, one with a record forged into a user agent, and an ordinary one."""
    day = after(NOON, days=7)
    broken = [request(after(day, seconds=number), key="a", id=f"A{number}").rstrip(b"\n") for number in range(3)]
    yield b"\r".join(broken) + b"\n"
    forged = request(day, key="b", ip="203.0.113.9", id="F0").rstrip(b"\n").decode()
    yield request(after(day, minutes=1), key="c", agent=f"curl {forged}")
    yield request(day, key="d")


def spike() -> Iterator[bytes]:
    """Return an hour in which an address reads a file forty times, and one read on each of the seven days before."""
    day = after(NOON, days=24)
    for days in range(1, 9):
        yield request(after(day, days=-days), key="old.mp4", sent=100, referrer="https://own.example/")
    for second in range(40):
        yield request(
            after(day, seconds=second), key="new.mp4", ip="203.0.113.9", sent=1000, referrer="https://thief.example/"
        )
    yield request(after(day, minutes=59), key="old.mp4", sent=100, referrer="https://own.example/")
    yield request(after(day, minutes=60), key="old.mp4", sent=100)


ROLLUPS = """
INSERT INTO traffic_daily_by_referrer (bucket, request_date, referrer, requests, bytes_sent, error_count, put_requests,
    unbilled_requests, unbilled_bytes, interregion_bytes)
SELECT bucket, CAST(day AS date), referrer, requests, bytes, errors, 0, 0, 0, 0
FROM (VALUES
    ('media', '2026-03-05', NULL, 100, 100000, 0),
    ('media', '2026-03-05', 'https://thief.example/a', 3, 300, 1),
    ('media', '2026-03-05', 'http://THIEF.example.:8080/b#x', 4, 400, 0),
    ('media', '2026-03-06', 'https://thief.example/a', 5, 500, 0),
    ('media', '2026-03-05', 'https://www.own.example/', 10, 1000, 0),
    ('media', '2026-03-05', 'https://a.b.below.example/', 10, 1000, 0),
    ('media', '2026-03-05', 'https://below.example/', 1, 10, 0),
    ('media', '2026-03-05', 'https://notbelow.example/', 1, 11, 0),
    ('media', '2026-03-05', 'https://under_score.below.example/', 1, 12, 0),
    ('media', '2026-03-05', 'https://www.own.example@evil.example/', 1, 13, 0),
    ('media', '2026-03-05', 'https://evil.example\\@www.own.example/', 1, 14, 0),
    ('media', '2026-03-05', 'https://media/x', 10, 1000, 0),
    ('media', '2026-03-05', 'https://media.s3.eu-central-1.amazonaws.com/x', 10, 1000, 0),
    ('media', '2026-03-05', 'https://media.s3-website-us-east-1.amazonaws.com/x', 10, 1000, 0),
    ('media', '2026-03-05', 'https://media.s3.thief.example/x', 1, 15, 0),
    ('media', '2026-03-05', '() { :; }; /bin/bash', 1, 16, 0),
    ('media', '2026-03-05', '', 1, 17, 0),
    ('media', '2026-03-05', 'https://<script>/', 1, 18, 0),
    ('other', '2026-03-05', 'https://www.own.example/', 1, 19, 0)
) t (bucket, day, referrer, requests, bytes, errors);

INSERT INTO traffic_daily_by_remote_ip
SELECT bucket, CAST(day AS date), CAST(ip AS inet), requests, bytes, 0, 0, 0, 0, 0
FROM (VALUES
    ('media', '2026-03-05', '192.0.2.1', 1, 100), ('media', '2026-03-06', '192.0.2.1', 1, 100),
    ('media', '2026-03-05', '192.0.2.2', 1, 300),
    ('media', '2026-03-06', '2001:db8::1', 9, 3400),
    ('media', '2026-03-05', NULL, 1, 1000),
    ('media', '2026-03-07', '192.0.2.1', 1, 99999),
    ('other', '2026-03-05', '192.0.2.1', 1, 99999)
) t (bucket, day, ip, requests, bytes);

INSERT INTO traffic_daily_by_requester
SELECT 'media', DATE '2026-03-05', requester, 2, bytes, 0, 0, 0, 0, 0
FROM (VALUES (NULL, 4900), ('anna', 0), ('ben', 0), ('<b>', 100)) t (requester, bytes);

INSERT INTO traffic_daily_by_key
SELECT 'media', CAST(day AS date), key, requests, bytes, 0, 0, 0, 0, 0, requests, 0, 500
FROM (VALUES
    ('2026-03-01', '<b>', 2, 2000), ('2026-03-31', '<b>', 2, 2000), ('2026-03-05', 'a', 2, 1000),
    ('2026-04-01', 'a', 1, 9000), ('2026-02-28', 'a', 1, 9000)
) t (day, key, requests, bytes);

INSERT INTO traffic_daily_by_key
SELECT 'media', CAST(day AS date), key, requests, 0, errors, puts, 0, 0, 0, reads, deletes, size
FROM (VALUES
    ('2025-01-01', 'cold', 5, 0, 0, 5, 0, 900), ('2025-02-01', 'cold', 1, 0, 1, 0, 0, 500),
    ('2025-01-01', 'warm', 5, 0, 0, 5, 0, 900), ('2026-01-01', 'warm', 1, 0, 0, 1, 0, 900),
    ('2025-01-01', 'never read', 1, 0, 1, 0, 0, 70),
    ('2025-01-01', 'deleted', 1, 0, 1, 0, 0, 70), ('2025-01-02', 'deleted', 1, 0, 0, 0, 1, NULL),
    ('2025-01-01', 'temporary', 2, 0, 1, 0, 1, 70),
    ('2025-01-01', 'again', 1, 0, 0, 0, 1, NULL), ('2025-01-02', 'again', 1, 0, 1, 0, 0, 80),
    ('2025-01-01', 'no such key', 9, 9, 0, 0, 0, NULL),
    ('2025-01-01', NULL, 9, 0, 0, 0, 0, NULL),
    ('2025-10-02', '91 days', 1, 0, 0, 1, 0, 9223372036854775807), ('2025-10-03', '90 days', 1, 0, 0, 1, 0, 1)
) t (day, key, requests, errors, puts, reads, deletes, size);

INSERT INTO traffic_day SELECT bucket, '2026-03-05', 1, 1, now(), 1 FROM (VALUES ('media'), ('other')) t (bucket);

-- The hours of 40 days with 15,000 to 15,800 requests of 100 kB; and an hour of the last day with 90,000, another with
-- 20,000.
INSERT INTO traffic_hourly
SELECT 'media', hour, kind, 2, requests, requests * 100000, 0, 1, 2, 3
FROM generate_series(timestamptz '2026-01-01 00:00Z', '2026-02-09 23:00Z', '1 hour') AS hour,
LATERAL (SELECT CASE hour WHEN '2026-02-09 12:00Z' THEN 45000 WHEN '2026-02-09 13:00Z' THEN 10000
                ELSE 7500 + extract(day FROM hour AT TIME ZONE 'UTC') % 5 * 100 END) AS t (requests),
(VALUES ('read'), ('list')) AS k (kind);
-- A small bucket that is asked once a day, and one day 20,000 times.
INSERT INTO traffic_hourly
SELECT 'small', hour, 'read', 2,
    CASE hour WHEN '2026-01-20 09:00Z' THEN 20000 WHEN '2026-01-05 09:00Z' THEN 18000 ELSE 1 END, 5, 0, 1, 2, 3
FROM generate_series(timestamptz '2026-01-01 09:00Z', '2026-01-20 09:00Z', '1 day') AS hour;
INSERT INTO traffic_day
SELECT bucket, day, 1, 1, now(), 1
FROM generate_series(date '2026-01-01', '2026-02-09', '1 day') AS day, (VALUES ('media'), ('small')) AS t (bucket);
"""


@pytest.fixture(scope="module")
def loaded(server_url: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Make a database with all lines above, in six log keys, and with the rollups."""
    name = f"tamarin_test_{uuid4().hex[:8]}"
    administrator = sa.create_engine(server_url, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    engine = sa.create_engine(server_url.set(database=name))
    lines = [b"".join(made()) for made in (downloads, errors, changes, accesses, spike, hidden)]
    # the earliest requests come last, as in a late key
    load_keys(engine, [log_key(f"{number}", day=DAY) for number in range(6)], lines[::-1])
    hosts = ("www.own.example", "*.below.example")
    mirror_buckets(engine, [LoggedBucket(name="media", log_bucket_name="logs", own_hosts=hosts)])
    with engine.begin() as connection:
        connection.connection.cursor().execute("DELETE FROM traffic_pending_day; " + ROLLUPS)
        connection.execute(sa.insert(traffic_pending_day), [{"bucket": "media", "request_date": DAY}] * 2)
    yield engine
    engine.dispose()
    with administrator.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    administrator.dispose()


@pytest.fixture(params=ZONES)
def ask(request: pytest.FixtureRequest, loaded: sa.Engine) -> Iterator[Rows]:
    """Return ask("SELECT …"), which returns the answer to a session of that time zone."""
    with loaded.connect() as connection:
        connection.execute(sa.text("SELECT set_config('timezone', :zone, true)"), {"zone": request.param})
        yield lambda query, **values: [tuple(row) for row in connection.execute(sa.text(query), values)]


def test_there_are_as_many_records_as_lines(loaded):
    with loaded.connect() as connection:
        assert connection.scalar(sa.text("SELECT sum(rejected_count) FROM s3_log_key")) == 0


def test_the_views_and_functions_are_those_of_the_page(loaded):
    """test_completeness.py checks that the columns of all views have comments."""
    assert {view.name for view in ANSWERS} < set(views.tables)
    with loaded.connect() as connection:
        made = connection.scalars(
            sa.text("SELECT relname FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace")
        )
        assert set(made) == set(views.tables)
        for function in FUNCTIONS:
            reported = connection.execute(
                sa.text(
                    "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid), obj_description(oid)"
                    " FROM pg_proc WHERE proname = :name"
                ),
                {"name": function.name},
            ).all()
            columns = ", ".join(f"{c.name} {c.type.compile(connection.dialect).lower()}" for c in function.columns)
            assert [tuple(row) for row in reported] == [
                (function.info["arguments"], f"TABLE({columns})", function.comment)
            ]


def test_a_reader_may_ask_all_of_them(loaded):
    role = f"reader_{uuid4().hex[:8]}"
    grant_reading(loaded, role)
    with loaded.begin() as connection:
        connection.execute(sa.text("SELECT set_config('role', :role, true)"), {"role": role})
        for view in ANSWERS:
            connection.execute(sa.text(f"SELECT * FROM {view.name} LIMIT 1"))
        connection.execute(sa.text("SELECT * FROM s3_hogs('media', '2026-03-05', '2026-03-06')"))
        connection.execute(sa.text("SELECT * FROM s3_cold_objects('media', 30)"))
        connection.execute(sa.text("SELECT * FROM s3_spike_causes('media', now())"))
    with loaded.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_file_read_in_206_ranges_is_one_download(ask):
    assert ask("SELECT * FROM s3_download WHERE bucket = 'media' AND key = 'long.mp4'") == [
        (
            *("media", DAY, "long.mp4", ask("SELECT inet '192.0.2.3'")[0][0], "curl/8.5.0"),
            *(NOON, after(NOON, minutes=205), 206, 20_600, 20_600, 1.0, True),
        )
    ]


def test_a_download_ends_with_a_pause_of_more_than_half_an_hour(ask):
    found = ask(
        "SELECT first_request_dtime, requests, completeness, is_complete FROM s3_download WHERE key = 'pause.mp4'"
        " ORDER BY 1"
    )
    assert found == [(NOON, 2, 0.8, False), (after(NOON, seconds=3601), 1, 0.4, False)]


def test_each_agent_has_a_download_of_its_own_and_to_read_a_file_twice_in_one_is_no_more_than_all_of_it(ask):
    found = ask(
        "SELECT user_agent, requests, bytes_sent, completeness FROM s3_download WHERE key = 'agents.mp4' ORDER BY 1"
    )
    assert found == [("curl/8.5.0", 2, 2000, 1.0), (None, 2, 2000, 1.0)]


@pytest.mark.parametrize("day", [None, DAY])
def test_a_download_belongs_to_the_day_on_which_it_began_and_is_whole_there(ask, day):
    """The answer does not depend on the days asked for; the next day has none of it."""
    bound = " AND request_date = :day" if day else ""
    query = f"SELECT request_date, requests, bytes_sent, is_complete FROM s3_download WHERE key = 'late.mp4'{bound}"
    assert ask(query, **({"day": day} if day else {})) == [(DAY, 3, 30, True)]
    assert ask("SELECT * FROM s3_download WHERE key = 'late.mp4' AND request_date = '2026-03-06'") == []


def test_what_begins_at_midnight_is_of_the_new_day(ask):
    found = ask("SELECT request_date, completeness FROM s3_download WHERE key = 'midnight.mp4' ORDER BY 1")
    assert found == [(DAY, 0.5), (date(2026, 3, 6), 0.5)]


def test_sizes_of_nothing_and_of_none(ask):
    found = ask(
        "SELECT key, bytes_sent, completeness, is_complete FROM s3_download WHERE key IN ('empty.txt', 'sizeless.txt')"
        " ORDER BY 1"
    )
    assert found == [("empty.txt", 0, 1.0, True), ("sizeless.txt", 7, None, None)]


def test_what_is_no_download(ask):
    assert ask("SELECT * FROM s3_download WHERE key = 'none.txt'") == []
    assert ask("SELECT bucket, count(*) FROM s3_download WHERE request_date = :day GROUP BY 1 ORDER BY 1", day=DAY) == [
        ("media", 9),
        ("other", 1),
    ]


def test_hot_linkers_are_the_hosts_that_are_not_ones_own(ask):
    found = ask(
        "SELECT referrer_host, referrers, requests, bytes_sent, error_count FROM s3_hotlink"
        " WHERE bucket = 'media' AND request_date = :day ORDER BY bytes_sent DESC",
        day=DAY,
    )
    assert found == [
        ("thief.example", 2, 7, 700, 1),
        (None, 3, 3, 51, 0),
        ("evil.example", 2, 2, 27, 0),
        ("media.s3.thief.example", 1, 1, 15, 0),
        ("notbelow.example", 1, 1, 11, 0),
        ("below.example", 1, 1, 10, 0),
    ]
    assert ask("SELECT referrer_host, bytes_sent FROM s3_hotlink WHERE request_date = '2026-03-06'") == [
        ("thief.example", 500)
    ]
    assert ask("SELECT referrer_host FROM s3_hotlink WHERE bucket = 'other'") == [("www.own.example",)], "no settings"


@pytest.mark.parametrize(
    ("referrer", "host"),
    [
        ("https://www.example.org/a?b=https://c.example/", "www.example.org"),
        ("HTTPS://WWW.Example.org:443", "www.example.org"),
        ("https://example.org?x", "example.org"),
        ("https://user:pass@example.org:80/x@y", "example.org"),
        ("android-app://com.example.app/", "com.example.app"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("https://192.0.2.1/", "192.0.2.1"),
        ("https://[2001:db8::1]:8080/", "[2001:db8::1]"),
        ("https://a@[2001:DB8::1]", "[2001:db8::1]"),
        ("https://[2001:db8::1]evil/", None),
        ("https://[example.org]/", None),
        ("https://a[b]/", None),
        ("https://example.org/[2001:db8::1]", "example.org"),
        ("www.example.org/a", None),
        ("//example.org/", None),
        ("https:///x", None),
        ("https://exa mple.org/", None),
        ("https://bücher.example/", None),
        ("https://" + "a" * 5000, "a" * 1016),
        ("1http://example.org/", None),
        ("-", None),
        (None, None),
    ],
)
def test_the_host_of_a_referrer(loaded, referrer, host):
    with loaded.connect() as connection:
        assert connection.scalar(sa.text("SELECT s3_referrer_host(:referrer)"), {"referrer": referrer}) == host


def test_hogs_are_beside_the_others_of_the_same_days(ask):
    found = ask("SELECT * FROM s3_hogs('media', '2026-03-05', '2026-03-06') ORDER BY kind, bytes_sent DESC, consumer")
    assert found == [
        ("remote_ip", "2001:db8::1", 9, 3400, 3400 / 4900, 3400 / 300, pytest.approx(3400 / 1300), 0),
        ("remote_ip", "192.0.2.2", 1, 300, 300 / 4900, 1.0, pytest.approx(300 / 1300), 0),
        ("remote_ip", "192.0.2.1", 2, 200, 200 / 4900, 200 / 300, pytest.approx(200 / 1300), 0),
        ("requester", "<b>", 2, 100, 0.02, None, pytest.approx(3), 0),
        ("requester", "anna", 2, 0, 0, None, 0, 0),
        ("requester", "ben", 2, 0, 0, None, 0, 0),
    ]
    assert ask("SELECT * FROM s3_hogs('media', '2026-03-08', '2026-03-09')") == []


def test_cold_objects_are_what_nobody_read_and_nobody_deleted(ask):
    found = ask("SELECT * FROM s3_cold_objects('media', 90, '2026-01-01') ORDER BY key COLLATE \"C\"")
    first = date(2025, 1, 1)
    assert found == [
        ("media", "91 days", date(2025, 10, 2), date(2025, 10, 2), None, 2**47 - 1, 91, None),
        ("media", "again", first, None, date(2025, 1, 2), 80, 365, None),
        ("media", "cold", first, first, date(2025, 2, 1), 500, 365, None),
        ("media", "never read", first, None, first, 70, 365, None),
    ]
    assert len(ask("SELECT * FROM s3_cold_objects('media', 89, '2026-01-01')")) == 5


def test_the_view_of_cold_objects_is_of_90_days_and_of_today(ask):
    """In one transaction now() is constant."""
    found = ask("SELECT * FROM s3_cold_object ORDER BY key")
    assert len(found) >= 5
    assert found == ask(
        "SELECT * FROM s3_cold_objects('media', 90, CAST(now() AT TIME ZONE 'UTC' AS date)) ORDER BY key"
    )


def test_a_spike_is_an_hour_above_the_same_hour_of_other_days(ask):
    found = ask("SELECT * FROM s3_spike WHERE bucket = 'media' ORDER BY measure")
    hour = datetime(2026, 2, 9, 12, tzinfo=UTC)
    assert found == [
        ("media", hour, "bytes_sent", 9e9, 1.54e9, 9e9 / 1.54e9, 2e7, 28),
        ("media", hour, "requests", 90_000, 15_400, 90_000 / 15_400, 200, 28),
    ]


def test_hours_without_requests_count_and_a_former_spike_does_not_hide_one(ask):
    found = ask("SELECT hour, measure, value, usual, times_usual, deviation, days FROM s3_spike WHERE bucket = 'small'")
    assert found == [(datetime(2026, 1, 20, 9, tzinfo=UTC), "requests", 20_000, 1, 20_000, 0, 19)]


def test_the_rollup_of_a_day_tells_the_hosts_of_its_referrers(engine, rows):
    """Postgres fills the column itself: no roll-up writes to it."""
    lines = [request(NOON, key="a", sent=7, referrer=f"https://Thief.example/{page}?secret") for page in "ab"]
    load_keys(engine, [log_key("a")], [b"".join(lines)])
    roll_up(engine)
    assert rows("SELECT * FROM s3_hotlink") == [("media", DAY, "thief.example", 2, 2, 14, 0, None)]


def test_why_there_was_a_spike(ask):
    found = ask("SELECT * FROM s3_spike_causes('media', '2026-03-29 12:34Z') WHERE more_bytes > 0 ORDER BY kind, value")
    assert found == [
        ("key", "new.mp4", 40, 40_000, 0, 0, 40, 40_000),
        ("referrer", "https://thief.example/", 40, 40_000, 0, 0, 40, 40_000),
        ("remote_ip", "203.0.113.9", 40, 40_000, 0, 0, 40, 40_000),
        ("user_agent", "curl/8.5.0", 41, 40_100, 1, 100, 40, 40_000),
    ]
    found = ask("SELECT * FROM s3_spike_causes('media', '2026-03-29 12:34Z') WHERE value = 'old.mp4'")
    assert found == [("key", "old.mp4", 1, 100, 1, 100, 0, 0)]


def test_errors_by_key_with_where_they_came_from(ask):
    day = after(NOON, days=5)
    found = ask("SELECT * FROM s3_error WHERE request_date = '2026-03-10' ORDER BY requests DESC, key")
    assert found == [
        ("media", day.date(), HOSTILE, "REST.GET.OBJECT", 404, "NoSuchKey", 3, 2, 1, 3, day, after(day, seconds=2)),
        *(
            ("media", day.date(), key, f"REST.GET.{kind}", status, code, 1, 0, agents, 1, time, time)
            for key, kind, status, code, agents, time in [
                ("last", "OBJECT", 404, "NoSuchKey", 1, day.replace(hour=23, minute=59, second=59)),
                ("secret", "OBJECT", 403, "AccessDenied", 0, day),
                (None, "BUCKET", 500, "InternalError", 1, day),
            ]
        ),
    ]


def test_who_changed_what(ask):
    found = ask(
        "SELECT change, key, requester, version_id, object_size, request_id, host(remote_ip) FROM s3_change"
        " WHERE request_dtime >= '2026-03-15 00:00Z' AND request_dtime < '2026-03-16 00:00Z'"
        " ORDER BY request_dtime, key"
    )
    here = "192.0.2.3"
    assert found == [
        ("write", "a", ANNA, None, 10, "01", here),
        ("copy", "a", ANNA, None, 20, "02", here),
        ("write", "b", ANNA, None, 30, "03", here),
        ("delete", "a", ANNA, "v1", None, "04", here),
        ("delete", "b", ANNA, None, None, "05", here),
        ("delete", "c", ANNA, None, None, "05", here),
        ("expire", "f", "AmazonS3", None, None, "07", None),
    ]


def test_access_without_credentials_old_tls_and_what_depends_on_acls(ask):
    day = " WHERE request_date = '2026-03-20'"
    agent = "curl/8.5.0"
    date_ = date(2026, 3, 20)
    assert ask(f"SELECT * FROM s3_anonymous_access{day}") == [
        ("media", date_, agent, "REST.GET.OBJECT", 3, 1, 18, 3, 2)
    ]
    old = [
        ("media", date_, tls, ANNA, agent, "REST.GET.OBJECT", count, 0, 0, 1, 1)
        for tls, count in (("TLSv1", 2), ("TLSV1.1", 1), (None, 1))
    ]
    assert ask(f"SELECT * FROM s3_old_tls{day} ORDER BY requests DESC, tls_version") == old
    assert ask(f"SELECT * FROM s3_acl_dependent{day} ORDER BY operation") == [
        ("media", date_, ANNA, agent, "REST.GET.OBJECT", 1, 0, 0, 1, 1),
        ("media", date_, ANNA, agent, "REST.PUT.OBJECT", 1, 1, 0, 1, 1),
    ]


def test_records_inside_of_others_are_shown_with_their_place(ask):
    """Hidden records have the right place, number and beginning in any time zone of the session."""
    day = " WHERE request_dtime >= '2026-03-12 00:00Z' AND request_dtime < '2026-03-13 00:00Z' ORDER BY line_number"
    shown = "bucket, log_key, line_number, request_dtime, hidden_records, fields, beginnings"
    begins = "[12/Mar/2026:12:00:0{} +0000] {} - {} REST.GET.OBJECT"
    assert ask(f"SELECT {shown} FROM s3_hidden_record{day}") == [
        (
            *("media", "0", 1, after(NOON, days=7), 2, ["user_agent"]),
            [begins.format(1, "192.0.2.3", "A1"), begins.format(2, "192.0.2.3", "A2")],
        ),
        (
            *("media", "0", 2, after(NOON, days=7, minutes=1), 1, ["user_agent"]),
            [begins.format(0, "203.0.113.9", "F0")],
        ),
    ]


RECIPES = [block.text for block in blocks_of_page("docs/how-to/queries.md") if block.language == "sql"]
ANSWERS_OF_THE_PAGE = [
    [("<b>", 4000, 4, 80.0), ("a", 1000, 2, 20.0)],
    [("remote_ip", "2001:db8::1", 3400, 69, 11), ("remote_ip", "192.0.2.2", 300, 6, 1)],
    [
        *[("agents.mp4", 2, 2, 4, 1.0), ("midnight.mp4", 2, 0, 2, 0.5), ("pause.mp4", 2, 0, 3, Decimal("0.6"))],
        *[("empty.txt", 1, 1, 1, 1.0), ("late.mp4", 1, 1, 3, 1.0), ("long.mp4", 1, 1, 206, 1.0)],
        ("sizeless.txt", 1, 0, 1, None),
    ],
    [("thief.example", 1200, 12, 2), (None, 51, 3, 3), ("evil.example", 27, 2, 2)],
    [(HOSTILE, 404, "NoSuchKey", 3, 2, 1, 3), ("last", 404, "NoSuchKey", 1, 0, 1, 1)],
    [("no such key", 9, 9, 1)],
    [
        (datetime(2026, 2, 9, 12, tzinfo=UTC), "bytes_sent", 9e9, 1.54e9, Decimal("5.8")),
        (datetime(2026, 2, 9, 12, tzinfo=UTC), "requests", 90_000, 15_400, Decimal("5.8")),
    ],
    [("key", "new.mp4", 40, 0, 40_000, 40_000), ("referrer", "https://thief.example/", 40, 0, 40_000, 40_000)],
    [("91 days", date(2025, 10, 2), 2**47 - 1)],
    [
        (after(NOON, days=10), "write", "a", ANNA, "192.0.2.3", None, "01"),
        (after(NOON, days=10, seconds=1), "copy", "a", ANNA, "192.0.2.3", None, "02"),
        (after(NOON, days=10, seconds=3), "delete", "a", ANNA, "192.0.2.3", "v1", "04"),
    ],
    [("REST.GET.OBJECT", "curl/8.5.0", 3, 1, 3, 2)],
    [(tls, ANNA, "curl/8.5.0", "REST.GET.OBJECT", count) for tls, count in (("TLSv1", 2), ("TLSV1.1", 1), (None, 1))],
    [(ANNA, "curl/8.5.0", f"REST.{method}.OBJECT", 1, refused) for method, refused in (("GET", 0), ("PUT", 1))],
    [
        ("0", 1, after(NOON, days=7), 2, ["user_agent"]),
        ("0", 2, after(NOON, days=7, minutes=1), 1, ["user_agent"]),
    ],
    [(DAY, 2)],
]


@pytest.mark.parametrize(
    ("recipe", "answer"),
    list(zip(RECIPES, ANSWERS_OF_THE_PAGE, strict=True)),
    ids=["".join(re.findall(r"^FROM (\w+)", each, re.MULTILINE)[:1]) or "due" for each in RECIPES],
)
def test_the_queries_of_the_page_answer_what_it_says(ask, recipe, answer):
    """Return their first rows, with the columns that are the same on every day."""
    found = ask(recipe)
    assert [row[: len(answer[0])] for row in found[: len(answer)]] == answer


MONTHS = [date(2026, month, 1) for month in (2, 3, 4)]
ROWS = 10_000


@pytest.fixture(scope="module")
def months(server_url: sa.URL, template: str) -> Iterator[sa.Engine]:
    """Make three months of records."""
    name = f"tamarin_test_{uuid4().hex[:8]}"
    administrator = sa.create_engine(server_url, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    engine = sa.create_engine(server_url.set(database=name))
    for month in MONTHS:
        fill_month(engine, month, ROWS)
    yield engine
    engine.dispose()
    with administrator.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    administrator.dispose()


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("view", ["s3_download", "s3_error", "s3_anonymous_access", "s3_old_tls", "s3_acl_dependent"])
def test_a_day_of_a_view_reads_its_month_and_few_blocks_of_it(months, view, zone):
    """A download may end hours later, so a quarter of the next day is read too."""
    with months.connect() as connection:
        connection.execute(sa.text("SELECT set_config('timezone', :zone, true)"), {"zone": zone})
        month = blocks_of(connection, partition_name(MONTHS[1]))
        found = touched(connection, f"SELECT * FROM {view} WHERE bucket = 'media' AND request_date = '2026-03-14'")
        assert {name for name in found.partitions if name.startswith("s3_log_record")} == {partition_name(MONTHS[1])}
        assert month / 31 / 3 < found.blocks < month / 4


def test_changes_of_a_day_read_its_month_and_few_blocks_of_it(months):
    with months.connect() as connection:
        month = blocks_of(connection, partition_name(MONTHS[1]))
        found = touched(
            connection,
            "SELECT * FROM s3_change WHERE request_dtime >= '2026-03-14 00:00Z'"
            " AND request_dtime < '2026-03-15 00:00Z'",
        )
        assert found.partitions == {partition_name(MONTHS[1])}
        assert found.blocks < month / 6


def test_the_causes_of_a_spike_are_looked_for_in_few_blocks_of_its_month(months):
    """Read eight hours of eight days."""
    with months.connect() as connection:
        month = blocks_of(connection, partition_name(MONTHS[1]))
        found = touched(connection, "SELECT * FROM s3_spike_causes('media', '2026-03-14 12:00Z')")
        assert found.partitions == {partition_name(MONTHS[1])}
        assert found.blocks < month
