"""expire: whole months are dropped, the ledger stays true at every moment, and nothing is loaded a second time."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.pipeline import retain as retention
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster.pipeline.reparse import reparse_bucket
from tamarin_dagster.pipeline.retain import Expired, expire, find_first_kept_day, plan_expiry
from tamarin_dagster.recordstore import expiry, ledger
from tamarin_dagster.recordstore.database import DatabaseError
from tamarin_dagster.recordstore.loading import load
from tamarin_dagster.recordstore.partitions import ensure_partitions
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.older_parser import insert_rejected, reject
from tamarin_dagster_tests.recordstore.log_keys import load_keys, log_key, prepared

TODAY = date(2026, 5, 20)
JUNK = b"no record\n"
DAYS = [date(2026, month, day) for month in (1, 2, 3, 4, 5) for day in (5, 20)]


def name(day: date, number: int = 0) -> str:
    return f"logs/{day}-10-00-00-{number:016X}"


def at(day: date, hour: int = 9) -> str:
    return f"{day:%d/%b/%Y}:{hour:02}:58:01 +0000"


def expire_now(engine: sa.Engine, months: int = 2, **options: Any) -> Expired:
    """Roll up first, like the command. Of the tests' five months, March, April and May are kept."""
    roll_up(engine)
    return expire(engine, months, today=TODAY, **options)


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(retention, "LOCK_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(retention, "LOCK_TIMEOUT", "200ms")


@pytest.fixture
def partitions(rows) -> Callable[[], list[str]]:
    statement = "SELECT relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE relname ~ '^s3_.*[0-9]$'"
    return lambda: [row[0] for row in rows(f"{statement} ORDER BY 1")]


@pytest.fixture
def expired_keys(rows) -> Callable[[], list[str]]:
    return lambda: [row[0] for row in rows("SELECT key FROM s3_log_key WHERE expired_at IS NOT NULL ORDER BY key")]


@pytest.fixture
def five_months(folder_place, engine) -> list[str]:
    """Load two log keys of each month, each with three records and a rejected line; return their names."""
    names = [name(day) for day in DAYS]
    for key, day in zip(names, DAYS, strict=True):
        folder_place.put(key, lines(3, at(day)) + JUNK)
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []
    return names


def differences(engine: sa.Engine, place) -> list[ledger.CountDifference]:
    """Return what the check of each day would find wrong."""
    found = []
    with engine.connect() as connection:
        for day in [*DAYS, date(2026, 2, 28), date(2026, 3, 1)]:
            found += ledger.count_differences(connection, ledger.list_live_ids(connection, place.bucket.name, day))
    return found


@pytest.mark.parametrize(
    ("months", "today", "first_kept"),
    [
        (12, date(2026, 11, 1), date(2025, 11, 1)),
        (12, date(2026, 11, 30), date(2025, 11, 1)),
        (1, date(2026, 1, 31), date(2025, 12, 1)),
        (1, date(2026, 3, 31), date(2026, 2, 1)),
        (24, date(2028, 2, 29), date(2026, 2, 1)),
        (11, date(2026, 12, 5), date(2026, 1, 1)),
    ],
)
def test_the_present_month_and_so_many_before_it_are_kept(months, today, first_kept):
    assert find_first_kept_day(months, today) == first_kept


def test_months_wholly_before_go_and_all_others_stay(five_months, folder_place, engine, rows, partitions, expired_keys):
    done = expire_now(engine)

    assert [partition.name for partition in done.partitions] == ["s3_log_record_2026_01", "s3_log_record_2026_02"]
    assert (done.first_kept, done.keys, done.rejected_lines, done.unpurged) == (date(2026, 3, 1), 4, 4, {"media": 4})
    assert done.bytes > 0
    assert partitions() == ["s3_log_record_2026_03", "s3_log_record_2026_04", "s3_log_record_2026_05"]
    assert rows("SELECT min(request_dtime), count(*) FROM s3_log_record") == [
        (datetime(2026, 3, 5, 9, 58, 1, tzinfo=UTC), 18)
    ]
    assert expired_keys() == five_months[:4]
    assert rows("SELECT count(DISTINCT log_key_id), count(*) FROM s3_rejected_line") == [(6, 6)]
    assert differences(engine, folder_place) == []


def test_the_counts_of_expired_keys_stay_in_the_ledger(five_months, engine, rows):
    before = rows("SELECT key, line_count, record_count, rejected_count, loaded_at FROM s3_log_key ORDER BY key")
    expire_now(engine)
    assert before == rows(
        "SELECT key, line_count, record_count, rejected_count, loaded_at FROM s3_log_key ORDER BY key"
    )
    with engine.connect() as connection:
        counts = ledger.read_period_counts(connection, "media", DAYS[0])
    assert (counts.keys, counts.expired_keys, counts.records) == (1, 1, 3)


def test_a_second_expire_has_nothing_to_do(five_months, engine, rows):
    expire_now(engine)
    before = rows("SELECT * FROM s3_log_key ORDER BY id")
    again = expire_now(engine)
    assert (again.partitions, again.keys, again.rejected_lines, again.unpurged) == ([], 0, 0, {"media": 4})
    assert rows("SELECT * FROM s3_log_key ORDER BY id") == before


def test_an_empty_database_has_nothing_to_expire(engine):
    done = expire_now(engine)
    assert (done.partitions, done.keys, done.rejected_lines, done.unpurged, done.bytes) == ([], 0, 0, {}, 0)
    assert plan_expiry(engine, 2, today=TODAY).partitions == ()


def test_what_would_go_is_told_without_doing_it(five_months, engine, rows, contents):
    rows("ANALYZE s3_log_record")
    before = contents()
    found = plan_expiry(engine, 2, today=TODAY)
    assert [(partition.name, partition.rows) for partition in found.partitions] == [
        ("s3_log_record_2026_01", 6),
        ("s3_log_record_2026_02", 6),
    ]
    assert (found.first_kept, found.keys, found.rejected_lines) == (date(2026, 3, 1), 4, 4)
    assert contents() == before
    done = expire_now(engine)
    assert (done.keys, done.rejected_lines, done.bytes) == (4, 4, sum(each.bytes for each in found.partitions))


def test_a_partition_is_dropped_by_its_bounds_whatever_its_name(engine, rows, partitions):
    """Somebody has created partitions of years, and a default; a session may have another time zone."""
    for table, values in {
        "years_2024": "FROM ('2024-01-01 00:00Z') TO ('2025-01-01 00:00Z')",
        "years_2026": "FROM ('2026-01-01 00:00Z') TO ('2027-01-01 00:00Z')",
        "rest": "DEFAULT",
        "future": "FROM ('2027-01-01 00:00Z') TO (MAXVALUE)",
    }.items():
        rows(f"CREATE TABLE {table} PARTITION OF s3_log_record FOR VALUES {values}".replace("FOR VALUES DEF", "DEF"))
    rows(f"ALTER DATABASE {engine.url.database} SET TimeZone = 'Australia/Sydney'")
    engine.dispose()
    assert [partition.name for partition in expire_now(engine).partitions] == ["years_2024"]
    assert rows("SELECT count(*) FROM pg_inherits WHERE inhparent = 's3_log_record'::regclass") == [(3,)]


def test_a_month_ends_at_midnight_utc(engine, rows, partitions):
    """The last second of February goes, the first of March stays."""
    load_keys(engine, [log_key("a")], [line("28/Feb/2026:23:59:59 +0000") + line("01/Mar/2026:00:00:00 +0000")])
    assert expire_now(engine).keys == 1
    assert rows("SELECT line_number FROM s3_log_record") == [(2,)]


def test_a_key_across_the_border_keeps_its_younger_half_and_its_rejected_lines(
    folder_place, engine, rows, expired_keys
):
    key = name(date(2026, 3, 1))
    body = line("28/Feb/2026:23:50:00 +0000") + JUNK + line("01/Mar/2026:00:10:00 +0000")
    folder_place.put(key, body)
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []

    done = expire_now(engine)

    assert expired_keys() == [key]
    assert (done.keys, done.rejected_lines) == (1, 0)
    assert rows("SELECT line_number FROM s3_log_record") == [(3,)]
    assert rows("SELECT line_number FROM s3_rejected_line") == [(2,)]
    assert differences(engine, folder_place) == []
    later = expire(engine, 2, today=date(2026, 6, 1))
    assert (later.keys, later.rejected_lines) == (0, 1)
    assert rows("SELECT (SELECT count(*) FROM s3_log_record), (SELECT count(*) FROM s3_rejected_line)") == [(0, 0)]


def test_keys_without_any_record_lose_their_rejected_lines_by_their_delivery_day(
    folder_place, engine, rows, expired_keys
):
    """They hold the same personal data. There may be no month to drop."""
    days = [date(2026, 2, 28), date(2026, 3, 1)]
    for day in days:
        folder_place.put(name(day), JUNK * 2)
        folder_place.put(name(day, 1), b"\n")
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []

    assert plan_expiry(engine, 2, today=TODAY).rejected_lines == 2
    done = expire_now(engine)

    assert (done.partitions, done.rejected_lines) == ([], 2)
    assert expired_keys() == [name(days[0])]
    assert (
        rows("SELECT k.key FROM s3_rejected_line r JOIN s3_log_key k ON k.id = r.log_key_id") == [(name(days[1]),)] * 2
    )
    assert differences(engine, folder_place) == []


def test_an_expired_key_is_never_loaded_again(five_months, folder_place, engine, rows, contents):
    expire_now(engine)
    before = contents()

    pulled = pull_bucket(folder_place.bucket, folder_place.store, engine)

    assert [(day.listed, day.keys) for day in pulled.periods] == [(1, 0)] * 10
    assert contents() == before


def test_an_expired_key_is_not_purged_and_the_others_are(folder_place, engine, expired_keys):
    for day in DAYS:
        folder_place.put(name(day), lines(2, at(day)))
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []
    assert expire_now(engine).unpurged == {"media": 4}

    purged = purge_bucket(folder_place.bucket, folder_place.store, engine)

    assert (purged.keys, purged.failures) == (6, [])
    assert sorted(folder_place.names()) == expired_keys() == [name(day) for day in DAYS[:4]]


def test_a_key_that_was_purged_before_is_not_said_to_lie_in_the_log_bucket(folder_place, engine):
    for day in DAYS:
        folder_place.put(name(day), lines(2, at(day)))
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []
    purge_bucket(folder_place.bucket, folder_place.store, engine)
    done = expire_now(engine)
    assert (done.keys, done.unpurged) == (4, {})


def test_a_key_that_expires_while_it_is_being_proved_is_not_purged(folder_place, engine, monkeypatch):
    """The count leaves it out, which must not pass for a proof."""
    folder_place.put(name(DAYS[0]), lines(2, at(DAYS[0])))
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []
    count = ledger.count_differences

    def expiring(connection, ids):
        connection.rollback()
        expire_now(engine)
        return count(connection, ids)

    monkeypatch.setattr(ledger, "count_differences", expiring)
    purged = purge_bucket(folder_place.bucket, folder_place.store, engine)
    assert (purged.keys, purged.failures) == (0, [])
    assert folder_place.names() == [name(DAYS[0])]


def test_reparse_leaves_expired_keys_alone(folder_place, engine, rows, partitions):
    border, recent = name(date(2026, 3, 1)), name(date(2026, 3, 5))
    body = line("28/Feb/2026:23:50:00 +0000") + lines(2, "01/Mar/2026:00:10:00 +0000")
    folder_place.put(border, body)
    folder_place.put(recent, lines(3, at(date(2026, 3, 5))))
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []
    reject(rows, border, body, [2])
    reject(rows, recent, lines(3, at(date(2026, 3, 5))), [2])
    expire_now(engine)

    done = reparse_bucket(folder_place.bucket, engine)

    assert (done.keys, done.changed, done.failures) == (1, 1, [])
    assert rows("SELECT key, rejected_count FROM s3_log_key ORDER BY key") == [(border, 1), (recent, 0)]


def test_a_key_that_expires_before_reparse_has_locked_it_is_left_alone(folder_place, engine, rows, monkeypatch):
    body = lines(3, at(DAYS[0]))
    folder_place.put(name(DAYS[0]), body)
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []
    reject(rows, name(DAYS[0]), body, [2])

    def ensure(engine, months):
        ensure_partitions(engine, months)
        expire_now(engine)

    monkeypatch.setattr("tamarin_dagster.pipeline.reparse.ensure_partitions", ensure)
    assert reparse_bucket(folder_place.bucket, engine).moved == 0
    assert rows("SELECT count(*) FROM s3_log_record") == [(0,)]
    assert rows("SELECT record_count, rejected_count FROM s3_log_key") == [(2, 1)]


def test_an_overwritten_key_takes_the_place_of_its_expired_generation(folder_place, engine, rows, partitions):
    folder_place.put(name(DAYS[0]), lines(3, at(DAYS[0])))
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []
    expire_now(engine)
    folder_place.put(name(DAYS[0]), lines(4, at(DAYS[0])))

    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []

    live = "SELECT record_count, expired_at IS NOT NULL FROM s3_log_key WHERE superseded_at IS NULL"
    assert rows(live) == [(4, False)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(4,)]
    assert differences(engine, folder_place) == []
    assert expire_now(engine).keys == 1
    assert (rows(live), partitions()) == ([(4, True)], [])


def test_old_records_that_come_late_are_loaded_once_and_go_with_the_next_expire(
    five_months, folder_place, engine, rows, partitions, expired_keys
):
    """A late log key of a month that is gone, and a record of it in a log key of today."""
    expire_now(engine)
    late, odd = name(date(2026, 1, 25)), name(date(2026, 5, 19))
    folder_place.put(late, lines(2, at(date(2026, 1, 25))))
    folder_place.put(odd, line(at(date(2026, 1, 3))) + line(at(date(2026, 5, 19))))

    pulled = pull_bucket(folder_place.bucket, folder_place.store, engine)

    assert sum(day.keys for day in pulled.periods) == 2
    assert "s3_log_record_2026_01" in partitions()
    assert differences(engine, folder_place) == []
    done = expire_now(engine)
    assert ([partition.name for partition in done.partitions], done.keys) == (["s3_log_record_2026_01"], 2)
    assert expired_keys() == sorted([*five_months[:4], late, odd])
    assert rows("SELECT count(*) FROM s3_log_record WHERE request_dtime < '2026-03-01'") == [(0,)]
    assert sum(day.keys for day in pull_bucket(folder_place.bucket, folder_place.store, engine).periods) == 0


def test_a_load_whose_month_is_dropped_under_it_loads_nothing_and_the_next_one_all(engine, rows, contents):
    key, body = log_key("a", day=DAYS[0]), lines(3, at(DAYS[0]))
    batch = prepared(engine, "media", "logs", [key], [body])
    expire_now(engine)
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
        load(engine, batch)
    assert rows("SELECT count(*) FROM s3_log_key") == [(0,)]
    load_keys(engine, [key], [body])
    assert rows("SELECT record_count FROM s3_log_key") == [(3,)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(3,)]


def test_what_is_loaded_between_the_marks_and_the_drop_is_marked_with_the_drop(
    folder_place, engine, expired_keys, partitions, monkeypatch
):
    load_keys(engine, [log_key("early", day=DAYS[0])], [lines(3, at(DAYS[0]))])

    def after_the_marks(*_: Any) -> list[int]:
        load_keys(engine, [log_key("late", day=DAYS[0])], [lines(2, at(DAYS[0]))])
        roll_up(engine)  # as the load's own process does
        return []

    monkeypatch.setattr(expiry, "keys_with_lines_to_delete", after_the_marks)
    done = expire_now(engine)
    assert done.keys == 2
    assert (expired_keys(), partitions()) == (["early", "late"], [])
    assert differences(engine, folder_place) == []


def test_what_is_loaded_between_the_roll_up_and_the_drop_is_rolled_up_before_it_goes(
    folder_place, engine, rows, expired_keys, partitions, monkeypatch
):
    """Its traffic was lost: the rollups of a day cannot be made again without its records."""
    load_keys(engine, [log_key("early", day=DAYS[0])], [lines(3, at(DAYS[0]))])
    with monkeypatch.context() as patched:

        def after_the_marks(*_: Any) -> list[int]:
            load_keys(engine, [log_key("late", day=DAYS[0])], [lines(2, at(DAYS[0]))])
            return []

        patched.setattr(expiry, "keys_with_lines_to_delete", after_the_marks)
        done = expire_now(engine)
    assert (done.partitions, partitions()) == ([], ["s3_log_record_2026_01"])
    (kept_back,) = done.kept_back
    assert str(kept_back) == (
        "s3_log_record_2026_01 is not dropped: bucket media, day 2026-01-05 must be rolled up first, or its traffic is"
        " lost; run `tamarin-dagster roll-up`, then expire again"
    )

    done = expire_now(engine)
    assert (done.kept_back, partitions()) == ([], [])
    assert expired_keys() == ["early", "late"]
    assert rows("SELECT requests FROM traffic_day") == [(5,)]


def test_a_month_with_a_day_that_cannot_be_rolled_up_is_kept_and_the_others_go(
    five_months, folder_place, engine, rows, expired_keys, partitions
):
    """One bad day ended `expire` for good, whatever its age."""
    both = name(DAYS[2], 7)
    folder_place.put(both, line("20/Jan/2026:23:50:00 +0000") + line("05/Feb/2026:00:10:00 +0000"))
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []
    bad = [DAYS[1], DAYS[-1]]  # one of a month that goes, one of a month that stays anyway
    refused = ", ".join(f"'{day}'" for day in bad)
    rows(f"ALTER TABLE traffic_daily_by_key ADD CONSTRAINT refuse CHECK (request_date NOT IN ({refused}))")

    done = expire_now(engine)

    assert [partition.name for partition in done.partitions] == ["s3_log_record_2026_02"]
    assert [(each.partition.name, each.days) for each in done.kept_back] == [
        ("s3_log_record_2026_01", (("media", DAYS[1]),))
    ]
    # Of January, only the log key that also has records of February, which are gone.
    assert expired_keys() == sorted([name(DAYS[2]), name(DAYS[3]), both])
    assert differences(engine, folder_place) == []
    assert rows("SELECT request_date, expired_at IS NOT NULL FROM traffic_day ORDER BY 1") == [
        (day, day.month == 2) for day in DAYS if day not in bad
    ]

    rows("ALTER TABLE traffic_daily_by_key DROP CONSTRAINT refuse")
    done = expire_now(engine)
    assert [partition.name for partition in done.partitions] == ["s3_log_record_2026_01"]
    assert expired_keys() == sorted([*five_months[:4], both])
    assert rows("SELECT sum(requests) FROM traffic_day WHERE request_date < '2026-03-01'") == [(14,)]


def test_no_load_comes_between_the_last_mark_and_the_drop(folder_place, engine, rows, expired_keys, monkeypatch):
    """Its rows would be gone, but not according to its ledger row."""
    load_keys(engine, [log_key("early", day=DAYS[0])], [lines(3, at(DAYS[0]))])
    batch = prepared(engine, "media", "logs", [log_key("late", day=DAYS[0])], [lines(2, at(DAYS[0]))])
    drop_partition = expiry.drop_partition
    with ThreadPoolExecutor(1) as pool:
        loads = []

        def after_the_last_mark(connection: sa.Connection, partition: str) -> None:
            loads.append(pool.submit(load, engine, batch))
            time.sleep(0.3)
            drop_partition(connection, partition)

        monkeypatch.setattr(expiry, "drop_partition", after_the_last_mark)
        expire_now(engine)
        with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
            loads[0].result(timeout=10)
    assert rows("SELECT key FROM s3_log_key") == [("early",)]
    assert differences(engine, folder_place) == []


def test_lines_of_a_key_that_gets_younger_records_meanwhile_stay(engine, rows, monkeypatch):
    """A reparse moves one of its rejected lines into a month that is kept."""
    load_keys(engine, [log_key("a", day=date(2026, 2, 28))], [JUNK * 2])
    look = expiry.keys_with_lines_to_delete

    def reparsed_after_the_look(*arguments: Any) -> list[int]:
        found = look(*arguments)
        rows(
            "UPDATE s3_log_key SET record_count = 1, rejected_count = 1, first_request_dtime = '2026-03-01 00:10Z',"
            " last_request_dtime = '2026-03-01 00:10Z'"
        )
        rows("DELETE FROM s3_rejected_line WHERE line_number = 1")
        return found

    monkeypatch.setattr(expiry, "keys_with_lines_to_delete", reparsed_after_the_look)
    assert expire_now(engine).rejected_lines == 0
    assert rows("SELECT expired_at, line_number FROM s3_log_key k JOIN s3_rejected_line ON log_key_id = k.id") == [
        (None, 2)
    ]


class KilledError(Exception):
    """Simulates a kill: nothing after it runs, open transactions are rolled back."""


def state(rows) -> list[Any]:
    """Return all that an expire changes, without IDs and times."""
    return [
        rows("SELECT key, etag, record_count, rejected_count, expired_at IS NOT NULL FROM s3_log_key ORDER BY 1, 2"),
        rows(
            "SELECT k.key, r.line_number FROM s3_rejected_line r JOIN s3_log_key k ON k.id = log_key_id ORDER BY 1, 2"
        ),
        rows("SELECT k.key, r.line_number FROM s3_log_record r JOIN s3_log_key k ON k.id = log_key_id ORDER BY 1, 2"),
        rows("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 's3_log_record'::regclass ORDER BY 1"),
    ]


@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.slow)])
@pytest.mark.parametrize("step", ["mark", "delete_rejected_lines", "drop", "unpurged_expired_keys"])
@pytest.mark.parametrize("call", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_anywhere_and_run_again_it_ends_in_the_same_state(
    five_months, folder_place, engine, rows, monkeypatch, step, call, when
):
    """The counts are true at each moment. Here log keys are marked one by one, and lines deleted for each log key."""
    monkeypatch.setattr(retention, "MARK_PAGE_KEYS", 1)
    monkeypatch.setattr(retention, "REJECTED_CHUNK_KEYS", 1)
    original = getattr(expiry, step)
    calls = 0

    def killed(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            raise KilledError
        result = original(*arguments, **options)
        if calls == call:
            raise KilledError  # its transaction is rolled back
        return result

    with monkeypatch.context() as patched:
        patched.setattr(expiry, step, killed)
        try:
            expire_now(engine)
            assert (step, call) == ("unpurged_expired_keys", 2)
        except KilledError:
            pass
    assert differences(engine, folder_place) == []
    expire_now(engine)

    undisturbed = [
        [(key, etag, 3, 1, number < 4) for number, (key, etag) in enumerate(keys_and_etags(rows))],
        [(key, 4) for key in five_months[4:]],
        [(key, number) for key in five_months[4:] for number in (1, 2, 3)],
        [(f"s3_log_record_2026_0{month}",) for month in (3, 4, 5)],
    ]
    assert state(rows) == undisturbed
    assert differences(engine, folder_place) == []


def keys_and_etags(rows) -> list[tuple[str, str]]:
    return rows("SELECT key, etag FROM s3_log_key ORDER BY key")


def test_a_month_that_is_being_read_is_tried_again_until_it_is_free(five_months, engine, partitions):
    reading = engine.connect()
    reading.execute(sa.text("SELECT count(*) FROM s3_log_record"))
    with ThreadPoolExecutor(1) as pool:
        expiring = pool.submit(expire_now, engine)
        time.sleep(0.5)
        assert not expiring.done()
        reading.close()
        assert len(expiring.result(timeout=30).partitions) == 2
    assert len(partitions()) == 3


def test_a_month_that_stays_in_use_is_an_error_that_leaves_a_true_ledger(
    five_months, folder_place, engine, partitions, expired_keys, monkeypatch
):
    monkeypatch.setattr(retention, "LOCK_ATTEMPTS", 2)
    with engine.connect() as reading:
        reading.execute(sa.text("SELECT count(*) FROM s3_log_record"))
        with pytest.raises(DatabaseError, match="s3_log_record_2026_01 cannot be dropped: a load or a query has"):
            expire_now(engine)
        assert len(partitions()) == 5
        assert expired_keys() == five_months[:4]
        assert differences(engine, folder_place) == []
    done = expire_now(engine)
    assert (len(done.partitions), done.keys) == (2, 0)


def test_loads_go_on_while_an_expire_waits_for_a_reader(five_months, engine, monkeypatch):
    """It never blocks them for longer than its lock timeout."""
    monkeypatch.setattr(retention, "LOCK_ATTEMPTS", 1000)
    monkeypatch.setattr(retention, "LOCK_PAUSE_SECONDS", 0.1)
    reading = engine.connect()
    reading.execute(sa.text("SELECT count(*) FROM s3_log_record"))
    with ThreadPoolExecutor(2) as pool:
        expiring = pool.submit(expire_now, engine)
        for number in range(5):
            loading = pool.submit(load_keys, engine, [log_key(f"new{number}", day=DAYS[-1])], [lines(2, at(DAYS[-1]))])
            loading.result(timeout=10)
        assert not expiring.done()
        reading.close()
        assert len(expiring.result(timeout=30).partitions) == 2


def test_who_has_locked_a_key_and_waits_for_the_record_table_is_let_through(
    engine, rows, partitions, expired_keys, monkeypatch
):
    """A reparse, or a load that supersedes; otherwise each would wait for the other until a deadlock is detected."""
    monkeypatch.setattr(retention, "LOCK_TIMEOUT", "10s")
    monkeypatch.setattr(retention, "LOCK_PAUSE_SECONDS", 0.1)
    load_keys(engine, [log_key("a", day=DAYS[0])], [lines(3, at(DAYS[0]))])
    locked = threading.Event()

    def reparse_like() -> float:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT 1 FROM s3_log_key WHERE key = 'b' FOR UPDATE"))
            locked.set()
            time.sleep(0.5)
            started = time.monotonic()
            connection.execute(sa.text("DELETE FROM s3_log_record WHERE log_key_id = 0"))
            return time.monotonic() - started

    with ThreadPoolExecutor(1) as pool:
        running = []

        def after_the_marks(*_: Any) -> list[int]:
            load_keys(engine, [log_key("b", day=DAYS[0])], [lines(2, at(DAYS[0]))])
            roll_up(engine)
            running.append(pool.submit(reparse_like))
            assert locked.wait(10)
            return []

        monkeypatch.setattr(expiry, "keys_with_lines_to_delete", after_the_marks)
        done = expire_now(engine)
        assert running[0].result(timeout=10) < 0.25
    assert (done.keys, expired_keys(), partitions()) == (2, ["a", "b"], [])


def test_two_expires_at_once_do_it_once(five_months, folder_place, engine, partitions, expired_keys):
    barrier = threading.Barrier(2)

    def work(_: int) -> Expired:
        barrier.wait()
        return expire_now(engine)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(work, range(2)))
    assert sum(done.keys for done in both) == 4
    assert sum(done.rejected_lines for done in both) == 4
    assert expired_keys() == five_months[:4]
    assert len(partitions()) == 3
    assert differences(engine, folder_place) == []


def test_what_is_to_be_marked_is_found_by_an_index(rows):
    """The second time while loads wait, so it must not scan ten million ledger rows."""
    rows(
        "INSERT INTO s3_log_key (bucket, log_bucket_name, key, etag, size, last_modified, delivery_date, line_count,"
        " record_count, rejected_count, blank_count, first_request_dtime, last_request_dtime)"
        " SELECT 'media', 'logs', 'k' || n, 'a', 1, t, t::date, 1, 1, 0, 0, t, t FROM generate_series(0, 39999) n,"
        " LATERAL (SELECT timestamptz '2026-01-01Z' + n * interval '5 minutes' AS t) times"
    )
    rows("ANALYZE s3_log_key")
    statement = sa.select(sa.literal(1)).where(expiry._to_mark(datetime(2026, 1, 2, tzinfo=UTC)))
    plan = rows(f"EXPLAIN {statement.compile(compile_kwargs={'literal_binds': True})}".replace("+00:00", "Z"))
    assert any("s3_log_key_unexpired" in row[0] for row in plan), plan


def test_an_older_row_with_rejected_lines_that_nobody_counts_is_left(engine, rows):
    """A rejected line of a log key that is not wholly expired stays, whatever else goes."""
    load_keys(engine, [log_key("young", day=DAYS[-1])], [lines(1, at(DAYS[-1])) + JUNK])
    load_keys(engine, [log_key("old", day=DAYS[0])], [lines(1, at(DAYS[0]))])
    ((id_,),) = rows("SELECT id FROM s3_log_key WHERE key = 'young'")
    insert_rejected(rows, id_, 99, JUNK)
    expire_now(engine)
    assert rows("SELECT line_number FROM s3_rejected_line ORDER BY 1") == [(2,), (99,)]
