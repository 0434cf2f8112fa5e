"""Runs of the load job: records, checks and purge, for a day and for a range of days."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.logformat import RejectReason, parser
from tamarin_dagster.logformat.compiled import pieces
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline.preview import PREVIEW_COLUMNS, PREVIEW_ROWS
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_log_record
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.orchestration.load_runs import (
    ADDED_UP,
    CHECKS,
    DAY,
    PURGED,
    RECORDS,
    check_results,
    metadata_by_partition,
    run_day,
    run_range,
    stored,
)
from tamarin_dagster_tests.runs import job_of


def test_a_day_is_loaded_checked_and_purged(definitions, instance, put_key, log_folder, engine) -> None:
    put_key(lines(3))
    put_key(lines(4) + b"\nno record\n")

    result = run_day(definitions, instance)

    assert result.success
    assert stored(engine) == (2, 7)
    metadata = metadata_by_partition(result, RECORDS)[DAY]
    assert {name: metadata[name] for name in ("keys", "lines", "rows", "rejected lines", "new keys", "new rows")} == {
        "keys": 2,
        "lines": 9,
        "rows": 7,
        "rejected lines": 1,
        "new keys": 2,
        "new rows": 7,
    }
    assert metadata["dagster/partition_row_count"] == 7
    assert metadata["bytes"] == len(lines(3)) + len(lines(4)) + len(b"\nno record\n")
    assert metadata["lines/s"] > 0
    assert metadata["first request"] == metadata["last request"] == 1772704681.0  # 05/Mar/2026:09:58:01 +0000
    assert check_results(result) == {(name, DAY): name != "no_rejected_lines" for name in CHECKS} | {ADDED_UP: True}
    assert metadata_by_partition(result, PURGED)[DAY]["purged keys"] == 1
    assert len(list(log_folder.glob("logs/*"))) == 1


def test_the_ledger_names_the_run(definitions, instance, put_key, engine) -> None:
    put_key(lines(1))

    result = run_day(definitions, instance)

    with engine.connect() as connection:
        assert connection.scalar(sa.select(s3_log_key.c.run_id)) == result.run_id


def test_a_range_run_has_metadata_and_check_results_for_each_day(definitions, instance, put_key, engine) -> None:
    put_key(lines(3), day="2026-03-04")
    put_key(lines(5) + b"no record\n", day="2026-03-06")
    days = ["2026-03-04", "2026-03-05", "2026-03-06"]

    result = run_range(definitions, instance, days[0], days[-1])

    assert result.success
    assert stored(engine) == (2, 8)
    metadata = metadata_by_partition(result, RECORDS)
    assert {day: metadata[day]["rows"] for day in days} == {"2026-03-04": 3, "2026-03-05": 0, "2026-03-06": 5}
    results = check_results(result)
    for day in days:
        assert {name for name, partition in results if partition == day} == CHECKS
        assert results["rows_match_the_ledger", day]
        assert results["no_rejected_lines", day] == (day != "2026-03-06")
    purged = metadata_by_partition(result, PURGED)
    assert {day: purged[day]["purged keys"] for day in days} == dict.fromkeys(days, 1)
    assert {day: (purged[day]["keys"], purged[day]["keys purged so far"]) for day in days} == {
        "2026-03-04": (1, 1),
        "2026-03-05": (0, 0),
        "2026-03-06": (1, 0),
    }


def test_rejected_lines_are_shown_masked(definitions, instance, put_key) -> None:
    """Of a line that is no record nobody knows where a signature or an address in it ends."""
    odd = b'10.1.2.3 "GET /a?X-Amz-Signature=5ec2e7 <script>" \x1b]0;x\x07\xff'
    key = put_key(lines(1) + odd + b"\n" + b"x" * 300 + b"\n")

    result = run_day(definitions, instance)

    check = next(e for e in result.get_asset_check_evaluations() if e.check_name == "no_rejected_lines")
    samples = [row.data for row in check.metadata["samples, masked"].records]
    assert [(sample["key"], sample["line"], sample["bytes"]) for sample in samples] == [
        (key, 2, len(odd)),
        (key, 3, 300),
    ]
    assert [sample["shape"] for sample in samples] == [
        '99.9.9.9 "aaa /a?a-aaa-aaaaaaaaa=9aa9a9 <aaaaaa>" ?]9;a??',
        "a" * 200 + "…",
    ]
    reasons = [row.data for row in check.metadata["reasons"].records]
    assert {sample["reason"] for sample in samples} == {each["reason"] for each in reasons}
    assert sum(each["lines"] for each in reasons) == 2
    assert all(each["what it means"] == RejectReason(each["reason"]).description for each in reasons)


@pytest.mark.parametrize("days", [(DAY, DAY), ("2026-03-04", "2026-03-06")])
def test_no_check_of_a_partition_stays_planned(definitions, instance, put_key, days) -> None:
    """Dagster 1.13 leaves each partition's check planned after a range run, unless each has an event of its own."""
    put_key(lines(3))

    run_day(definitions, instance) if days[0] == days[1] else run_range(definitions, instance, *days)

    for name in CHECKS:
        key = dg.AssetCheckKey(RECORDS, name)
        history = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
        of_partitions = Counter(record.status.value for record in history if record.partition is not None)
        assert of_partitions == {"SUCCEEDED": 1 if days[0] == days[1] else 3}, name


