"""pull: the whole way from a log bucket to rows, completely and exactly once, whatever happens on the way."""

import bz2
import gzip
import io
import lzma
import threading
import time
import weakref
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryHour
from tamarin_dagster.logformat import parser as parsing
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline import pull as pulling
from tamarin_dagster.pipeline.pull import Progress, Pulled, pull_bucket
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster.recordstore import ledger, loading
from tamarin_dagster.recordstore.loading import Batch
from tamarin_dagster.recordstore.schema.tables import RECORD_COLUMNS
from tamarin_dagster.settings import LoggedBucket
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.logstore.broken import Broken

JUNK = b"no log line at all\n"
BAD_ID = "BADBADBADBADBAD0"
DAY, NEXT = date(2026, 3, 5), date(2026, 3, 6)
COUNTS = (
    "SELECT (SELECT count(*) FROM s3_log_key WHERE superseded_at IS NULL), (SELECT count(*) FROM s3_log_record),"
    " (SELECT count(*) FROM s3_rejected_line)"
)


def name(day: date = DAY, number: int = 0, suffix: str = "") -> str:
    return f"logs/{day}-10-00-00-{number:016X}{suffix}"


def pull_all(place, engine, **options) -> Pulled:
    return pull_bucket(place.bucket, place.store, engine, **options)


def in_sum(pulled: Pulled) -> tuple[int, ...]:
    columns = ("listed", "seen", "keys", "lines", "records", "rejected", "blank")
    return tuple(sum(getattr(day, column) for day in pulled.periods) for column in columns)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Check that a pull's threads have ended, whatever happened to it."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "pipeline"] == []


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(pulling, "BATCH_KEYS", 3)


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def a_week(request):
    """Seven days of log keys of all kinds in a place: 35 log keys, 105 records, 7 rejected lines, 7 blank ones."""
    place = request.getfixturevalue(f"{request.param}_place")
    for offset in range(7):
        day = DAY + timedelta(days=offset)
        place.put(name(day, 0), lines(3))
        place.put(name(day, 1, ".gz"), gzip.compress(lines(5)))
        place.put(name(day, 2), lines(2) + JUNK + b"\n")
        place.put(name(day, 3), b"")
        root = "logs/123456789012/eu-west-1/media/"
        place.put(f"{root}{day:%Y/%m/%d}/{day}-00-00-00-{4:016X}", lines(5)[:-1])
    return place


def test_a_pull_counts_what_it_loads_by_day(place, engine, rows):
    place.put(name(DAY, 1), lines(3))
    place.put(name(DAY, 2), lines(2, "04/Mar/2026:23:00:00 +0000") + JUNK + b"\n\n")
    place.put(name(NEXT, 1), lines(4, "06/Mar/2026:01:02:03 +0000"))
    place.put("logs/2026-03-06-junk", b"x")
    place.put("logs/README", b"x")
    pulled = pull_all(place, engine, run_id="run-1")
    first, second = pulled.periods
    assert (first.period, first.listed, first.seen, first.keys) == (DAY, 2, 0, 2)
    assert (first.lines, first.records, first.rejected, first.blank) == (8, 5, 1, 2)
    assert first.bytes == len(lines(5)) + len(JUNK) + 2
    assert (first.first_request, first.last_request) == (
        datetime(2026, 3, 4, 23, tzinfo=UTC),
        datetime(2026, 3, 5, 9, 58, 1, tzinfo=UTC),
    )
    assert (first.strays, first.failures) == ([], [])
    assert (second.period, second.listed, second.keys, second.records) == (NEXT, 1, 1, 4)
    assert second.strays == ["logs/2026-03-06-junk"]
    assert (pulled.strays, pulled.failures) == (("logs/README",), [])
    assert pulled.seconds > 0
    assert rows(COUNTS) == [(3, 9, 1)]
    assert rows("SELECT DISTINCT bucket, log_bucket_name, run_id FROM s3_log_key") == [
        ("media", place.bucket.log_bucket_name, "run-1")
    ]
    assert sorted(place.names()) == sorted(
        [name(DAY, 1), name(DAY, 2), name(NEXT, 1), "logs/2026-03-06-junk", "logs/README"]
    )


