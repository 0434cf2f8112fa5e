"""The ledger judges a generation by the rows of its name: first by bytes, then by time."""

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tamarin_dagster.recordstore import generations, ledger, loading
from tamarin_dagster.recordstore.generations import DigestNeededError, Row, Verdict, judge
from tamarin_dagster.recordstore.loading import load
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.recordstore.log_keys import load_keys, log_key, prepared

A, B = (hashlib.sha256(text).digest() for text in (b"a", b"b"))
TEN = datetime(2026, 3, 5, 10, tzinfo=UTC)
MD5 = "0123456789abcdef0123456789abcdef"
LIVE = (
    "SELECT etag, version_id, record_count, purged_at IS NOT NULL, returned_at IS NOT NULL, archived_at IS NOT NULL,"
    " to_char(last_modified AT TIME ZONE 'UTC', 'HH24:MI') FROM s3_log_key WHERE superseded_at IS NULL ORDER BY id"
)


def row(etag: str = "a", *, minutes: int = 0, digest: bytes | None = A, purged: bool = True, size: int = 100) -> Row:
    modified = TEN + timedelta(minutes=minutes)
    return Row(1, "k", etag, None, size, modified, TEN if purged else None, None, digest, None, None)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        # other bytes: the time decides
        ([], Verdict.LOAD),
        ([row("b", digest=B, minutes=-1)], Verdict.LOAD),
        ([row("b", digest=B, minutes=1)], Verdict.OUTDATED),
        ([row("b", digest=B)], Verdict.OUTDATED),
        ([row("b", digest=B, purged=False)], Verdict.LOAD),
        ([row("b", digest=B, purged=False, minutes=1)], Verdict.LOADED),
        # the same bytes: the same delivery, whatever ETag and time are
        ([row("b", minutes=-5)], Verdict.SAME),
        ([row("b", minutes=5)], Verdict.SAME),
        ([row("b", purged=False)], Verdict.SAME),
        ([row("b", minutes=-5), row("c", digest=B, minutes=-2)], Verdict.SAME),
        ([row("b", size=99)], Verdict.OUTDATED),
        # the very generation
        ([row()], Verdict.LOADED),
        ([row(purged=False)], Verdict.LOADED),
        # loaded by an earlier version, which kept no digest: an ETag of the bytes decides, another one cannot
        ([row(digest=None, purged=False)], Verdict.LOADED),
        ([row(digest=None, minutes=-5)], Verdict.OUTDATED),
        ([row("b", digest=None, minutes=-5)], Verdict.LOAD),
        ([row("b", digest=None, minutes=5)], Verdict.OUTDATED),
    ],
)
def test_the_bytes_decide_and_then_the_time(rows: Sequence[Row], verdict: Verdict) -> None:
    assert judge(log_key("k"), A, rows).verdict is verdict


@pytest.mark.parametrize(
    ("etag", "verdict"),
    [
        (MD5, Verdict.SAME),
        (f"{MD5}-12", Verdict.SAME),
        ("0" * 32 + "-1", Verdict.OUTDATED),
        ("18a-64", Verdict.OUTDATED),
    ],
)
def test_of_a_row_without_a_digest_only_an_etag_of_the_bytes_tells_that_they_are_the_same(etag, verdict):
    key = log_key("k", etag, minutes=5)
    assert judge(key, A, [row(etag, digest=None)]).verdict is verdict


def test_a_purged_generation_returns_only_if_it_was_purged_when_it_was_listed():
    """Otherwise another pull has loaded and purged it since, and nothing has returned."""
    assert judge(log_key("k"), A, [row()]).verdict is Verdict.LOADED
    assert judge(replace(log_key("k"), was_purged=True), A, [row()]).verdict is Verdict.SAME


def test_a_large_key_is_read_for_its_digest_only_if_a_row_may_have_its_bytes():
    for rows in ([], [row("b", size=99)], [row("b", digest=None)], [row()]):
        judge(log_key("k"), None, rows, asks_digest=True)
    with pytest.raises(DigestNeededError):
        judge(log_key("k"), None, [row("b")], asks_digest=True)


