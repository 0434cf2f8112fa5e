"""reparse: rejected lines that are records now become records, each once, whatever happens meanwhile."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa

from tamarin_dagster.pipeline import reparse as reparsing
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster.pipeline.reparse import Reparsed, reparse_bucket
from tamarin_dagster.recordstore import ledger, rejected
from tamarin_dagster.recordstore.loading import load
from tamarin_dagster.settings import LoggedBucket
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.older_parser import insert_rejected, reject
from tamarin_dagster_tests.recordstore.log_keys import DAY, load_keys, log_key, prepared

JUNK = b"no log line at all\n"
BAD_ID = "BADBADBADBADBAD0"
NEXT = DAY + timedelta(days=1)
MEDIA = LoggedBucket(name="media", log_bucket_name="logs")
LEDGER = (
    "SELECT key, line_count, record_count, rejected_count, blank_count, first_request_dtime, last_request_dtime"
    " FROM s3_log_key WHERE superseded_at IS NULL ORDER BY key"
)
RECORDS = "SELECT k.key, line_number FROM s3_log_record JOIN s3_log_key k ON k.id = log_key_id ORDER BY 1, 2"
REJECTED = (
    "SELECT k.key, line_number, reason FROM s3_rejected_line JOIN s3_log_key k ON k.id = log_key_id ORDER BY 1, 2"
)
# What Postgres refuses from everybody.
REFUSE = f"ALTER TABLE s3_log_record ADD CONSTRAINT refuse CHECK (request_id <> '{BAD_ID}') NOT VALID"


def counts(done: Reparsed) -> dict[str, int]:
    names = ("keys", "changed", "lines", "moved", "rejected", "reasons_changed", "oversized")
    return {name: getattr(done, name) for name in names if getattr(done, name)}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ids(rows) -> list[int]:
    return [row[0] for row in rows("SELECT id FROM s3_log_key ORDER BY id")]


@pytest.fixture
def is_true(engine, rows):
    """is_true(): return whether the ledger agrees with the rows."""

    def is_true() -> bool:
        with engine.connect() as connection:
            return ledger.count_differences(connection, ids(rows)) == []

    return is_true


@pytest.fixture
def older(engine, rows, contents):
    """Load three log keys like an older parser; return what `contents` would be if the present one had read them.

    a: 4 records, 3 rejected lines that are records now, a blank one; b: 2 records, and 1 line that is junk; c: no
    record, 3 lines that are records now.
    """
    wide = b"\xef\xbb\xbf" + lines(1, "04/Mar/2026:01:02:03 +0000") + lines(5).replace(b"\n", b"\r\n") + b"\n"
    wide += lines(1, "28/Feb/2026:23:59:59 +0000")
    bodies = [wide, lines(1) + JUNK + lines(2), lines(3)]
    load_keys(engine, [log_key(name) for name in "abc"], bodies)
    before = contents()
    reject(rows, "a", bodies[0], [1, 4, 8])
    reject(rows, "b", bodies[1], [4])
    reject(rows, "c", bodies[2], [1, 2, 3])
    assert contents() != before
    return before


def test_the_tables_are_as_if_the_present_parser_had_read_the_keys(engine, rows, contents, older, is_true):
    """With the lines' numbers in their log keys, a byte order mark before the first one, CRs, and ledger times."""
    assert rows(LEDGER)[0] == ("a", 8, 4, 3, 1, at("2026-03-05T09:58:01"), at("2026-03-05T09:58:01"))
    assert rows(LEDGER)[2] == ("c", 3, 0, 3, 0, None, None)
    done = reparse_bucket(MEDIA, engine)
    assert counts(done) == {"keys": 3, "changed": 3, "lines": 8, "moved": 7, "rejected": 1}
    assert (done.failures, done.seconds > 0) == ([], True)
    assert contents() == older
    assert is_true()
    assert rows(LEDGER)[0] == ("a", 8, 7, 0, 1, at("2026-02-28T23:59:59"), at("2026-03-05T09:58:01"))
    assert rows(LEDGER)[2] == ("c", 3, 3, 0, 0, at("2026-03-05T09:58:01"), at("2026-03-05T09:58:01"))
    assert rows(REJECTED) == [("b", 2, "not_a_record")]


