"""The two ledgers are compared key by key, and retention drops no month that the lake does not hold."""

import json
from datetime import date

import pytest

from tamarin_dagster.lake.tables import RECORDS
from tamarin_dagster.pipeline.archive import archive_bucket
from tamarin_dagster.pipeline.lake.comparing import compare
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.settings import Settings
from tamarin_dagster_tests.lines import line, lines

DAY = date(2026, 3, 5)
OLD = "05/Jan/2025:09:58:01 +0000"


def name(number: int = 0, day: date = DAY) -> str:
    return f"logs/{day}-10-00-00-{number:016X}"


def get_differences(done):
    return {each.log_key[-2:]: each.what for each in done.differences}


def test_what_differs_is_named_key_by_key(load, lake, engine, folder_place, rows) -> None:
    load({name(number): lines(2) + b"no record\n" for number in range(5)})
    archive_bucket(folder_place.bucket, lake, engine)
    tables = lake.open(engine)
    done = compare(["media"], tables, engine)
    assert (done.days, done.keys, done.records, done.differing_keys) == (1, 5, 10, 0)

    tables.table(RECORDS).delete(f"log_key == '{name(0)}' and line_number == 2")
    load({name(9): lines(1)})
    rows("UPDATE s3_log_key SET etag = 'another' WHERE key = :key", key=name(1))
    rows("UPDATE s3_log_key SET line_count = 4, blank_count = 1 WHERE key = :key", key=name(2))
    rows("DELETE FROM s3_log_key WHERE key = :key", key=name(3))

    done = compare(["media"], tables, engine)
    assert (done.keys, done.records, done.differing_keys) == (1, 2, 5)
    etag = rows("SELECT etag FROM s3_log_key WHERE key = :key", key=name(4))[0][0]
    assert etag
    found = get_differences(done)
    assert found["00"] == "the lake holds 1 row of it in s3_log_record, and its ledger says 2"
    assert found["01"].startswith("the lake has another generation (ETag ")
    assert found["02"] == "line_count is 3 in the lake, 4 in Postgres; blank_count is 0 in the lake, 1 in Postgres"
    assert (found["03"], found["09"]) == ("it is not in Postgres", "it is not in the lake")
    assert set(get_differences(compare(["media"], tables, engine, counts_rows=False))) == {"01", "02", "03", "09"}
    assert compare(["media"], tables, engine, first=date(2026, 3, 6)).days == 0


def test_the_command_ends_with_1_if_they_differ_and_names_the_keys(run, configured, put_key, tmp_path) -> None:
    with configured.open("a") as file:
        file.write(f"lake: {{warehouse: '{tmp_path}/lake'}}\n")
    put_key(lines(3))
    assert run("pull").returncode == 0
    done = run("lake-compare")
    assert (done.returncode, done.stdout) == (0, "")
    assert "1 delivery day: the lake and Postgres agree on 1 log key with 3 records, and differ on 0" in done.stderr

    late = put_key(lines(1), unique="FFFFFFFFFFFF00AA")
    assert run("pull").returncode == 0  # it waits for other late log keys
    done = run("lake-compare", "--json", "--bucket", "media", "--from", "2026-03-05")
    assert done.returncode == 1
    assert json.loads(done.stdout)["differences"] == [
        {"bucket": "media", "delivery_day": "2026-03-05", "log_key": late, "what": "it is not in the lake"}
    ]
    assert late in run("lake-compare", "--ledgers-only", COLUMNS="300").stdout


def test_without_a_lake_the_commands_say_how_to_configure_one(run, configured) -> None:
    done = run("lake-compare")
    assert (done.returncode, done.stderr) == (
        2,
        "no lake is configured; set lake: with a warehouse, a folder or an s3:// URL\n",
    )


@pytest.mark.parametrize("archives", [True, False])
def test_no_month_is_dropped_that_the_lake_does_not_hold(
    run, configured, put_key, tmp_path, rows, engine, folder_place, lake, archives
) -> None:
    """The lake is to hold what Postgres drops. Its ledger alone would not prove that it does."""
    with configured.open("a") as file:
        file.write(f"lake: {{warehouse: '{tmp_path}/a lake', archives: {str(archives).lower()}}}\n")
    put_key(lines(3, OLD), day="2025-01-05")
    put_key(lines(2, "05/Feb/2025:09:58:01 +0000"), day="2025-02-05")
    keep = {"TAMARIN_RETENTION_MONTHS": "3"}
    assert run("pull", "--from", "2025-01-01", "--no-purge").returncode == 0
    if not archives:
        done = run("expire", **keep)
        assert done.returncode == 1
        assert "2 log keys of media are not in its archive yet, so no month from 2025-01 on is dropped" in done.stderr
        assert rows("SELECT count(*) FROM s3_log_record") == [(5,)]
        archive_bucket(folder_place.bucket, lake, engine)

    records = lake.open(engine).table(RECORDS)
    records.delete("delivery_day == '2025-02-05' and line_number == 2")
    done = run("expire", **keep)

    assert done.returncode == 1
    assert "1 log key of media is not in its archive yet, so no month from 2025-02 on is dropped" in done.stderr
    assert rows("SELECT count(*) FROM s3_log_record") == [(2,)]
    assert run("expire", "--dry-run", **keep).stderr.count("not in its archive yet") == 1

    rows("UPDATE s3_log_key SET archived_at = NULL WHERE delivery_date = '2025-02-05'")
    archive_bucket(folder_place.bucket, lake, engine, days=[date(2025, 2, 5)])
    assert run("expire", **keep).returncode == 0
    assert rows("SELECT count(*) FROM s3_log_record") == [(0,)]
    assert lake.open(engine).table(RECORDS).scan().count() == 5
    assert run("lake-compare").returncode == 0


def test_a_bucket_with_an_archive_of_its_own_does_not_wait_for_the_lake(engine, folder_place, tmp_path, lake) -> None:
    bucket = folder_place.bucket.model_copy(update={"archive": str(tmp_path / "archive")})
    settings = Settings(buckets=(bucket,), lake=lake.settings)
    assert settings.archive_of(bucket) == str(tmp_path / "archive")
    assert settings.model_copy(update={"buckets": ()}).archive_of(folder_place.bucket) == lake.url
    folder_place.put(name(day=date(2025, 1, 5)), line(OLD))
    assert pull_bucket(bucket, folder_place.store, engine, first=date(2025, 1, 1)).failures == []

    from tamarin_dagster.pipeline.retain import make_lake_proof  # noqa: PLC0415

    prove = make_lake_proof(settings, engine)
    assert prove is not None
    assert prove(_end()) == []


def _end():
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime(2026, 1, 1, tzinfo=UTC)
