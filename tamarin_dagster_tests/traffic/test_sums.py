"""Merged sums are the sums of all records, however these are divided, and whether or not they were bytes in between."""

from collections import Counter
from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.traffic.dimensions import DIMENSIONS
from tamarin_dagster.traffic.hourly import hourly_rows
from tamarin_dagster.traffic.measures import BYTES, COUNTS
from tamarin_dagster.traffic.parts import from_bytes, to_bytes
from tamarin_dagster.traffic.sums import HOUR, HOURS_SCHEMA, complete, merge, schema_of, sum_up
from tamarin_dagster_tests.traffic.records import TIME, records

LARGEST = 2**63 - 1
CHANGES = st.fixed_dictionaries(
    {
        "request_dtime": st.integers(-9 * 3600, 14 * 3600).map(lambda seconds: TIME + timedelta(seconds=seconds)),
        "remote_ip": st.sampled_from([None, "192.0.2.3", "192.0.2.4", "10.0.0.1", "2001:db8::1", "2001:DB8:0::1"]),
        "requester": st.sampled_from([None, "Anonymous", "arn:aws:iam::1:user/a", "svc:cloudfront.amazonaws.com"]),
        "operation": st.sampled_from(["REST.GET.OBJECT", "REST.PUT.OBJECT", "S3.EXPIRE.OBJECT", None]),
        "key": st.sampled_from([None, "a", "b/c", "b/d", '"quoted", \t\\'] * 2 + ["é/\U0001f600"]),
        "http_status": st.sampled_from([None, 200, 206, 403, 503]),
        "error_code": st.sampled_from([None, "AccessDenied", "InternalError"]),
        "bytes_sent": st.none() | st.integers(0, LARGEST) | st.integers(0, 10**6),
        "object_size": st.none() | st.integers(0, 10**9),
        "total_time": st.none() | st.integers(0, 10**5),
        "referrer": st.sampled_from([None, "", "https://a.example/x?1", "https://a.example/x#2"]),
        "source_region": st.sampled_from([None, None, "eu-west-1", "us-east-1"]),
    }
)


def select_rows(dimension: str, sums: pa.Table) -> Counter:
    """Return the rows in no order, with Python's numbers."""
    schema = {each.name: schema_of(each) for each in DIMENSIONS} | {HOUR: HOURS_SCHEMA}
    table = complete(sums, schema[dimension])
    return Counter(
        tuple(
            int(value) if isinstance(value, (int,)) or hasattr(value, "as_tuple") else value for value in row.values()
        )
        for row in table.to_pylist()
    )


@given(st.lists(CHANGES, min_size=1, max_size=30), st.integers(1, 7))
def test_sums_of_parts_are_the_sums_of_all(changes, size):
    whole = sum_up(records(changes), "eu-west-1")
    parts = [sum_up(records(changes[start : start + size]), "eu-west-1") for start in range(0, len(changes), size)]
    for dimension, sums in whole.items():
        merged = merge([from_bytes(to_bytes(part[dimension])) for part in parts])
        assert select_rows(dimension, merge([merged, merged.slice(0, 0)])) == select_rows(dimension, sums)


@given(st.lists(CHANGES, min_size=1, max_size=30))
def test_each_dimension_adds_up_to_the_records(changes):
    sums = sum_up(records(changes), "eu-west-1")
    sent = sum(each["bytes_sent"] or 0 for each in changes)
    for table in sums.values():
        assert sum(table["requests"].to_pylist()) == len(changes)
        found = table["bytes_sent"].to_pylist() if "bytes_sent" in table.column_names else [0]
        assert sum(map(int, found)) == sent
    by_key = Counter()
    for each in changes:
        by_key[each["key"]] += each["bytes_sent"] or 0
    found = complete(sums["key"], schema_of(DIMENSIONS[0]))
    assert {row["value"]: int(row["bytes_sent"]) for row in found.to_pylist()} == by_key


@given(st.lists(CHANGES, min_size=1, max_size=40))
def test_percentiles_of_an_hour_hold_for_its_requests(changes):
    asked = [each | {"operation": "REST.GET.OBJECT", "http_status": 200, "request_dtime": TIME} for each in changes]
    (row,) = hourly_rows(sum_up(records(asked))[HOUR]).to_pylist()
    times = sorted(each["total_time"] for each in asked if each["total_time"] is not None)
    if not times:
        assert (row["p50_total_time"], row["p95_total_time"], row["max_total_time"]) == (None, None, None)
        return
    assert row["max_total_time"] == times[-1]
    for name, share in (("p50_total_time", 0.5), ("p95_total_time", 0.95)):
        exact = next(time for place, time in enumerate(times, 1) if place >= share * len(times))
        assert exact <= row[name] <= exact * (1 + 1 / 64)