def test_a_run_over_loaded_days_changes_nothing(definitions, instance, put_key, log_folder, engine) -> None:
    for day in ("2026-03-04", "2026-03-05"):
        put_key(lines(3) + b"no record\n", day=day)
    run_day(definitions, instance, "2026-03-04")
    run_day(definitions, instance, "2026-03-05")
    before = stored(engine)

    result = run_range(definitions, instance, "2026-03-01", "2026-03-31")

    assert result.success
    assert stored(engine) == before == (2, 6)
    assert metadata_by_partition(result, RECORDS)["2026-03-05"]["new keys"] == 0
    assert len(list(log_folder.glob("logs/*"))) == 2


def test_rows_that_do_not_match_the_ledger_block_the_purge(definitions, instance, put_key, log_folder, engine) -> None:
    key = put_key(lines(3) + b"no record\n")
    run_day(definitions, instance)
    put_key(lines(2))
    with engine.begin() as connection:
        connection.execute(sa.delete(s3_log_record).where(s3_log_record.c.line_number == 2))

    result = run_day(definitions, instance)

    assert not result.success
    failed = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert "rows_match_the_ledger" in {each.check_name for each in failed}
    table = next(each.metadata["differences"].records for each in failed if each.check_name == "rows_match_the_ledger")
    assert [row.data for row in table] == [
        {"key": key, "records expected": 3, "records found": 2, "rejected expected": 1, "rejected found": 1}
    ]
    assert metadata_by_partition(result, PURGED) == {}
    assert len(list(log_folder.glob("logs/*"))) == 2


def test_a_failing_day_blocks_the_purge_of_a_range(definitions, instance, put_key, log_folder, engine) -> None:
    put_key(lines(3) + b"no record\n")
    run_day(definitions, instance)
    put_key(lines(2), day="2026-03-06")
    with engine.begin() as connection:
        connection.execute(sa.delete(s3_log_record).where(s3_log_record.c.line_number == 2))

    result = run_range(definitions, instance, "2026-03-05", "2026-03-06")

    assert not result.success
    results = check_results(result)
    assert not results["rows_match_the_ledger", "2026-03-05"]
    assert results["rows_match_the_ledger", "2026-03-06"]
    assert len(list(log_folder.glob("logs/*"))) == 2


def test_a_key_that_cannot_be_read_fails_its_check_and_stops_no_other(
    definitions, instance, put_key, log_folder, engine
) -> None:
    bad = put_key(b"\x1f\x8b\x08 no gzip at all", suffix=".gz")
    put_key(lines(2))

    result = run_day(definitions, instance)

    assert result.success
    assert stored(engine) == (1, 2)
    assert not check_results(result)["every_log_key_is_loaded", DAY]
    left = next(e for e in result.get_asset_check_evaluations() if e.check_name == "every_log_key_is_loaded")
    assert [row.data["key"] for row in left.metadata["skipped"].records] == [bad]
    assert [path.name for path in log_folder.glob("logs/*")] == [Path(bad).name]


def test_strays_are_named_and_left_alone(definitions, instance, put_key, log_folder) -> None:
    put_key(lines(2))
    for name in ("logs/2026-03-05-notes.txt", "logs/README"):
        (log_folder / name).write_text("hello")

    result = run_day(definitions, instance)

    assert result.success
    strays = next(e for e in result.get_asset_check_evaluations() if e.check_name == "no_stray_keys")
    assert not strays.passed
    assert strays.severity == dg.AssetCheckSeverity.WARN
    assert [row.data["name"] for row in strays.metadata["names"].records] == ["logs/2026-03-05-notes.txt"]
    assert len(list(log_folder.glob("logs/*"))) == 2