def test_a_second_reparse_moves_nothing(engine, contents, older):
    reparse_bucket(MEDIA, engine)
    assert counts(reparse_bucket(MEDIA, engine)) == {"keys": 1, "lines": 1, "rejected": 1}
    assert contents() == older


def test_without_rejected_lines_there_is_nothing_to_do(engine, contents):
    assert counts(reparse_bucket(MEDIA, engine)) == {}
    load_keys(engine, [log_key("a")], [lines(3)])
    before = contents()
    assert counts(reparse_bucket(MEDIA, engine)) == {}
    assert contents() == before


def test_a_request_time_that_was_ahead_is_a_record_once_its_time_has_come(engine, rows, is_true):
    """In a month that had no partition."""
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(days=40)
    body = lines(2) + line(f"{ahead:%d/%b/%Y:%H:%M:%S} +0000") + JUNK
    load_keys(engine, [log_key("a")], [body])
    assert rows(REJECTED) == [("a", 3, "time_out_of_range"), ("a", 4, "not_a_record")]
    assert counts(reparse_bucket(MEDIA, engine)) == {"keys": 1, "lines": 2, "rejected": 2}
    almost = reparse_bucket(MEDIA, engine, now=ahead - timedelta(days=1, seconds=1))
    assert counts(almost) == {"keys": 1, "lines": 2, "rejected": 2}
    done = reparse_bucket(MEDIA, engine, now=ahead - timedelta(days=1))
    assert counts(done) == {"keys": 1, "changed": 1, "lines": 2, "moved": 1, "rejected": 1}
    assert rows(LEDGER) == [("a", 4, 3, 1, 0, at("2026-03-05T09:58:01"), ahead)]
    assert rows("SELECT tableoid::regclass::text FROM s3_log_record WHERE line_number = 3") == [
        (f"s3_log_record_{ahead:%Y_%m}",)
    ]
    assert is_true()


def test_a_month_without_a_partition_gets_one(engine, rows, contents):
    body = lines(1, "31/Dec/2010:23:59:59 +0000") + lines(1) + lines(1, "31/Dec/2010:23:00:00 -0100")
    load_keys(engine, [log_key("a")], [body])
    before = contents()
    reject(rows, "a", body, [1, 2, 3])
    rows("DROP TABLE s3_log_record_2010_12, s3_log_record_2011_01")
    assert reparse_bucket(MEDIA, engine).moved == 3
    assert contents() == before


def test_a_line_that_is_rejected_for_another_reason_gets_that_reason(engine, rows, is_true):
    torn = lines(1)[:150] + b"\n"
    body = lines(1) + JUNK + torn + lines(1) + JUNK
    load_keys(engine, [log_key("a")], [body])
    reject(rows, "a", body, [4])
    rows("UPDATE s3_rejected_line SET reason = 'a_word_of_old' WHERE line_number IN (2, 3)")
    rows("UPDATE s3_rejected_line SET reason = 'bad_status' WHERE line_number = 5")
    done = reparse_bucket(MEDIA, engine)
    assert counts(done) == {"keys": 1, "changed": 1, "lines": 4, "moved": 1, "rejected": 3, "reasons_changed": 3}
    assert rows(REJECTED) == [("a", 2, "not_a_record"), ("a", 3, "too_few_fields"), ("a", 5, "not_a_record")]
    assert rows(LEDGER)[0][:5] == ("a", 5, 2, 3, 0)
    assert is_true()
    assert counts(reparse_bucket(MEDIA, engine)) == {"keys": 1, "lines": 3, "rejected": 3}


def test_a_key_of_which_only_a_reason_changes_keeps_its_counts(engine, rows):
    load_keys(engine, [log_key("a")], [JUNK])
    load_keys(engine, [log_key("b")], [JUNK], bucket="films")
    before = rows(LEDGER)
    rows("UPDATE s3_rejected_line SET reason = 'a_word_of_old'")
    done = reparse_bucket(MEDIA, engine)
    assert counts(done) == {"keys": 1, "changed": 1, "lines": 1, "rejected": 1, "reasons_changed": 1}
    assert rows(REJECTED) == [("a", 1, "not_a_record"), ("b", 1, "a_word_of_old")]
    assert rows(LEDGER) == before


