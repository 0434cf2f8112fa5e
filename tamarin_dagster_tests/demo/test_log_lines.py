import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from tamarin_dagster.demo import DemoSite, make_hour_lines, make_lines_between
from tamarin_dagster.demo.catalogue import make_catalogue
from tamarin_dagster.demo.deliveries import make_body
from tamarin_dagster.demo.site import AVERAGE_RHYTHM, SCRAPER_IP, rhythm
from tamarin_dagster.logformat import parse_log

HOUR = datetime(2026, 11, 20, 20, tzinfo=UTC)
WELL_FORMED = DemoSite(broken_share=0.0)

# Written from the S3 user guide, not from the generator: 27 fields, one blank between two fields.
NUMBER = r"(?:-|\d+)"
LINE = re.compile(
    r"(?P<owner>[0-9a-f]{64}) (?P<bucket>[a-z0-9.-]{3,63}) "
    r"\[(?P<time>\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} \+0000)\] (?P<ip>-|[0-9a-f.:]+) "
    r"(?P<requester>-|AmazonS3|[0-9a-f]{64}|arn:aws:(?:iam|sts)::\w+:[\w./@-]+(?: Origin Access Identity \w+)?) "
    r"(?P<request_id>[0-9A-Z]{16}) (?P<operation>(?:REST|BATCH|S3)(?:\.[A-Z0-9_]+){2}) (?P<key>\S+) "
    r'(?P<uri>-|"-"|"[A-Z]+ /\S* HTTP/1\.1") (?P<status>-|\d{3}) (?P<error>-|[A-Za-z]+) '
    rf"(?P<sent>{NUMBER}) (?P<size>{NUMBER}) (?P<total>{NUMBER}) (?P<turnaround>{NUMBER}) "
    r'(?P<referrer>-|"[^"]+") (?P<agent>-|"[^"]+") (?P<version>-) (?P<host_id>[A-Za-z0-9+/]{75}=) '
    r"(?P<signature>-|SigV4) (?P<cipher>-|[A-Z0-9_-]+) (?P<authentication>-|AuthHeader|QueryString) "
    r"(?P<host>-|[a-z0-9.-]+) (?P<tls>-|TLSv1\.[23]) (?P<access_point>-|arn:aws:s3:\S+) "
    r"(?P<acl>-|Yes) (?P<region>-|[a-z0-9-]+)"
)


def fields(line):
    match = LINE.fullmatch(line)
    assert match, line
    return match.groupdict()


@pytest.fixture(scope="module")
def mixed():
    """Return the fields of 48,000 lines, from every third hour of two days."""
    starts = [datetime(2026, 11, 19, tzinfo=UTC) + timedelta(hours=3 * step) for step in range(16)]
    lines = [
        line for start in starts for line in make_lines_between(WELL_FORMED, start, start + timedelta(hours=1), 3_000)
    ]
    assert len(lines) == 48_000
    return [fields(line) | {"line": line} for line in lines]


def test_the_lines_of_an_hour_are_these_on_every_machine():
    """The demo's history must survive an upgrade of Python or NumPy; otherwise it is loaded a second time."""
    body = make_body(make_hour_lines(WELL_FORMED, HOUR))
    assert (body.count(b"\n"), hashlib.sha256(body).hexdigest()) == (
        183,
        "23bbc7d7e15ba4269f437ae36714a9c65a0f40820463663da85913c16a8966d9",
    )


