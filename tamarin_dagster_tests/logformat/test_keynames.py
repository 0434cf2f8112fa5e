from datetime import UTC, date, datetime

import pytest

from tamarin_dagster.logformat import (
    DatedFolders,
    DeliveryHour,
    LogKeyName,
    dated_folders,
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
        f"logs/{SIMPLE}.gz.gz",
        f"logs/{SIMPLE}.txt.txt",
        f"logs/{SIMPLE}.log.txt",
        f"logs/{SIMPLE}.gz.zst",
        f"logs/{SIMPLE}.txt.gz.txt",
        f"logs/{SIMPLE}.",
        f"logs/{SIMPLE}.TXT",
        f"logs/{SIMPLE}.txt~",
        f"logs/{SIMPLE}-txt",
        f"logs/{SIMPLE}.tmp",
        f"logs/{SIMPLE}.bz2",
        f"logs/{SIMPLE}.txt.part",
        f"logs/{SIMPLE}.txt/x",
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
        f"{ROOT}x/2026/03/01/{SIMPLE}",
        f"logs/backup/2026/03/01/x/{SIMPLE}",
        f"logs/backup/2026/03/02/{SIMPLE}",
        f"logs/backup/2026/3/1/{SIMPLE}",
        f"logs/backup2026/03/01/{SIMPLE}",
        f"logs/zone/2024/10/11/films/2026/03/01/{SIMPLE}",
        f"logs/zone/2026/03/01/copy/2026/03/01/{SIMPLE}",
        f"logs/zone/2026/03/01/2026/03/01/{SIMPLE}",
        f"other/zone/2026/03/01/{SIMPLE}",
        "logs/zone/2026/02/30/2026-02-30-10-15-59-0123456789ABCDEF",
        f"logs/zone/٢٠٢٦/03/01/{SIMPLE}",
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


@pytest.mark.parametrize(
    ("key", "root", "delivered"),
    [
        ("bkt01-log1/user01/bkt01/2025/07/08/2025-07-08-07-40-35-DB64FAC840EC564B", "bkt01-log1/user01/bkt01/", 7),
        ("vast-user1/bkt02/2025/07/08/2025-07-08-07-40-35-DB64FAC840EC564C", "vast-user1/bkt02/", 7),
        (f"2026/03/01/{SIMPLE}", "", 10),
        (f"12345678901/eu-west-1/films/2026/03/01/{SIMPLE}", "12345678901/eu-west-1/films/", 10),
        (f"123456789012/films/2026/03/01/{SIMPLE}.log", "123456789012/films/", 10),
        (f"a/b/c/d/e/2026-03/2026/03/01/{SIMPLE}.gz", "a/b/c/d/e/2026-03/", 10),
        (f"Z\u00f6ne 1/\u00fc/2026/03/01/{SIMPLE}", "Z\u00f6ne 1/\u00fc/", 10),
        (f"line\nend/2026/03/01/{SIMPLE}", "line\nend/", 10),
    ],
)
@pytest.mark.parametrize("prefix", ["", "logs/", "2024/10/11/", "logs"])
def test_any_folders_may_lie_before_the_year_and_do_not_say_whose_the_log_key_is(prefix, key, root, delivered):
    """Other stores than S3 deliver like this; their log keys were strays."""
    found = parse_key_name(prefix + key, prefix)
    assert found is not None
    assert (found.delivery_time.hour, found.source_bucket) == (delivered, None)
    assert f"{found.delivery_date}" == key.rpartition("/")[2][:10]
    dated = dated_folders(prefix + key, prefix)
    assert dated == DatedFolders(prefix + root, f"{prefix}{root}{key.rpartition('/')[2][:4]}/", None, False)
    assert (prefix + key).startswith(partitioned_prefix(prefix + root, found.delivery_date))
    assert (prefix + key).startswith(partitioned_prefix(prefix + root, found.delivery_hour))


def test_the_folders_of_s3_say_whose_a_log_key_is_also_after_a_longer_prefix():
    key = f"films/123456789012/eu-west-1/media/2026/03/01/{SIMPLE}"
    for prefix in ("", "films/"):
        assert parse_key_name(key, prefix).source_bucket == "media"
        found = dated_folders(key, prefix)
        assert (found.source_bucket, found.is_of_s3) == ("media", prefix == "films/")


@pytest.mark.parametrize("key", ["", "logs/", "logs/a", "logs/2026-03-01", "logs/x2026/03/01/", "other/2026/03/01/x"])
def test_a_name_without_the_folders_of_a_day_has_none(key):
    assert dated_folders(key, "logs/") is None


@pytest.mark.parametrize(
    ("suffix", "compression"),
    [
        (".txt", None),
        (".log", None),
        (".txt.gz", "gz"),
        (".log.gz", "gz"),
        (".txt.zst", "zst"),
        (".log.zst", "zst"),
        (".gz.txt", "gz"),
        (".zst.log", "zst"),
    ],
)
@pytest.mark.parametrize("folder", ["", "2026/03/01/", "zone/user/films/2026/03/01/"])
def test_copies_from_a_browser_or_an_editor_are_log_keys_also_compressed(folder, suffix, compression):
    """A browser saves a log key as `2016-05-04-13-21-15-780444E7C9B1400B.txt`."""
    found = parse_key_name(f"logs/{folder}{SIMPLE}{suffix}", "logs/")
    assert found is not None
    assert (found.unique, found.compression, found.delivery_date) == ("0123456789ABCDEF", compression, date(2026, 3, 1))
