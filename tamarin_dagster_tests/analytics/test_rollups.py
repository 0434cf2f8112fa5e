"""Rollups are the sums of a day's records, in whatever order loads, kills and other processes happen."""

import random
import threading
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from tamarin_dagster.analytics import rollup_day, rollups
from tamarin_dagster.analytics.checking import check_sums
from tamarin_dagster.analytics.rollups import pending_days, roll_up
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.pipeline.retain import expire
from tamarin_dagster.recordstore import pending_days as noted
from tamarin_dagster.recordstore.schema.traffic_tables import ROLLUPS
from tamarin_dagster_tests.analytics.records import record
from tamarin_dagster_tests.lines import line, lines

DAY = date(2026, 3, 5)
FIELDS = ("requests", "bytes_sent", "error_count", "put_requests", "unbilled_requests", "unbilled_bytes")


@pytest.fixture
def load(put_key, folder_place, engine):
    """load(body, …) puts a key there and pulls it; `region` is the bucket's."""

    def load(body: bytes, *, region: str | None = None, **name: str) -> None:
        put_key(body, **name)
        pull_bucket(folder_place.bucket.model_copy(update={"region": region}), folder_place.store, engine)

    return load


@pytest.fixture
def by(rows):
    """by("key", "requests", …): the rollup's rows, in order of the dimension."""

    def by(dimension: str, *measures: str) -> list[tuple]:
        columns = ", ".join((dimension, *measures))
        return rows(
            f"SELECT {columns} FROM traffic_daily_by_{dimension} ORDER BY {dimension} NULLS FIRST, request_date"
        )

    return by


def due(engine: sa.Engine) -> list[tuple[str, date]]:
    with engine.connect() as connection:
        return pending_days(connection)


def test_a_day_is_summed_up_by_each_dimension(load, engine, by, rows):
    load(
        record(key="a", ip="192.0.2.3", size="5000", referrer="https://a.example/x?token=1", agent="curl")
        + record(key="a", ip="192.0.2.4", size="7000", referrer="https://a.example/x#part", agent="curl", sent="-")
        + record(key="b", ip="192.0.2.3", status="404", error="NoSuchKey", sent="300", agent="-")
        + record(key="-", ip="-", operation="REST.GET.BUCKET", requester="arn:aws:iam::1:user/eve", sent="50")
    )

    done = roll_up(engine)

    assert [(each.bucket, each.day, each.requests) for each in done.days] == [("media", DAY, 4)]
    measures = ("requests", "bytes_sent", "error_count")
    assert by("key", *measures, "reads", "object_size") == [
        (None, 1, 50, 0, 0, None),
        ("a", 2, 100, 0, 2, 7000),
        ("b", 1, 300, 1, 0, None),
    ]
    assert [(ip and str(ip), *sums) for ip, *sums in by("remote_ip", *measures)] == [
        (None, 1, 50, 0),
        ("192.0.2.3", 2, 400, 1),
        ("192.0.2.4", 1, 0, 0),
    ]
    assert by("requester", *measures) == [(None, 3, 400, 1), ("arn:aws:iam::1:user/eve", 1, 50, 0)]
    assert by("referrer", *measures) == [(None, 2, 350, 1), ("https://a.example/x", 2, 100, 0)]
    assert by("user_agent", *measures) == [(None, 1, 300, 1), ("curl", 2, 100, 0), ("curl/8.5.0", 1, 50, 0)]
    assert rows("SELECT requests, bytes_sent FROM traffic_day") == [(4, 450)]
    assert due(engine) == []


def test_hours_have_kinds_of_operations_and_the_times_that_requests_took(load, engine, rows):
    reads = [record("05/Mar/2026:23:59:59 +0000", took=str(took)) for took in range(1, 101)]
    load(
        b"".join(reads)
        + record("05/Mar/2026:23:00:00 +0000", took="-")
        + record("05/Mar/2026:22:59:59 +0000", operation="REST.PUT.PART", status="503", error="SlowDown")
        + record("05/Mar/2026:22:00:00 +0000", operation="S3.EXPIRE.OBJECT", status="-", sent="-", took="-")
    )

    roll_up(engine)

    columns = "operation_class, status_class, requests, bytes_sent, error_count, p50_total_time, p95_total_time"
    found = rows(
        f"SELECT CAST(hour AT TIME ZONE 'UTC' AS text), {columns}, max_total_time FROM traffic_hourly ORDER BY 1, 2"
    )
    early, late = ("2026-03-05 22:00:00", "2026-03-05 23:00:00")
    assert found == [
        (early, "lifecycle", None, 1, 0, 0, None, None, None),
        (early, "write", 5, 1, 100, 1, 7, 7, 7),
        (late, "read", 2, 101, 10_100, 0, 50, 95, 100),
    ]


