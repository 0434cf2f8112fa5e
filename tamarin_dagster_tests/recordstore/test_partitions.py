"""The monthly partitions: created when needed, once, by any number of processes at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
import sqlalchemy as sa

from tamarin_dagster.recordstore import partitions
from tamarin_dagster.recordstore.partitions import STORAGE_PARAMETERS, ensure_partitions, partition_name
from tamarin_dagster_tests.lines import line
from tamarin_dagster_tests.recordstore.log_keys import load_keys, log_key

PARTITIONS = (
    "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
    " WHERE inhparent = 's3_log_record'::regclass ORDER BY 1"
)


def bounds(first: str, following: str) -> str:
    return f"FOR VALUES FROM ('{first} 00:00:00+00') TO ('{following} 00:00:00+00')"


def test_a_partition_is_named_after_its_month():
    assert partition_name(date(2026, 1, 31)) == "s3_log_record_2026_01"
    assert partition_name(date(2006, 12, 1)) == "s3_log_record_2006_12"


def test_the_months_across_a_new_year_follow_one_another(engine, rows):
    ensure_partitions(engine, [date(2026, 1, 1), date(2025, 12, 1), date(2025, 11, 30), date(2026, 1, 31)])
    with engine.connect() as connection:
        connection.execute(sa.text("SET TimeZone = 'UTC'"))
        found = dict(connection.execute(sa.text(PARTITIONS)).all())
    assert found == {
        "s3_log_record_2025_11": bounds("2025-11-01", "2025-12-01"),
        "s3_log_record_2025_12": bounds("2025-12-01", "2026-01-01"),
        "s3_log_record_2026_01": bounds("2026-01-01", "2026-02-01"),
    }


def test_each_record_falls_into_the_month_of_its_request_in_utc(engine, rows):
    times = ["31/Dec/2025:23:59:59 +0000", "01/Jan/2026:00:00:00 +0000", "31/Dec/2025:23:00:00 -0100"]
    load_keys(engine, [log_key("a")], [b"".join(line(time) for time in [*times, "29/Feb/2024:12:00:00 +0000"])])
    assert rows("SELECT tableoid::regclass::text, line_number FROM s3_log_record ORDER BY line_number") == [
        ("s3_log_record_2025_12", 1),
        ("s3_log_record_2026_01", 2),
        ("s3_log_record_2026_01", 3),
        ("s3_log_record_2024_02", 4),
    ]


def test_what_is_there_is_not_made_again(engine, rows):
    ensure_partitions(engine, [date(2026, 1, 1)])
    before = rows("SELECT oid FROM pg_class WHERE relname = 's3_log_record_2026_01'")
    ensure_partitions(engine, [date(2026, 1, 1)])
    ensure_partitions(engine, [])
    assert rows("SELECT oid FROM pg_class WHERE relname = 's3_log_record_2026_01'") == before
    assert len(rows(PARTITIONS)) == 1


def test_a_table_that_was_not_attached_yet_is_attached(engine, rows):
    rows("CREATE TABLE s3_log_record_2026_01 (LIKE s3_log_record INCLUDING ALL)")
    ensure_partitions(engine, [date(2026, 1, 1)])
    assert [row[0] for row in rows(PARTITIONS)] == ["s3_log_record_2026_01"]


def test_a_partition_has_the_index_of_its_parent(engine, rows):
    ensure_partitions(engine, [date(2026, 1, 1)])
    (definition,) = rows("SELECT indexdef FROM pg_indexes WHERE tablename = 's3_log_record_2026_01'")
    assert "USING brin (request_dtime, log_key_id)" in definition[0]
    statement = (
        "SELECT count(*) FROM pg_inherits i JOIN pg_class p ON p.oid = inhparent WHERE p.relname = 's3_log_record_brin'"
    )
    assert rows(statement) == [(1,)]


def test_a_partition_has_the_storage_parameters_for_rows_that_are_written_once(engine, rows):
    ensure_partitions(engine, [date(2026, 1, 1)])
    ((found,),) = rows("SELECT reloptions FROM pg_class WHERE relname = 's3_log_record_2026_01'")
    assert found == [f"{name}={value}" for name, value in STORAGE_PARAMETERS.items()]


def test_a_maker_that_waits_too_long_gives_up(engine, monkeypatch):
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT", "100ms")
    with engine.connect() as other:
        other.execute(sa.text("LOCK TABLE s3_log_record IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            ensure_partitions(engine, [date(2026, 1, 1)])
        other.rollback()
    ensure_partitions(engine, [date(2026, 1, 1)])


def test_four_makers_at_once_make_each_partition_once(engine, rows):
    months = [date(2024 + number // 12, number % 12 + 1, 1) for number in range(30)]
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        barrier.wait()
        ensure_partitions(engine, months[number:] + months[:number])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [row[0] for row in rows(PARTITIONS)] == [partition_name(month) for month in months]


def test_no_partition_waits_for_a_load_or_a_reader_elsewhere(engine, rows):
    """`CREATE TABLE … PARTITION OF` would wait for both to end."""
    load_keys(engine, [log_key("a")], [line()])
    with engine.connect() as loading, engine.connect() as reading, ThreadPoolExecutor(1) as pool:
        loading.execute(
            sa.text("INSERT INTO s3_log_record (log_key_id, line_number, request_dtime) VALUES (1, 9, '2026-03-09')")
        )
        reading.execute(sa.text("SELECT count(*) FROM s3_log_record"))
        making = pool.submit(ensure_partitions, engine, [date(2026, 4, 1)])
        try:
            making.result(timeout=5)
            waited = False
        except TimeoutError:
            waited = True
        loading.rollback()
        reading.rollback()
    assert not waited
    assert len(rows(PARTITIONS)) == 2