def purge_all(engine, rows) -> None:
    with engine.begin() as connection:
        ledger.mark_purged(connection, [each for (each,) in rows("SELECT id FROM s3_log_key WHERE purged_at IS NULL")])


def test_content_that_was_put_back_after_a_purge_is_not_loaded_and_its_row_is_live_again(engine, rows):
    load_keys(engine, [log_key("a", "a", version="v1")], [lines(3)])
    rows("UPDATE s3_log_key SET archived_at = now(), archive_place = '/archive'")
    purge_all(engine, rows)
    back = replace(log_key("a", "a", minutes=7, version="v9"), was_purged=True)
    loaded = load_keys(engine, [back], [lines(3)])
    assert (loaded.loaded, loaded.returned, loaded.already_loaded) == ((), (back,), ())
    # the archive has it under the same ETag: it stays there
    assert rows(LIVE) == [("a", "v9", 3, False, True, True, "10:07")]
    purge_all(engine, rows)
    other_etag = log_key("a", "a2", minutes=9)
    assert load_keys(engine, [other_etag], [lines(3)]).returned == (other_etag,)
    assert rows(LIVE) == [("a2", None, 3, False, True, False, "10:09")]
    assert rows("SELECT count(*), count(archive_place) FROM s3_log_record, s3_log_key") == [(3, 0)]


def test_a_day_whose_records_expired_stays_archived_when_content_returns(engine, rows):
    """It could not be written again."""
    load_keys(engine, [log_key("a"), log_key("b")], [lines(3), lines(1)])
    rows("UPDATE s3_log_key SET archived_at = now()")
    rows("UPDATE s3_log_key SET expired_at = now() WHERE key = 'b'")
    purge_all(engine, rows)
    load_keys(engine, [log_key("a", "a2", minutes=1)], [lines(3)])
    assert rows("SELECT key, etag, archived_at IS NOT NULL FROM s3_log_key ORDER BY key") == [
        ("a", "a2", True),
        ("b", "a", True),
    ]


def test_a_file_whose_mode_was_changed_is_not_loaded_again(engine, rows, contents):
    """Its row takes over the generation, so that the purge deletes it; nothing has returned."""
    load_keys(engine, [log_key("a", "a")], [lines(3)])
    changed = log_key("a", "a-chmod")
    loaded = load_keys(engine, [changed], [lines(3)])
    assert (loaded.loaded, loaded.returned, loaded.already_loaded, loaded.superseded) == ((), (), (changed,), 0)
    assert rows(LIVE) == [("a-chmod", None, 3, False, False, False, "10:00")]


def test_content_that_comes_back_a_second_time_takes_its_etag_from_a_superseded_row(engine, rows):
    """A multipart upload and a single one have two ETags for the same bytes."""
    for minutes, (etag, body) in enumerate([("a", lines(3)), ("b", lines(5)), ("a-2", lines(3)), ("a", lines(3))]):
        load_keys(engine, [log_key("k", etag, minutes=minutes)], [body])
    assert rows("SELECT etag, record_count FROM s3_log_key WHERE superseded_at IS NULL") == [("a", 3)]
    assert rows("SELECT count(*), count(DISTINCT etag) FROM s3_log_key") == [(3, 3)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(3,)]


def test_content_of_a_purged_key_that_overwrites_a_live_one_puts_it_out(engine, rows):
    load_keys(engine, [log_key("k", "a")], [lines(3)])
    purge_all(engine, rows)
    load_keys(engine, [log_key("k", "b", minutes=1)], [lines(5)])
    loaded = load_keys(engine, [log_key("k", "a", minutes=2)], [lines(3)])
    assert (len(loaded.returned), loaded.superseded) == (1, 1)
    assert rows(LIVE) == [("a", None, 3, False, True, False, "10:02")]
    assert rows("SELECT count(*) FROM s3_log_record") == [(3,)]


