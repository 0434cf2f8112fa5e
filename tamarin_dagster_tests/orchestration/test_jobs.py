"""The jobs for all buckets: one reads rejected lines again, as its config says; one drops old months."""

from datetime import timedelta

import dagster as dg
import pytest

from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.pipeline.retain import expire, find_first_kept_day
from tamarin_dagster.settings import LoggedBucket
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.older_parser import reject
from tamarin_dagster_tests.orchestration.load_runs import check_results, run_day
from tamarin_dagster_tests.recordstore.log_keys import DAY, load_keys, log_key

JUNK = b"no record\n"
BAD_ID = "BADBADBADBADBAD0"
FILMS = LoggedBucket(name="films", log_bucket_name="film-logs")


@pytest.fixture
def definitions(settings) -> dg.Definitions:
    """Of two buckets."""
    return build_definitions(settings.model_copy(update={"buckets": (*settings.buckets, FILMS)}))


@pytest.fixture
def older(engine, rows) -> None:
    """A key of each bucket and each of three days, with a line that is a record now and one that is none."""
    for bucket in ("media", "films"):
        for day in range(3):
            key = log_key(f"{bucket}/{day}", day=DAY.replace(day=5 + day))
            load_keys(engine, [key], [lines(3) + JUNK], bucket=bucket, log_bucket_name=f"{bucket}-logs")
            reject(rows, f"{bucket}/{day}", lines(3), [2])


def run(definitions, instance, **config: str) -> dg.ExecuteInProcessResult:
    return definitions.resolve_job_def("reparse_rejected_lines").execute_in_process(
        instance=instance,
        run_config={"ops": {"reparse_lines": {"config": config}}} if config else None,
        raise_on_error=False,
    )


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (output,) = result.filter_events(lambda event: event.is_successful_output)
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def moved(rows) -> list[str]:
    return [row[0] for row in rows("SELECT key FROM s3_log_key WHERE rejected_count = 1 ORDER BY key")]


def test_all_buckets_and_days_are_reparsed(definitions, instance, older, rows) -> None:
    result = run(definitions, instance)

    assert result.success
    assert metadata(result) == {
        "keys with rejected lines": 6,
        "changed keys": 6,
        "lines": 12,
        "lines that are records now": 6,
        "lines still rejected": 6,
        "lines with another reason": 0,
        "oversized lines skipped": 0,
        "failed keys": 0,
    }
    assert rows("SELECT DISTINCT line_count, record_count, rejected_count FROM s3_log_key") == [(4, 3, 1)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(18,)]
    logged = [entry.user_message for entry in instance.all_logs(result.run_id)]
    for bucket in ("media", "films"):
        said = f"{bucket}: changed 3 of 3 log keys with rejected lines; 6 lines = 3 records now + 3 still rejected"
        assert any(message.startswith(said) for message in logged)
    assert metadata(run(definitions, instance))["changed keys"] == 0


def test_the_config_narrows_buckets_and_days(definitions, instance, older, rows) -> None:
    assert run(definitions, instance, bucket="films", **{"from": "2026-03-06", "to": "2026-03-06"}).success
    assert moved(rows) == ["films/1"]

    assert run(definitions, instance, **{"from": "2026-03-07"}).success
    assert moved(rows) == ["films/1", "films/2", "media/2"]

    assert run(definitions, instance, bucket="media", to="2026-03-05").success
    assert moved(rows) == ["films/1", "films/2", "media/0", "media/2"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"bucket": "flims"}, "bucket 'flims' is not configured; configured buckets: media, films"),
        ({"from": "6 March"}, "from and to must be days like 2026-01-31"),
    ],
)
def test_a_wrong_config_fails_at_once_and_says_what_is_allowed(
    definitions, instance, older, rows, config, said
) -> None:
    result = run(definitions, instance, **config)

    assert not result.success
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert said in failure.step_failure_data.user_failure_data.description
    assert moved(rows) == []


def test_a_key_that_cannot_be_reparsed_is_named_and_stops_no_other(definitions, instance, older, engine, rows) -> None:
    load_keys(engine, [log_key("media/bad")], [line(request_id=BAD_ID)])
    reject(rows, "media/bad", line(request_id=BAD_ID), [1])
    rows(f"ALTER TABLE s3_log_record ADD CONSTRAINT refuse CHECK (request_id <> '{BAD_ID}')")

    result = run(definitions, instance)

    assert result.success
    found = metadata(result)
    assert (found["failed keys"], found["changed keys"]) == (1, 6)
    records, _ = found["why they failed"]
    assert [record.data["key"] for record in records] == ["media/bad"]
    assert warnings(instance, result) == ["media/bad was not changed"]


def test_old_months_are_dropped_and_expired_keys_in_the_log_bucket_are_warned_of(
    settings, instance, engine, folder_place, rows, today
) -> None:
    first_kept = find_first_kept_day(2, today)
    days = [first_kept - timedelta(days=1), first_kept]
    for day in days:
        time = f"{day:%d/%b/%Y}:09:58:01 +0000"
        folder_place.put(f"logs/{day}-10-00-00-{day.month:016X}", lines(3, time) + JUNK)
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []
    job = build_definitions(settings.model_copy(update={"retention_months": 2})).resolve_job_def("expire_old_records")

    result = job.execute_in_process(instance=instance)

    found = metadata(result)
    assert found.pop("dropped bytes") > 0
    assert found == {
        "kept from": first_kept.isoformat(),
        "dropped partitions": [f"s3_log_record_{days[0]:%Y_%m}"],
        "keys marked as expired": 1,
        "deleted rejected lines": 1,
        "expired keys still in the log bucket": 1,
        "keys waiting for the archive": 0,
    }
    assert rows("SELECT count(*), min(request_dtime) >= :first FROM s3_log_record", first=first_kept) == [(3, True)]
    assert warnings(instance, result) == ["1 expired log key of media is still in the log bucket"]


def test_a_run_for_a_day_that_expired_passes_its_checks_and_loads_and_purges_nothing(
    settings, instance, engine, folder_place, rows
) -> None:
    folder_place.put("logs/2026-03-05-10-00-00-0000000000000001", lines(3) + JUNK)
    folder_place.put("logs/2026-03-05-10-00-00-0000000000000002", lines(2))
    assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []
    roll_up(engine)
    expire(engine, 1, today=DAY.replace(month=6))

    result = run_day(build_definitions(settings), instance)

    assert result.success
    assert set(check_results(result).values()) == {True}
    (counted,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "rows_match_the_ledger"]
    assert counted.metadata["expired keys, not counted"].value == 2
    assert rows("SELECT count(*), (SELECT count(purged_at) FROM s3_log_key) FROM s3_log_record") == [(0, 0)]
    assert len(folder_place.names()) == 2


def test_keys_that_are_meant_to_stay_in_the_log_bucket_are_not_warned_of(
    settings, instance, engine, folder_place
) -> None:
    folder_place.put("logs/2019-02-06-10-00-00-0000000000000000", lines(3, "06/Feb/2019:00:00:38 +0000"))
    assert pull_bucket(
        folder_place.bucket, folder_place.store, engine, periods=[DAY.replace(year=2019, month=2, day=6)]
    ).periods
    definitions = build_definitions(settings.model_copy(update={"retention_months": 2, "purge_parsed_keys": False}))

    result = definitions.resolve_job_def("expire_old_records").execute_in_process(instance=instance)

    assert metadata(result)["expired keys still in the log bucket"] == 1
    assert warnings(instance, result) == []


def warnings(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> list[str]:
    logged = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == 30]
    return [message.split(":")[0] for message in logged]
