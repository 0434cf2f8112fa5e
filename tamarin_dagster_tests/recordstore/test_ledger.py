"""The ledger's queries: which keys are unseen, loaded or purgeable, and whether their counts are right."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryHour
from tamarin_dagster.logkey import CHANGED_SINCE_LOADED
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.ledger import Compared, CountDifference, PeriodCounts
from tamarin_dagster.recordstore.schema.tables import s3_log_key
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.recordstore.log_keys import DAY, load_keys, log_key

JUNK = b"no log line at all\n"
NEXT = date(2026, 3, 6)


@pytest.fixture
def connection(engine):
    """Yield a connection in autocommit, so that each query sees what is committed."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


def ids(rows, *keys: str) -> list[int]:
    chosen = "SELECT id FROM s3_log_key WHERE key = ANY(:keys) ORDER BY id"
    return [row[0] for row in rows(chosen, keys=list(keys))]


def test_unseen_is_what_has_no_row_of_its_generation(engine, connection):
    a, b, c, odd = (log_key(name).object for name in ("a", "b", "c", "odd 'name', {\"x\"} \\ é😀 NULL"))
    assert ledger.list_unseen(connection, "logs", [a, b]) == [a, b]
    load_keys(engine, [log_key("a"), log_key(odd.key)], [lines(1), lines(1)])
    overwritten = replace(a, etag="b")
    assert ledger.list_unseen(connection, "logs", [c, a, b, odd, overwritten]) == [c, b, overwritten]
    assert ledger.list_unseen(connection, "other-logs", [a]) == [a]
    assert ledger.list_unseen(connection, "logs", []) == []


def test_a_superseded_generation_is_unseen_and_so_is_a_purged_one_that_is_listed_again(engine, connection, rows):
    """The same content, uploaded again after a purge, was never loaded, deleted or reported."""
    a, b = log_key("a", "a"), log_key("a", "b", minutes=1)
    load_keys(engine, [a], [lines(1)])
    load_keys(engine, [b], [lines(2)])
    assert ledger.compare(connection, "logs", [a.object]) == Compared([a.object])
    assert ledger.compare(connection, "logs", [b.object]) == Compared([])
    with engine.begin() as writing:
        ledger.mark_purged(writing, ids(rows, "a"))
    assert ledger.compare(connection, "logs", [b.object]) == Compared([b.object], frozenset(["a"]))
    assert ledger.is_known(connection, "logs", b.object)
    assert not ledger.is_known(connection, "logs", a.object)


def test_a_generation_that_is_outdated_is_read_once(engine, connection, rows):
    """The object that was read is known; one with the same ETag that was written later is read again."""
    new, old = log_key("a", "new", minutes=5), log_key("a", "old")
    load_keys(engine, [new], [lines(2)])
    with engine.begin() as writing:
        ledger.mark_purged(writing, ids(rows, "a"))
    assert ledger.compare(connection, "logs", [old.object]) == Compared([old.object])
    assert load_keys(engine, [old], [lines(1)]).outdated == (old,)
    assert ledger.compare(connection, "logs", [old.object]) == Compared([], outdated=(old.object,))
    written_later = log_key("a", "old", minutes=9)
    assert ledger.compare(connection, "logs", [written_later.object]) == Compared([written_later.object])
    assert load_keys(engine, [written_later], [lines(1)]).loaded[0][0] == written_later
    assert ledger.compare(connection, "logs", [written_later.object]) == Compared([])
    assert rows("SELECT count(*) FROM s3_log_record") == [(3,)]


def test_a_row_whose_deletion_found_another_object_does_not_hide_what_is_there(engine, connection, rows):
    """On a versioned bucket, the same content in another version: its row was never purged or read again."""
    key = log_key("a", version="v1")
    load_keys(engine, [key], [lines(1)])
    with engine.begin() as writing:
        ledger.note_purge_errors(writing, dict.fromkeys(ids(rows, "a"), CHANGED_SINCE_LOADED))
    assert ledger.list_unseen(connection, "logs", [key.object]) == [key.object]
    with engine.begin() as writing:
        ledger.note_purge_errors(writing, dict.fromkeys(ids(rows, "a"), "DELETE failed: access denied"))
    assert ledger.list_unseen(connection, "logs", [key.object]) == []