OPERATIONS = {
    # operation: its kind, and whether it is billed as a PUT, or not at all
    "REST.GET.OBJECT": ("read", 0, 0),
    "WEBSITE.GET.OBJECT": ("read", 0, 0),
    "REST.HEAD.OBJECT": ("read", 0, 0),
    "REST.PUT.OBJECT": ("write", 1, 0),
    "REST.COPY.OBJECT": ("write", 1, 0),
    "REST.POST.UPLOADS": ("write", 1, 0),
    "REST.GET.BUCKET": ("list", 1, 0),
    "REST.GET.UPLOADS": ("list", 1, 0),
    "REST.GET.LOCATION": ("other", 0, 0),
    "REST.DELETE.OBJECT": ("delete", 0, 1),
    "BATCH.DELETE.OBJECT": ("delete", 0, 1),
    "REST.POST.MULTI_OBJECT_DELETE": ("delete", 0, 1),
    "REST.COPY.OBJECT_GET": ("read", 0, 1),
    "S3.TRANSITION_GDA.OBJECT": ("lifecycle", 0, 0),
    "S3.EXPIRE.OBJECT": ("lifecycle", 0, 1),
}


def test_an_operation_has_its_kind_and_its_price(load, engine, by, rows):
    hours = dict(enumerate(OPERATIONS))
    load(
        b"".join(record(f"05/Mar/2026:{hour:02}:00:00 +0000", operation=name, key=name) for hour, name in hours.items())
    )

    roll_up(engine)

    kinds = rows("SELECT operation_class FROM traffic_hourly ORDER BY hour")
    assert kinds == [(kind,) for kind, _, _ in OPERATIONS.values()]
    prices = {name: price for name, *price in by("key", "put_requests", "unbilled_requests")}
    assert prices == {name: price for name, (_, *price) in OPERATIONS.items()}


BILLING = [
    # what is asked, in eu-west-1; unbilled requests, bytes that cost nothing, and bytes to another region
    ({}, 0, 0, 0),
    ({"status": "304", "sent": "-"}, 0, 0, 0),
    ({"status": "404", "error": "NoSuchKey"}, 0, 0, 0),
    ({"status": "403", "error": "AccessDenied"}, 1, 100, 0),
    ({"status": "403", "error": "AccessDenied", "requester": "arn:aws:iam::1:user/x"}, 0, 0, 0),
    ({"status": "403", "error": "SignatureDoesNotMatch", "requester": "arn:aws:iam::1:user/x"}, 1, 100, 0),
    ({"status": "301", "error": "PermanentRedirect"}, 1, 100, 0),
    ({"status": "500", "error": "InternalError"}, 1, 100, 0),
    ({"operation": "REST.PUT.OBJECT", "status": "503", "error": "SlowDown"}, 1, 100, 0),
    ({"ip": "10.1.2.3"}, 0, 100, 0),
    ({"ip": "172.31.0.1"}, 0, 100, 0),
    ({"ip": "172.32.0.1"}, 0, 0, 0),
    ({"ip": "fd00::1"}, 0, 100, 0),
    ({"ip": "2001:db8::1"}, 0, 0, 0),
    ({"requester": "arn:aws:iam::cloudfront:user/X"}, 0, 100, 0),
    ({"requester": "svc:cloudfront.amazonaws.com"}, 0, 100, 0),
    ({"agent": "Amazon CloudFront"}, 0, 100, 0),
    ({"region": "eu-west-1"}, 0, 100, 0),
    ({"region": "us-east-1"}, 0, 0, 100),
    ({"region": "us-east-1", "status": "500", "error": "InternalError"}, 1, 100, 0),
]


