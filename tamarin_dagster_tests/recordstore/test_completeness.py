"""Duplicates, lateness and gaps of the delivery, and failing deletions: the two views and the queries."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.queries import blocks_of, fill_month, touched
from tamarin_dagster.recordstore import completeness
from tamarin_dagster.recordstore.completeness import (
    DeliveryBaseline,
    DuplicateRecord,
    Duplicates,
    FailingPurge,
    FailingPurges,
    find_duplicates,
    find_failing_purges,
    get_delivery_baseline,
)
from tamarin_dagster.recordstore.holdings import find_newest_key
from tamarin_dagster.recordstore.partitions import partition_name
from tamarin_dagster.recordstore.schema.tables import RECORD_COLUMNS, views
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.recordstore.log_keys import DAY, load_keys, log_key

PAGE = (Path(__file__).parents[2] / "docs/explanation/completeness.md").read_text("utf-8")
REQUESTED = datetime(2026, 3, 5, 9, 58, 1, tzinfo=UTC)
DUPLICATES = "SELECT request_id, copies, log_key_ids FROM s3_duplicate_record ORDER BY request_dtime, request_id"
MONTHS = [date(2026, month, 1) for month in (2, 3, 4)]
ROWS = 20_000


@pytest.fixture
def connection(engine):
    """Yield a connection in autocommit, so that each query sees what is committed."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


def named(time: str, number: int = 1, *, prefix: str = "logs/", suffix: str = "") -> str:
    """Return the name of a log key that was delivered at that time."""
    return f"{prefix}{time}-{number:016X}{suffix}"


def at(time: datetime) -> str:
    """Return a time as S3 writes it in a line."""
    return f"{time:%d/%b/%Y:%H:%M:%S} +0000"


def id_of(rows, key: str) -> int:
    ((id_,),) = rows("SELECT id FROM s3_log_key WHERE key = :key AND superseded_at IS NULL", key=key)
    return id_


def test_the_views_have_the_columns_types_and_meanings_of_the_page(connection):
    for view in views.tables.values():
        described = connection.execute(
            sa.text(
                "SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum)"
                " FROM pg_attribute WHERE attrelid = CAST(:view AS regclass) AND attnum > 0 ORDER BY attnum"
            ),
            {"view": view.name},
        )
        assert [tuple(row) for row in described] == [
            (column.name, column.type.compile(connection.dialect).lower(), column.comment) for column in view.columns
        ]
        said = sa.text("SELECT obj_description(CAST(:view AS regclass))")
        assert connection.scalar(said, {"view": view.name}) == view.comment