def test_a_key_that_was_read_before_a_newer_one_was_loaded_and_purged_is_not_loaded(engine, rows, contents):
    """Pull 1 reads A, B overwrites it, pull 2 loads and purges B, pull 1 continues: there were 7 rows for 4 lines."""
    old = log_key("k", "old")
    batch = prepared(engine, "media", "logs", [old], [lines(3)], digests=[hashlib.sha256(lines(3)).digest()])
    load_keys(engine, [log_key("k", "new", minutes=1)], [lines(4)])
    purge_all(engine, rows)
    before = contents()
    loaded = load(engine, batch)
    assert (loaded.loaded, loaded.outdated, loaded.already_loaded) == ((), (old,), ())
    assert contents() == before
    assert rows("SELECT count(*) FROM s3_log_record") == [(4,)]
    assert rows("SELECT etag, line_count, outdated_at IS NOT NULL FROM s3_log_key WHERE superseded_at IS NOT NULL") == [
        ("old", 0, True)
    ]


def test_a_newer_one_that_is_loaded_and_purged_between_look_and_entry_is_noticed(engine, rows, monkeypatch):
    """Everything happens while the slower load is between two of its statements."""
    insert, once = loading._insert, iter([1])

    def insert_late(connection, batch, chosen, run_id, **options):
        if chosen and next(once, None):
            load_keys(engine, [log_key("k", "new", minutes=1)], [lines(4)])
            purge_all(engine, rows)
        return insert(connection, batch, chosen, run_id, **options)

    monkeypatch.setattr(loading, "_insert", insert_late)
    loaded = load_keys(engine, [log_key("k", "old")], [lines(3)])
    assert len(loaded.outdated) == 1
    assert rows("SELECT count(*) FROM s3_log_record") == [(4,)]


def test_two_pulls_at_once_of_content_that_was_put_back_load_nothing(engine, rows):
    for number in range(6):
        name = f"logs/{number}"
        load_keys(engine, [log_key(name)], [lines(3)])
        purge_all(engine, rows)
        back = replace(log_key(name, minutes=1), was_purged=True)
        digests = [hashlib.sha256(lines(3)).digest()]
        batches = [prepared(engine, "media", "logs", [back], [lines(3)], digests=digests) for _ in range(2)]
        barrier = threading.Barrier(2)

        def work(batch, barrier=barrier):
            barrier.wait()
            return load(engine, batch)

        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(work, batches))
        assert [len(each.loaded) for each in done] == [0, 0]
        assert sum(len(each.returned) for each in done) == 1
    assert rows("SELECT count(*), count(DISTINCT log_key_id) FROM s3_log_record") == [(18, 6)]
    assert rows("SELECT count(*), count(purged_at) FROM s3_log_key") == [(6, 5)]


def test_judging_a_name_takes_one_probe_of_an_index(rows, engine):
    rows(
        "INSERT INTO s3_log_key (bucket, log_bucket_name, key, etag, size, last_modified, delivery_date, line_count,"
        " record_count, rejected_count, blank_count, purged_at)"
        " SELECT 'media', 'logs', 'k' || to_char(n, 'FM00000'), 'a', 1, now(),"
        " '2026-03-05', 0, 0, 0, 0, now() FROM generate_series(0, 39999) n"
    )
    rows("ANALYZE s3_log_key")
    with engine.connect() as connection:
        names = [f"k{number:05}" for number in range(100)]
        assert len(generations.lock_rows(connection, "logs", names)) == 100
        assert generations.has_unknown_rows(connection, "logs", names, [])
        plan = connection.exec_driver_sql(
            "EXPLAIN SELECT id FROM s3_log_key WHERE log_bucket_name = 'logs' AND key = ANY(%s)"
            " AND superseded_at IS NULL ORDER BY key, id FOR UPDATE",
            (names,),
        ).all()
    assert any("s3_log_key_generation" in line for (line,) in plan), plan