def test_what_is_billed_is_told_apart(load, engine, by):
    load(b"".join(record(**asked, key=str(number)) for number, (asked, *_) in enumerate(BILLING)), region="eu-west-1")

    roll_up(engine)

    found = by("key", "put_requests", "unbilled_requests", "unbilled_bytes", "interregion_bytes")
    assert {int(key): sums for key, *sums in found} == {n: [0, *sums] for n, (_, *sums) in enumerate(BILLING)}


def test_a_region_that_is_not_known_is_taken_for_the_requests(load, engine, by):
    load(record(region="us-east-1"))
    roll_up(engine)
    assert by("key", "unbilled_bytes", "interregion_bytes") == [("a", 100, 0)]


def test_a_region_that_is_set_later_counts_when_the_records_are_read_again(load, engine, by):
    """`roll-up --from` sums up the records of the days again, with the region of the present settings."""
    load(record(region="us-east-1"))
    roll_up(engine)
    with engine.begin() as connection:
        noted.note_rolled_up(connection, DAY, DAY)
    roll_up(engine, regions={"media": "eu-west-1"})
    assert by("key", "unbilled_bytes", "interregion_bytes") == [("a", 0, 100)]


def test_a_day_ends_at_midnight_utc_and_buckets_have_their_own(load, engine, rows):
    load(
        record("05/Mar/2026:23:59:59 +0000")
        + record("06/Mar/2026:00:00:00 +0000")
        + record("06/Mar/2026:01:30:00 +0200")
        + record(bucket="films", sent="1")
    )
    assert due(engine) == [("films", DAY), ("media", DAY), ("media", DAY + timedelta(days=1))]

    roll_up(engine, skips=["films"])

    assert due(engine) == [("films", DAY)]
    roll_up(engine)
    assert rows("SELECT bucket, request_date, requests, bytes_sent FROM traffic_day ORDER BY 1, 2") == [
        ("films", DAY, 1, 1),
        ("media", DAY, 2, 200),
        ("media", DAY + timedelta(days=1), 1, 100),
    ]


def test_late_keys_newer_generations_and_reparsed_lines_bring_their_days_back(
    load, put_key, folder_place, engine, rows, log_folder
):
    name = "1" * 16
    load(record(key="old", sent="1"), unique=name)
    roll_up(engine)
    load(record("01/Feb/2026:10:00:00 +0000", key="late"))
    assert due(engine) == [("media", date(2026, 2, 1))]
    roll_up(engine)
    put_key(record("03/Mar/2026:10:00:00 +0000", key="new") + b"no line", unique=name)
    pull_bucket(folder_place.bucket, folder_place.store, engine)

    assert due(engine) == [("media", date(2026, 3, 3)), ("media", DAY)]
    roll_up(engine)

    found = rows("SELECT request_date, key, requests FROM traffic_daily_by_key ORDER BY 1")
    assert found == [(date(2026, 2, 1), "late", 1), (date(2026, 3, 3), "new", 1)]
    assert rows("SELECT request_date FROM traffic_day ORDER BY 1") == [(date(2026, 2, 1),), (date(2026, 3, 3),)]


def test_a_roll_up_changes_nothing_that_is_as_it_should_be(load, engine, contents):
    load(lines(5) + record("06/Mar/2026:10:00:00 +0000"))
    roll_up(engine)
    once = rollup_rows(engine)
    with engine.begin() as connection:
        noted.note(connection, {("media", DAY), ("media", DAY + timedelta(days=1))})

    assert [each.requests for each in roll_up(engine).days] == [5, 1]
    assert rollup_rows(engine) == once
    assert roll_up(engine).days == []


@pytest.fixture(params=["merged", "read again"])
def sums(request, engine, monkeypatch):
    """sums(before=…, after=…) calls these once, before and after a roll-up reads the sums of a day.

    It merges parts, or reads the records again, as after a newer generation.
    """
    name = "_sum_up_parts" if request.param == "merged" else "_sum_up_records"

    def sums(before=lambda: None, after=lambda: None) -> None:
        read = getattr(rollup_day, name)

        def disturbed(*args):
            monkeypatch.setattr(rollup_day, name, read)
            before()
            totals = read(*args)
            after()
            return totals

        monkeypatch.setattr(rollup_day, name, disturbed)
        if request.param == "read again":
            with engine.begin() as connection:
                noted.note(connection, [("media", DAY)])

    sums.reads_records = request.param == "read again"
    return sums


