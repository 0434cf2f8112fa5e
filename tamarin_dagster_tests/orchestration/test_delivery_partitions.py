"""A bucket whose partitions are hours works as one whose partitions are days."""

import json
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.logformat import DeliveryHour
from tamarin_dagster.orchestration.delivery_partitions import (
    backfill_policy,
    delivery_partitions,
    first_partition_date,
    parse_partition_keys,
    partition_key,
)
from tamarin_dagster.settings import LoggedBucket, PartitionUnit
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.orchestration.load_runs import (
    ADDED_UP,
    CHECKS,
    PURGED,
    RECORDS,
    check_results,
    metadata_by_partition,
    run_as_requested,
    run_day,
    run_range,
    stored,
    tick,
)


@pytest.fixture
def folder_bucket(folder_bucket: LoggedBucket) -> LoggedBucket:
    return folder_bucket.model_copy(update={"partition": PartitionUnit.HOURLY})


def test_partitions_go_from_the_start_date_to_the_present_hour(folder_bucket, today) -> None:
    yesterday = folder_bucket.model_copy(update={"start_date": today - timedelta(days=1)})

    keys = delivery_partitions(yesterday).get_partition_keys()

    assert keys[0] == f"{today - timedelta(days=1)}-00:00"
    assert keys[-1] in {f"{datetime.now(UTC) - timedelta(seconds=age):%Y-%m-%d-%H}:00" for age in (0, 5)}
    assert [partition_key(period) for period in parse_partition_keys(keys)] == keys
    assert parse_partition_keys(keys[:1]) == [DeliveryHour(today - timedelta(days=1), 0)]


def test_a_run_of_a_backfill_takes_a_month_of_days_or_six_hours(folder_bucket, settings) -> None:
    daily = folder_bucket.model_copy(update={"partition": PartitionUnit.DAILY})

    assert backfill_policy(daily, settings).max_partitions_per_run == 31
    assert backfill_policy(folder_bucket, settings).max_partitions_per_run == 6


def test_an_hour_is_loaded_checked_and_purged_and_no_other(definitions, instance, put_key, log_folder, engine) -> None:
    put_key(lines(2), time="10-59-59")
    put_key(lines(3), time="11-00-00")
    later = put_key(lines(4), time="12-00-00")

    result = run_day(definitions, instance, "2026-03-05-11:00")

    assert result.success
    assert stored(engine) == (1, 3)
    expected = [(name, "2026-03-05-11:00") for name in CHECKS]
    assert check_results(result) == dict.fromkeys([*expected, ADDED_UP], True)
    assert len(list(log_folder.glob("logs/*"))) == 2

    result = run_range(definitions, instance, "2026-03-05-09:00", "2026-03-05-11:00")

    hours = [f"2026-03-05-{hour:02}:00" for hour in (9, 10, 11)]
    records, purged = metadata_by_partition(result, RECORDS), metadata_by_partition(result, PURGED)
    assert [(records[hour]["rows"], purged[hour]["keys purged so far"]) for hour in hours] == [(0, 0), (2, 1), (3, 1)]
    assert check_results(result) | dict.fromkeys([(name, hour) for name in CHECKS for hour in hours], True) == (
        check_results(result)
    )
    assert [path.name for path in log_folder.glob("logs/*")] == [later.removeprefix("logs/")]


def test_a_tick_asks_for_a_run_for_each_hour_with_unseen_keys(definitions, instance, put_key, engine) -> None:
    put_key(lines(1), time="23-00-00")
    put_key(lines(1), time="09-00-00")
    put_key(lines(1), time="09-30-00")
    put_key(lines(1), day="2026-03-06", time="00-00-00")

    asked = tick(definitions, instance)

    hours = ["2026-03-05-09:00", "2026-03-05-23:00", "2026-03-06-00:00"]
    assert [request.partition_key for request in asked.run_requests] == hours
    assert asked.run_requests[0].run_key.startswith("media:2026-03-05-09:00:")
    assert json.loads(asked.cursor) == {"position": "2026-03-05"}
    for request in asked.run_requests[:2]:
        assert run_as_requested(definitions, instance, request).success
    again = tick(definitions, instance, asked.cursor)
    assert [request.partition_key for request in again.run_requests] == hours[2:]
    assert json.loads(again.cursor) == {"position": "2026-03-06"}
    assert stored(engine) == (3, 3)