def test_a_materialization_shows_its_first_records_without_secrets(definitions, instance, put_key) -> None:
    put_key(line(key="k?X-Amz-Signature=abc", user_agent="a\u202eb" + "x" * 99) + lines(9))

    result = run_day(definitions, instance)

    (event,) = (e for e in result.get_asset_materialization_events() if e.asset_key == RECORDS)
    table = event.materialization.metadata["preview"]
    assert [column.name for column in table.schema.columns] == list(PREVIEW_COLUMNS)
    rows = [row.data for row in table.records]
    assert len(rows) == PREVIEW_ROWS
    assert rows[0]["request_uri"] == "/k?X-Amz-Signature=REDACTED"
    assert rows[0]["user_agent"].startswith("a\\u202ebxx")
    assert len(rows[0]["user_agent"]) == 80
    assert (rows[1]["http_status"], rows[1]["remote_ip"], rows[1]["bytes_sent"]) == ("200", "192.0.2.3", "113")


def test_a_line_that_the_readers_read_differently_fails_a_check_and_is_loaded_by_the_rules(
    definitions, instance, put_key, engine, monkeypatch
) -> None:
    key = put_key(lines(3) + line(status="404"))
    read_lines = pieces.read_lines

    def misreading(*arguments) -> None:
        read_lines(*arguments)
        arguments[-4][:, 0] = 200

    monkeypatch.setattr(pieces, "read_lines", misreading)
    monkeypatch.setattr(parser, "_distrusted", [])

    result = run_day(definitions, instance)

    assert result.success
    check = next(e for e in result.get_asset_check_evaluations() if e.check_name == "readers_agree")
    assert not check.passed
    (row,) = [row.data for row in check.metadata["lines"].records]
    assert (row["key"], row["line"]) == (key, 4)
    with engine.connect() as connection:
        statuses = connection.scalars(sa.select(s3_log_record.c.http_status).order_by(s3_log_record.c.line_number))
        assert list(statuses) == [200, 200, 200, 404]


@pytest.mark.parametrize("of_bucket", [False, None])
def test_purge_follows_the_settings(settings, instance, put_key, log_folder, of_bucket) -> None:
    bucket = settings.buckets[0].model_copy(update={"purge_parsed_keys": of_bucket})
    changed = settings.model_copy(update={"buckets": (bucket,), "purge_parsed_keys": of_bucket is not None})
    put_key(lines(2))

    result = run_day(build_definitions(changed), instance)

    assert result.success
    assert metadata_by_partition(result, PURGED)[DAY]["purged keys"] == 0
    assert len(list(log_folder.glob("logs/*"))) == 1


def test_purge_launched_alone_deletes_only_what_is_proved(
    settings, definitions, instance, put_key, log_folder, engine
) -> None:
    """A blocking check gates only the run it belongs to; the purge proves for itself."""
    put_key(lines(2))
    unproved = put_key(lines(3))
    run_day(build_definitions(settings.model_copy(update={"purge_parsed_keys": False})), instance)
    unloaded = put_key(lines(1))
    with engine.begin() as connection:
        id_ = sa.select(s3_log_key.c.id).where(s3_log_key.c.key == unproved).scalar_subquery()
        connection.execute(sa.delete(s3_log_record).where(s3_log_record.c.log_key_id == id_))

    alone = dg.materialize(
        [definitions.resolve_assets_def(PURGED)],
        instance=instance,
        partition_key=DAY,
    )

    assert alone.success
    assert {f"logs/{path.name}" for path in log_folder.glob("logs/*")} == {unproved, unloaded}


def test_the_maintenance_job_purges_what_is_pending_of_all_days(settings, instance, put_key, log_folder) -> None:
    for day in ("2026-03-04", "2026-03-05"):
        put_key(lines(2), day=day)
    keeping = settings.model_copy(update={"purge_parsed_keys": False})
    run_range(build_definitions(keeping), instance, "2026-03-04", "2026-03-05")
    assert len(list(log_folder.glob("logs/*"))) == 2

    job = build_definitions(settings).resolve_job_def("purge_pending_log_keys")
    assert job.execute_in_process(instance=instance).success

    assert not list(log_folder.glob("logs/*"))


def test_a_missing_log_bucket_fails_the_run_and_says_which(settings, instance) -> None:
    gone = settings.buckets[0].model_copy(update={"log_bucket_name": "file:///nowhere/at/all"})
    definitions = build_definitions(settings.model_copy(update={"buckets": (gone,)}))

    result = run_day(definitions, instance)

    assert not result.success
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    failure = next(event for event in result.all_events if event.is_step_failure)
    first_line = failure.step_failure_data.user_failure_data.description
    missing = "bucket media: log bucket file:///nowhere/at/all: the folder does not exist"
    assert first_line == f"{missing}; check log_bucket_name, or mount it"


