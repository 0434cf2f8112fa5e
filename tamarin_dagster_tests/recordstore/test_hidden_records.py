"""Records that contain the beginning of another record: the view, the count for a day's check, and their costs."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from benchmarks.queries import blocks_of, fill_month, touched
from tamarin_dagster.logformat import DeliveryHour
from tamarin_dagster.logformat.fields import FIELDS, TIME_PATTERN, ZONE_PATTERN
from tamarin_dagster.recordstore import completeness, ledger
from tamarin_dagster.recordstore.completeness import HiddenRecord, HiddenRecords, find_hidden_records
from tamarin_dagster.recordstore.schema import repeatable
from tamarin_dagster_tests.docs.blocks import blocks_of as blocks_of_page
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.recordstore.log_keys import DAY, load_keys, log_key

REQUESTED = datetime(2026, 3, 5, 9, 58, 1, tzinfo=UTC)
TIME = "[05/Mar/2026:09:58:01 +0000]"
BEGINNING = f"{TIME} 192.0.2.3 - {{}} REST.GET.OBJECT"
FOUND = "SELECT log_key, line_number, hidden_records, fields, beginnings FROM s3_hidden_record ORDER BY 1, 2"
SEPARATORS = {
    "nothing": b"",
    "a blank": b" ",
    "CR": b"\r",
    "FF": b"\f",
    "VT": b"\v",
    "NEL": "\u0085".encode(),
    "a byte that is no UTF-8": b"\x85",
    "U+2028": "\u2028".encode(),
}


def joined(separator: bytes, *request_ids: str) -> bytes:
    """Return one line made of several records."""
    return separator.join(line(request_id=each).rstrip(b"\n") for each in request_ids) + b"\n"


@pytest.mark.parametrize("separator", SEPARATORS.values(), ids=SEPARATORS)
def test_a_record_that_lost_its_newline_is_found_inside_the_one_before(engine, rows, separator):
    load_keys(engine, [log_key("a")], [lines(1) + joined(separator, "A0", "B0")])
    assert rows("SELECT * FROM s3_hidden_record") == [
        (
            *("media", REQUESTED, rows("SELECT id FROM s3_log_key")[0][0], "a", 2, 1),
            *(["user_agent"], [BEGINNING.format("B0")]),
        )
    ]


def test_each_record_inside_a_line_is_counted(engine, rows):
    load_keys(engine, [log_key("a")], [joined(b"\r", "A0", "B0", "C0", "D0")])
    assert rows(FOUND) == [("a", 1, 3, ["user_agent"], [BEGINNING.format(each) for each in ("B0", "C0", "D0")])]


def test_a_forged_record_in_any_quoted_field_is_found(engine, rows):
    """Also a record of a requester with blanks, without an address, of another zone, and with doubled blanks."""
    origin = "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2"
    forged = {
        "request_uri": f"{TIME} 2001:db8::1 {origin} B0 WEBSITE.GET.OBJECT",
        "referrer": "[31/Dec/2025:23:59:59 -0500] - AmazonS3 B0 S3.EXPIRE.OBJECT",
        "user_agent": "[05/Mar/2026:09:58:01  +0000]  192.0.2.3  -  B0  REST.COPY.OBJECT_GET",
    }
    for number, (field, text) in enumerate(forged.items(), 1):
        load_keys(engine, [log_key(field)], [line()])
        rows(
            f"UPDATE s3_log_record SET {field} = :text WHERE log_key_id ="
            " (SELECT id FROM s3_log_key WHERE key = :field)",
            text=f"x owner bucket {text}{' rest' if number == 1 else ''}",
            field=field,
        )
    assert rows(FOUND) == [(field, 1, 1, [field], [text]) for field, text in sorted(forged.items())]


def test_several_columns_may_hold_records_of_their_own(engine, rows):
    load_keys(engine, [log_key("a")], [line()])
    rows(
        "UPDATE s3_log_record SET request_uri = :a, referrer = :b",
        a=f"/{BEGINNING.format('A0')} {BEGINNING.format('B0')} x",
        b=BEGINNING.format("C0"),
    )
    assert rows(FOUND) == [
        ("a", 1, 3, ["referrer", "request_uri"], [BEGINNING.format(each) for each in ("A0", "B0", "C0")])
    ]


@pytest.mark.parametrize(
    "agent",
    [
        TIME,
        f"{TIME} 192.0.2.3 - B0",
        f"{TIME} 192.0.2.3 - B0 GET",
        f"{TIME} 192.0.2.3 - B0 REST",
        f"{TIME} 192.0.2.3 - B0 REST.GET.OBJECT/1.0",
        f"{TIME} REST.GET.OBJECT",
        f"{TIME} an agent of some REST.API here",
        "[05/Mar/2026:09:58:01 GMT] 192.0.2.3 - B0 REST.GET.OBJECT",
        "[5/Mar/2026:09:58:01 +0000] 192.0.2.3 - B0 REST.GET.OBJECT",
        "%5B05/Mar/2026:09:58:01%20+0000%5D 192.0.2.3 - B0 REST.GET.OBJECT",
        "192.0.2.3 - - [05/Mar/2026:09:58:01 +0000] GET / HTTP/1.1",
    ],
)
def test_what_is_no_beginning_of_a_record(engine, rows, agent):
    load_keys(engine, [log_key("a")], [line(user_agent=agent)])
    assert rows("SELECT user_agent FROM s3_log_record") == [(agent,)]
    assert rows(FOUND) == []


def test_the_view_has_the_shapes_of_the_fields():
    """SQL cannot read them from logformat.fields, so they exist a second time there."""
    text = (Path(repeatable.__file__).parent / "views/s3_hidden_record.sql").read_text("utf-8")
    address, requester, request_id, operation = (
        field.pattern for field in FIELDS if field.name in ("remote_ip", "requester", "request_id", "operation")
    )
    parts = (rf"\[{TIME_PATTERN} +{ZONE_PATTERN}\]", f"(?:{address})", requester, request_id, f"{operation}(?= |$)")
    assert "".join(re.findall(r"^        '(.{2,})'", text, re.MULTILINE)) == " +".join(parts)


def test_the_forged_line_of_the_page_is_read_as_the_page_says_and_its_query_finds_it(engine, rows):
    blocks = blocks_of_page("docs/reference/lines.md")
    (forged,) = (block.text for block in blocks if block.language == "text")
    (query,) = (block.text for block in blocks if "concat_ws" in block.text)
    hidden = joined(b"\r", "A0", "B0")
    load_keys(engine, [log_key("a")], [lines(3) + forged.encode() + hidden + line(user_agent='a "200 - 1 1 1" b')])
    columns = "http_status, error_code, bytes_sent, referrer, user_agent, remote_ip = '192.0.2.3', request_id, key"
    assert rows(f"SELECT {columns} FROM s3_log_record WHERE line_number = 4") == [
        (
            *(200, None, 1, 'y HTTP/1.1" 404 NoSuchKey 300 - 5 4 "-', "curl/8.5.0"),
            *(True, "3E57427F33A59F07", "x"),
        )
    ]
    found = rows(query)
    assert [(row[2], row[3], row[4]) for row in sorted(found, key=str)] == [
        ("video/intro.mp4", 200, 113),
        ("x", 200, 1),
    ]


def test_the_query_of_the_page_on_lines_shows_hidden_records(engine, rows):
    (query,) = (block.text for block in blocks_of_page("docs/reference/lines.md") if "s3_hidden_record" in block.text)
    load_keys(engine, [log_key("a")], [joined(b"\r", "A0", "B0")])
    assert rows(query) == [("a", 1, REQUESTED, 1, ["user_agent"], [BEGINNING.format("B0")])]


def test_hidden_records_are_counted_for_the_day_and_the_bucket_of_their_log_keys(engine):
    next_day = DAY + timedelta(days=1)
    load_keys(
        engine, [log_key("a"), log_key("b")], [lines(5) + joined(b"\r", "A0", "B0", "C0"), joined(b"", "D0", "E0")]
    )
    load_keys(engine, [log_key("clean"), log_key("empty")], [lines(3), b"no record\n"])
    load_keys(engine, [log_key("next", day=next_day)], [joined(b"\f", "F0", "G0")])
    load_keys(engine, [log_key("film")], [joined(b"\f", "H0", "I0")], bucket="films")
    with engine.connect() as connection:
        assert find_hidden_records(connection, "media", DAY) == HiddenRecords(
            records=2,
            hidden_records=3,
            samples=(
                HiddenRecord(REQUESTED, "a", 6, 2, ("user_agent",)),
                HiddenRecord(REQUESTED, "b", 1, 1, ("user_agent",)),
            ),
        )
        of_next = HiddenRecords(1, 1, (HiddenRecord(REQUESTED, "next", 1, 1, ("user_agent",)),))
        assert find_hidden_records(connection, "media", next_day) == of_next
        assert find_hidden_records(connection, "films", DAY).records == 1
        assert find_hidden_records(connection, "nobody", DAY) == HiddenRecords()


def test_an_hour_has_the_hidden_records_of_its_log_keys(engine):
    names = [f"logs/2026-03-05-{hour}-00-00-000000000000000A" for hour in ("10", "11")]
    load_keys(engine, [log_key(name) for name in names], [joined(b"", "A0", "B0"), lines(1)])
    with engine.connect() as connection:
        found = [find_hidden_records(connection, "media", DeliveryHour(DAY, hour)).records for hour in (10, 11)]
    assert found == [1, 0]


def test_a_superseded_generation_has_no_hidden_records(engine):
    load_keys(engine, [log_key("a", "a")], [joined(b"", "A0", "B0")])
    load_keys(engine, [log_key("a", "b", minutes=1)], [lines(2)])
    with engine.connect() as connection:
        assert find_hidden_records(connection, "media", DAY) == HiddenRecords()


def test_of_many_hidden_records_all_are_counted_and_the_earliest_are_named(engine, monkeypatch):
    """Over pages of log keys, in any order."""
    monkeypatch.setattr(ledger, "COUNTED_KEYS", 7)
    names = [f"{number:02}" for number in range(30, 0, -1)]
    load_keys(engine, [log_key(name) for name in names], [joined(b"", "A0", "B0")] * 30)
    with engine.connect() as connection:
        found = find_hidden_records(connection, "media", DAY)
    assert (found.records, found.hidden_records) == (30, 30)
    assert [each.log_key for each in found.samples] == sorted(names)[: completeness.SAMPLE]


MONTHS = [date(2026, month, 1) for month in (2, 3, 4)]
ROWS = 20_000


def test_hidden_records_of_a_day_touch_its_partition_and_few_of_its_blocks(engine):
    for month in MONTHS:
        fill_month(engine, month, ROWS)
    with engine.connect() as connection:
        month = blocks_of(connection, "s3_log_record_2026_03")
        found = touched(
            connection,
            "SELECT * FROM s3_hidden_record WHERE request_dtime >= '2026-03-14 00:00Z'"
            " AND request_dtime < '2026-03-15 00:00Z'",
        )
        assert found.partitions == {"s3_log_record_2026_03"}
        assert found.blocks < month / 8


def test_the_count_for_a_day_reads_no_more_than_the_day(engine, rows):
    """Of 60,000 records in three months a day has about 650; the check reads only its ledger rows."""
    for month in MONTHS:
        fill_month(engine, month, ROWS)
    rows(
        "INSERT INTO s3_log_key (id, bucket, log_bucket_name, key, etag, size, last_modified, delivery_date,"
        " line_count, record_count, rejected_count, blank_count, first_request_dtime, last_request_dtime)"
        " OVERRIDING SYSTEM VALUE SELECT log_key_id, 'media', 'logs', 'k' || log_key_id, 'e', 1, now(),"
        " CAST(min(request_dtime) AT TIME ZONE 'UTC' AS date), count(*), count(*), 0, 0, min(request_dtime),"
        " max(request_dtime) FROM s3_log_record GROUP BY log_key_id"
    )
    asked: list[tuple[str, Any]] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def remember(_connection, _cursor, statement, parameters, _context, _executemany):
        if "s3_hidden_record" in statement:
            asked.append((statement, parameters))

    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE s3_log_key")
        month = blocks_of(connection, "s3_log_record_2026_03")
        assert find_hidden_records(connection, "media", date(2026, 3, 14)) == HiddenRecords()
        ((statement, parameters),) = asked
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        (answer,) = connection.exec_driver_sql(explained, parameters).scalar_one()
    assert 0 < answer["Plan"]["Shared Hit Blocks"] + answer["Plan"]["Shared Read Blocks"] < month / 8