def test_a_key_of_a_later_hour_waits_for_its_hour(definitions, instance, put_key) -> None:
    now = datetime.now(UTC)
    # two hours, since the next one may begin while this runs
    ahead = now + timedelta(hours=2)
    put_key(lines(1), day=ahead.date().isoformat(), time=f"{ahead:%H}-00-00")

    assert tick(definitions, instance).run_requests == []


def test_the_nightly_run_takes_the_hours_of_a_week(settings, stored_instance) -> None:
    definitions = build_definitions(settings)
    context = dg.build_schedule_context(
        instance=stored_instance, scheduled_execution_time=datetime(2026, 3, 10, 3, 15, tzinfo=UTC)
    )

    (request,) = definitions.resolve_schedule_def("reconcile_log_keys_nightly")(context)

    assert request.tags["dagster/asset_partition_range_start"] == "2026-03-04-00:00"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-03-10-23:00"


def test_the_nightly_run_asks_for_no_hour_to_come(settings, stored_instance, today) -> None:
    midnight = datetime.combine(today, datetime.min.time(), UTC)
    context = dg.build_schedule_context(
        instance=stored_instance, scheduled_execution_time=midnight + timedelta(hours=3)
    )

    (request,) = build_definitions(settings).resolve_schedule_def("reconcile_log_keys_nightly")(context)

    last = request.tags["dagster/asset_partition_range_end"]
    assert last in delivery_partitions(settings.buckets[0]).get_partition_keys()
    assert last.startswith(today.isoformat())


def test_a_day_loaded_as_hours_is_whole_as_a_day(settings, instance, put_key, engine) -> None:
    """After a change of the setting, everything stays loaded: the ledger knows keys, not partitions."""
    for hour in range(24):
        put_key(lines(1), time=f"{hour:02}-15-00")
    assert run_range(build_definitions(settings), instance, "2026-03-05-00:00", "2026-03-05-23:00").success
    daily = settings.buckets[0].model_copy(update={"partition": PartitionUnit.DAILY})

    result = run_day(build_definitions(settings.model_copy(update={"buckets": (daily,)})), instance)

    assert result.success
    metadata = metadata_by_partition(result, RECORDS)["2026-03-05"]
    assert (metadata["keys"], metadata["rows"], metadata["new keys"]) == (24, 24, 0)
    assert stored(engine) == (24, 24)
    assert date.fromisoformat("2026-03-05") in parse_partition_keys(["2026-03-05"])


def test_hours_since_2006_are_clamped_with_a_warning_and_the_sensor_asks_for_no_earlier_day(
    settings, instance, put_key, caplog, today
) -> None:
    """A start_date that was valid for ten days, and then refused with all other buckets."""
    bucket = settings.buckets[0].model_copy(update={"start_date": date(2006, 3, 14)})
    first = first_partition_date(bucket)
    assert (first.month, first.day, today.year - first.year) == (1, 1, 10)
    put_key(lines(1), day="2007-03-05")
    put_key(lines(1), day="2026-03-05")

    result = tick(build_definitions(settings.model_copy(update={"buckets": (bucket,)})), instance)

    assert [request.partition_key for request in result.run_requests] == ["2026-03-05-10:00"]
    (warning,) = [record.getMessage() for record in caplog.records if "partitions begin" in record.getMessage()]
    assert f"bucket media: with partition: hourly its partitions begin on {first}, not on its start_date" in warning
    assert len(delivery_partitions(bucket).get_partition_keys()) < 100_000
