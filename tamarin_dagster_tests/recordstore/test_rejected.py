"""Rejected lines: which keys have them, and their chunks."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from tamarin_dagster.recordstore import ledger, rejected
from tamarin_dagster.recordstore.rejected import RejectedKey, StoredLine
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.recordstore.log_keys import DAY, load_keys, log_key

JUNK = b"no log line at all\n"


@pytest.fixture
def connection(engine):
    with engine.connect() as connection:
        yield connection


def names(connection: sa.Connection, first=None, last=None, *, bucket="media", limit=100, after=0) -> list[str]:
    return [key.key for key in rejected.list_keys_with_rejected_lines(connection, bucket, first, last, limit, after)]


def test_live_keys_with_rejected_lines_are_found_in_the_order_of_their_ids(engine, connection, rows):
    keys = [log_key(f"{number}", day=DAY + timedelta(days=number % 3)) for number in range(6)]
    load_keys(engine, keys, [lines(1) + JUNK] * 6)
    load_keys(engine, [log_key("good")], [lines(1)])
    load_keys(engine, [log_key("films")], [JUNK], bucket="films", log_bucket_name="elsewhere")
    load_keys(engine, [log_key("over", "old")], [JUNK])
    load_keys(engine, [log_key("over", "new", minutes=1)], [lines(1)])
    ids = dict(rows("SELECT key, id FROM s3_log_key WHERE superseded_at IS NULL"))
    with engine.begin() as writing:
        ledger.mark_purged(writing, [ids["2"]])
    found = names(connection)
    assert sorted(found) == ["0", "1", "2", "3", "4", "5"]
    assert [ids[name] for name in found] == sorted(ids[name] for name in found)
    assert names(connection, limit=2, after=ids[found[1]]) == found[2:4]
    assert names(connection, after=ids[found[-1]]) == []
    assert sorted(names(connection, DAY + timedelta(days=1))) == ["1", "2", "4", "5"]
    assert sorted(names(connection, None, DAY)) == ["0", "3"]
    assert sorted(names(connection, DAY + timedelta(days=1), DAY + timedelta(days=1))) == ["1", "4"]
    assert rejected.list_keys_with_rejected_lines(connection, "films", None, None, 9) == [
        RejectedKey(ids["films"], "films", "elsewhere", DAY)
    ]


def test_an_expired_key_is_neither_found_nor_locked(engine, connection, rows):
    """Retention has dropped its records since; the lock reports this to a reparse that found the key earlier."""
    load_keys(engine, [log_key("a"), log_key("b")], [JUNK, JUNK])
    found = rejected.list_keys_with_rejected_lines(connection, "media", None, None, 9)
    rows("UPDATE s3_log_key SET expired_at = now() WHERE key = 'a'")
    assert names(connection) == ["b"]
    assert [rejected.lock(connection, key) for key in found] == [key.key == "b" for key in found]


def test_the_few_keys_with_rejected_lines_are_found_by_an_index(engine, rows):
    """Ten million keys may have none."""
    rows(
        "INSERT INTO s3_log_key (bucket, log_bucket_name, key, etag, size, last_modified, delivery_date, line_count,"
        " record_count, rejected_count, blank_count)"
        " SELECT 'media', 'logs', n, 'a', 1, now(), '2026-03-05', 0, 0, 0, 0 FROM generate_series(1, 39999) n"
    )
    rows("ANALYZE s3_log_key")
    load_keys(engine, [log_key("a")], [JUNK])
    with engine.connect() as connection:
        connection.execute(sa.text("LOAD 'auto_explain'"))
        for setting in ("log_min_duration = 0", "log_level = 'NOTICE'"):
            connection.execute(sa.text(f"SET auto_explain.{setting}"))
        reported: list[str] = []
        connection.connection.driver_connection.add_notice_handler(
            lambda notice: reported.append(notice.message_primary)
        )
        connection.execute(sa.text("SET client_min_messages = 'NOTICE'"))
        assert names(connection) == ["a"]
    plan = reported[-1]
    assert "s3_log_key_rejected" in plan
    assert "Seq Scan" not in plan


@pytest.fixture
def key_id(engine, rows) -> int:
    """Load a key with ten rejected lines of 100 bytes; of the fifth only the start is stored."""
    body = b"".join(b"%d" % number * 100 + b"\n" + lines(1) for number in range(10))
    load_keys(engine, [log_key("before"), log_key("a"), log_key("z")], [JUNK, body, JUNK])
    ((id_,),) = rows("SELECT id FROM s3_log_key WHERE key = 'a'")
    rows("UPDATE s3_rejected_line SET line = 'start' WHERE log_key_id = :id AND line_number = 9", id=id_)
    return id_


STORED = [
    StoredLine(2 * number + 1, "not_a_record", None if number == 4 else b"%d" % number * 100) for number in range(10)
]


@pytest.mark.parametrize("fetched", [1, 3, 50])
@pytest.mark.parametrize(
    ("limit", "value", "sizes"),
    [
        ("CHUNK_LINES", 1, [1] * 10),
        ("CHUNK_LINES", 4, [4, 4, 2]),
        ("CHUNK_LINES", 10, [10]),
        ("CHUNK_BYTES", 1, [1, 1, 1, 1, 2, 1, 1, 1, 1]),
        ("CHUNK_BYTES", 300, [3, 4, 3]),
        ("CHUNK_BYTES", 900, [10]),
        ("CHUNK_BYTES", 10_000, [10]),
    ],
)
def test_a_keys_lines_come_in_chunks(connection, key_id, monkeypatch, limit, value, sizes, fetched):
    monkeypatch.setattr(rejected, limit, value)
    monkeypatch.setattr(rejected, "FETCH_LINES", fetched)
    chunks = list(rejected.read_stored_lines(connection, key_id))
    assert [len(chunk) for chunk in chunks] == sizes
    assert [line for chunk in chunks for line in chunk] == STORED


def test_what_is_deleted_between_two_chunks_comes_all_the_same(engine, connection, key_id, monkeypatch):
    monkeypatch.setattr(rejected, "CHUNK_LINES", 3)
    monkeypatch.setattr(rejected, "FETCH_LINES", 1)
    chunks = rejected.read_stored_lines(connection, key_id)
    found = next(chunks)
    connection.execute(sa.text("DELETE FROM s3_rejected_line"))
    assert [*found, *(line for chunk in chunks for line in chunk)] == STORED


def test_a_locked_key_is_nobody_elses(engine, connection, rows):
    load_keys(engine, [log_key("a"), log_key("b")], [JUNK, JUNK])
    (a, b) = rejected.list_keys_with_rejected_lines(connection, "media", None, None, 9)
    assert rejected.lock(connection, a)
    assert rows("SELECT id FROM s3_log_key FOR UPDATE SKIP LOCKED") == [(b.id,)]


def test_of_a_key_that_is_no_longer_live_there_is_no_lock(engine, connection, rows):
    load_keys(engine, [log_key("a", "old")], [JUNK])
    (key,) = rejected.list_keys_with_rejected_lines(connection, "media", None, None, 9)
    assert rejected.lock(connection, key)
    connection.rollback()
    load_keys(engine, [log_key("a", "new", minutes=1)], [JUNK + b"\n"])
    assert not rejected.lock(connection, key)
    connection.rollback()
    load_keys(engine, [log_key("a", "old", minutes=2)], [JUNK])
    assert not rejected.lock(connection, key)