def test_an_oversized_line_is_never_read_again(engine, rows, contents):
    """Its first 64 KiB could be parsed as a record, but that would not be the line's."""
    long = lines(1)[:-1] + b" x" * 600_000
    body = long + b"\n" + lines(2)
    load_keys(engine, [log_key("a"), log_key("b")], [body, long])
    assert rows(REJECTED) == [("a", 1, "oversized"), ("b", 1, "oversized")]
    rows("UPDATE s3_rejected_line SET line = rtrim(convert_from(line, 'UTF8'), ' x')::bytea")
    before = contents()
    reject(rows, "a", body, [3])
    done = reparse_bucket(MEDIA, engine)
    assert counts(done) == {"keys": 2, "changed": 1, "lines": 3, "moved": 1, "oversized": 2}
    assert contents() == before


def test_a_stored_line_that_would_be_blank_now_stays(engine, rows, is_true):
    load_keys(engine, [log_key("a")], [lines(1)])
    rows("UPDATE s3_log_key SET line_count = 4, rejected_count = 3")
    for number, text in enumerate([b"", b" \t", lines(1)[:-1]], 2):
        insert_rejected(rows, ids(rows)[0], number, text)
    done = reparse_bucket(MEDIA, engine)
    assert counts(done) == {"keys": 1, "changed": 1, "lines": 3, "moved": 1, "rejected": 2}
    assert rows(REJECTED) == [("a", 2, "bad_operation"), ("a", 3, "bad_operation")]
    assert rows(LEDGER)[0][:5] == ("a", 4, 2, 2, 0)
    assert is_true()


def test_every_text_of_a_line_reaches_its_record(engine, rows, contents):
    agents = ["a,b", 'say \\"hi\\"', "", " ", "\\x41", "Motörhead 漢字 😀", "\\N", "x" * 50_000]
    body = b"".join(line(user_agent=agent) for agent in agents) + line(key="a\0b\x01")
    load_keys(engine, [log_key("a")], [body])
    before = contents()
    reject(rows, "a", body, [row[1] for row in rows(RECORDS)])
    assert rows("SELECT count(*) FROM s3_log_record") == [(0,)]
    assert reparse_bucket(MEDIA, engine).moved >= 8
    assert contents() == before


def test_only_the_days_asked_for_are_looked_at(engine, rows):
    days = [DAY + timedelta(days=offset) for offset in range(4)]
    for day in days:
        load_keys(engine, [log_key(f"{day}", day=day)], [lines(1)])
        reject(rows, f"{day}", lines(1), [1])
    assert counts(reparse_bucket(MEDIA, engine, first=days[3] + timedelta(days=1))) == {}
    assert counts(reparse_bucket(MEDIA, engine, last=days[0] - timedelta(days=1))) == {}
    assert counts(reparse_bucket(MEDIA, engine, first=days[1], last=days[1]))["moved"] == 1
    assert rows(RECORDS) == [(f"{days[1]}", 1)]
    assert counts(reparse_bucket(MEDIA, engine, last=days[1])) == {"keys": 1, "changed": 1, "lines": 1, "moved": 1}
    assert counts(reparse_bucket(MEDIA, engine, first=days[2])) == {"keys": 2, "changed": 2, "lines": 2, "moved": 2}


def test_only_the_bucket_asked_for_is_looked_at(engine, rows):
    films = MEDIA.model_copy(update={"name": "films"})
    for bucket in (MEDIA, films):
        load_keys(engine, [log_key(bucket.name)], [lines(2)], bucket=bucket.name)
        reject(rows, bucket.name, lines(2), [2])
    assert reparse_bucket(films, engine).moved == 1
    assert rows(REJECTED) == [("media", 2, "bad_operation")]
    assert reparse_bucket(MEDIA, engine).moved == 1