def test_a_second_pull_changes_nothing(a_week, engine, rows, contents):
    assert in_sum(pull_all(a_week, engine)) == (35, 0, 35, 119, 105, 7, 7)
    before, ids = contents(), rows("SELECT id, loaded_at FROM s3_log_key ORDER BY id")
    assert in_sum(pull_all(a_week, engine)) == (35, 35, 0, 0, 0, 0, 0)
    assert contents() == before
    assert rows("SELECT id, loaded_at FROM s3_log_key ORDER BY id") == ids
    assert rows(COUNTS) == [(35, 105, 7)]


def test_both_parsers_load_the_same_rows(folder_place, engine, rows):
    """As tables, not only as frames: the regex reader's results are packed for COPY too."""
    body = lines(4) + line(status="-", user_agent="caf\u00e9 \\x00") + JUNK + b"\n" + line(remote_ip="2001:db8::7")
    folder_place.put(name(DAY, 1), body)
    folder_place.put(name(NEXT, 1), body)
    for day, parser in ((DAY, "compiled"), (NEXT, "regex")):
        assert in_sum(pull_all(folder_place, engine, periods=[day], parser=parser))[2:] == (1, 8, 6, 1, 1)
    columns = ", ".join(f"r.{column}" for column in RECORD_COLUMNS if column != "log_key_id")
    first, second = (
        rows(
            f"SELECT {columns} FROM s3_log_record r JOIN s3_log_key k ON k.id = log_key_id"
            " WHERE delivery_date = :day ORDER BY line_number",
            day=day,
        )
        for day in (DAY, NEXT)
    )
    assert len(first) == 6
    assert first == second


def test_an_empty_log_bucket_is_nothing_to_do(s3_place, engine):
    pulled = pull_all(s3_place, engine)
    assert (pulled.periods, pulled.strays, pulled.failures) == ((), (), [])


def test_only_the_days_asked_for_are_loaded(a_week, engine, rows):
    asked = [DAY + timedelta(days=1), DAY + timedelta(days=3), DAY + timedelta(days=1), date(2025, 1, 1)]
    pulled = pull_all(a_week, engine, periods=asked)
    assert [(day.period, day.keys) for day in pulled.periods] == [(date(2025, 1, 1), 0), (asked[0], 5), (asked[1], 5)]
    assert rows("SELECT DISTINCT delivery_date FROM s3_log_key ORDER BY 1") == [(asked[0],), (asked[1],)]
    assert pull_all(a_week, engine, periods=[]).periods == ()


def test_first_and_last_bound_the_days(a_week, engine):
    pulled = pull_all(a_week, engine, first=DAY + timedelta(days=5))
    assert [each.period for each in pulled.periods] == [DAY + timedelta(days=5), DAY + timedelta(days=6)]
    pulled = pull_all(a_week, engine, last=DAY)
    assert [each.period for each in pulled.periods] == [DAY]
    pulled = pull_all(a_week, engine, first=DAY + timedelta(days=2), last=DAY + timedelta(days=3))
    assert [each.period for each in pulled.periods] == [DAY + timedelta(days=2), DAY + timedelta(days=3)]


def test_a_pull_begins_with_the_start_date_and_ends_with_tomorrow(folder_place, engine, today):
    days = [date(2025, 12, 31), date(2026, 1, 1), today, today + timedelta(days=1), today + timedelta(days=3)]
    for day in days:
        folder_place.put(name(day), lines(1))
    assert [each.period for each in pull_all(folder_place, engine).periods] == days[1:4]


def test_progress_tells_sums_over_all_days(a_week, engine, small_batches):
    reported: list[Progress] = []
    pull_all(a_week, engine, progress=reported.append)
    loads, looks = 12, 7
    assert len(reported) == loads + looks
    assert [(one.keys, one.looked) for one in reported] == sorted((one.keys, one.looked) for one in reported)
    assert (reported[-1].period, reported[-1].keys, reported[-1].lines) == (DAY + timedelta(days=6), 35, 119)
    assert (reported[-1].looked, {one.periods for one in reported}) == (7, {7})
    sizes = [item.size for page in a_week.store.pages("logs/") for item in page]
    assert reported[-1].bytes == sum(sizes)


