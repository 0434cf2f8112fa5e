import hashlib
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from tamarin_dagster.logformat import FIELD_NAMES, RECORDS_SCHEMA, RejectReason, parse_log, parse_logs
from tamarin_dagster.logformat.frames import list_months
from tamarin_dagster_tests.logformat.found import records_of, rejected_of
from tamarin_dagster_tests.logformat.lines_written import BLOCK, HEAD, HOST_ID, OWNER, TAIL, line

COLUMNS_2006 = line(tail="")


def record(text: str) -> dict[str, object]:
    """Return the one record of the line, without its nulls."""
    parsed = parse_logs([text.encode()])
    assert not rejected_of(parsed)
    (row,) = records_of(parsed).to_pylist()
    return {name: value for name, value in row.items() if value is not None}


def reason(text: str) -> RejectReason:
    """Return why the line, which has its LF, is not a record."""
    parsed = parse_logs([text.encode() + b"\n"])
    assert len(parsed.records) == 0
    (rejected,) = rejected_of(parsed)
    assert rejected.line == text.encode()
    return rejected.reason


def test_a_line_of_today_has_27_fields():
    text = line(
        referrer='"https://example.org/a"',
        tail=f"v1 {HOST_ID} SigV4 TLS_AES_128_GCM_SHA256 QueryString films.s3.amazonaws.com TLSv1.3 "
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/x Yes eu-west-1",
    )
    assert record(text) == {
        "log_index": 0,
        "line_number": 1,
        "bucket_owner": OWNER,
        "bucket": "films",
        "request_dtime": datetime(2019, 2, 6, 0, 0, 38, tzinfo=UTC),
        "remote_ip": "192.0.2.3",
        "requester": OWNER,
        "request_id": "7F3A59C0D2B4E618",
        "operation": "REST.GET.OBJECT",
        "key": "reel/1.mov",
        "request_method": "GET",
        "request_uri": "/reel/1.mov",
        "http_version": "HTTP/1.1",
        "http_status": 200,
        "bytes_sent": 113,
        "object_size": 4096,
        "total_time": 7,
        "turnaround_time": 5,
        "referrer": "https://example.org/a",
        "user_agent": "curl/8.1",
        "version_id": "v1",
        "host_id": HOST_ID,
        "signature_version": "SigV4",
        "cipher_suite": "TLS_AES_128_GCM_SHA256",
        "authentication_type": "QueryString",
        "host_header": "films.s3.amazonaws.com",
        "tls_version": "TLSv1.3",
        "access_point_arn": "arn:aws:s3:eu-west-1:123456789012:accesspoint/x",
        "acl_required": "Yes",
        "source_region": "eu-west-1",
    }


@pytest.mark.parametrize("count", range(11))
def test_older_lines_end_earlier(count):
    names = FIELD_NAMES[-11:-1]
    tail = f"v1 {HOST_ID} SigV4 C-1 AuthHeader h.example TLSv1.2 arn:a Yes eu-west-1".split()[:count]
    found = record(line(tail=" ".join(tail)))
    assert {name: found.get(name) for name in names} == dict(zip(names, tail + [None] * 10, strict=False))


@pytest.mark.parametrize(
    "extra",
    ["new", "new - -", '- something [123] "newfield"', '"a b" "c"', "- -", '"" -', "[now or later]"],
)
def test_fields_that_s3_may_append_are_kept_verbatim(extra):
    found = record(line(tail=f"{TAIL} {extra}"))
    assert found["extra_fields"] == extra
    assert (found["user_agent"], found["host_id"], found["source_region"]) == ("curl/8.1", HOST_ID, "eu-west-1")


