"""Log keys that are too large for memory: one transaction each, in parts, whatever happens on the way."""

import gzip
import hashlib
import logging
import threading
from dataclasses import replace
from datetime import date

import pytest
import sqlalchemy as sa

from tamarin_dagster.logformat import parser
from tamarin_dagster.logstore import FetchError
from tamarin_dagster.pipeline import pull as pulling
from tamarin_dagster.pipeline.pull import Progress, pull_bucket
from tamarin_dagster.recordstore import ledger, loading
from tamarin_dagster_tests.lines import line, lines

DAY = date(2026, 3, 5)
JUNK = b"no log line at all\n"
COUNTS = (
    "SELECT (SELECT count(*) FROM s3_log_key WHERE superseded_at IS NULL), (SELECT count(*) FROM s3_log_record),"
    " (SELECT count(*) FROM s3_rejected_line)"
)
# Lines of 3 months, some of them rejected or blank, the last without its LF.
BODY = b"".join(lines(40, f"05/{month}/2026:09:58:01 +0000") + JUNK + b"\n" for month in ("Jan", "Feb", "Mar")) + line(
    request_id="ABCDEFABCDEFABCD"
).rstrip(b"\n")
BODY_COUNTS = (127, 121, 3, 3)


def name(number: int = 0, suffix: str = "") -> str:
    return f"logs/{DAY}-10-00-00-{number:016X}{suffix}"


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def place(request):
    """A log bucket of either kind: a large log key does the same to the database."""
    return request.getfixturevalue(f"{request.param}_place")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Large log keys in these tests would be small elsewhere."""
    monkeypatch.setattr(pulling, "BATCH_BYTES", 5000)
    monkeypatch.setattr(parser, "PIECE_BYTES", 4000)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "pipeline"] == []


def pull_all(place, engine, **options):
    return pull_bucket(place.bucket, place.store, engine, **options)


def assert_ledger_is_true(engine, rows):
    with engine.connect() as connection:
        assert ledger.count_differences(connection, [row[0] for row in rows("SELECT id FROM s3_log_key")]) == []


def test_a_large_key_is_loaded_as_if_it_were_small(place, engine, rows, contents, monkeypatch):
    place.put(name(1), BODY)
    place.put(name(2), lines(2))
    place.put(name(3), BODY + b"\n" + BODY)
    reported: list[Progress] = []
    pulled = pull_all(place, engine, progress=reported.append, run_id="run-1")
    in_parts = contents()
    assert pulled.failures == []
    assert rows(
        "SELECT line_count, record_count, rejected_count, blank_count, run_id FROM s3_log_key ORDER BY key"
    ) == [
        (*BODY_COUNTS, "run-1"),
        (2, 2, 0, 0, "run-1"),
        (*(2 * count for count in BODY_COUNTS), "run-1"),
    ]
    assert_ledger_is_true(engine, rows)
    assert len(reported) > 20  # a large key shows its progress
    assert [one.lines for one in reported] == sorted(one.lines for one in reported)
    assert (reported[-1].keys, reported[-1].lines, reported[-1].bytes) == (
        3,
        3 * 127 + 2,
        3 * len(BODY) + 1 + len(lines(2)),
    )
    monkeypatch.undo()
    rows("TRUNCATE s3_log_key, s3_log_record, s3_rejected_line")
    pull_all(place, engine)
    assert contents() == in_parts
    assert pull_all(place, engine).periods[0].keys == 0


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_a_compressed_key_that_unpacks_to_much_is_loaded_in_parts_too(place, engine, rows, suffix):
    place.put(name(1, suffix), gzip.compress(BODY * 3))
    place.put(name(2), lines(1))
    reported: list[Progress] = []
    pulled = pull_all(place, engine, progress=reported.append)
    assert pulled.failures == []
    assert rows("SELECT line_count, record_count FROM s3_log_key ORDER BY key") == [(379, 361), (1, 1)]
    assert len(reported) > 20


def test_a_large_key_without_any_line_end_is_one_rejected_line(place, engine, rows, monkeypatch):
    monkeypatch.setattr(parser, "PIECE_BYTES", 100_000)
    place.put(name(), b"x" * 3_000_000)
    assert pull_all(place, engine).failures == []
    assert rows("SELECT reason, line_bytes, octet_length(line), encode(sha256, 'hex') FROM s3_rejected_line") == [
        (
            "oversized",
            3_000_000,
            65_536,
            hashlib.sha256(b"x" * 3_000_000).hexdigest(),
        )
    ]
    assert rows("SELECT line_count, rejected_count FROM s3_log_key") == [(1, 1)]


@pytest.mark.parametrize("cut", [-20, -2000])
def test_a_corrupt_large_key_fails_alone_and_leaves_nothing(place, engine, rows, cut):
    """The error may come after parts were sent."""
    place.put(name(1, ".gz"), gzip.compress(BODY * 3, compresslevel=0)[:cut])
    place.put(name(2), lines(3))
    (failure,) = pull_all(place, engine).failures
    assert (failure.key, "truncated" in failure.error) == (name(1, ".gz"), True)
    assert rows(COUNTS) == [(1, 3, 0)]
    place.put(name(1, ".gz"), gzip.compress(BODY))
    assert pull_all(place, engine).failures == []
    assert rows(COUNTS) == [(2, 124, 3)]


def test_a_large_key_that_postgres_refuses_fails_alone_and_leaves_nothing(place, engine, rows, monkeypatch):
    render, calls = loading.render, 0

    def refusing(records, ids):
        nonlocal calls
        of_the_large = len(records) > 3  # the small one is loaded at the same time
        calls += of_the_large
        return (*render(records, ids), b"no record" if of_the_large and calls == 4 else b"")

    place.put(name(1), BODY)
    place.put(name(2), lines(3))
    with monkeypatch.context() as patch:
        patch.setattr(loading, "render", refusing)
        (failure,) = pull_all(place, engine).failures
    assert (failure.key, failure.error.startswith("Postgres refuses it: ")) == (name(1), True)
    assert rows(COUNTS) == [(1, 3, 0)]
    pull_all(place, engine)
    assert rows(COUNTS) == [(2, 124, 3)]


class Interrupted:
    """A store whose large log keys do something in the middle; everything else goes to the real store."""

    def __init__(self, store, in_the_middle, at=3) -> None:
        self._store, self._in_the_middle, self._at = store, in_the_middle, at

    def __getattr__(self, attribute):
        return getattr(self._store, attribute)

    def open(self, item):
        opened = self._store.open(item)

        def chunks():
            body = b"".join(opened.chunks)
            for number, start in enumerate(range(0, len(body), 4000)):
                if number == self._at:
                    self._in_the_middle()
                yield body[start : start + 4000]

        return replace(opened, chunks=chunks())


def test_a_large_key_that_changes_while_it_is_read_is_left_to_the_next_pull(place, engine, rows):
    place.put(name(1), BODY)
    place.put(name(2), lines(3))

    def change():
        raise FetchError("it was deleted or overwritten after it was listed; the next run takes what is there then")

    (failure,) = pull_bucket(place.bucket, Interrupted(place.store, change), engine).failures
    assert (failure.key, "overwritten" in failure.error) == (name(1), True)
    assert rows(COUNTS) == [(1, 3, 0)]


def test_an_interrupt_rolls_a_large_key_back_and_says_what_remains(place, engine, rows, contents, caplog):
    """It does not wait for the log key's end."""
    place.put(name(1), (BODY + b"\n") * 4)
    begun, go_on = threading.Event(), threading.Event()

    def wait():
        begun.set()
        assert go_on.wait(20)

    def interrupt(_):
        assert begun.wait(20)
        go_on.set()
        raise KeyboardInterrupt

    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        pull_bucket(place.bucket, Interrupted(place.store, wait, at=2), engine, progress=interrupt)
    assert rows(COUNTS) == [(0, 0, 0)]
    assert "0 log keys loaded; 1 of 1 day incomplete, from 2026-03-05 on" in caplog.text
    pull_all(place, engine)
    assert rows(COUNTS) == [(1, 484, 12)]