def test_the_queries_of_the_page_answer_what_it_says(engine, rows):
    page = PAGE.replace("2026-10-", "2026-03-").replace("2026-09-01", "2026-02-01").replace("2026-09-30", "2026-02-28")
    time = datetime(2026, 3, 14, 12, tzinfo=UTC)
    names = [named("2026-03-14-12-10-00"), named("2026-03-14-12-10-00", suffix=".gz")]
    load_keys(engine, [log_key(name, day=time.date()) for name in names], [lines(3, at(time)), lines(4, at(time))])
    late, opened, requests, keys = map(rows, re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    assert [row[:5] for row in late] == [(time.date(), 7, *[timedelta(minutes=10)] * 3)]
    assert opened == []
    assert requests == [(4,)]
    assert sorted(keys) == [(name, 3) for name in names]


def test_a_record_that_two_log_keys_hold_is_shown_with_both(engine, rows):
    load_keys(engine, [log_key("a"), log_key("b"), log_key("c")], [lines(3), lines(2), lines(1)])
    a, b, c = (id_of(rows, name) for name in "abc")
    assert rows("SELECT * FROM s3_duplicate_record ORDER BY request_id") == [
        ("media", REQUESTED, f"{0:016X}", "REST.GET.OBJECT", "video/intro.mp4", 200, 2, [a, b, c]),
        ("media", REQUESTED, f"{1:016X}", "REST.GET.OBJECT", "video/intro.mp4", 200, 1, [a, b]),
    ]


def test_what_one_log_key_holds_twice_is_no_duplicate_and_counts_once_beside_another(engine, rows):
    load_keys(engine, [log_key("a")], [line() * 5])
    assert rows(DUPLICATES) == []
    load_keys(engine, [log_key("b"), log_key("c")], [line() * 2, lines(1)])
    assert rows(DUPLICATES) == [("3E57427F33A59F07", 2, [id_of(rows, "a"), id_of(rows, "b")])]


def test_lines_of_a_batch_delete_share_their_request_id_and_are_no_duplicates(engine, rows):
    load_keys(engine, [log_key("a"), log_key("b")], [line(key="one") + line(key="two"), line(key="three")])
    assert rows(DUPLICATES) == []
    load_keys(engine, [log_key("c")], [line(key="two") + line(key="four")])
    assert rows("SELECT key, copies, log_key_ids FROM s3_duplicate_record") == [
        ("two", 1, [id_of(rows, "a"), id_of(rows, "c")])
    ]


def test_a_difference_in_any_field_makes_two_records(engine, rows):
    """Change each column but the two that say where the line was; only a line without a change is a duplicate."""
    fields = RECORD_COLUMNS[2:]
    load_keys(engine, [log_key("a"), log_key("b")], [lines(len(fields) + 1)] * 2)
    types = dict(
        rows("SELECT attname, atttypid::regtype::text FROM pg_attribute WHERE attrelid='s3_log_record'::regclass")
    )
    others = {"text": "'other'", "inet": "'::1'", "smallint": "599", "bigint": "9", "timestamp with time zone": None}
    for number, field in enumerate(fields, 1):
        other = others[types[field]] or "request_dtime + interval '1 microsecond'"
        place = {"b": id_of(rows, "b"), "number": number}
        rows(f"UPDATE s3_log_record SET {field} = {other} WHERE log_key_id = :b AND line_number = :number", **place)
    assert rows(DUPLICATES) == [(f"{len(fields):016X}", 1, [id_of(rows, "a"), id_of(rows, "b")])]


def test_null_is_like_null_and_unlike_an_empty_text(engine, rows):
    load_keys(engine, [log_key("a"), log_key("b")], [lines(1), b""])
    for key in "ab":
        bare = "INSERT INTO s3_log_record (log_key_id, line_number, request_dtime, request_id, referrer) VALUES"
        rows(
            f"{bare} (:id, 8, '2026-03-05 01:00Z', NULL, NULL), (:id, 9, '2026-03-05 02:00Z', NULL, :text)",
            id=id_of(rows, key),
            text=None if key == "a" else "",
        )
    assert rows(
        "SELECT bucket, request_dtime, request_id, operation, key, http_status, copies FROM s3_duplicate_record"
    ) == [(None, datetime(2026, 3, 5, 1, tzinfo=UTC), None, None, None, None, 1)]


def test_a_newer_generation_of_a_log_key_makes_no_duplicates(engine, rows):
    load_keys(engine, [log_key("a", "a")], [lines(3)])
    load_keys(engine, [log_key("a", "b", minutes=1)], [lines(3)])
    assert rows(DUPLICATES) == []


def test_duplicates_of_a_day_touch_its_partition_and_few_of_its_blocks(engine, rows):
    """Both stages count: the search within the bounds, and the rows that it fetches."""
    for month in MONTHS:
        fill_month(engine, month, ROWS)
    columns = ", ".join(RECORD_COLUMNS[1:])
    rows(
        f"INSERT INTO s3_log_record (log_key_id, {columns}) SELECT 1, {columns} FROM s3_log_record"
        " WHERE request_dtime >= '2026-03-14' AND request_dtime < '2026-03-15' LIMIT 7"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE s3_log_record_2026_03")
        month = blocks_of(connection, "s3_log_record_2026_03")
        days = "request_dtime >= '{} 00:00Z' AND request_dtime < '{} 00:00Z'"
        for bounds, found in (
            (days.format("2026-03-14", "2026-03-15"), 7),
            (days.format("2026-03-20", "2026-03-21"), 0),
            ("request_dtime = '2026-03-20 12:00Z'", 0),
        ):
            query = f"SELECT sum(copies) FROM s3_duplicate_record WHERE {bounds}"
            assert (connection.exec_driver_sql(query).scalar() or 0) == found
            read = touched(connection, query)
            assert read.partitions == {"s3_log_record_2026_03"}
            assert read.blocks < month / 8 + 2 * found, bounds


def test_duplicates_of_a_day_are_counted_whatever_day_the_other_log_key_is_of(engine, connection):
    """Only the bucket's keys of that day count; a key of another configured bucket is the other of a pair."""
    next_day, times = DAY + timedelta(days=1), [REQUESTED, REQUESTED + timedelta(hours=1)]
    late, own = line(at(times[1]), request_id="B0"), line(at(times[0]), request_id="A0")
    load_keys(engine, [log_key("a"), log_key("b")], [own + late + lines(2), own])
    load_keys(engine, [log_key("next", day=next_day)], [late])
    load_keys(engine, [log_key("film")], [late], bucket="films")
    found = find_duplicates(connection, "media", DAY)
    assert found == Duplicates(
        records=2,
        copies=3,
        samples=(
            DuplicateRecord(times[0], "A0", 1, ("a", "b")),
            DuplicateRecord(times[1], "B0", 2, ("a", "next", "film")),
        ),
    )
    assert find_duplicates(connection, "media", next_day) == Duplicates(1, 2, found.samples[1:])
    assert find_duplicates(connection, "films", DAY) == Duplicates(1, 2, found.samples[1:])
    assert find_duplicates(connection, "films", next_day) == Duplicates()
    assert find_duplicates(connection, "nobody", DAY) == Duplicates()


def test_a_day_of_log_keys_without_a_record_has_no_duplicates(engine, connection):
    load_keys(engine, [log_key("a"), log_key("b")], [b"", b"no record\n"])
    assert find_duplicates(connection, "media", DAY) == Duplicates()


def test_of_many_duplicates_all_are_counted_and_some_are_named(engine, connection):
    load_keys(engine, [log_key("a"), log_key("b")], [lines(50)] * 2)
    found = find_duplicates(connection, "media", DAY)
    assert (found.records, found.copies) == (50, 50)
    assert [each.request_id for each in found.samples] == [f"{number:016X}" for number in range(completeness.SAMPLE)]


LATENESS = (
    "SELECT bucket, request_date, records, median_lateness, p95_lateness, max_lateness, first_delivery, last_delivery"
    " FROM s3_delivery_lateness ORDER BY bucket, request_date"
)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


@pytest.mark.parametrize("suffix", [".txt", ".log", ".txt.gz", ".log.zst", ".gz.txt"])
def test_a_copy_with_a_suffix_came_when_its_name_says(engine, rows, connection, suffix):
    time = datetime(2026, 3, 5, 14, 30, tzinfo=UTC)
    deliver(engine, [time], suffix=suffix)
    assert get_delivery_baseline(connection, "media", time + minutes(60)).last == time
    load_keys(engine, [log_key(named("2026-03-05-15-00-00", suffix=suffix))], [line(at(time))])
    assert rows("SELECT max_lateness FROM s3_delivery_lateness") == [(minutes(30),)]
    newest = find_newest_key(connection, "media", "logs")
    assert newest.delivered_at == datetime(2026, 3, 5, 15, tzinfo=UTC)


def test_lateness_is_told_by_the_names_in_either_layout_compressed_or_not(engine, rows):
    """Load keys delivered at 10:00, 10:10, …; the hundred requests of each are one to a hundred minutes earlier."""
    day, deliveries = "2026-03-05", ["10-00-00", "10-10-00", "10-20-00", "23-59-59"]
    names = [
        named(f"{day}-{deliveries[0]}"),
        named(f"{day}-{deliveries[1]}", suffix=".gz"),
        named(f"{day}-{deliveries[2]}", prefix="logs/123456789012/eu-central-1/media/2026/03/05/"),
        named(f"{day}-{deliveries[3]}", prefix="2026-03-04-01-02-03-", suffix=".zst"),
    ]
    times = [datetime.strptime(f"{day}-{each} +0000", "%Y-%m-%d-%H-%M-%S %z") for each in deliveries]
    bodies = [b"".join(line(at(time - minutes(late))) for late in range(1, 101)) for time in times]
    load_keys(engine, [log_key(name) for name in names], bodies)
    load_keys(engine, [log_key("films")], [lines(1)], bucket="films")
    assert rows(LATENESS) == [
        ("films", DAY, 1, timedelta(seconds=119), timedelta(seconds=119), timedelta(seconds=119))
        + (datetime(2026, 3, 5, 10, tzinfo=UTC),) * 2,
        ("media", DAY, 400, minutes(50), minutes(95), minutes(100), times[0], times[3]),
    ]


def test_a_key_named_for_midnight_came_when_it_was_written_if_that_is_later(engine, rows):
    """S3 delivers it by event date: its name has the day, but not the time."""
    midnight = datetime(2026, 3, 5, tzinfo=UTC)
    load_keys(engine, [log_key(named("2026-03-05-00-00-00"))], [line(at(midnight + minutes(90)))])
    ((late,),) = rows("SELECT max_lateness FROM s3_delivery_lateness")
    assert late == timedelta(hours=8.5)
    rows("UPDATE s3_log_key SET last_modified = '2026-03-04 00:00Z'")
    assert rows("SELECT max_lateness, last_delivery FROM s3_delivery_lateness") == [(minutes(-90), midnight)]


def test_no_name_of_a_key_is_too_odd_to_be_told_a_time(engine, rows, connection):
    """If the name has no valid time, the key counts as delivered when it was written, in the baseline too."""
    written = datetime(2026, 3, 5, 10, tzinfo=UTC)
    odd = [
        "",
        "a",
        "2026-03-05",
        "logs/2026-03-05-25-61-61-0000000000000001",
        "logs/2026-03-05-24-00-00-0000000000000001",
        "logs/2026-03-05-10-60-00-0000000000000001",
        "logs/0000-00-00-99-99-99-0000000000000001.gz",
        "logs/2026-03-05-é0-00-00-0000000000000001",
        "logs/2026-03-05-10-00-00-0000000000000001.bz2",
        "😀" * 300,
        "\\x00 %s {} 'quoted' \"\n",
        "..gz",
    ]
    plain = {
        "logs/2026-13-45-11-22-33-0000000000000001": written.replace(hour=11, minute=22, second=33),
        "11-22-33-0123456789abcdeF.gz": written.replace(hour=11, minute=22, second=33),
        "logs/2026-03-05-00-00-00-0000000000000001": written,
        "logs/2026-03-05-00-00-07-0000000000000001": written.replace(hour=0, second=7),
    }
    expected = dict.fromkeys(odd, written) | plain
    for number, name in enumerate(expected):
        load_keys(engine, [log_key(name)], [lines(1)], bucket=f"bucket-{number:02}", log_bucket_name=f"logs-{number}")
    assert rows("SELECT last_delivery FROM s3_delivery_lateness ORDER BY bucket") == [(t,) for t in expected.values()]
    for number, time in enumerate(expected.values()):
        baseline = get_delivery_baseline(connection, f"bucket-{number:02}", datetime(2026, 3, 9, tzinfo=UTC))
        assert baseline == DeliveryBaseline(1, time.replace(second=0), time.replace(second=0), None)


@pytest.mark.parametrize("style", ["ISO", "SQL, DMY", "German", "Postgres, MDY"])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/St_Johns"])
def test_days_are_those_of_utc_at_the_border_of_a_month_too(engine, connection, style, zone):
    times = [datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)]
    came = datetime(2026, 3, 1, 0, 5, tzinfo=UTC)
    load_keys(engine, [log_key(named("2026-03-01-00-05-00"), day=came.date())], [b"".join(line(at(t)) for t in times)])
    connection.exec_driver_sql(f"SET TimeZone TO '{zone}'")
    connection.exec_driver_sql(f"SET DateStyle TO '{style}'")
    said = connection.exec_driver_sql(
        "SELECT request_date::text, records FROM s3_delivery_lateness ORDER BY request_date"
    )
    connection.exec_driver_sql("SET DateStyle TO ISO")
    assert [row.records for row in said] == [1, 1]
    assert [tuple(row)[1:] for row in connection.exec_driver_sql(LATENESS)] == [
        (date(2026, 2, 28), 1, *[came - times[0]] * 3, came, came),
        (date(2026, 3, 1), 1, *[minutes(5)] * 3, came, came),
    ]


def test_a_day_is_open_until_a_day_after_its_end_and_its_last_delivery(engine, rows, today):
    now = datetime.now(UTC).replace(microsecond=0)
    long_ago, stale = now - timedelta(days=10), now - timedelta(days=1, minutes=1)
    yesterday = datetime.combine(today, datetime.min.time(), UTC) - timedelta(days=1)
    requested = {"old": long_ago, "late": long_ago, "stale": long_ago, "of yesterday": yesterday, "new": now}
    delivered = requested | {"late": now - timedelta(hours=23), "stale": stale}
    for bucket, time in delivered.items():
        key = log_key(named(f"{time:%Y-%m-%d-%H-%M-%S}"), day=time.date())
        load_keys(engine, [key], [line(at(requested[bucket]))], bucket=bucket, log_bucket_name=bucket)
    assert dict(rows("SELECT bucket, is_open FROM s3_delivery_lateness")) == {
        "old": False,
        "late": True,
        "stale": False,
        "of yesterday": True,
        "new": True,
    }


def test_lateness_of_chosen_days_executes_no_other_partition(engine, rows):
    """The plan has all partitions; the query skips the others by their days when it runs."""
    for month in MONTHS:
        fill_month(engine, month, ROWS)
    rows(
        "INSERT INTO s3_log_key (id, bucket, log_bucket_name, key, etag, size, last_modified, delivery_date,"
        " line_count, record_count, rejected_count, blank_count) OVERRIDING SYSTEM VALUE"
        " SELECT log_key_id, min(bucket), 'logs',"
        " to_char(max(request_dtime) + interval '1 hour', 'YYYY-MM-DD-HH24-MI-SS-') || lpad(log_key_id::text, 16, '0'),"
        " 'a', 1, now(), CAST(max(request_dtime) + interval '1 hour' AS date),"
        " count(*), count(*), 0, 0 FROM s3_log_record GROUP BY log_key_id"
    )
    rows("ANALYZE s3_log_key")
    view = "SELECT sum(records) FROM s3_delivery_lateness"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        month = blocks_of(connection, "s3_log_record_2026_03")
        for days, number in (
            ("request_date = '2026-03-14'", 1),
            ("request_date BETWEEN '2026-03-14' AND '2026-03-16'", 3),
            ("request_date = '2026-03-14' AND bucket = 'films'", 1),
        ):
            found = touched(connection, f"{view} WHERE {days}")
            records = {name for name in found.partitions if name.startswith("s3_log_record")}
            assert records == {"s3_log_record_2026_03"}, days
            assert found.blocks < number * month / 8 + 300, days
        assert connection.exec_driver_sql(view).scalar() == len(MONTHS) * ROWS
        both = touched(connection, f"{view} WHERE request_date BETWEEN '2026-02-28' AND '2026-03-01'")
        assert both.partitions >= {partition_name(month) for month in MONTHS[:2]}
        assert partition_name(MONTHS[2]) not in both.partitions


def deliver(engine, times, *, bucket: str = "media", suffix: str = "") -> None:
    """Load an empty log key at each of these times."""
    keys = [
        log_key(named(f"{time:%Y-%m-%d-%H-%M-%S}", number, suffix=suffix), day=time.date())
        for number, time in enumerate(times)
    ]
    load_keys(engine, keys, [b""] * len(keys), bucket=bucket, log_bucket_name=bucket)


def test_the_baseline_is_of_the_minutes_of_the_last_two_weeks(engine, connection):
    last = datetime(2026, 3, 20, 12, tzinfo=UTC)
    ago = [timedelta(days=14, minutes=1), timedelta(days=14), timedelta(days=9), timedelta(hours=1), timedelta()]
    deliver(engine, [last - each for each in ago] + [last + timedelta(seconds=59)], suffix=".gz")
    deliver(engine, [last + timedelta(hours=5)], bucket="films")
    assert get_delivery_baseline(connection, "media", last + timedelta(days=400)) == DeliveryBaseline(
        deliveries=4,
        first=last - timedelta(days=14),
        last=last,
        largest_gap=timedelta(days=8, hours=23),
    )
    assert get_delivery_baseline(connection, "films", last + timedelta(hours=6)).deliveries == 1
    assert get_delivery_baseline(connection, "nobody", last) == DeliveryBaseline()


def test_a_key_that_is_named_for_a_time_to_come_is_no_delivery_yet(engine, connection):
    """Otherwise a wrong clock, or a name made by hand, would keep the bucket from ever being reported as silent."""
    now = datetime(2026, 3, 20, 12, tzinfo=UTC)
    deliver(engine, [now - minutes(3), now, now + minutes(2), now + timedelta(days=300)])
    assert get_delivery_baseline(connection, "media", now) == DeliveryBaseline(2, now - minutes(3), now, minutes(3))


def test_a_superseded_generation_is_no_delivery(engine, connection):
    key = named("2026-03-05-10-00-00")
    load_keys(engine, [log_key(key, "a")], [b""])
    load_keys(engine, [log_key(key, "b", minutes=1)], [lines(1)])
    assert get_delivery_baseline(connection, "media", datetime(2026, 3, 6, tzinfo=UTC)).deliveries == 1


def test_keys_whose_deletion_fails_are_counted_longest_first(engine, connection, rows):
    load_keys(engine, [log_key(f"k{number:02}") for number in range(30)], [b""] * 30)
    load_keys(engine, [log_key("film")], [b""], bucket="films")
    now = datetime(2026, 3, 9, 12, tzinfo=UTC)
    rows(
        "UPDATE s3_log_key SET purge_error = 'AccessDenied', purge_failed_at ="
        " CASE key WHEN 'film' THEN :now ELSE :now - substr(key, 2)::int * interval '1 hour' END",
        now=now,
    )
    rows("UPDATE s3_log_key SET superseded_at = now() WHERE key = 'k29'")
    rows("UPDATE s3_log_key SET purged_at = now() WHERE key = 'k28'")
    rows("UPDATE s3_log_key SET expired_at = now() WHERE key = 'k27'")
    found = find_failing_purges(connection, "media", now - timedelta(hours=25))
    assert found == FailingPurges(
        2,
        (
            FailingPurge("k26", "AccessDenied", now - timedelta(hours=26)),
            FailingPurge("k25", "AccessDenied", now - timedelta(hours=25)),
        ),
    )
    every = find_failing_purges(connection, "media", now)
    assert (every.keys, len(every.samples), every.samples[:2]) == (27, completeness.SAMPLE, found.samples)
    assert find_failing_purges(connection, "media", now - timedelta(hours=27)) == FailingPurges()
    assert find_failing_purges(connection, "films", now).keys == 1
    assert find_failing_purges(connection, "nobody", now) == FailingPurges()