def test_the_asset_shows_its_columns_kinds_and_group(definitions) -> None:
    spec = definitions.resolve_asset_graph().get(RECORDS)
    columns = spec.metadata["dagster/column_schema"].columns

    assert [column.name for column in columns] == [column.name for column in s3_log_record.columns]
    assert all(column.description for column in columns)
    assert spec.group_name == "media"
    assert {tag for tag in spec.tags if tag.startswith("dagster/kind/")} == {
        "dagster/kind/s3",
        "dagster/kind/postgres",
        "dagster/kind/pandas",
    }


def test_checks_that_are_launched_for_no_partition_say_what_to_do(definitions, instance) -> None:
    """As by a check's own button on the page."""
    checks = dg.AssetSelection.checks_for_assets(dg.AssetKey(["media", "log_records"])) - dg.AssetSelection.checks(
        *(dg.AssetCheckKey(RECORDS, name) for name in ("every_log_key_is_loaded", "no_stray_keys", "readers_agree"))
    )
    job = dg.define_asset_job("checks_alone", selection=checks)
    with_job = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))

    result = with_job.resolve_job_def("checks_alone").execute_in_process(instance=instance, raise_on_error=False)

    (failed,) = (event for event in result.all_events if event.is_step_failure)
    assert "no partition was chosen, but a run needs delivery days" in failed.step_failure_data.error_display_string


def spec(bucket: LoggedBucket, key: dg.AssetKey = RECORDS) -> dg.AssetSpec:
    return build_definitions(Settings(buckets=(bucket,))).resolve_assets_def(key).get_asset_spec(key)


@pytest.mark.parametrize("owner", ["anna.b+logs@example.org", "_x@a-b.co", "team:data", "team:Ops/2"])
def test_an_owner_that_the_settings_take_is_one_for_dagster(folder_bucket, owner) -> None:
    entries = folder_bucket.model_dump() | {"owners": (owner,)}
    definitions = build_definitions(Settings(buckets=(LoggedBucket.model_validate(entries),)))

    for key in (RECORDS, PURGED, dg.AssetKey(["media", "delivered_log_keys"])):
        assert definitions.resolve_asset_graph().get(key).owners == [owner]
    assert definitions.resolve_sensor_def("media__new_log_keys").owners == [owner]


@pytest.mark.parametrize(
    ("monitored", "hours", "expected"), [(True, None, 36), (False, None, None), (True, 2.5, 2.5), (False, 4, 4)]
)
def test_a_monitored_bucket_is_stale_after_a_night_without_a_load(folder_bucket, monitored, hours, expected) -> None:
    policy = spec(
        folder_bucket.model_copy(update={"monitor_bucket": monitored, "freshness_hours": hours})
    ).freshness_policy

    assert (policy and policy.fail_window.to_timedelta()) == (expected and timedelta(hours=expected))


@pytest.mark.parametrize(
    ("place", "link"),
    [
        ({}, "https://console.aws.amazon.com/s3/buckets/logs?prefix=a%2Fb%20c%2F"),
        (
            {"region": "eu-west-1"},
            "https://console.aws.amazon.com/s3/buckets/logs?region=eu-west-1&prefix=a%2Fb%20c%2F",
        ),
        ({"endpoint_url": "http://localhost:1"}, "http://localhost:1 logs/a/b c/"),
        ({"log_bucket_name": "file:///data/log%20keys"}, "/data/log keys/a/b c"),
    ],
)
def test_the_assets_lead_to_their_log_keys(place, link) -> None:
    bucket = LoggedBucket.model_validate({"name": "media", "log_bucket_name": "logs", "log_prefix": "a/b c/"} | place)

    for key in (RECORDS, PURGED, dg.AssetKey(["media", "delivered_log_keys"])):
        graph = build_definitions(Settings(buckets=(bucket,))).resolve_asset_graph()
        assert graph.get(key).metadata["log keys"].value == link


@pytest.fixture
def archiving(settings, tmp_path) -> dg.Definitions:
    """The definitions of a bucket with an archive."""
    return build_definitions(settings.model_copy(update={"archive": str(tmp_path / "archive")}))


ARCHIVED = dg.AssetKey(["media", "archived_log_records"])