def test_compressed_keys_are_read_whatever_their_names(place, engine, rows):
    place.put(name(DAY, 1, ".gz"), gzip.compress(lines(3)))
    place.put(name(DAY, 2), gzip.compress(lines(2)) + gzip.compress(lines(2)))
    place.put(name(DAY, 3, ".zst"), pa.compress(lines(5), "zstd", asbytes=True))
    place.put(name(DAY, 4, ".gz"), lines(7))
    pulled = pull_all(place, engine)
    assert (in_sum(pulled), pulled.failures) == ((4, 0, 4, 19, 19, 0, 0), [])
    sizes = dict(rows("SELECT key, size FROM s3_log_key"))
    assert sizes == {item.key: item.size for page in place.store.pages("") for item in page}
    assert pulled.periods[0].bytes == sum(sizes.values())


def test_a_corrupt_key_fails_alone_and_is_tried_again(place, engine, rows):
    place.put(name(DAY, 1, ".gz"), gzip.compress(lines(300))[:-20])
    place.put(name(DAY, 2, ".zst"), pa.compress(lines(300), "zstd", asbytes=True)[:-20])
    place.put(name(DAY, 3, ".gz"), gzip.compress(lines(3)))
    for _ in range(2):
        pulled = pull_all(place, engine)
        assert [(failure.key, failure.delivery_date) for failure in pulled.failures] == [
            (name(DAY, 1, ".gz"), DAY),
            (name(DAY, 2, ".zst"), DAY),
        ]
        assert "truncated" in pulled.failures[0].error
        assert rows(COUNTS) == [(1, 3, 0)]
    place.put(name(DAY, 1, ".gz"), gzip.compress(lines(300)))
    assert [failure.key for failure in pull_all(place, engine).failures] == [name(DAY, 2, ".zst")]
    assert rows(COUNTS) == [(2, 303, 0)]


def test_a_bomb_fails_alone(folder_place, engine, rows):
    folder_place.put(name(DAY, 1, ".gz"), gzip.compress(b"\0" * 50_000_000))
    folder_place.put(name(DAY, 2), lines(1))
    (failure,) = pull_all(folder_place, engine).failures
    assert (failure.key, "bomb" in failure.error) == (name(DAY, 1, ".gz"), True)
    assert rows(COUNTS) == [(1, 1, 0)]