def test_the_lines_do_not_depend_on_the_process():
    """Nothing may come from `hash()`, which differs between processes."""
    program = (
        "from datetime import UTC, datetime; from tamarin_dagster.demo import *;"
        "print('\\n'.join(make_hour_lines(DemoSite(broken_share=0.0), datetime(2026, 11, 20, 20, tzinfo=UTC))))"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        printed = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert printed.stdout.splitlines() == make_hour_lines(WELL_FORMED, HOUR)


def test_seed_bucket_and_hour_make_a_difference():
    sites = (WELL_FORMED, DemoSite(seed=7, broken_share=0.0), DemoSite(bucket="other-example-org", broken_share=0.0))
    hours = [make_hour_lines(site, HOUR) for site in sites] + [make_hour_lines(WELL_FORMED, HOUR + timedelta(hours=1))]
    ids = [{fields(line)["request_id"] for line in lines} for lines in hours]
    assert sum(len(found) for found in ids) == len(set().union(*ids))


def test_any_moment_of_an_hour_names_the_hour():
    assert make_hour_lines(WELL_FORMED, HOUR + timedelta(minutes=59)) == make_hour_lines(WELL_FORMED, HOUR)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100, 5_001])
def test_as_many_lines_as_asked_for_within_the_span(count):
    start, end = HOUR + timedelta(minutes=10), HOUR + timedelta(minutes=12)
    lines = make_lines_between(WELL_FORMED, start, end, count)
    assert len(lines) == count
    times = [datetime.strptime(fields(line)["time"], "%d/%b/%Y:%H:%M:%S %z") for line in lines]
    assert all(start <= moment < end for moment in times)


def test_times_ascend_but_for_a_few_seconds():
    lines = make_lines_between(WELL_FORMED, HOUR, HOUR + timedelta(hours=1), 2_000)
    times = [datetime.strptime(fields(line)["time"], "%d/%b/%Y:%H:%M:%S %z") for line in lines]
    steps_back = [(before - after).total_seconds() for before, after in pairwise(times) if after < before]
    assert 0 < len(steps_back) < 1_000
    assert max(steps_back) <= 6


def test_every_line_has_the_documented_shape_and_about_500_bytes(mixed):
    assert 450 < sum(len(record["line"]) for record in mixed) / len(mixed) < 650


def test_shares_of_the_kinds_are_believable(mixed):
    count = len(mixed)
    status = Counter(record["status"] for record in mixed)
    operation = Counter(record["operation"] for record in mixed)

    def share(number):
        return 100 * number / count

    assert 15 < share(status["206"]) < 45
    assert 3 < share(status["304"]) < 15
    assert 1 < share(status["404"]) < 4
    assert 0.3 < share(status["403"]) < 2
    assert 8 < share(sum(":" in record["ip"] for record in mixed)) < 25
    assert 0.15 < share(sum('filename="' in record["uri"] for record in mixed)) < 0.5
    assert 0.1 < share(sum(n for name, n in operation.items() if name.startswith("S3."))) < 0.5
    assert 0.1 < share(operation["BATCH.DELETE.OBJECT"]) < 0.5
    assert operation["REST.POST.MULTI_OBJECT_DELETE"] > 0
    assert 0.2 < share(operation["REST.PUT.OBJECT"]) < 1
    assert 1 < share(sum("Origin Access Identity" in record["requester"] for record in mixed)) < 4
    assert any("@" in record["requester"] for record in mixed)
    assert any("%25" in record["key"] for record in mixed)
    assert any(int(record["size"]) > 2**32 for record in mixed if record["size"] != "-")
    assert len({record["agent"] for record in mixed}) > 200