def test_a_part_of_a_few_lines_is_small():
    """The sums of a log key with five lines must not be larger than its records, which take about 580 bytes each."""
    changes = [{"key": f"films/{number}.mp4", "remote_ip": f"192.0.2.{number}"} for number in range(5)]
    assert sum(len(to_bytes(sums)) for sums in sum_up(records(changes)).values()) < 5 * 580


BILLING = [
    # a record's changes, its counts, and the bytes that are not sent to the internet
    ({}, {"reads": 1}, {}),
    ({"http_status": 200, "error_code": "InternalError"}, {"error_count": 1, "reads": 1}, {}),
    ({"http_status": 304}, {"reads": 1}, {}),
    ({"http_status": 404, "error_code": "NoSuchKey"}, {"error_count": 1}, {}),
    (
        {"http_status": 403, "error_code": "AccessDenied"},
        {"error_count": 1, "unbilled_requests": 1},
        {"unbilled_bytes"},
    ),
    (
        {"http_status": 403, "error_code": "AccessDenied", "requester": "65a011a29cdf8ec533ec3d1ccaae921c"},
        {"error_count": 1, "unbilled_requests": 1},
        {"unbilled_bytes"},
    ),
    ({"operation": "REST.COPY.OBJECT_GET"}, {"unbilled_requests": 1, "reads": 1}, {"unbilled_bytes"}),
    ({"operation": "REST.COPY.PART_GET", "http_status": 206}, {"unbilled_requests": 1, "reads": 1}, {"unbilled_bytes"}),
    ({"operation": "REST.COPY.OBJECT"}, {"put_requests": 1}, {}),
    ({"operation": "S3.TRANSITION.OBJECT", "http_status": None}, {"glacier_transitions": 1}, {}),
    ({"operation": "S3.TRANSITION_SIA.OBJECT", "http_status": None}, {"ia_transitions": 1}, {}),
    ({"operation": "S3.TRANSITION_INT.OBJECT", "http_status": None}, {"ia_transitions": 1}, {}),
    ({"operation": "S3.TRANSITION_GIR.OBJECT", "http_status": None}, {"gir_transitions": 1}, {}),
    ({"operation": "S3.TRANSITION_GDA.OBJECT", "http_status": None}, {"deep_archive_transitions": 1}, {}),
    (
        {"operation": "S3.EXPIRE.OBJECT", "http_status": None},
        {"unbilled_requests": 1, "deletes": 1},
        {"unbilled_bytes"},
    ),
    ({"remote_ip": "10.0.0.9"}, {"reads": 1}, {"unbilled_bytes"}),
    ({"source_region": "us-east-1"}, {"reads": 1}, {"interregion_bytes"}),
    ({"source_region": "eu-west-1"}, {"reads": 1}, {"unbilled_bytes"}),
    ({"requester": "anonymous", "user_agent": "Amazon CloudFront"}, {"reads": 1}, {"unbilled_bytes"}),
]


@pytest.mark.parametrize(("change", "counts", "sizes"), BILLING)
def test_a_record_counts_for_what_it_is(change, counts, sizes):
    (row,) = complete(sum_up(records([change]), "eu-west-1")["key"], schema_of(DIMENSIONS[0])).to_pylist()
    assert {name: row[name] for name in COUNTS if row[name]} == {"requests": 1} | counts
    assert {name for name in BYTES if row[name]} == {"bytes_sent"} | set(sizes)


@pytest.mark.parametrize("name", ["Anonymous", "anonymous", "ANONYMOUS", "65a011a29cdf8ec533ec3d1ccaae921c", None])
def test_an_anonymous_requester_is_no_requester(name):
    sums = sum_up(records([{"requester": name}, {"requester": None}, {"requester": "arn:aws:iam::1:user/a"}]))
    found = {row["value"]: row["requests"] for row in sums["requester"].to_pylist()}
    assert found == {None: 2, "arn:aws:iam::1:user/a": 1}
