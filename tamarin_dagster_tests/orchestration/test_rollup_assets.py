"""Rollups in runs: after the records, checked, alone, and hourly."""

from datetime import date

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.orchestration.load_runs import (
    DAY,
    check_results,
    metadata_by_partition,
    run_day,
    run_range,
)

ROLLUPS = dg.AssetKey(["media", "traffic_rollups"])
DAYS = "SELECT bucket, request_date, requests FROM traffic_day ORDER BY 1, 2"


def run_alone(definitions: dg.Definitions, instance: dg.DagsterInstance, day: str = DAY) -> dg.ExecuteInProcessResult:
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, partition_key=day, asset_selection=[ROLLUPS], raise_on_error=False
    )


def test_a_load_rolls_up_the_days_of_its_requests(definitions, instance, put_key, rows):
    put_key(lines(3) + line("04/Mar/2026:23:59:59 +0000"))

    reported = metadata_by_partition(run_day(definitions, instance), ROLLUPS)[DAY]

    assert rows(DAYS) == [("media", date(2026, 3, 4), 1), ("media", date(2026, 3, 5), 3)]
    assert {name: reported[name] for name in ("days rolled up", "requests", "days left for later")} == {
        "days rolled up": 2,
        "requests": 4,
        "days left for later": 0,
    }


def test_a_range_rolls_up_each_day_and_tells_each_partition(definitions, instance, put_key, rows):
    for day in ("2026-03-05", "2026-03-07"):
        put_key(lines(2, f"{day[-2:]}/Mar/2026:00:00:01 +0000"), day=day)

    result = run_range(definitions, instance, "2026-03-05", "2026-03-07")

    assert result.success
    assert [row[1:] for row in rows(DAYS)] == [(date(2026, 3, 5), 2), (date(2026, 3, 7), 2)]
    reported = metadata_by_partition(result, ROLLUPS)
    assert set(reported) == {"2026-03-05", "2026-03-06", "2026-03-07"}


def test_alone_it_makes_its_days_again_and_a_wrong_sum_is_right_then(definitions, instance, put_key, rows):
    put_key(lines(3))
    run_day(definitions, instance)
    rows("UPDATE traffic_daily_by_key SET requests = 7")
    rows("UPDATE traffic_day SET checked_at = NULL")

    wrong = check_results(run_day(definitions, instance))
    right = check_results(run_alone(definitions, instance))

    assert (wrong["rollups_add_up", None], right["rollups_add_up", None]) == (False, True)
    assert rows("SELECT requests FROM traffic_daily_by_key") == [(3,)]


def test_the_days_of_other_configured_buckets_are_left_to_their_runs(
    folder_bucket, database_url, instance, put_key, rows
):
    films = LoggedBucket(name="films", log_bucket_name="films-logs")
    definitions = build_definitions(Settings(database_url=database_url, buckets=(folder_bucket, films)))
    put_key(line() + line(bucket="films") + line(bucket="unknown"))

    run_day(definitions, instance)
    assert [row[0] for row in rows(DAYS)] == ["media", "unknown"]

    assert definitions.resolve_job_def("roll_up_traffic").execute_in_process(instance=instance).success
    assert [row[0] for row in rows(DAYS)] == ["films", "media", "unknown"]


def test_hourly_it_is_asked_only_if_anything_is_due(definitions, instance, put_key, folder_place, engine):
    schedule = definitions.resolve_schedule_def("roll_up_traffic_hourly")

    def asked() -> dg.RunRequest | dg.SkipReason:
        with dg.build_schedule_context(instance=instance, resources=definitions.resources) as context:
            return schedule(context)

    assert asked() == dg.SkipReason("all days are rolled up")
    put_key(lines(1))
    pull_bucket(folder_place.bucket, folder_place.store, engine)
    assert isinstance(asked(), dg.RunRequest)


def failure_of(result: dg.ExecuteInProcessResult, step: str) -> str:
    """Why a step failed; empty if it did not."""
    for event in result.all_events:
        if event.is_step_failure and event.step_key == step:
            return str(event.step_failure_data.user_failure_data.description)
    return ""


def test_a_bad_day_fails_the_step_of_its_bucket_alone(folder_bucket, database_url, instance, put_key, rows):
    films = LoggedBucket(name="films", log_bucket_name="films-logs")
    definitions = build_definitions(Settings(database_url=database_url, buckets=(folder_bucket, films)))
    put_key(line() + line(bucket="films") + line(bucket="unknown") + line("04/Mar/2026:10:00:00 +0000"))
    rows("ALTER TABLE traffic_daily_by_key ADD CONSTRAINT refuse CHECK (bucket <> 'unknown')")

    # a bucket that only lines name is nobody's: the hourly roll-up fails for it
    result = run_day(definitions, instance)
    assert result.success
    hourly = definitions.resolve_job_def("roll_up_traffic").execute_in_process(instance=instance, raise_on_error=False)
    assert failure_of(hourly, "roll_up_days").startswith("bucket unknown, day 2026-03-05: cannot roll up: ")
    done = [("films", date(2026, 3, 5), 1), ("media", date(2026, 3, 4), 1), ("media", date(2026, 3, 5), 1)]
    assert rows(DAYS) == done

    rows("ALTER TABLE traffic_daily_by_key DROP CONSTRAINT refuse")
    # a day that was rolled up a moment ago would have to wait
    rows("UPDATE traffic_day SET rolled_up_at = rolled_up_at - interval '1 hour'")
    rows(
        "ALTER TABLE traffic_daily_by_key ADD CONSTRAINT refuse"
        " CHECK (bucket <> 'media' OR request_date <> '2026-03-04' OR requests < 2)"
    )
    put_key(line() + line("04/Mar/2026:11:00:00 +0000"), unique="2" * 16)
    result = run_day(definitions, instance)
    assert failure_of(result, "media__traffic_rollups").startswith("bucket media, day 2026-03-04: cannot roll up: ")
    assert rows(DAYS)[1:] == [
        ("media", date(2026, 3, 4), 1),
        ("media", date(2026, 3, 5), 2),
        ("unknown", date(2026, 3, 5), 1),
    ]


def test_a_partition_that_cannot_be_checked_does_not_hide_the_results_of_the_others(
    definitions, instance, put_key, monkeypatch
):
    for day in ("2026-03-05", "2026-03-06"):
        put_key(lines(2, f"{day[-2:]}/Mar/2026:00:00:01 +0000"), day=day)
    unaccounted = ledger.list_unaccounted_keys

    def divided(connection, bucket, period):
        if str(period) == "2026-03-05":
            connection.execute(sa.text("SELECT 1 / 0"))
        return unaccounted(connection, bucket, period)

    monkeypatch.setattr(ledger, "list_unaccounted_keys", divided)

    result = run_range(definitions, instance, "2026-03-05", "2026-03-06")

    found = check_results(result)
    assert (found["rows_match_the_ledger", "2026-03-05"], found["rows_match_the_ledger", "2026-03-06"]) == (False, True)
    (failed,) = [
        each
        for each in result.get_asset_check_evaluations()
        if (each.check_name, each.partition) == ("rows_match_the_ledger", "2026-03-05")
    ]
    assert failed.description == "it could not be checked: division by zero"


def test_a_partition_without_any_key_has_nothing_to_roll_up(definitions, instance):
    result = run_alone(definitions, instance)
    assert result.success
    assert metadata_by_partition(result, ROLLUPS)[DAY]["days rolled up"] == 0