@pytest.mark.parametrize(
    ("request_", "method", "uri", "version"),
    [
        ('"GET /a?b=c HTTP/1.1"', "GET", "/a?b=c", "HTTP/1.1"),
        ('"GET /a b HTTP/1.1"', "GET", "/a b", "HTTP/1.1"),
        ('"OPTIONS * HTTP/2"', "OPTIONS", "*", "HTTP/2"),
        ('"GET /a"', "GET", "/a", None),
        ('"GET/a HTTP/1.0"', None, "GET/a", "HTTP/1.0"),
        ('"GET"', None, "GET", None),
        ('"GET http://h/a HTTP/1.1"', "GET", "http://h/a", "HTTP/1.1"),
        ('"M-SEARCH a HTTP/1.1"', "M-SEARCH", "a", "HTTP/1.1"),
        ('"GET  /a HTTP/1.1"', "GET", " /a", "HTTP/1.1"),
        ('"GET /a?f="x y"&b HTTP/1.1"', "GET", '/a?f="x y"&b', "HTTP/1.1"),
        ('"GET "/a" HTTP/1.1"', "GET", '"/a"', "HTTP/1.1"),
        ('"GET /a" 404 - 1 " HTTP/1.1"', "GET", '/a" 404 - 1 "', "HTTP/1.1"),
        ('"GET /\ta\u2028\x0b HTTP/1.1"', "GET", "/\ta\u2028\x0b", "HTTP/1.1"),
        ('"- -"', None, "- -", None),
        ('"-"', None, None, None),
        ('""', None, None, None),
        ("-", None, None, None),
    ],
)
def test_a_request_is_method_uri_and_version(request_, method, uri, version):
    found = record(line(request_))
    assert [found.get(name) for name in FIELD_NAMES[8:11]] == [method, uri, version]
    assert found["http_status"] == 200


@pytest.mark.parametrize(
    ("referrer", "user_agent", "expected"),
    [
        ("-", "-", (None, None)),
        ('""', '""', (None, None)),
        ('"-"', "-", (None, None)),
        ("-", '"ua"', (None, "ua")),
        ('"ref"', "-", ("ref", None)),
        ('"- -"', '"- -"', ("- -", "- -")),
        ('"-"', '""Mozilla/5.0 (X)"', (None, '"Mozilla/5.0 (X)')),
        ('"-"', '"pip/22 {"ci":null,"cpu":"x86_64"}"', (None, 'pip/22 {"ci":null,"cpu":"x86_64"}')),
        ('"http://x/?q="a b" c"', '"ua"', ('http://x/?q="a b" c', "ua")),
        ('"http://x/"', '"a" "b"', ("http://x/", 'a" "b')),
        ('"x HTTP/1.1" 404 - 1 1 1 1 "y"', '"ua"', ('x HTTP/1.1" 404 - 1 1 1 1 "y', "ua")),
        ('"-"', f'"x" {TAIL}"', (None, f'x" {TAIL}')),
        ('"-"', f'"x" {TAIL} "y" -"', (None, f'x" {TAIL} "y" -')),
        ('"-"', '"back\\slash\\" "', (None, 'back\\slash\\" ')),
    ],
)
def test_referrer_and_user_agent_may_hold_anything(referrer, user_agent, expected):
    found = record(line(referrer=referrer, user_agent=user_agent))
    assert (found.get("referrer"), found.get("user_agent")) == expected
    assert (found["http_status"], found["host_id"], found["source_region"]) == (200, HOST_ID, "eu-west-1")


def test_a_whole_second_record_in_a_user_agent_is_no_second_record():
    """A client must neither invent requests nor hide its own by writing a record into its user agent."""
    forged = f'x" {TAIL} {line(user_agent=chr(34) + "forged")}'
    found = record(line(user_agent=f'"{forged}"'))
    assert (found["user_agent"], found["line_number"]) == (forged, 1)


@pytest.mark.parametrize("extra", ["-", "AIDAABCDEFGHIJKLMNOPQ"])
def test_the_extra_column_of_march_2019_is_known_by_its_shape(extra):
    found = record(line(tail=f"- {extra} {HOST_ID} SigV4 C AuthHeader films.example"))
    assert (found["host_id"], found["signature_version"], found["host_header"]) == (HOST_ID, "SigV4", "films.example")
    assert found.get("extra_fields") == (None if extra == "-" else extra)


def test_a_25_field_line_is_no_line_of_march_2019():
    found = record(line(tail=f"- {HOST_ID} SigV4 C AuthHeader films.example TLSv1.2 -"))
    assert (found["host_id"], found["tls_version"]) == (HOST_ID, "TLSv1.2")