def test_a_load_that_commits_before_the_sums_are_read_is_counted_once(load, engine, sums):
    load(lines(2))
    sums(before=lambda: load(lines(3)))

    # the parts are chosen before, the records are read after it: with their parts
    found = [5] if sums.reads_records else [2]
    assert [each.requests for each in roll_up(engine).days] == found
    assert due(engine) == ([] if sums.reads_records else [("media", DAY)])
    roll_up(engine)
    assert rollup_rows(engine)["traffic_day"] == [(DAY, 5, 5 * 113)]
    assert check_sums(engine).differences == ()


def test_a_load_that_commits_after_the_sums_is_in_the_next_roll_up(load, engine, sums):
    load(lines(2))
    sums(after=lambda: load(lines(3)))

    assert [each.requests for each in roll_up(engine).days] == [2]
    assert due(engine) == [("media", DAY)]
    assert [each.requests for each in roll_up(engine).days] == [5]


def test_a_roll_up_that_fails_leaves_the_day_as_it_was_and_due(load, engine, monkeypatch):
    load(lines(2))
    roll_up(engine)
    once = rollup_rows(engine)
    load(lines(3))
    with monkeypatch.context() as patched:
        patched.setattr(rollup_day, "make_day_rows", None)
        with pytest.raises(TypeError):
            roll_up(engine)

    assert (rollup_rows(engine), due(engine)) == (once, [("media", DAY)])
    assert [each.requests for each in roll_up(engine).days] == [5]


def test_a_roll_up_whose_day_is_checked_meanwhile_is_not_disturbed(load, engine, rows, sums):
    """With one snapshot for all statements, Postgres rejected the transaction, and the day was summed up twice."""
    load(lines(2))
    roll_up(engine)
    load(lines(3))
    checked = []

    def check() -> None:
        checked.append(1)
        rows("UPDATE traffic_day SET checked_at = rolled_up_at")

    sums(before=check)

    assert [each.requests for each in roll_up(engine).days] == [5]
    assert (checked, due(engine)) == ([1], [])
    assert rows("SELECT checked_at FROM traffic_day") == [(None,)]