def test_a_new_generation_of_a_large_key_takes_the_place_of_the_old_one(folder_place, engine, rows):
    folder_place.put(name(), BODY)
    pull_all(folder_place, engine)
    folder_place.put(name(), BODY[:10_000])
    pull_all(folder_place, engine)
    assert rows("SELECT count(*) FROM s3_log_key WHERE superseded_at IS NOT NULL AND line_count = 0") == [(1,)]
    assert rows("SELECT count(*), count(DISTINCT log_key_id) FROM s3_log_record")[0][1] == 1
    assert_ledger_is_true(engine, rows)


def test_a_large_key_that_another_run_loaded_meanwhile_is_not_even_read(folder_place, engine, rows, contents):
    folder_place.put(name(), BODY)
    opened_by_us = []

    class AtTheEnd(Interrupted):
        def open(self, item):
            pull_all(folder_place, engine)
            opened = self._store.open(item)

            def chunks():
                for chunk in opened.chunks:
                    opened_by_us.append(chunk)
                    yield chunk

            return replace(opened, chunks=chunks())

    pulled = pull_bucket(folder_place.bucket, AtTheEnd(folder_place.store, lambda: None), engine)
    assert (pulled.periods[0].seen, pulled.periods[0].keys) == (1, 0)
    assert rows(COUNTS) == [(1, 121, 3)]


@pytest.mark.parametrize("connections", [1, 3])
def test_a_pull_whose_connection_is_lost_in_the_middle_of_a_large_key_leaves_nothing_of_it(
    folder_place, engine, rows, monkeypatch, connections
):
    folder_place.put(name(), BODY)
    copy, calls = loading._copy_records, 0

    def cut(cursor, data):
        nonlocal calls
        calls += 1
        if calls == 4:
            rows("SELECT pg_terminate_backend(:pid)", pid=cursor.connection.info.backend_pid)
        copy(cursor, data)

    with monkeypatch.context() as patch:
        patch.setattr(loading, "_copy_records", cut)
        with pytest.raises(sa.exc.OperationalError):
            pull_all(folder_place, engine, connections=connections)
    assert rows(COUNTS) == [(0, 0, 0)]
    pull_all(folder_place, engine)
    assert rows(COUNTS) == [(1, 121, 3)]