def test_a_superseded_generation_is_not_looked_at_and_a_purged_one_is(engine, rows, contents):
    load_keys(engine, [log_key("a", "old")], [lines(2) + JUNK])
    load_keys(engine, [log_key("a", "new", minutes=1), log_key("b")], [lines(3), lines(2)])
    before = contents()
    reject(rows, "b", lines(2), [1])
    with engine.begin() as connection:
        ledger.mark_purged(connection, [row[0] for row in rows("SELECT id FROM s3_log_key WHERE key = 'b'")])
    assert counts(reparse_bucket(MEDIA, engine)) == {"keys": 1, "changed": 1, "lines": 1, "moved": 1}
    assert contents() == before


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_keys_come_page_by_page(engine, rows, contents, monkeypatch, page):
    """Those that stay rejected are read once, too."""
    monkeypatch.setattr(reparsing, "REPARSE_PAGE_KEYS", page)
    load_keys(engine, [log_key(f"{n}") for n in range(7)], [lines(2) + (JUNK if n % 2 else b"") for n in range(7)])
    before = contents()
    for number in range(0, 7, 3):
        reject(rows, f"{number}", lines(2), [1, 2])
    reported: list[tuple[int, int]] = []
    done = reparse_bucket(MEDIA, engine, progress=lambda done: reported.append((done.keys, done.moved)))
    assert counts(done) == {"keys": 5, "changed": 3, "lines": 9, "moved": 6, "rejected": 3}
    assert reported == [(1, 2), (2, 2), (3, 4), (4, 4), (5, 6)]
    assert contents() == before