def test_several_roll_ups_at_once_are_as_one(load, engine):
    load(b"".join(line(f"{day:02}/Mar/2026:10:00:00 +0000") for day in range(1, 6)))
    found = []
    threads = [threading.Thread(target=lambda: found.append(roll_up(engine))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 3
    assert sum(count for _, count, *_ in rollup_rows(engine)["traffic_day"]) == 5
    assert len(rollup_rows(engine)["traffic_daily_by_key"]) == 5


def test_several_roll_ups_at_once_need_one_connection_each(load, engine):
    """Each roll-up held one connection, with a day's lock, and waited for a second: three hung in a pool of three."""
    load(b"".join(line(f"{day:02}/Mar/2026:10:00:00 +0000") for day in range(1, 6)))
    small = sa.create_engine(engine.url, pool_size=3, max_overflow=0, pool_timeout=20)
    found: list[rollups.RolledUp] = []
    threads = [threading.Thread(target=lambda: found.append(roll_up(small))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    small.dispose()

    assert [each.failures for each in found] == [[], [], []]
    # a process that waited for a day's lock finds that another one has done the work
    assert sorted(day.day.day for each in found for day in each.days) == [1, 2, 3, 4, 5]


LARGEST = 2**63 - 1


def test_two_records_with_the_most_bytes_are_summed_up_exactly(load, engine, by, rows):
    """`bigint out of range` ended roll-up, pull and expire for good, for this bucket and all after it."""
    most = str(LARGEST)
    large = record(sent=most, region="us-east-1") + record(sent=most, size=most, took=most)
    load(large + record(bucket="zebra"), region="eu-west-1")

    done = roll_up(engine)

    assert ([each.bucket for each in done.days], done.failures) == (["media", "zebra"], [])
    assert rows("SELECT bytes_sent FROM traffic_day WHERE bucket = 'media'") == [(2 * LARGEST,)]
    assert by("remote_ip", "bucket", "bytes_sent", "interregion_bytes")[0][1:] == ("media", 2 * LARGEST, LARGEST)
    assert rows("SELECT sum(bytes_sent), max(max_total_time) FROM traffic_hourly WHERE bucket = 'media'") == [
        (2 * LARGEST, LARGEST)
    ]
    assert (check_sums(engine).differences, check_sums(engine).days) == ((), 0)


@pytest.mark.parametrize("bad", ["aaa", "media", "zzz"])
def test_a_day_that_cannot_be_rolled_up_stops_only_itself(load, engine, rows, bad):
    """Buckets after it in the alphabet were never reached."""
    load(b"".join(record(bucket=each) for each in ("aaa", "media", "zzz")) + record("06/Mar/2026:10:00:00 +0000"))
    rows(f"ALTER TABLE traffic_daily_by_key ADD CONSTRAINT refuse CHECK (bucket <> '{bad}' OR request_date <> '{DAY}')")

    done = roll_up(engine)

    good = [("aaa", DAY), ("media", DAY), ("media", DAY + timedelta(days=1)), ("zzz", DAY)]
    good.remove((bad, DAY))
    assert [(each.bucket, each.day) for each in done.days] == good
    (failure,) = done.failures
    assert (failure.bucket, failure.day) == (bad, DAY)
    assert str(failure) == (
        f'bucket {bad}, day 2026-03-05: cannot roll up: new row for relation "traffic_daily_by_key" violates check'
        ' constraint "refuse" - the other days are not affected and this one stays noted: fix the cause, then run'
        " `tamarin-dagster roll-up`"
    )
    assert due(engine) == [(bad, DAY)]

    rows("ALTER TABLE traffic_daily_by_key DROP CONSTRAINT refuse")
    assert [(each.bucket, each.day) for each in roll_up(engine).days] == [(bad, DAY)]


def test_a_server_that_is_gone_ends_a_roll_up_at_once(load, engine, rows, monkeypatch):
    """It would fail every other day too."""
    load(record(bucket="aaa") + record())

    def cut(connection: sa.Connection, *_) -> None:
        connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

    monkeypatch.setattr(rollup_day, "_sum_up_parts", cut)
    with pytest.raises(sa.exc.OperationalError):
        roll_up(engine)
    assert due(engine) == [("aaa", DAY), ("media", DAY)]


def test_a_day_whose_sums_cannot_be_checked_stops_only_itself(load, engine, rows):
    load(b"".join(record(bucket=each) for each in ("aaa", "media", "zzz")))
    roll_up(engine)
    rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'block is damaged'; END$$;"
        " CREATE TRIGGER refuse BEFORE UPDATE ON traffic_day FOR EACH ROW WHEN (OLD.bucket = 'media')"
        " EXECUTE FUNCTION refuse()"
    )

    checked = check_sums(engine)

    assert (checked.days, checked.differences) == (2, ())
    assert [(each.bucket, each.day, each.cause) for each in checked.failures] == [("media", DAY, "block is damaged")]


def test_days_that_are_noted_for_all_buckets_get_their_names(load, engine, rows):
    """A migration notes the days of records that were loaded before there were rollups."""
    load(record() + record(bucket="films"))
    rows("DELETE FROM traffic_pending_day")
    rows("INSERT INTO traffic_pending_day (request_date) VALUES ('2026-03-05'), ('2026-03-06')")

    assert [(each.bucket, each.day) for each in roll_up(engine).days] == [("films", DAY), ("media", DAY)]
    assert due(engine) == []


def test_rollups_outlive_their_records(load, engine, rows):
    load(lines(4))
    roll_up(engine)
    expire(engine, 1, today=date(2026, 6, 1))
    load(lines(1), unique="2" * 16)

    done = roll_up(engine)

    assert (done.kept, done.days, due(engine)) == (1, [], [])
    assert rows("SELECT requests, expired_at IS NOT NULL FROM traffic_day") == [(4, True)]
    assert rows("SELECT sum(requests) FROM traffic_daily_by_key") == [(4,)]
    assert check_sums(engine).days == 0


def test_a_patient_roll_up_leaves_alone_what_took_long_a_moment_ago(load, engine, rows):
    load(lines(1))
    roll_up(engine)
    rows("UPDATE traffic_day SET seconds = 60, rolled_up_at = now() - interval '599 seconds'")
    load(lines(2))

    assert (roll_up(engine, patient=True).waiting, due(engine)) == (1, [("media", DAY)])
    rows("UPDATE traffic_day SET rolled_up_at = now() - interval '601 seconds'")
    assert [each.requests for each in roll_up(engine, patient=True).days] == [3]


def test_a_name_that_no_index_holds_is_no_buckets(load, engine):
    long = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=9_000))
    load(record(bucket=long) + record(key=long, agent=long, referrer=long))
    assert [(each.bucket, each.requests) for each in roll_up(engine).days] == [("media", 1)]


def test_sums_are_checked_once_and_a_wrong_one_each_time(load, engine, rows):
    load(lines(2) + record("06/Mar/2026:10:00:00 +0000"))
    roll_up(engine)
    rows("UPDATE traffic_daily_by_referrer SET bytes_sent = bytes_sent + 1 WHERE request_date = '2026-03-05'")
    for days in (2, 1):
        checked = check_sums(engine)
        assert checked.days == days
        (wrong,) = checked.differences
        assert (wrong.rollup, wrong.bucket, wrong.day) == ("traffic_daily_by_referrer", "media", DAY)
        assert wrong.found.bytes_sent == wrong.records.bytes_sent + 1

    with engine.begin() as connection:
        noted.note(connection, {("media", DAY)})
    assert check_sums(engine).days == 0
    roll_up(engine)
    assert (check_sums(engine).differences, check_sums(engine).days) == ((), 0)


def rollup_rows(engine: sa.Engine) -> dict[str, list[tuple]]:
    """Return all rows of the rollups, in no order, and the columns of the days that are the same in each run."""
    with engine.connect() as connection:
        found = {table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr) for table in ROLLUPS}
        days = connection.execute(sa.text("SELECT request_date, requests, bytes_sent FROM traffic_day ORDER BY 1"))
        return found | {"traffic_day": list(map(tuple, days))}


