from datetime import UTC, date, datetime

import pytest

from tamarin_dagster.logformat import (
    DeliveryHour,
    LogKeyName,
    delivery_day,
    parse_key_name,
    partitioned_prefix,
    simple_prefix,
)

SIMPLE = "2026-03-01-10-15-59-0123456789ABCDEF"
ROOT = "logs/123456789012/eu-west-1/films/"


def test_a_simple_name_says_when_it_was_delivered():
    key = f"logs/{SIMPLE}"
    assert parse_key_name(key, "logs/") == LogKeyName(
        key, datetime(2026, 3, 1, 10, 15, 59, tzinfo=UTC), "0123456789ABCDEF", None, None
    )


def test_a_partitioned_name_says_its_source_bucket_too():
    found = parse_key_name(f"{ROOT}2026/03/01/{SIMPLE}", "logs/")
    assert found is not None
    assert (found.source_bucket, found.delivery_date) == ("films", date(2026, 3, 1))


@pytest.mark.parametrize(("suffix", "compression"), [("", None), (".gz", "gz"), (".zst", "zst")])
def test_compressed_copies_are_log_keys(suffix, compression):
    found = parse_key_name(SIMPLE + suffix)
    assert found is not None
    assert found.compression == compression


@pytest.mark.parametrize("prefix", ["", "s3", "logs/", "2025-01-01-00-00-00-AAAAAAAAAAAAAAAA", "a/2026-03-01-", "é/"])
def test_a_prefix_may_be_anything_even_a_date(prefix):
    found = parse_key_name(prefix + SIMPLE, prefix)
    assert found is not None
    assert found.delivery_date == date(2026, 3, 1)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "logs/",
        SIMPLE,
        f"logs/backup/{SIMPLE}",
        f"logs/{SIMPLE}.txt",
        f"logs/{SIMPLE}.gz.gz",
        f"logs/{SIMPLE}\n",
        f"logs/{SIMPLE[:-1]}",
        f"logs/{SIMPLE}0",
        "logs/2026-02-30-10-15-59-0123456789ABCDEF",
        "logs/2026-13-01-10-15-59-0123456789ABCDEF",
        "logs/2026-03-01-24-00-00-0123456789ABCDEF",
        "logs/2026-03-01-10-15-60-0123456789ABCDEF",
        "logs/0000-03-01-10-15-50-0123456789ABCDEF",
        f"{ROOT}2026/03/02/{SIMPLE}",
        f"{ROOT}2026/03/{SIMPLE}",
        f"logs/12345678901/eu-west-1/films/2026/03/01/{SIMPLE}",
        f"{ROOT}x/2026/03/01/{SIMPLE}",
        "logs/٢٠٢٦-03-01-10-15-59-0123456789ABCDEF",
    ],
)
def test_any_other_name_is_a_stray(key):
    assert parse_key_name(key, "logs/") is None


def test_the_prefix_of_a_day_holds_the_names_of_that_day():
    day = date(2026, 3, 1)
    assert simple_prefix("logs/", day) == "logs/2026-03-01-"
    assert partitioned_prefix(ROOT, day) == f"{ROOT}2026/03/01/"
    assert SIMPLE.startswith(simple_prefix("", day))
    assert simple_prefix("", date(987, 1, 2)) == "0987-01-02-"


def test_the_prefix_of_an_hour_holds_the_names_of_that_hour():
    hour = DeliveryHour(date(2026, 3, 1), 9)
    assert (str(hour), delivery_day(hour), delivery_day(hour.day)) == ("2026-03-01-09", hour.day, hour.day)
    assert simple_prefix("logs/", hour) == "logs/2026-03-01-09-"
    assert partitioned_prefix(ROOT, hour) == f"{ROOT}2026/03/01/2026-03-01-09-"


def test_a_name_is_of_its_day_and_of_its_hour():
    found = parse_key_name(f"logs/{SIMPLE}", "logs/")
    assert found.delivery_hour == DeliveryHour(date(2026, 3, 1), 10)
    assert found.is_of(date(2026, 3, 1))
    assert found.is_of(DeliveryHour(date(2026, 3, 1), 10))
    assert not found.is_of(date(2026, 3, 2))
    assert not found.is_of(DeliveryHour(date(2026, 3, 1), 11))
    assert not found.is_of(DeliveryHour(date(2026, 3, 2), 10))