@pytest.mark.parametrize(("limit", "value"), [("CHUNK_LINES", 1), ("CHUNK_LINES", 7), ("CHUNK_BYTES", 1000)])
def test_a_key_of_many_chunks_is_one_transaction(engine, rows, contents, monkeypatch, limit, value):
    monkeypatch.setattr(rejected, limit, value)
    body = (lines(3) + JUNK + lines(1) + b"\n") * 6
    load_keys(engine, [log_key("a"), log_key("b")], [body, lines(1)])
    before = contents()
    old = [number for number in range(1, 37) if number % 6 in (1, 2, 5)]
    reject(rows, "a", body, old)
    older = contents()
    with monkeypatch.context() as patch:
        fail_at(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            reparse_bucket(MEDIA, engine)
    assert contents() == older
    assert counts(reparse_bucket(MEDIA, engine)) == {"keys": 1, "changed": 1, "lines": 24, "moved": 18, "rejected": 6}
    assert contents() == before


def fail_at(monkeypatch, call: int, error: BaseException | type[BaseException] = KeyboardInterrupt) -> None:
    """Make the copying of records fail, at that call after the deletion of the lines."""
    copy_parsed, calls = rejected.copy_parsed, 0

    def failing(*arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return copy_parsed(*arguments)

    monkeypatch.setattr(rejected, "copy_parsed", failing)


def test_an_interrupt_leaves_the_key_at_hand_as_it_was(engine, rows, contents, monkeypatch, older):
    with monkeypatch.context() as patch:
        fail_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            reparse_bucket(MEDIA, engine)
    assert [row[:5] for row in rows(LEDGER)] == [("a", 8, 7, 0, 1), ("b", 4, 2, 2, 0), ("c", 3, 0, 3, 0)]
    assert len(rows(REJECTED)) == 5
    assert counts(reparse_bucket(MEDIA, engine)) == {"keys": 2, "changed": 2, "lines": 5, "moved": 4, "rejected": 1}
    assert contents() == older


def test_a_connection_that_is_cut_leaves_the_key_at_hand_as_it_was(engine, rows, contents, monkeypatch, older):
    """And it is not a failure of the log key."""
    copy_parsed = rejected.copy_parsed

    def cut(cursor, *arguments):
        days = copy_parsed(cursor, *arguments)
        rows("SELECT pg_terminate_backend(:pid)", pid=cursor.connection.info.backend_pid)
        return days

    before = contents()
    with monkeypatch.context() as patch:
        patch.setattr(rejected, "copy_parsed", cut)
        with pytest.raises(sa.exc.OperationalError):
            reparse_bucket(MEDIA, engine)
    assert contents() == before
    assert reparse_bucket(MEDIA, engine).moved == 7
    assert contents() == older


def test_a_key_that_postgres_refuses_stays_and_stops_no_other(engine, rows, contents, is_true):
    bodies = [lines(2), lines(3) + line(request_id=BAD_ID) + lines(1), lines(2)]
    load_keys(engine, [log_key("a"), log_key("b", day=NEXT), log_key("c")], bodies)
    before = contents()
    reject(rows, "a", bodies[0], [2])
    reject(rows, "b", bodies[1], [1, 4, 5])
    reject(rows, "c", bodies[2], [1])
    rows(REFUSE)
    done = reparse_bucket(MEDIA, engine)
    assert counts(done) == {"keys": 2, "changed": 2, "lines": 2, "moved": 2}
    (failure,) = done.failures
    assert (failure.key, failure.delivery_date) == ("b", NEXT)
    assert failure.error.startswith("Postgres refuses it: new row for relation ")
    assert "\n" not in failure.error
    assert [row[:5] for row in rows(LEDGER)] == [("a", 2, 2, 0, 0), ("b", 5, 2, 3, 0), ("c", 2, 2, 0, 0)]
    assert rows(REJECTED) == [("b", number, "bad_operation") for number in (1, 4, 5)]
    assert is_true()
    rows("ALTER TABLE s3_log_record DROP CONSTRAINT refuse")
    assert counts(reparse_bucket(MEDIA, engine)) == {"keys": 1, "changed": 1, "lines": 3, "moved": 3}
    assert contents() == before


def test_a_key_that_defeats_the_parser_stays_and_stops_no_other(engine, rows, contents, monkeypatch, older):
    parse_logs = reparsing.parse_logs

    def defeated(bodies, **options):
        if JUNK in bodies:
            raise IndexError("list index out of range")
        return parse_logs(bodies, **options)

    with monkeypatch.context() as patch:
        patch.setattr(reparsing, "parse_logs", defeated)
        done = reparse_bucket(MEDIA, engine)
    assert [(failure.key, failure.error) for failure in done.failures] == [
        ("b", "cannot be parsed: IndexError: list index out of range")
    ]
    assert counts(done) == {"keys": 2, "changed": 2, "lines": 6, "moved": 6}
    assert counts(reparse_bucket(MEDIA, engine)) == {"keys": 1, "changed": 1, "lines": 2, "moved": 1, "rejected": 1}
    assert contents() == older


def test_a_key_of_which_the_copying_fails_is_a_failure_and_keeps_its_lines(engine, rows, monkeypatch, older):
    before = rows(REJECTED)
    with monkeypatch.context() as patch:
        fail_at(patch, 1, psycopg.errors.InvalidTextRepresentation("invalid input syntax"))
        done = reparse_bucket(MEDIA, engine, last=DAY)
    assert [failure.error for failure in done.failures] == ["Postgres refuses it: invalid input syntax"]
    assert [row for row in rows(REJECTED) if row[0] == "a"] == [row for row in before if row[0] == "a"]


def test_reparses_at_once_move_each_line_once(engine, rows, contents, monkeypatch):
    monkeypatch.setattr(rejected, "CHUNK_LINES", 5)
    names = [f"{number}" for number in range(12)]
    bodies = [lines(12) + JUNK for _ in names]
    load_keys(engine, [log_key(name, day=date(2026, 3, 5 + n % 3)) for n, name in enumerate(names)], bodies)
    before = contents()
    for name, body in zip(names, bodies, strict=True):
        reject(rows, name, body, range(1, 10))
    barrier = threading.Barrier(3)

    def work(_) -> Reparsed:
        barrier.wait()
        return reparse_bucket(MEDIA, engine)

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(work, range(3)))
    assert sum(each.moved for each in done) == 108
    assert [each.failures for each in done] == [[], [], []]
    assert contents() == before


def test_two_reparses_that_saw_the_same_lines_move_them_once(engine, contents, monkeypatch, older):
    """The second one reads them again under its lock."""
    ensure_partitions = reparsing.ensure_partitions
    others: list[Reparsed] = []

    def behind_another(*arguments):
        monkeypatch.setattr(reparsing, "ensure_partitions", ensure_partitions)
        ensure_partitions(*arguments)
        others.append(reparse_bucket(MEDIA, engine))

    monkeypatch.setattr(reparsing, "ensure_partitions", behind_another)
    done = reparse_bucket(MEDIA, engine)
    assert [counts(other) for other in others] == [{"keys": 3, "changed": 3, "lines": 8, "moved": 7, "rejected": 1}]
    assert counts(done) == {"keys": 3, "lines": 1, "rejected": 1}
    assert contents() == older


def test_a_key_that_is_superseded_meanwhile_is_left_alone(engine, rows, contents, monkeypatch, is_true):
    """By a load that ends between the first look and the lock."""
    load_keys(engine, [log_key("a", "old")], [lines(4)])
    reject(rows, "a", lines(4), [2, 3])
    ensure_partitions = reparsing.ensure_partitions

    def behind_a_load(*arguments):
        ensure_partitions(*arguments)
        load_keys(engine, [log_key("a", "new", minutes=1)], [lines(7) + JUNK])

    monkeypatch.setattr(reparsing, "ensure_partitions", behind_a_load)
    done = reparse_bucket(MEDIA, engine)
    assert (done.changed, done.moved, done.failures) == (0, 0, [])
    assert [row[:5] for row in rows(LEDGER)] == [("a", 8, 7, 1, 0)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(7,)]
    assert (contents()["orphans"][0], is_true()) == (0, True)


def test_a_load_waits_for_the_reparse_of_its_day_and_takes_the_moved_records_out(engine, rows, monkeypatch, is_true):
    """Also those of a time that the log key's other records do not have."""
    body = lines(2) + lines(1, "01/Jan/2026:00:00:00 +0000")
    load_keys(engine, [log_key("a", "old")], [body])
    reject(rows, "a", body, [3])
    newer = prepared(engine, "media", "logs", [log_key("a", "new", minutes=1)], [lines(5)])
    count_moved, loads = rejected.count_moved, []
    with ThreadPoolExecutor(1) as pool:

        def before_a_load(*arguments):
            loads.append(pool.submit(load, engine, newer))
            with pytest.raises(TimeoutError):
                loads[0].result(timeout=0.5)
            count_moved(*arguments)

        monkeypatch.setattr(rejected, "count_moved", before_a_load)
        assert reparse_bucket(MEDIA, engine).moved == 1
        assert loads[0].result(timeout=10).superseded == 1
    assert rows(RECORDS) == [("a", number) for number in range(1, 6)]
    assert rows(REJECTED) == []
    assert is_true()


def test_loads_and_reparses_of_the_same_keys_at_once_leave_the_newer_generation_alone(engine, rows, contents, is_true):
    for number in range(8):
        names = [f"{number}/{key}" for key in range(4)]
        body = lines(2) + lines(1, "01/Jan/2026:00:00:00 +0000") + JUNK
        load_keys(engine, [log_key(name, "old") for name in names], [body] * 4)
        for name in names:
            reject(rows, name, body, [1, 3])
        newer = prepared(engine, "media", "logs", [log_key(name, "new", minutes=1) for name in names], [lines(5)] * 4)
        barrier = threading.Barrier(3)

        def loading(barrier=barrier, newer=newer):
            barrier.wait()
            assert load(engine, newer).superseded == 4

        def reparsing_(barrier=barrier):
            barrier.wait()
            assert reparse_bucket(MEDIA, engine).failures == []

        with ThreadPoolExecutor(3) as pool:
            for work in [pool.submit(loading), pool.submit(reparsing_), pool.submit(reparsing_)]:
                work.result()
    assert {row[1:5] for row in rows(LEDGER)} == {(5, 5, 0, 0)}
    assert rows("SELECT count(*), count(DISTINCT (log_key_id, line_number)) FROM s3_log_record") == [(160, 160)]
    assert (rows(REJECTED), contents()["orphans"][0], is_true()) == ([], 0, True)


def test_a_key_without_a_rejected_line_left_is_purged(place, engine, rows):
    names = [f"logs/2026-03-05-10-00-00-{number:016X}" for number in range(2)]
    body = lines(3) + lines(1, "01/Jan/2026:00:00:00 +0000")
    place.put(names[0], body)
    place.put(names[1], body + JUNK)
    assert pull_bucket(place.bucket, place.store, engine).failures == []
    for name in names:
        reject(rows, name, body, [2, 4])
    assert purge_bucket(place.bucket, place.store, engine).keys == 0
    assert reparse_bucket(place.bucket, engine).moved == 4
    purged = purge_bucket(place.bucket, place.store, engine)
    assert (purged.keys, purged.failures) == (1, [])
    assert place.names() == [names[1]]