@pytest.mark.parametrize(
    "requester",
    [
        "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2ABCDEFGHIJKL",
        "arn:aws:iam::123456789012:user/a b",
        "arn:aws:sts::123456789012:assumed-role/r/me@example.org",
        "AmazonS3",
        "svc:cloudtrail.amazonaws.com",
        "Anonymous",
    ],
)
def test_a_requester_may_hold_blanks(requester):
    found = record(line(head=HEAD.replace(f".3 {OWNER}", f".3 {requester}")))
    assert (found["requester"], found["request_id"]) == (requester, "7F3A59C0D2B4E618")
    assert (found["operation"], found["key"], found["user_agent"]) == ("REST.GET.OBJECT", "reel/1.mov", "curl/8.1")


@pytest.mark.parametrize(
    "operation",
    ["REST.GET.BUCKETPOLICY", "SOAP.ListBucket", "WEBSITE.INVALIDOPERATION", "BATCH.DELETE.OBJECT",
     "S3.COMPUTE.OBJECT.CHECKSUM", "S3.TRANSITION_INT.OBJECT"],
)  # fmt: skip
def test_operations_are_an_open_set(operation):
    assert record(line(head=HEAD.replace("REST.GET.OBJECT", operation)))["operation"] == operation


def test_lines_without_an_http_request_are_nearly_all_nulls():
    head = f"{OWNER} films [06/Feb/2019:00:00:38 +0000] - AmazonS3 0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff"
    found = record(f"{head} S3.EXPIRE.OBJECT old/1 - - - - 1048576 - - - - - - - - - - - - - -")
    found_quoted = record(f'{head} S3.EXPIRE.OBJECT old/1 "-" - - - 1048576 - - "-" "-" - - - - - - - - - -')
    assert found == found_quoted
    assert set(found) - {"log_index", "line_number"} == {
        "bucket_owner", "bucket", "request_dtime", "requester", "request_id", "operation", "key", "object_size",
    }  # fmt: skip


def test_doubled_and_trailing_blanks_change_nothing():
    text = line(tail=f"{TAIL} new")
    assert record(text.replace(" films ", "  films   ").replace(" 200 ", "   200 ") + "  ") == record(text)