def test_files_are_popular_by_zipf(mixed):
    keys = Counter(
        record["key"] for record in mixed if record["operation"] == "REST.GET.OBJECT" and record["ip"] != SCRAPER_IP
    )
    assert sum(number for _, number in keys.most_common(len(keys) // 10)) > 0.45 * sum(keys.values())


def test_media_are_read_in_ranges_by_one_visitor_after_another(mixed):
    views = Counter((record["ip"], record["key"]) for record in mixed if record["status"] == "206")
    assert sum(number > 1 for number in views.values()) > len(views) // 3
    assert all(
        0 < int(record["sent"]) <= int(record["size"])
        for record in mixed
        if record["status"] in {"200", "206"} and record["sent"] != "-" and record["size"] != "-"
    )


def test_the_scraper_walks_through_all_keys():
    site = DemoSite(broken_share=0.0, seed=3)
    asked = set()
    for hour in range(24 * 6):
        start = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=hour)
        asked |= {
            fields(line)["key"]
            for line in make_lines_between(site, start, start + timedelta(hours=1), 600)
            if f" {SCRAPER_IP} " in line
        }
    assert len(asked) > 0.5 * len(make_catalogue(site).files)


def test_batch_deletes_share_the_request_id_of_their_request(mixed):
    requests = {record["request_id"] for record in mixed if record["operation"] == "REST.POST.MULTI_OBJECT_DELETE"}
    deleted = [record for record in mixed if record["operation"] == "BATCH.DELETE.OBJECT"]
    assert {record["request_id"] for record in deleted} <= requests
    assert all(record["uri"] == record["referrer"] == record["agent"] == "-" for record in deleted)


def test_evenings_are_busier_than_nights_and_weekends_busier_than_workdays():
    night, evening = datetime(2026, 11, 20, 3, tzinfo=UTC), datetime(2026, 11, 20, 20, tzinfo=UTC)
    assert len(make_hour_lines(WELL_FORMED, evening)) > 3 * len(make_hour_lines(WELL_FORMED, night))
    assert rhythm(datetime(2026, 11, 21, 20, tzinfo=UTC)) > rhythm(datetime(2026, 11, 18, 20, tzinfo=UTC))
    week = [rhythm(datetime(2026, 11, 16, tzinfo=UTC) + timedelta(hours=hour)) for hour in range(7 * 24)]
    assert abs(sum(week) / len(week) - AVERAGE_RHYTHM) < AVERAGE_RHYTHM / 50


def test_broken_lines_are_beginnings_of_the_lines_that_would_be_there():
    whole = make_lines_between(WELL_FORMED, HOUR, HOUR + timedelta(hours=1), 20_000)
    broken = make_lines_between(DemoSite(broken_share=0.01), HOUR, HOUR + timedelta(hours=1), 20_000)
    cut = [(before, after) for before, after in zip(whole, broken, strict=True) if before != after]
    assert 120 < len(cut) < 290
    assert all(before.startswith(after) and len(after) > 80 for before, after in cut)
    assert not any(LINE.fullmatch(after) for _, after in cut)


def test_the_parser_takes_every_line_but_the_broken_ones():
    whole = make_lines_between(WELL_FORMED, HOUR, HOUR + timedelta(hours=1), 20_000)
    broken = make_lines_between(DemoSite(broken_share=0.01), HOUR, HOUR + timedelta(hours=1), 20_000)
    parsed = parse_log(make_body(whole))
    assert (parsed.line_count, len(parsed.records), len(parsed.rejected)) == (20_000, 20_000, 0)
    expected = [fields(line) for line in whole]
    for column, field in (
        ("request_id", "request_id"),
        ("key", "key"),
        ("operation", "operation"),
        ("remote_ip", "ip"),
    ):
        found = parsed.records[column].astype(object).where(parsed.records[column].notna(), "-").tolist()
        assert found == [record[field] for record in expected]
    uris = [None if record["uri"].strip('"') == "-" else record["uri"].split(" ")[1] for record in expected]
    assert (
        parsed.records["request_uri"].astype(object).where(parsed.records["request_uri"].notna(), None).tolist() == uris
    )
    parsed = parse_log(make_body(broken))
    cut = [number for number, (before, after) in enumerate(zip(whole, broken, strict=True), start=1) if before != after]
    assert parsed.rejected["line_number"].tolist() == cut
    assert len(parsed.records) == 20_000 - len(cut)


@pytest.mark.parametrize("values", [{"lines_per_hour": 0}, {"broken_share": 1.5}, {"broken_share": -0.1}])
def test_a_site_that_makes_no_sense_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        DemoSite(**values)


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        make_hour_lines(WELL_FORMED, datetime(2026, 11, 20, 20))  # noqa: DTZ001 - the mistake to find