def test_a_page_of_keys_is_looked_up_by_index(rows):
    """The cost of a tick must not grow with what is loaded."""
    rows(
        "INSERT INTO s3_log_key (bucket, log_bucket_name, key, etag, size, last_modified, delivery_date, line_count,"
        " record_count, rejected_count, blank_count)"
        " SELECT 'media', 'logs', 'k' || to_char(n, 'FM00000'), 'a', 1, now(),"
        " '2026-03-05', 0, 0, 0, 0 FROM generate_series(0, 39999) n"
    )
    rows("ANALYZE s3_log_key")
    plan = rows(
        "EXPLAIN SELECT key, etag FROM s3_log_key WHERE log_bucket_name = 'logs' AND key = ANY(:keys)"
        " AND superseded_at IS NULL",
        keys=[f"k{number:05}" for number in range(100)],
    )
    assert any("s3_log_key_generation" in row[0] for row in plan), plan
    assert not any("Seq Scan" in row[0] for row in plan), plan


def test_the_keys_of_an_hour_are_found_by_index_also_those_whose_column_has_no_hour(rows, connection):
    """A bucket with hourly partitions has a hundred thousand keys a day; a check of an hour reads that hour's."""
    rows(
        "INSERT INTO s3_log_key (bucket, log_bucket_name, key, etag, size, last_modified, delivery_date, line_count,"
        " record_count, rejected_count, blank_count)"
        " SELECT 'media', 'logs', '2026-03-05-' || to_char(n % 24, 'FM00') || '-00-00-'"
        " || to_char(n, 'FM0000000000000000')"
        " || CASE n / 24 % 100 WHEN 0 THEN '.txt' WHEN 1 THEN '.log.gz' WHEN 2 THEN '.gz' ELSE '' END,"
        " 'a', 1, now(), '2026-03-05', 0, 0, 0, 0 FROM generate_series(0, 47999) n"
    )
    rows("ANALYZE s3_log_key")
    hour = DeliveryHour(DAY, 7)
    key = s3_log_key.c
    for condition in (ledger.is_delivered_in(hour), ledger.is_delivered_in_any([hour])):
        statement = sa.select(key.key).where(key.bucket == "media", condition)
        found = connection.scalars(statement).all()
        assert len(found) == 2000
        assert {name[11:13] for name in found} == {"07"}
        assert {name.partition(".")[2]: None for name in found}.keys() == {"", "txt", "log.gz", "gz"}
        text = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {text.replace('%', '%%')}").scalar()[0][
            "Plan"
        ]
        assert "Seq Scan" not in str(plan), plan
        removed = [int(each) for each in re.findall(r"'Rows Removed by Filter': (\d+)", str(plan))]
        assert sum(removed) <= 1000, plan


def test_a_day_without_keys_counts_nothing(connection):
    assert ledger.read_period_counts(connection, "media", DAY) == PeriodCounts()
    assert ledger.count_rejected_reasons(connection, "media", DAY) == {}
    assert ledger.list_live_ids(connection, "media", DAY) == []
    assert ledger.list_unaccounted_keys(connection, "media", DAY) == []


def test_a_day_is_summed_over_its_live_keys(engine, connection, rows):
    load_keys(engine, [log_key("a", "a")], [lines(9) + JUNK])
    load_keys(
        engine,
        [log_key("a", "b", minutes=1), log_key("b"), log_key("c")],
        [lines(3), lines(2, "04/Mar/2026:23:59:59 +0000") + JUNK * 2 + b"\n", b""],
    )
    load_keys(engine, [log_key("other-day", day=NEXT)], [lines(50)])
    load_keys(engine, [log_key("other-bucket")], [lines(50)], bucket="films")
    with engine.begin() as writing:
        ledger.mark_purged(writing, ids(rows, "c"))
    assert ledger.read_period_counts(connection, "media", DAY) == PeriodCounts(
        keys=3,
        purged_keys=1,
        lines=8,
        records=5,
        rejected=2,
        blank=1,
        bytes=300,
        keys_with_rejected=1,
        first_request=datetime(2026, 3, 4, 23, 59, 59, tzinfo=UTC),
        last_request=datetime(2026, 3, 5, 9, 58, 1, tzinfo=UTC),
    )
    assert ledger.list_live_ids(connection, "media", DAY) == sorted(
        row[0]
        for row in rows("SELECT id FROM s3_log_key WHERE (key, etag) IN (('a','b'), ('b','a'), ('c','a'))")
        if row[0] not in ids(rows, "other-bucket")
    )


def test_rejected_lines_are_counted_by_reason(engine, connection):
    torn = lines(1)[:150] + b"\n"
    load_keys(engine, [log_key("a"), log_key("b")], [JUNK * 2 + torn, JUNK])
    load_keys(engine, [log_key("c")], [JUNK], bucket="films")
    assert ledger.count_rejected_reasons(connection, "media", DAY) == {"not_a_record": 3, "too_few_fields": 1}