def test_records_are_archived_before_the_purge_of_the_same_run(
    archiving, instance, put_key, log_folder, tmp_path
) -> None:
    put_key(lines(3))
    put_key(lines(2), day="2026-03-06")

    result = run_range(archiving, instance, "2026-03-05", "2026-03-06")

    assert result.success
    steps = [event.asset_key for event in result.get_asset_materialization_events()]
    assert steps.index(RECORDS) < steps.index(ARCHIVED) < steps.index(PURGED)
    found = metadata_by_partition(result, ARCHIVED)
    assert {day: (each["files"], each["rows"], each["keys waiting"]) for day, each in found.items()} == {
        "2026-03-05": (1, 3, 0),
        "2026-03-06": (1, 2, 0),
    }
    assert check_results(result)["archive_matches_the_ledger", "2026-03-06"]
    checks = [each for each in result.get_asset_check_evaluations() if "archive" in each.metadata]
    assert {each.metadata["archive"].value for each in checks} == {str(tmp_path / "archive")}
    assert {each.metadata["written by database"] == each.metadata["database"] for each in checks} == {True}
    assert list(log_folder.glob("logs/*")) == []
    assert len(list(tmp_path.glob("archive/logged_bucket=media/delivery_day=*/records.parquet"))) == 2


def test_an_archive_that_cannot_be_written_fails_its_step_and_nothing_is_purged(
    archiving, instance, put_key, log_folder, tmp_path, engine
) -> None:
    (tmp_path / "archive").write_text("no folder")
    put_key(lines(3))

    result = run_day(archiving, instance)

    assert not result.success
    assert stored(engine) == (1, 3)
    assert len(list(log_folder.glob("logs/*"))) == 1


def test_an_archive_that_somebody_has_changed_stops_the_purge(
    archiving, instance, put_key, log_folder, tmp_path
) -> None:
    put_key(lines(3))
    job = job_of(archiving, "load")
    job.execute_in_process(instance=instance, partition_key=DAY, asset_selection=[RECORDS, ARCHIVED])
    next(tmp_path.glob("archive/logged_bucket=*/*/*")).unlink()

    result = run_day(archiving, instance)

    assert not check_results(result)["archive_matches_the_ledger", DAY]
    assert len(list(log_folder.glob("logs/*"))) == 1


def test_the_maintenance_job_purges_nothing_while_the_archive_is_not_mounted(
    archiving, instance, put_key, log_folder, tmp_path
) -> None:
    put_key(lines(3))
    job = job_of(archiving, "load")
    job.execute_in_process(instance=instance, partition_key=DAY, asset_selection=[RECORDS, ARCHIVED])
    (tmp_path / "archive").rename(tmp_path / "away")
    (tmp_path / "archive").mkdir()

    result = archiving.resolve_job_def("purge_pending_log_keys").execute_in_process(
        instance=instance, raise_on_error=False
    )

    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "nothing was purged in 1 day from 2026-03-05 on" in str(failed.event_specific_data)
    assert len(list(log_folder.glob("logs/*"))) == 1
    assert list((tmp_path / "archive").iterdir()) == []


def test_the_maintenance_job_archives_before_it_purges(archiving, instance, put_key, log_folder, engine) -> None:
    put_key(lines(3))
    job = job_of(archiving, "load")
    job.execute_in_process(instance=instance, partition_key=DAY, asset_selection=[RECORDS])
    assert len(list(log_folder.glob("logs/*"))) == 1

    archiving.resolve_job_def("purge_pending_log_keys").execute_in_process(instance=instance)

    assert list(log_folder.glob("logs/*")) == []


def test_a_bucket_that_cannot_be_archived_does_not_keep_the_others_from_their_purge(
    folder_bucket, database_url, instance, put_key, log_folder, engine, tmp_path
) -> None:
    """The nightly job ended with the first one, and nothing was purged."""
    (tmp_path / "films").mkdir()
    (tmp_path / "a file").touch()
    films = LoggedBucket(
        name="films",
        log_bucket_name=(tmp_path / "films").as_uri(),
        archive=f"{tmp_path}/a file/archive",
        start_date=folder_bucket.start_date,
    )
    (tmp_path / "films" / f"{DAY}-10-00-00-{1:016X}").write_bytes(lines(2))
    put_key(lines(3))
    definitions = build_definitions(Settings(database_url=database_url, buckets=(films, folder_bucket)))
    for bucket in (films, folder_bucket):
        pull_bucket(bucket, open_log_store(bucket), engine)

    job = definitions.resolve_job_def("purge_pending_log_keys")
    result = job.execute_in_process(instance=instance, raise_on_error=False)

    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_key == "report_archive_failures"
    assert "bucket films: archive " in failed.step_failure_data.user_failure_data.description
    assert list(log_folder.glob("logs/*")) == []
    assert len(list((tmp_path / "films").iterdir())) == 1


def test_without_an_archive_there_is_no_such_asset(definitions) -> None:
    assert ARCHIVED not in definitions.resolve_asset_graph().get_all_asset_keys()
