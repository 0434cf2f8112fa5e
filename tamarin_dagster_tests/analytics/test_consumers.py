"""The bytes of consumers, and which of them are your own, on rollups whose answers are known."""

from datetime import date

import pytest
import sqlalchemy as sa

from tamarin_dagster.analytics.consumers import (
    Consumer,
    ConsumerKind,
    Consumers,
    Own,
    as_address,
    find_largest_consumers,
    is_private,
)
from tamarin_dagster_tests.analytics.traffic_rows import DAY

FIRST, LAST = date(2026, 3, 4), date(2026, 3, 6)


def test_shares_are_of_all_bytes_and_the_median_of_the_named(traffic, connection) -> None:
    for day in (FIRST, LAST):
        traffic.daily("remote_ip", day, **{"192.0.2.1": 40_000, "192.0.2.2": 5000, "2001:db8::1": 1000, "": 4000})
    for day in (FIRST - DAY, LAST + DAY):
        traffic.daily("remote_ip", day, **{"192.0.2.2": 9_000_000})

    found = find_largest_consumers(connection, traffic.bucket, ConsumerKind.ip, FIRST, LAST, share=0.05)

    assert found == Consumers(
        bucket=traffic.bucket,
        by=ConsumerKind.ip,
        first=FIRST,
        last=LAST,
        count=3,
        bytes_sent=100_000,
        median_bytes=10_000,
        largest=(
            Consumer("192.0.2.1", requests=80, bytes_sent=80_000, share=0.8, times_median=8.0, own=None),
            Consumer("192.0.2.2", requests=10, bytes_sent=10_000, share=0.1, times_median=1.0, own=None),
        ),
    )


def test_the_view_for_sql_has_the_same_numbers(traffic, connection) -> None:
    traffic.daily("remote_ip", FIRST, **{"192.0.2.1": 40_000, "192.0.2.2": 7000, "2001:db8::1": 1000, "": 4000})
    traffic.daily("remote_ip", LAST, **{"192.0.2.1": 2000, "192.0.2.3": 4000})

    found = find_largest_consumers(connection, traffic.bucket, ConsumerKind.ip, FIRST, LAST)
    rows = connection.execute(
        sa.text(
            "SELECT consumer, requests, bytes_sent, byte_share, times_median FROM s3_hogs(:bucket, :first, :last)"
            " WHERE kind = 'remote_ip' ORDER BY bytes_sent DESC"
        ),
        {"bucket": traffic.bucket, "first": FIRST, "last": LAST},
    )

    assert found.median_bytes == 5500
    assert [(c.name, c.requests, c.bytes_sent, c.share, c.times_median) for c in found.largest] == [
        (*row[:3], pytest.approx(row[3]), pytest.approx(row[4])) for row in rows
    ]


def test_of_anonymous_requests_nobody_is_the_consumer(traffic, connection) -> None:
    traffic.daily("requester", FIRST, **{"": 90_000, "arn:aws:iam::123456789012:user/a": 10_000, "AmazonS3": 100})

    found = find_largest_consumers(connection, traffic.bucket, ConsumerKind.requester, FIRST, LAST)

    assert [(each.name, each.bytes_sent, each.own) for each in found.largest] == [
        ("arn:aws:iam::123456789012:user/a", 10_000, None),
        ("AmazonS3", 100, Own.SERVICE),
    ]
    assert (found.count, found.bytes_sent) == (2, 100_100)


def test_bytes_that_are_asked_for_are_the_least(traffic, connection) -> None:
    traffic.daily("remote_ip", FIRST, **{"192.0.2.1": 5000, "192.0.2.2": 4999, "192.0.2.3": 0})

    found = find_largest_consumers(connection, traffic.bucket, ConsumerKind.ip, FIRST, LAST, min_bytes=5000)

    assert [each.name for each in found.largest] == ["192.0.2.1"]
    assert found.median_bytes == 4999


def test_without_any_bytes_nobody_has_a_share(traffic, connection) -> None:
    nothing = find_largest_consumers(connection, traffic.bucket, ConsumerKind.ip, FIRST, LAST)
    assert (nothing.count, nothing.bytes_sent, nothing.median_bytes, nothing.largest) == (0, 0, 0, ())

    traffic.daily("remote_ip", FIRST, **{"192.0.2.1": 0})
    found = find_largest_consumers(connection, traffic.bucket, ConsumerKind.ip, FIRST, LAST)
    assert (found.count, found.largest) == (1, ())


def test_who_is_mostly_free_of_charge_is_ones_own(traffic, connection) -> None:
    traffic.daily("remote_ip", FIRST, **{"192.0.2.1": (10_000, 5001), "192.0.2.2": (10_000, 5000), "10.1.2.3": 10_000})

    found = find_largest_consumers(connection, traffic.bucket, ConsumerKind.ip, FIRST, LAST)

    assert {each.name: each.own for each in found.largest} == {
        "192.0.2.1": Own.FREE,
        "192.0.2.2": None,
        "10.1.2.3": Own.PRIVATE,
    }


@pytest.mark.parametrize(
    ("name", "private"),
    [
        ("10.255.255.255", True),
        ("172.31.0.1", True),
        ("172.32.0.1", False),
        ("100.64.0.1", True),
        ("169.254.169.254", True),
        ("::ffff:192.168.0.1", True),
        ("fd00::1", True),
        ("::1", True),
        ("2001:db8::1", False),
        ("203.0.113.7", False),
        ("52.95.110.1", False),
    ],
)
def test_private_is_what_nobody_has_on_the_internet(name, private) -> None:
    assert is_private(as_address(name)) is private


@pytest.mark.parametrize(
    ("requester", "service"),
    [
        ("svc:cloudfront.amazonaws.com", True),
        ("s3.amazonaws.com", True),
        ("arn:aws:sts::123456789012:assumed-role/AWSServiceRoleForBackup/session", True),
        ("arn:aws:sts::123456789012:assumed-role/Loader/i-0abc", False),
        ("notamazonaws.com", False),
        ("79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be", False),
    ],
)
def test_services_of_aws_are_known_by_their_names(traffic, connection, requester, service) -> None:
    traffic.daily("requester", FIRST, **{requester: 10_000})

    (found,) = find_largest_consumers(connection, traffic.bucket, ConsumerKind.requester, FIRST, LAST).largest

    assert (found.own is Own.SERVICE) is service