def purgeable(
    connection: sa.Connection, periods=None, limit: int = 100, after: int = 0, bucket="media", log_bucket="logs"
):
    return ledger.list_purgeable(connection, bucket, log_bucket, periods, limit, after)


def test_loaded_keys_without_rejected_lines_are_purgeable(engine, connection, rows):
    good, other_day = log_key("good", version="v1"), log_key("next", day=NEXT)
    load_keys(engine, [good, log_key("bad"), log_key("empty"), other_day], [lines(1), JUNK, b"", lines(1)])
    load_keys(engine, [log_key("gone"), log_key("old", "a")], [lines(1)] * 2)
    load_keys(engine, [log_key("old", "b", minutes=1)], [lines(1)])
    load_keys(engine, [log_key("films")], [lines(1)], bucket="films")
    load_keys(engine, [log_key("elsewhere")], [lines(1)], log_bucket_name="other-logs")
    with engine.begin() as writing:
        ledger.mark_purged(writing, ids(rows, "gone"))
        ledger.note_purge_errors(writing, dict.fromkeys(ids(rows, "empty"), "it was refused"))
    found = purgeable(connection)
    assert {(key.object.key, key.object.etag) for key in found} == {
        ("good", "a"),
        ("empty", "a"),
        ("next", "a"),
        ("old", "b"),
    }
    assert [key.id for key in found] == sorted(key.id for key in found)
    by_name = {key.object.key: key for key in found}
    assert (by_name["good"].object, by_name["good"].delivery_date) == (good.object, DAY)
    assert [key.object.key for key in purgeable(connection, [NEXT])] == ["next"]
    assert {key.object.key for key in purgeable(connection, {DAY})} == {"good", "empty", "old"}
    assert purgeable(connection, []) == []
    assert [key.object.key for key in purgeable(connection, bucket="films")] == ["films"]
    assert [key.object.key for key in purgeable(connection, log_bucket="other-logs")] == ["elsewhere"]


def test_purgeable_keys_come_page_by_page(engine, connection):
    load_keys(engine, [log_key(f"{number}") for number in range(5)], [lines(1)] * 5)
    every = purgeable(connection)
    first = purgeable(connection, limit=2)
    second = purgeable(connection, limit=2, after=first[-1].id)
    third = purgeable(connection, limit=2, after=second[-1].id)
    assert [*first, *second, *third] == every
    assert purgeable(connection, after=every[-1].id) == []


def test_an_expired_key_is_neither_purgeable_nor_counted(engine, connection, rows):
    """Its records are gone, so it can no longer be proved, and is no difference."""
    load_keys(engine, [log_key("kept"), log_key("expired")], [lines(2), lines(3)])
    (kept,), (expired,) = ids(rows, "kept"), ids(rows, "expired")
    rows("UPDATE s3_log_key SET expired_at = now() WHERE id = :id", id=expired)
    rows("DELETE FROM s3_log_record")
    assert [key.object.key for key in purgeable(connection)] == ["kept"]
    assert ledger.list_live_ids(connection, "media", DAY) == [kept]
    assert [found.key for found in ledger.count_differences(connection, [kept, expired])] == ["kept"]
    assert ledger.count_differences(connection, [expired]) == []
    assert ledger.list_expired_ids(connection, [kept, expired]) == {expired}
    counts = ledger.read_period_counts(connection, "media", DAY)
    assert (counts.keys, counts.records, counts.expired_keys) == (2, 5, 1)


def test_a_purged_key_has_its_time_and_no_error(engine, rows):
    load_keys(engine, [log_key("a"), log_key("b")], [lines(1)] * 2)
    (a,), (b,) = ids(rows, "a"), ids(rows, "b")
    with engine.begin() as writing:
        ledger.note_purge_errors(writing, {a: "refused", b: 'it\'s "odd": %s {}'})
    assert rows("SELECT key, purge_error, purged_at FROM s3_log_key ORDER BY key") == [
        ("a", "refused", None),
        ("b", 'it\'s "odd": %s {}', None),
    ]
    with engine.begin() as writing:
        ledger.mark_purged(writing, [a])
    assert rows(
        "SELECT key, purge_error IS NULL, purged_at > now() - interval '1 minute' FROM s3_log_key ORDER BY 1"
    ) == [
        ("a", True, True),
        ("b", False, None),
    ]