def test_values_of_a_hostile_client_are_stored_as_they_are(load, engine, by, rows):
    """Rows go to Postgres as CSV, and values may contain quotes, line ends and its end-of-data mark."""
    agents = ["\\.", 'x"y', '""', "tab\there", "cr\rhere", "\\N", "a,b", "'; DROP TABLE traffic_day; --", "é\U0001f600"]
    load(b"".join(record(agent=each, referrer=each) for each in agents))
    kept = dict(rows("SELECT user_agent, count(*) FROM s3_log_record GROUP BY 1"))

    roll_up(engine)

    assert dict(by("user_agent", "requests")) == kept
    assert set(agents) <= {*kept, '""'}
    assert check_sums(engine).differences == ()

    with engine.begin() as connection:
        noted.note(connection, [("media", DAY)])
    roll_up(engine)
    assert dict(by("user_agent", "requests")) == kept


def test_random_lines_are_summed_up_as_python_does(load, engine, rows):
    chosen = random.Random(5)
    made = [
        {"key": chosen.choice("abc"), "ip": f"192.0.2.{chosen.randrange(3)}", "sent": chosen.randrange(10**12)}
        | {"status": chosen.choice(["200", "206", "404"]), "day": chosen.randrange(1, 4)}
        for _ in range(300)
    ]
    for start in range(0, 300, 60):
        body = b"".join(
            record(
                f"{each['day']:02}/Mar/2026:10:00:00 +0000",
                key=each["key"], ip=each["ip"], sent=str(each["sent"]), status=each["status"],
            )
            for each in made[start : start + 60]
        )  # fmt: skip
        load(body)
        roll_up(engine)

    expected: dict[tuple, list[int]] = {}
    for each in made:
        sums = expected.setdefault((date(2026, 3, each["day"]), each["key"]), [0, 0, 0])
        sums[0] += 1
        sums[1] += each["sent"]
        sums[2] += each["status"] == "404"
    found = rows("SELECT request_date, key, requests, bytes_sent, error_count FROM traffic_daily_by_key")
    assert {row[:2]: list(row[2:]) for row in found} == expected
    assert check_sums(engine).differences == ()