def test_other_formats_and_what_is_packed_twice_fail_alone_by_name_and_are_never_read_as_lines(
    place, engine, rows, caplog
):
    """A stored zip archive gave records whose first and last columns had the archive's bytes, and was purged."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("log", lines(200))
    zstd = pa.compress(lines(3), "zstd", asbytes=True)
    bodies = [
        ("is a zip archive", file.getvalue()),
        ("is a bzip2 file", bz2.compress(lines(3))),
        ("is an xz file", lzma.compress(lines(3))),
        ("is a gzip file inside a gzip file", gzip.compress(gzip.compress(lines(3)))),
        ("is a zstd file inside a gzip file", gzip.compress(zstd)),
        ("is a gzip file inside a zstd file", pa.compress(gzip.compress(lines(3)), "zstd", asbytes=True)),
        ("is a zip archive", file.getvalue() * 400),  # too large to be held
    ]
    assert len(bodies[-1][1]) > pulling.BATCH_BYTES
    for number, (_, body) in enumerate(bodies):
        place.put(name(DAY, number), body)
    place.put(name(DAY, 10), b"\x5e\x2a\x4d\x18\4\0\0\0note" + zstd)
    pulled = pull_all(place, engine)
    found = {failure.key: failure.error for failure in pulled.failures}
    assert len(pulled.failures) == len(found) == len(bodies)
    for number, (said, _) in enumerate(bodies):
        assert found[name(DAY, number)].startswith(f"{said}, which is not supported; ")
        assert f"bucket media, key {name(DAY, number)}: {said}, " in caplog.text
    assert rows(COUNTS) == [(1, 3, 0)]
    assert len(place.names()) == len(bodies) + 1


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (b"", (0, 0, 0, 0)),
        (b"\n", (1, 0, 0, 1)),
        (b"\n \n\t\r\n" + lines(2) + b"\n\n", (7, 2, 0, 5)),
        (lines(3)[:-1], (3, 3, 0, 0)),
        (lines(2).replace(b"\n", b"\r\n"), (2, 2, 0, 0)),
        (lines(1) + b"torn", (2, 1, 1, 0)),
        (b"\0" * 1000, (1, 0, 1, 0)),
        (bytes(range(256)) * 100, (101, 0, 101, 0)),
        (gzip.compress(b"", mtime=0), (0, 0, 0, 0)),
    ],
)
def test_any_body_is_counted_line_by_line(folder_place, engine, rows, body, counts):
    folder_place.put(name(), body)
    pulled = pull_all(folder_place, engine)
    assert pulled.failures == []
    assert rows("SELECT line_count, record_count, rejected_count, blank_count FROM s3_log_key") == [counts]
    assert in_sum(pulled)[3:] == counts


def test_records_of_many_months_in_one_key_go_each_to_its_partition(folder_place, engine, rows):
    """One load creates a partition for each month of two years."""
    months = [f"{year}-{month:02}" for year in (2024, 2025) for month in range(1, 13)]
    body = b"".join(
        line(f"15/{datetime.strptime(m, '%Y-%m').replace(tzinfo=UTC):%b/%Y}:12:00:00 +0000") for m in months
    )
    folder_place.put(name(), body)
    pull_all(folder_place, engine)
    assert rows("SELECT tableoid::regclass::text, to_char(request_dtime, 'YYYY-MM') FROM s3_log_record ORDER BY 2") == [
        (f"s3_log_record_{month.replace('-', '_')}", month) for month in months
    ]


@pytest.mark.parametrize("connections", [1, 2, 5])
@pytest.mark.parametrize(("limit", "value", "batches"), [("BATCH_BYTES", 6000, 5), ("BATCH_KEYS", 2, 5)])
def test_a_day_may_take_many_batches(folder_place, engine, rows, monkeypatch, limit, value, batches, connections):
    monkeypatch.setattr(pulling, limit, value)
    for number in range(9):
        folder_place.put(name(DAY, number), lines(number + 2))
    reported: list[Progress] = []
    pulled = pull_all(folder_place, engine, progress=reported.append, connections=connections)
    assert in_sum(pulled) == (9, 0, 9, 54, 54, 0, 0)
    # Lines are counted batch by batch; log keys as soon as they are committed, which may be two batches at once.
    assert (len({one.lines for one in reported if one.lines}), rows(COUNTS)) == (batches, [(9, 54, 0)])


def test_progress_tells_of_days_that_are_loaded_already(a_week, engine):
    """Otherwise a pull over years that are already loaded would be silent for minutes."""
    pull_all(a_week, engine)
    reported: list[Progress] = []
    pull_all(a_week, engine, progress=reported.append)
    assert [(one.looked, one.periods, one.keys) for one in reported] == [(number, 7, 0) for number in range(1, 8)]


def test_what_remains_is_told_from_the_days_that_were_looked_at():
    assert Progress(DAY, 0, 7, 0, 0, 0).seconds_left(3) is None
    assert Progress(DAY, 2, 7, 10, 20, 30).seconds_left(3) == 7.5
    assert Progress(DAY, 7, 7, 10, 20, 30).seconds_left(3) == 0


def test_a_pull_of_hours_loads_these_hours_and_counts_each(place, engine, rows):
    for hour, count in ((9, 1), (10, 2), (11, 3)):
        place.put(f"logs/2026-03-05-{hour:02}-00-00-{hour:016X}", lines(count))
    root = "logs/123456789012/eu-central-1/media/"
    place.put(f"{root}2026/03/05/2026-03-05-10-59-59-{1:016X}", lines(4))
    place.put("logs/2026-03-05-10-notes", b"x")
    hours = [DeliveryHour(DAY, 10), DeliveryHour(DAY, 12), DeliveryHour(DAY, 11)]
    pulled = pull_all(place, engine, periods=hours)
    assert [(str(each.period), each.keys, each.records, each.strays) for each in pulled.periods] == [
        ("2026-03-05-10", 2, 6, ["logs/2026-03-05-10-notes"]),
        ("2026-03-05-11", 1, 3, []),
        ("2026-03-05-12", 0, 0, []),
    ]
    assert rows("SELECT delivery_date, delivery_hour, record_count FROM s3_log_key ORDER BY 2, 3") == [
        (DAY, 10, 2),
        (DAY, 10, 4),
        (DAY, 11, 3),
    ]
    assert [(each.period, each.seen, each.keys) for each in pull_all(place, engine, periods=[DAY]).periods] == [
        (DAY, 3, 1)
    ]


SUFFIXES = ["", ".txt", ".log", ".gz", ".zst", ".txt.gz", ".log.gz", ".txt.zst", ".log.zst", ".gz.txt", ".zst.log"]


def test_an_hour_has_the_log_keys_whose_names_have_a_suffix_too(place, engine, rows):
    """The computed column delivery_hour only knows .gz and .zst: other suffixes had no hour, and were never purged."""
    for number, suffix in enumerate(SUFFIXES):
        body = lines(number + 1)
        packed = gzip.compress(body) if ".gz" in suffix else pa.compress(body, "zstd", asbytes=True)
        for folder in ("", "zone/user/media/2026/03/05/"):
            key = f"logs/{folder}2026-03-05-10-{number:02}-00-{number:016X}{suffix}"
            place.put(key, packed if "z" in suffix else body)
    place.put("logs/2026-03-05-11-00-00-00000000000000AA.txt", lines(100))
    hours = [DeliveryHour(DAY, 10), DeliveryHour(DAY, 11)]
    pulled = pull_all(place, engine, periods=hours)
    assert [(each.keys, each.records, each.strays) for each in pulled.periods] == [(22, 132, []), (1, 100, [])]
    assert pulled.failures == []
    with engine.connect() as connection:
        found = [
            ledger.read_period_counts(connection, "media", period) for period in (*hours, DeliveryHour(DAY, 12), DAY)
        ]
        assert [(each.keys, each.records) for each in found] == [(22, 132), (1, 100), (0, 0), (23, 232)]
    assert purge_bucket(place.bucket, place.store, engine, periods=[hours[0]]).keys == 22
    assert place.names() == ["logs/2026-03-05-11-00-00-00000000000000AA.txt"]
    assert purge_bucket(place.bucket, place.store, engine, periods=[hours[1], DAY]).keys == 1
    assert rows("SELECT count(*), count(purged_at) FROM s3_log_key") == [(23, 23)]


def test_buckets_that_share_a_prefix_load_each_key_once(place, engine, rows, contents):
    """Each line says which bucket it belongs to; it does not matter who loads a log key first."""
    films = place.bucket.model_copy(update={"name": "films"})
    for number in range(6):
        place.put(name(DAY, number), line(bucket="media") + line(bucket="films") + line(bucket="media"))
    assert in_sum(pull_bucket(place.bucket, place.store, engine, periods=[DAY]))[:5] == (6, 0, 6, 18, 18)
    before = contents()
    assert in_sum(pull_bucket(films, place.store, engine, periods=[DAY]))[:5] == (6, 6, 0, 0, 0)
    assert contents() == before
    assert rows("SELECT bucket, count(*) FROM s3_log_record GROUP BY 1 ORDER BY 1") == [("films", 6), ("media", 12)]
    place.put(name(DAY, 6), line(bucket="films"))
    assert in_sum(pull_bucket(films, place.store, engine))[:5] == (7, 6, 1, 1, 1)
    assert rows("SELECT bucket, count(*) FROM s3_log_key GROUP BY 1 ORDER BY 1") == [("films", 1), ("media", 6)]


def test_a_key_that_is_overwritten_takes_the_place_of_its_old_self(place, engine, rows):
    place.put(name(DAY, 1), lines(3) + JUNK)
    place.put(name(DAY, 2), lines(1))
    pull_all(place, engine)
    place.another_second()
    place.put(name(DAY, 1), lines(7))
    assert in_sum(pull_all(place, engine))[:5] == (2, 1, 1, 7, 7)
    assert rows(COUNTS) == [(2, 8, 0)]
    assert rows("SELECT record_count FROM s3_log_key WHERE superseded_at IS NOT NULL") == [(0,)]


def test_of_a_refused_batch_only_the_bad_key_is_left_alone(folder_place, engine, rows, contents, monkeypatch):
    """It is halved until the bad log keys are alone; later pulls try them again."""
    render = loading.render

    def refusing(records, ids):
        bad = b"what Postgres does not take" if BAD_ID in records["request_id"].to_pylist() else b""
        return (*render(records, ids), bad)

    for number in range(13):
        folder_place.put(name(DAY, number), lines(number + 1) + (JUNK if number == 3 else b""))
    folder_place.put(name(DAY, 5), line(request_id=BAD_ID) + lines(2))
    folder_place.put(name(DAY, 11), lines(2) + line(request_id=BAD_ID))
    with monkeypatch.context() as patch:
        patch.setattr(loading, "render", refusing)
        pulled = pull_all(folder_place, engine)
    assert [failure.key for failure in pulled.failures] == [name(DAY, 5), name(DAY, 11)]
    assert all(failure.error.startswith("Postgres refuses it: ") for failure in pulled.failures)
    assert not any("\n" in failure.error for failure in pulled.failures)
    assert in_sum(pulled)[:5] == (13, 0, 11, 91 - 6 - 12 + 1, 91 - 6 - 12)
    assert rows(COUNTS) == [(11, 73, 1)]
    assert in_sum(pull_all(folder_place, engine))[:5] == (13, 11, 2, 6, 6)
    assert rows(COUNTS) == [(13, 79, 1)]


def test_a_key_that_the_ledger_refuses_is_left_alone_too(folder_place, engine, rows, monkeypatch):
    parse_logs = parsing.parse_logs

    def miscounting(bodies, **options):
        parsed = parse_logs(bodies, **options)
        counts = [
            replace(c, line_count=c.line_count + 1) if BAD_ID.encode() in body else c
            for c, body in zip(parsed.counts, bodies, strict=True)
        ]
        return replace(parsed, counts=tuple(counts))

    monkeypatch.setattr(parsing, "parse_logs", miscounting)
    for number in range(4):
        folder_place.put(name(DAY, number), line(request_id=BAD_ID if number == 2 else "0123456789ABCDEF"))
    assert [failure.key for failure in pull_all(folder_place, engine).failures] == [name(DAY, 2)]
    assert rows(COUNTS) == [(3, 3, 0)]


def test_a_key_that_defeats_the_parser_is_left_alone_too(folder_place, engine, rows, monkeypatch):
    parse_logs = parsing.parse_logs

    def defeated(bodies, **options):
        if any(BAD_ID.encode() in body for body in bodies):
            raise IndexError("list index out of range")
        return parse_logs(bodies, **options)

    for number in range(5):
        folder_place.put(name(DAY, number), line(request_id=BAD_ID if number == 3 else "0123456789ABCDEF"))
    with monkeypatch.context() as patch:
        patch.setattr(parsing, "parse_logs", defeated)
        (failure,) = pull_all(folder_place, engine).failures
    assert (failure.key, failure.error) == (
        name(DAY, 3),
        "cannot be parsed: IndexError: list index out of range",
    )
    assert rows(COUNTS) == [(4, 4, 0)]
    pull_all(folder_place, engine)
    assert rows(COUNTS) == [(5, 5, 0)]


def test_a_log_bucket_that_cannot_be_listed_is_an_error(s3_place, folder_place, engine, s3):
    missing = s3_place.bucket.model_copy(update={"log_bucket_name": "no-such-bucket"})
    for days in (None, [DAY]):
        with pytest.raises(LogStoreError, match="no-such-bucket"):
            pull_bucket(missing, open_log_store(missing), engine, periods=days)
    nowhere = folder_place.bucket.model_copy(update={"log_bucket_name": "file:///no/such/folder"})
    with pytest.raises(LogStoreError, match="the folder does not exist"):
        pull_bucket(nowhere, open_log_store(nowhere), engine)


def test_a_listing_that_fails_midway_leaves_what_was_loaded_and_a_rerun_completes_it(
    a_week, engine, rows, contents, small_batches
):
    """An error is never taken for an empty day."""
    store = Broken(a_week.store, listing=f"logs/{DAY + timedelta(days=4)}-")
    with pytest.raises(LogStoreError, match="access denied"):
        pull_bucket(a_week.bucket, store, engine)
    loaded = rows(COUNTS)[0][0]
    assert loaded % 3 == 0
    assert 0 <= loaded <= 20
    pulled = pull_all(a_week, engine)
    assert in_sum(pulled)[:3] == (35, loaded, 35 - loaded)
    after = contents()
    rows("TRUNCATE s3_log_key, s3_log_record, s3_rejected_line")
    pull_all(a_week, engine)
    assert contents() == after


@pytest.mark.parametrize(
    "batch", [pytest.param(0, marks=pytest.mark.slow), 3, pytest.param(11, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("step", ["fetch", "prepare", "load", "progress"])
def test_an_error_in_any_step_leaves_what_was_committed_and_a_rerun_completes_it(
    folder_place, engine, rows, contents, monkeypatch, small_batches, step, batch
):
    for number in range(36):
        folder_place.put(name(DAY, number), lines(number % 5) + (JUNK if number % 7 == 0 else b""))
    calls = 0

    def interrupted(*_, **__) -> None:
        nonlocal calls
        calls += 1
        if calls > batch:
            raise KeyboardInterrupt

    def first_interrupted(work):
        def wrapped(*arguments, **named):
            interrupted()
            return work(*arguments, **named)

        return wrapped

    store, options = folder_place.store, {}
    with monkeypatch.context() as patch:
        if step == "fetch":
            store = Broken(store, before_fetch=interrupted)
        elif step == "progress":
            options = {"progress": interrupted}
        else:
            patch.setattr(loading, step, first_interrupted(getattr(loading, step)))
        with pytest.raises(KeyboardInterrupt):
            pull_bucket(folder_place.bucket, store, engine, **options)
    loaded = rows(COUNTS)[0][0]
    # The loaders are ahead of the progress: their current batches, and waiting ones, are committed.
    ahead = {"progress": 15, "load": 3}.get(step, 0)
    assert 3 * batch <= loaded <= min(3 * batch + ahead, 36)
    assert in_sum(pull_all(folder_place, engine))[:3] == (36, loaded, 36 - loaded)
    after = contents()
    rows("TRUNCATE s3_log_key, s3_log_record, s3_rejected_line")
    pull_all(folder_place, engine)
    assert contents() == after


@pytest.mark.parametrize("where", ["_copy_records", "_enter"])
def test_a_connection_that_is_lost_ends_the_pull_with_sqlalchemys_error(
    folder_place, engine, rows, contents, monkeypatch, small_batches, where
):
    for number in range(9):
        folder_place.put(name(DAY, number), lines(3))
    work, calls = getattr(loading, where), 0

    def cut(first, *rest):
        nonlocal calls
        calls += 1
        if calls == 2:
            pid = (
                first.connection.info.backend_pid
                if where == "_copy_records"
                else first.scalar(sa.text("SELECT pg_backend_pid()"))
            )
            rows("SELECT pg_terminate_backend(:pid)", pid=pid)
        return work(first, *rest)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(loading, where, cut)
            with pytest.raises(sa.exc.OperationalError):
                pull_all(folder_place, engine, connections=1)
    finally:
        assert rows(COUNTS) == [(3, 9, 0)]
        pull_all(folder_place, engine)
        assert rows(COUNTS) == [(9, 27, 0)]


def test_what_changes_between_listing_and_fetching_is_left_to_the_next_pull(place, engine, rows):
    for number in range(4):
        place.put(name(DAY, number), lines(1))

    def change(_) -> None:
        place.put(name(DAY, 1), lines(3))
        place.remove(name(DAY, 2))

    pulled = pull_bucket(place.bucket, Broken(place.store, before_fetch=change), engine)
    assert [failure.key for failure in pulled.failures] == [name(DAY, 1), name(DAY, 2)]
    assert rows(COUNTS) == [(2, 2, 0)]
    assert pull_all(place, engine).failures == []
    assert rows(COUNTS) == [(3, 5, 0)]


def test_overlapping_pulls_are_as_one_undisturbed_pull(a_week, engine, rows, contents, small_batches):
    pull_all(a_week, engine)
    undisturbed = contents()
    films = a_week.bucket.model_copy(update={"name": "films"})
    rows("TRUNCATE s3_log_key, s3_log_record, s3_rejected_line")
    barrier = threading.Barrier(3)

    def work(bucket: LoggedBucket) -> Pulled:
        barrier.wait()
        return pull_bucket(bucket, a_week.store, engine)

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(work, [a_week.bucket, a_week.bucket, a_week.bucket]))
    assert sum(in_sum(pulled)[2] for pulled in done) == 35
    assert all(pulled.failures == [] for pulled in done)
    assert contents() == undisturbed
    assert in_sum(pull_bucket(films, a_week.store, engine))[2] == 0


def test_keys_that_another_run_loaded_meanwhile_are_counted_as_seen(folder_place, engine, monkeypatch):
    """Also those that the loader found loaded while the day was still being listed."""
    monkeypatch.setattr(pulling, "BATCH_KEYS", 1)
    for number in range(3):
        folder_place.put(name(DAY, number), lines(1))
    load, first_is_loaded = loading.load, threading.Event()

    def load_behind_another(*arguments):
        load(*arguments)
        loaded = load(*arguments)
        first_is_loaded.set()
        return loaded

    class Slow(Broken):
        def pages(self, prefix, start_after="", page_keys=1000):
            for page in super().pages(prefix, start_after, page_keys):
                yield page[:2]
                if page[2:]:
                    assert first_is_loaded.wait(10)
                    time.sleep(0.2)
                    yield page[2:]

    monkeypatch.setattr(loading, "load", load_behind_another)
    pulled = pull_bucket(folder_place.bucket, Slow(folder_place.store), engine, periods=[DAY])
    assert in_sum(pulled)[:3] == (3, 3, 0)


def test_batches_ahead_stay_few(folder_place, engine, monkeypatch):
    """Memory does not grow with the size of a day: fetching waits for loading.

    Asking the garbage collector for all batches would hold tuples that other threads are still making.
    """
    monkeypatch.setattr(pulling, "BATCH_KEYS", 1)
    for number in range(16):
        folder_place.put(name(DAY, number), lines(1))
    load, prepare, lock = loading.load, loading.prepare, threading.Lock()
    begun = ended = 0
    most_under_way, most_batches = 0, 0
    parsed: list[weakref.ref] = []

    def before_fetch(_) -> None:
        nonlocal begun, most_under_way
        with lock:
            begun += 1
            most_under_way = max(most_under_way, begun - ended)

    def slow_load(*arguments):
        nonlocal ended, most_batches
        time.sleep(0.01)
        most_batches = max(most_batches, sum(each() is not None for each in parsed))
        loaded = load(*arguments)
        with lock:
            ended += 1
        return loaded

    def noted(*arguments, **options) -> Batch:
        batch = prepare(*arguments, **options)
        parsed.append(weakref.ref(batch.parsed))
        return batch

    monkeypatch.setattr(loading, "load", slow_load)
    monkeypatch.setattr(loading, "prepare", noted)
    pull_bucket(folder_place.bucket, Broken(folder_place.store, before_fetch=before_fetch), engine)
    assert (begun, ended) == (16, 16)
    # Two are being loaded, one waits parsed, one is being parsed; one waits fetched, one is being fetched.
    assert 2 <= most_under_way <= 7
    assert most_batches <= 5


def test_a_key_that_another_pull_loaded_and_purged_since_it_was_listed_is_no_failure(place, engine, rows):
    """Two pulls of one day: the slower one finds the log key gone, and nothing is incomplete."""
    for number in range(3):
        place.put(name(DAY, number), lines(2))

    def other(_) -> None:
        pull_bucket(place.bucket, place.store, engine)
        purge_bucket(place.bucket, place.store, engine)

    pulled = pull_bucket(place.bucket, Broken(place.store, before_fetch=other), engine)
    assert pulled.failures == []
    assert [(day.listed, day.seen, day.keys) for day in pulled.periods] == [(3, 3, 0)]
    assert rows("SELECT count(*), count(purged_at) FROM s3_log_key") == [(3, 3)]