@pytest.fixture
def three(engine, rows):
    """Load three keys and return their ids: a with 3 records, b with 2 and 2 rejected lines, c empty."""
    bodies = [lines(2) + lines(1, "01/Jan/2026:00:00:00 +0000"), lines(2) + JUNK * 2, b""]
    load_keys(engine, [log_key(name) for name in "abc"], bodies)
    return ids(rows, "a", "b", "c")


def test_true_counts_differ_nowhere(connection, three):
    assert ledger.count_differences(connection, three) == []
    assert ledger.count_differences(connection, three[2:]) == []
    assert ledger.count_differences(connection, []) == []


@pytest.mark.parametrize(
    ("tampering", "difference"),
    [
        ("DELETE FROM s3_log_record WHERE log_key_id = :a AND line_number = 2", ("a", 3, 2, 0, 0)),
        ("DELETE FROM s3_log_record WHERE log_key_id = :a", ("a", 3, 0, 0, 0)),
        (
            "INSERT INTO s3_log_record SELECT * FROM s3_log_record WHERE log_key_id = :a AND line_number = 1",
            ("a", 3, 4, 0, 0),
        ),
        ("DELETE FROM s3_rejected_line WHERE log_key_id = :b AND line_number = 3", ("b", 2, 2, 2, 1)),
        (
            "INSERT INTO s3_rejected_line VALUES (:b, 99, 'x', '', 0, '')",
            ("b", 2, 2, 2, 3),
        ),
        ("DROP TABLE s3_log_record_2026_01", ("a", 3, 2, 0, 0)),
        ("UPDATE s3_log_record SET log_key_id = :c WHERE log_key_id = :a AND line_number = 1", ("a", 3, 2, 0, 0)),
    ],
)
def test_a_missing_or_added_row_is_found(connection, rows, three, tampering, difference):
    a, b, c = three
    rows(tampering, **{name: value for name, value in {"a": a, "b": b, "c": c}.items() if f":{name}" in tampering})
    assert CountDifference(*difference) in ledger.count_differences(connection, three)
    assert {found.key for found in ledger.count_differences(connection, three)} <= {difference[0], "c"}


def test_the_proof_of_a_page_counts_only_the_keys_asked_for(connection, rows, three):
    rows("DELETE FROM s3_log_record WHERE log_key_id = :a", a=three[0])
    assert ledger.count_differences(connection, three[1:]) == []
    assert [found.key for found in ledger.count_differences(connection, three[:1])] == ["a"]


@pytest.mark.parametrize("column", ["line_count", "record_count", "rejected_count", "blank_count"])
def test_the_table_refuses_counts_that_do_not_add_up(rows, three, column):
    with pytest.raises(sa.exc.IntegrityError, match="s3_log_key_counts"):
        rows(f"UPDATE s3_log_key SET {column} = {column} + 1 WHERE id = :a", a=three[0])


def test_the_table_holds_a_generation_once(rows, three):
    with pytest.raises(sa.exc.IntegrityError, match="s3_log_key_generation"):
        rows("UPDATE s3_log_key SET key = 'b' WHERE id = :a", a=three[0])


def test_keys_that_are_unaccounted_for_are_told(connection, rows, three):
    """The constraint prevents this; without it the query would see it."""
    rows("ALTER TABLE s3_log_key DROP CONSTRAINT s3_log_key_counts")
    rows("UPDATE s3_log_key SET line_count = 4 WHERE id = :a", a=three[0])
    assert ledger.list_unaccounted_keys(connection, "media", DAY) == ["a"]


def test_keys_are_counted_page_by_page_whatever_lies_between_them(engine, rows, monkeypatch):
    """A day's ids need not be consecutive: keys of other buckets and days are loaded in between."""
    monkeypatch.setattr(ledger, "COUNTED_KEYS", 2)
    for number in range(7):
        load_keys(engine, [log_key(f"media-{number}")], [lines(number) + b"junk\n"])
        load_keys(engine, [log_key(f"films-{number}")], [lines(2)], bucket="films")
    rows("DELETE FROM s3_log_record r USING s3_log_key k WHERE k.id = log_key_id AND k.key IN ('media-6', 'films-1')")
    rows("DELETE FROM s3_rejected_line r USING s3_log_key k WHERE k.id = log_key_id AND k.key = 'media-1'")
    ids = [id_ for (id_,) in rows("SELECT id FROM s3_log_key WHERE bucket = 'media' ORDER BY id DESC")]
    with engine.connect() as connection:
        found = ledger.count_differences(connection, ids)
    assert found == [
        ledger.CountDifference("media-1", 1, 1, 1, 0),
        ledger.CountDifference("media-6", 6, 0, 1, 1),
    ]