def test_the_bulk_of_all_shapes_is_read_in_order():
    lines = [line(), line('"GET /"x HTTP/1.1"'), line("-", referrer="-", user_agent="-"), "", "rubbish", COLUMNS_2006]
    parsed = parse_logs([("\n".join(lines) + "\n").encode()] * 3)
    numbers = records_of(parsed).select(["log_index", "line_number"]).to_pydict()
    assert list(zip(*numbers.values(), strict=True)) == [(i, n) for i in range(3) for n in (1, 2, 3, 6)]
    assert [(r.log_index, r.line_number) for r in rejected_of(parsed)] == [(0, 5), (1, 5), (2, 5)]
    counts = parsed.counts[2]
    assert (counts.line_count, counts.record_count, counts.rejected_count, counts.blank_count) == (6, 4, 1, 1)
    assert counts.first_request_dtime == counts.last_request_dtime == datetime(2019, 2, 6, 0, 0, 38, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rubbish", "not_a_record"),
        ('192.0.2.1 - - [06/Feb/2019:00:00:38 +0000] "GET / HTTP/1.1" 200 5', "not_a_record"),
        ('{"a": 1}', "not_a_record"),
        ("someone pond [07/Aug/2024:10:00:00 +0000] reel.mov - REST.PUT.OBJECT 00112233aabb", "bad_operation"),
        (f"{OWNER} films [06/Feb/2019:00:", "too_few_fields"),
        (HEAD, "too_few_fields"),
        (f'{HEAD} "GET /', "too_few_fields"),
        (f'{HEAD} "GET / HTTP/1.1" 200 - 1', "too_few_fields"),
        (f'{HEAD} "GET / HTTP/1.1" {BLOCK}', "too_few_fields"),
        (f'{HEAD} "GET / HTTP/1.1" {BLOCK} "-"', "too_few_fields"),
        (f'{HEAD} "GET / HTTP/1.1" {BLOCK} "-" "', "too_few_fields"),
        (f'{HEAD} "GET / HTTP/1.1" {BLOCK} "-" "Mozil', "too_few_fields"),
        (line(head=HEAD.replace("06/Feb/2019", "30/Feb/2019")), "bad_time"),
        (line(head=HEAD.replace("06/Feb/2019", "06/Nox/2019")), "bad_time"),
        (line(head=HEAD.replace("06/Feb/2019", "6/Feb/2019")), "bad_time"),
        (line(head=HEAD.replace(":00:38", ":00:60")), "bad_time"),
        (line(head=HEAD.replace("00:00:38", "24:00:38")), "bad_time"),
        (line(head=HEAD.replace("06/Feb/2019:00:00:38 +0000", "2019-02-06")), "bad_time"),
        (line(head=HEAD.replace("2019", "2005")), "time_out_of_range"),
        (line(head=HEAD.replace("2019", "9999")), "time_out_of_range"),
        (line(head=HEAD.replace("192.0.2.3", "192.0.2.256")), "bad_address"),
        (line(head=HEAD.replace("192.0.2.3", "192.0.02.3")), "bad_address"),
        (line(head=HEAD.replace("192.0.2.3", "fe80::1%eth0")), "bad_address"),
        (line(head=HEAD.replace("192.0.2.3", "example.org")), "bad_address"),
        (line(head=HEAD.replace("REST.GET", "READ.GET")), "bad_operation"),
        (line(head=HEAD.replace("REST.GET.OBJECT", "REST")), "bad_operation"),
        (line(block="OK - 1 1 1 1"), "bad_status"),
        (line(block="20 - 1 1 1 1"), "bad_status"),
        (line(block="200 No/Key 1 1 1 1"), "bad_error_code"),
        (line(block="200 - -1 1 1 1"), "bad_number"),
        (line(block="200 - 1.5 1 1 1"), "bad_number"),
        (line(block="200 - +1 1 1 1"), "bad_number"),
        (line(block="200 - 9223372036854775808 1 1 1"), "bad_number"),
        (HEAD[: HEAD.index("REST")] + line(), "spliced"),
        (line() + HEAD, "spliced"),
        (line(head=HEAD.replace(f".3 {OWNER}", f".3 arn:aws:iam::1{HEAD}")), "spliced"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_rejected_with_its_reason(text, expected):
    assert reason(text) == expected


FULL = (
    f"MwI7yXtui4mtwTeuZxHoT4qHap44j3T2 {HOST_ID} SigV4 ECDHE-RSA-AES128-GCM-SHA256 AuthHeader"
    " films.s3.amazonaws.com TLSv1.3 arn:aws:s3:eu-west-1:123456789012:accesspoint/x Yes eu-west-1"
).split()


@pytest.mark.parametrize("lacking", range(9))
def test_a_tail_that_lacks_a_column_is_not_shifted_into_the_next_one(lacking):
    assert reason(line(tail=" ".join(FULL[:lacking] + FULL[lacking + 1 :]))) == "bad_tail"


@pytest.mark.parametrize("doubled", range(1, 9))
def test_a_tail_with_a_doubled_column_is_no_tail(doubled):
    assert reason(line(tail=" ".join(FULL[: doubled + 1] + FULL[doubled:]))) == "bad_tail"


@pytest.mark.parametrize(
    "tail",
    ["TLSv1.3", "- TLSv1.3", "a b c", "s3.amazonaws.com", "- h Sig", "- - Yes", f"- {HOST_ID} AuthHeader", f"{TAIL}\t"],
)
def test_words_after_the_user_agent_are_no_columns(tail):
    assert reason(line(tail=tail)) == "bad_tail"


def test_a_quoted_host_header_is_read_without_its_quotes():
    """Dell OneFS writes it like this."""
    tail = '- 192.0.2.20 SigV4 TLS_AES_256_GCM_SHA384 AuthHeader "192.0.2.20:9021" TLSv1.3 - Yes'
    found = record(line(user_agent='"S3 Browser/12 "x" y"', tail=tail))
    names = ("user_agent", "host_id", "authentication_type", "host_header", "tls_version", "acl_required")
    expected = ('S3 Browser/12 "x" y', "192.0.2.20", "AuthHeader", "192.0.2.20:9021", "TLSv1.3", "Yes")
    assert tuple(found[name] for name in names) == expected
    assert "version_id" not in found
    bare = record(line(referrer='"http://a/"', user_agent="-", tail=tail.replace("- Yes", "- -")))
    assert (bare["referrer"], bare["host_header"], "user_agent" in bare) == ("http://a/", "192.0.2.20:9021", False)


@pytest.mark.parametrize("owner", ["root", "tenant$user", "d6ad5...6af62", "//" + OWNER])
def test_an_owner_may_be_another_stores_user(owner):
    assert record(line(head=HEAD.replace(OWNER, owner, 1)))["bucket_owner"] == owner


@pytest.mark.parametrize("owner", ["\ufeff\ufeff" + OWNER, "PK\x03\x04", "a\0b", "\x1b[31m", "a\\b", "m\u00fcller"])
def test_an_owner_holds_no_byte_order_mark_and_no_control_character(owner):
    assert reason(line(head=HEAD.replace(OWNER, owner, 1))) == "not_a_record"


def test_carriage_returns_at_the_end_are_no_data():
    assert record(line() + "\r\r")["source_region"] == "eu-west-1"


def torn(text: str, *before: str) -> tuple[int, list[str]]:
    """Return the number of records in lines of which the last has no LF, and why the others are not records."""
    parsed = parse_log("\n".join([*before, text]).encode())
    return len(parsed.records), list(parsed.rejected["reason"])


def test_a_line_cut_anywhere_after_whole_ones_is_no_record():
    whole = line(tail=" ".join(FULL))
    found = [torn(whole[:end], whole, line("-"), whole) for end in range(1, len(whole))]
    assert {records for records, _ in found} == {3}
    assert all(len(reasons) == 1 for _, reasons in found)
    tail = len(whole) - len(" ".join(FULL))
    assert {reason for _, (reason,) in found[tail:]} == {"torn"}
    assert torn(whole, whole) == (2, [])
    assert torn(whole + "\n", whole) == (2, [])


def test_a_lone_line_without_lf_is_a_record_if_its_columns_have_their_shapes():
    whole = line(tail=" ".join(FULL))
    assert torn(whole.removesuffix(" eu-west-1")) == (1, [])
    assert torn(whole.removesuffix("s eu-west-1")) == (0, ["torn"])
    assert torn(whole.removesuffix("-west-1")) == (0, ["torn"])


def test_shorter_lines_that_end_with_lf_are_not_torn():
    assert torn("", line(), line(tail="-")) == (2, [])


def test_a_torn_line_is_told_by_records_of_its_own_log_object_alone():
    cut = line(tail="- " + HOST_ID).encode()
    parsed = parse_logs([line().encode() + b"\n", cut, cut + b"\n" + cut, line().encode() + b"\n" + cut])
    assert [counts.record_count for counts in parsed.counts] == [1, 1, 2, 1]
    assert [str(line.reason) for line in rejected_of(parsed)] == ["torn"]


def test_a_status_that_the_client_forged_leaves_the_true_one_in_the_referrer():
    found = record(line('"GET /x HTTP/1.1" 200 - 1 1 1 1 " HTTP/1.1"', block="403 AccessDenied 243 - 14 5"))
    assert (found["http_status"], found["bytes_sent"]) == (200, 1)
    assert found["referrer"] == ' HTTP/1.1" 403 AccessDenied 243 - 14 5 "-'


def test_every_reason_describes_itself():
    assert all(item.description.endswith(".") for item in RejectReason)


def test_the_largest_numbers_of_bigint_are_records():
    assert record(line(block="200 - 9223372036854775807 - 0 007"))["bytes_sent"] == 2**63 - 1


@pytest.mark.parametrize("address", ["::1", "2001:db8::ff00:42:8329", "0.0.0.0", "2001:DB8::1", "::192.0.2.1"])
def test_addresses_are_ipv4_or_ipv6(address):
    assert record(line(head=HEAD.replace("192.0.2.3", address)))["remote_ip"] == address


@pytest.mark.parametrize(
    "address",
    ["::ffff:198.51.100.77", "::FFFF:198.51.100.77", "0:0:0:0:0:ffff:198.51.100.77", "::ffff:c633:644d"],
)
def test_an_ipv4_mapped_address_is_the_ipv4_address(address):
    assert record(line(head=HEAD.replace("192.0.2.3", address)))["remote_ip"] == "198.51.100.77"


@pytest.mark.parametrize("address", ["xx.xx.xx.xx", "192.0.2.xx"])
def test_an_address_that_its_owner_has_masked_is_none(address):
    """Null would mean that S3 itself made the request."""
    assert reason(line(head=HEAD.replace("192.0.2.3", address))) == "bad_address"


@pytest.mark.parametrize(("zone", "hour"), [("+0000", 12), ("+0200", 10), ("-0530", 17), ("-0000", 12)])
def test_times_are_kept_in_utc(zone, hour):
    other = line()
    text = line(head=HEAD.replace("00:00:38 +0000", f"12:00:00 {zone}"))
    parsed = parse_logs([f"{other}\n{text}\n".encode()])
    assert records_of(parsed)["request_dtime"].to_pylist()[1].hour == hour
    assert records_of(parsed)["request_dtime"].to_pylist()[0] == datetime(2019, 2, 6, 0, 0, 38, tzinfo=UTC)


def test_a_time_more_than_a_day_ahead_of_now_is_out_of_range():
    when = datetime(2019, 2, 6, 0, 0, 38, tzinfo=UTC)
    data = line().encode()
    assert len(parse_logs([data], now=when - timedelta(days=1)).records) == 1
    (rejected,) = rejected_of(parse_logs([data], now=when - timedelta(days=1, seconds=1)))
    assert rejected.reason is RejectReason.TIME_OUT_OF_RANGE


def test_only_lf_ends_a_line():
    user_agent = '"a\rb\x0bc\x0cd\x85e\u2028f\x1c"'
    parsed = parse_logs([(line(user_agent=user_agent) + "\r\n" + line()).encode()])
    assert parsed.counts[0].line_count == 2
    assert records_of(parsed)["user_agent"].to_pylist() == [user_agent[1:-1], "curl/8.1"]
    assert records_of(parsed)["source_region"].to_pylist() == ["eu-west-1", "eu-west-1"]


@pytest.mark.parametrize(
    ("data", "lines", "blanks"),
    [(b"", 0, 0), (b"\n", 1, 1), (b" \t\r\n\n", 2, 2), (b"\xef\xbb\xbf", 1, 1), (b"\xef\xbb\xbf\r\n \n", 2, 2)],
)
def test_blank_lines_are_counted(data, lines, blanks):
    parsed = parse_log(data)
    assert (parsed.line_count, parsed.blank_count) == (lines, blanks)
    assert len(parsed.records) == len(parsed.rejected) == 0
    assert list(parsed.records.columns) == ["line_number", *FIELD_NAMES]


def test_a_byte_order_mark_at_the_start_of_a_log_is_no_data():
    data = b"\xef\xbb\xbf" + line().encode() + b"\n"
    assert records_of(parse_logs([data, data]))["bucket_owner"].to_pylist() == [OWNER, OWNER]


def test_bytes_that_are_no_text_are_escaped_and_the_neighbours_are_not():
    text = line(user_agent='"UA"').encode()
    data = b"\n".join([text, text.replace(b"UA", b"\0\xff\\x41"), text.replace(b"UA", "ü\\".encode())])
    assert records_of(parse_logs([data]))["user_agent"].to_pylist() == ["UA", r"\x00\xff\x5cx41", "ü\\"]


def test_an_oversized_line_keeps_its_first_64_kib():
    long = b"x" * (2**20 + 1)
    parsed = parse_logs([long + b"\n" + line().encode() + b"\n" + long[1:]])
    first, second = rejected_of(parsed)
    assert (first.reason, first.line, first.line_bytes) == (RejectReason.OVERSIZED, long[: 2**16], 2**20 + 1)
    assert first.sha256 == hashlib.sha256(long).digest()
    assert (second.reason, second.line_number, second.line) == (RejectReason.NOT_A_RECORD, 3, long[1:])
    assert parsed.records["line_number"].tolist() == [2]


def test_pandas_gets_arrow_backed_columns():
    parsed = parse_log((line() + "\nrubbish\n").encode())
    assert all(isinstance(dtype, pd.ArrowDtype) for dtype in parsed.records.dtypes)
    assert str(parsed.records["request_dtime"].dtype) == "timestamp[us, tz=UTC][pyarrow]"
    assert str(parsed.records["http_status"].dtype) == "int16[pyarrow]"
    assert parsed.rejected.to_dict("records") == [{"line_number": 2, "reason": "not_a_record", "line": b"rubbish"}]


def test_no_bodies_give_no_records():
    parsed = parse_logs([])
    records = records_of(parsed)
    assert (records.schema, records.num_rows) == (RECORDS_SCHEMA, 0)
    assert (rejected_of(parsed), parsed.counts, list_months(records)) == ([], (), ())
