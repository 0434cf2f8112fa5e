"""The runs that a sensor's tick requests, and its message when it requests none."""

import json
import os
from datetime import date, timedelta

import dagster as dg
import pytest

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.logstore import FolderLogStore, LogStoreError, roots
from tamarin_dagster.orchestration import sensors
from tamarin_dagster.pipeline.retain import find_first_kept_day
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.orchestration.load_runs import run_as_requested, run_day, tick
from tamarin_dagster_tests.runs import job_of


def test_a_run_is_asked_for_each_day_with_unseen_keys(definitions, instance, put_key) -> None:
    put_key(lines(1), day="2026-03-04")
    put_key(lines(1), day="2026-03-06")
    put_key(lines(1), day="2026-03-06")

    result = tick(definitions, instance)

    assert [request.partition_key for request in result.run_requests] == ["2026-03-04", "2026-03-06"]
    assert all(request.tags["tamarin/bucket"] == "media" for request in result.run_requests)
    assert result.run_requests[0].run_key.startswith("media:2026-03-04:")
    assert result.run_requests[0].run_key.endswith(":attempt1")
    assert json.loads(result.cursor) == {"position": "2026-03-04"}


def test_the_position_moves_on_when_the_keys_are_loaded_and_not_before(definitions, instance, put_key, today) -> None:
    """Otherwise a run that failed days before the lookback would never be requested again."""
    put_key(lines(1), day="2026-03-04")
    first = tick(definitions, instance)
    assert json.loads(tick(definitions, instance, first.cursor).cursor) == {"position": "2026-03-04"}

    run_as_requested(definitions, instance, first.run_requests[0])

    assert json.loads(tick(definitions, instance, first.cursor).cursor) == {"position": today.isoformat()}


def test_the_requested_partitions_exist(definitions, instance, put_key, today) -> None:
    """Today's partition is one although the day is not over; evaluate_tick resolves each request's partition."""
    put_key(lines(1), day=today.isoformat())
    with dg.build_sensor_context(
        instance=instance, resources=definitions.resources, definitions=definitions
    ) as context:
        evaluated = definitions.resolve_sensor_def("media__new_log_keys").evaluate_tick(context)

    assert [request.partition_key for request in evaluated.run_requests] == [today.isoformat()]


def test_a_tick_without_new_keys_says_what_it_saw(definitions, instance, put_key, log_folder) -> None:
    put_key(lines(1) + b"no record\n")
    (log_folder / "logs/2026-03-05-notes.txt").write_text("hello")
    run_day(definitions, instance)

    result = tick(definitions, instance)

    assert result.run_requests == []
    assert result.skip_reason.skip_message.startswith("1 log key in 1 day: 1 loaded, 0 new; 1 stray (")


def test_log_keys_of_another_stores_layout_are_asked_for_and_loaded_once(
    definitions, instance, log_folder, today, monkeypatch
) -> None:
    monkeypatch.setattr(roots, "MAX_PAGES_WITHOUT_LOG_KEYS", 1)
    tree = log_folder / f"logs/zone/user/media/{today:%Y/%m/%d}"
    tree.mkdir(parents=True)
    for number in range(2):
        (tree / f"{today}-00-00-00-{number:016X}.txt").write_bytes(lines(2))
    (log_folder / "logs/photos").mkdir()
    for number in range(1001):
        (log_folder / f"logs/photos/{number:04}").touch()

    (request,) = tick(definitions, instance).run_requests
    assert request.partition_key == today.isoformat()
    assert run_as_requested(definitions, instance, request).success
    result = tick(definitions, instance)

    assert result.run_requests == []
    reported = result.skip_reason.skip_message
    assert reported.startswith(
        "0 log keys in 0 days: 0 loaded, 0 new; at least 50 strays; 1 folder was not searched to"
    )
    assert list(tree.iterdir()) == []


def test_new_keys_of_a_loaded_day_are_asked_for_again(definitions, instance, put_key) -> None:
    put_key(lines(1))
    first = tick(definitions, instance).run_requests[0]
    assert run_as_requested(definitions, instance, first).success
    put_key(lines(2))

    second = tick(definitions, instance).run_requests[0]

    assert second.partition_key == first.partition_key
    assert second.run_key != first.run_key


def test_late_keys_within_the_lookback_are_found(definitions, instance, put_key) -> None:
    position = date(2026, 3, 10)
    put_key(lines(1), day=(position - timedelta(days=sensors.LOOKBACK_DAYS)).isoformat())
    put_key(lines(1), day=(position - timedelta(days=sensors.LOOKBACK_DAYS + 1)).isoformat())

    result = tick(definitions, instance, cursor=json.dumps({"position": position.isoformat()}))

    assert [request.partition_key for request in result.run_requests] == ["2026-03-07"]


def test_days_before_monitor_from_are_left_to_backfills(settings, instance, put_key) -> None:
    bucket = settings.buckets[0].model_copy(update={"monitor_from": date(2026, 3, 5)})
    put_key(lines(1), day="2026-03-04")
    put_key(lines(1), day="2026-03-05")

    result = tick(build_definitions(settings.model_copy(update={"buckets": (bucket,)})), instance)

    assert [request.partition_key for request in result.run_requests] == ["2026-03-05"]


def test_days_before_what_retention_keeps_are_left_alone(settings, instance, put_key, today) -> None:
    """Their rows would be dropped at once. Also where the position lies before."""
    first_kept = find_first_kept_day(2, today)
    before = first_kept - timedelta(days=1)
    put_key(lines(1), day=before.isoformat())
    put_key(lines(1), day=first_kept.isoformat())
    definitions = build_definitions(settings.model_copy(update={"retention_months": 2}))

    for cursor in (None, json.dumps({"position": before.isoformat()})):
        result = tick(definitions, instance, cursor)
        assert [request.partition_key for request in result.run_requests] == [first_kept.isoformat()]

    forever = tick(build_definitions(settings), instance)
    assert [request.partition_key for request in forever.run_requests] == [before.isoformat(), first_kept.isoformat()]


def test_a_key_dated_tomorrow_waits_for_its_day(definitions, instance, put_key, today) -> None:
    put_key(lines(1), day=(today + timedelta(days=1)).isoformat())

    result = tick(definitions, instance)

    assert result.run_requests == []
    assert json.loads(result.cursor) == {"position": today.isoformat()}


def test_a_day_in_flight_is_not_asked_for_again(definitions, instance, put_key) -> None:
    put_key(lines(1))
    request = tick(definitions, instance).run_requests[0]
    instance.create_run_for_job(
        job_of(definitions, "load"),
        status=dg.DagsterRunStatus.STARTED,
        tags={**request.tags, "dagster/partition": request.partition_key},
    )

    result = tick(definitions, instance)

    assert result.run_requests == []
    assert "2026-03-05 is being loaded" in result.skip_reason.skip_message


def test_the_same_keys_are_tried_again_later_and_not_for_ever(definitions, instance, put_key, monkeypatch) -> None:
    """A run_key is never run twice by Dagster, also when its run failed: attempts have numbers."""
    put_key(b"\x1f\x8b\x08 no gzip at all", suffix=".gz")
    first = tick(definitions, instance).run_requests[0]
    run_as_requested(definitions, instance, first)

    waiting = tick(definitions, instance)
    assert waiting.run_requests == []
    assert "attempt 2 waits" in waiting.skip_reason.skip_message

    monkeypatch.setattr(sensors, "RETRY_DELAY_SECONDS", 0)
    for attempt in range(2, sensors.MAX_ATTEMPTS + 1):
        request = tick(definitions, instance).run_requests[0]
        assert request.run_key == first.run_key.replace("attempt1", f"attempt{attempt}")
        run_as_requested(definitions, instance, request)

    given_up = tick(definitions, instance)
    assert given_up.run_requests == []
    assert f"1 log key skipped after {sensors.MAX_ATTEMPTS} attempts" in given_up.skip_reason.skip_message


def test_a_run_that_failed_before_its_start_is_no_attempt_at_its_keys(
    definitions, instance, put_key, monkeypatch
) -> None:
    """The code server was killed with 81 runs queued: all of them failed, and each had one attempt less."""
    put_key(lines(1))
    monkeypatch.setattr(sensors, "RETRY_DELAY_SECONDS", 0)
    keys = set()
    for _ in range(sensors.MAX_ATTEMPTS + 2):
        (request,) = tick(definitions, instance).run_requests
        assert request.run_key not in keys, "Dagster never runs a run_key twice"
        keys.add(request.run_key)
        never_started(definitions, instance, request)

    (request,) = tick(definitions, instance).run_requests
    assert run_as_requested(definitions, instance, request).success
    assert tick(definitions, instance).skip_reason.skip_message.startswith("0 log keys")


def test_runs_that_fail_before_their_start_are_asked_for_at_growing_intervals(definitions, instance, put_key) -> None:
    put_key(lines(1))
    (request,) = tick(definitions, instance).run_requests
    for number in range(1, 9):
        never_started(definitions, instance, request)
        result = tick(definitions, instance)
        assert result.run_requests == []
        delay = min(60 * 2 ** (number - 1), 3600)
        assert f"waits until {delay} s after the last" in result.skip_reason.skip_message


def never_started(definitions: dg.Definitions, instance: dg.DagsterInstance, request: dg.RunRequest) -> None:
    """A run that was launched when the code server was killed."""
    run = instance.create_run_for_job(
        job_of(definitions, "load"),
        status=dg.DagsterRunStatus.STARTING,
        tags={**request.tags, "dagster/partition": request.partition_key, "dagster/run_key": request.run_key},
    )
    instance.report_run_failed(run)


def test_a_failed_listing_fails_the_tick_and_moves_no_cursor(settings, instance) -> None:
    gone = settings.buckets[0].model_copy(update={"log_bucket_name": "file:///nowhere/at/all"})

    with pytest.raises(LogStoreError, match="nowhere/at/all: the folder does not exist"):
        tick(build_definitions(settings.model_copy(update={"buckets": (gone,)})), instance)


def test_only_so_many_runs_are_under_way_and_the_next_tick_goes_on(definitions, instance, put_key, monkeypatch) -> None:
    for day in ("2026-03-04", "2026-03-09", "2026-03-14"):
        put_key(lines(1), day=day)
    monkeypatch.setattr(sensors, "MAX_RUNS_UNDER_WAY", 1)

    first = tick(definitions, instance)
    assert [request.partition_key for request in first.run_requests] == ["2026-03-04"]
    assert json.loads(first.cursor) == {"position": "2026-03-04"}
    run_as_requested(definitions, instance, first.run_requests[0])
    second = tick(definitions, instance, cursor=first.cursor)

    assert [request.partition_key for request in second.run_requests] == ["2026-03-09"]


def test_no_time_left_cuts_a_tick_short(definitions, instance, put_key, monkeypatch) -> None:
    put_key(lines(1), day="2026-03-04")
    monkeypatch.setattr(sensors, "TICK_BUDGET_SECONDS", -1)

    result = tick(definitions, instance)

    assert result.run_requests == []
    assert "the next tick continues there" in result.skip_reason.skip_message


def test_a_day_that_is_too_long_for_a_tick_is_asked_for_with_what_was_found(
    definitions, instance, put_key, monkeypatch
) -> None:
    """Dagster ends a tick after 60 s and forgets it: a bucket with very many keys a day would never be loaded."""
    for number in range(5):
        put_key(lines(1), unique=f"{number:016X}")
    put_key(lines(1), day="2026-03-06")
    clock = iter(range(0, 1000, sensors.TICK_BUDGET_SECONDS // 2 + 1))
    monkeypatch.setattr(sensors.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(FolderLogStore.pages, "__defaults__", ("", 2))

    result = tick(definitions, instance)

    assert [request.partition_key for request in result.run_requests] == ["2026-03-05"]
    assert json.loads(result.cursor) == {"position": "2026-03-05"}


def test_a_first_look_at_years_of_history_lists_only_what_it_has_time_for(
    definitions, instance, put_key, monkeypatch
) -> None:
    """The days too are found as they are asked for: ten years of them take longer than a tick may."""
    for month in range(1, 9):
        put_key(lines(1), day=f"2026-{month:02}-15")
    requests = []
    pages = FolderLogStore.pages
    monkeypatch.setattr(FolderLogStore, "pages", lambda *given: requests.append(given) or pages(*given))
    monkeypatch.setattr(sensors, "MAX_RUNS_UNDER_WAY", 2)

    result = tick(definitions, instance)

    assert [request.partition_key for request in result.run_requests] == ["2026-01-15", "2026-02-15"]
    assert len(requests) < 10


def test_interval_and_monitor_flag_follow_the_settings(settings) -> None:
    quiet = settings.buckets[0].model_copy(update={"name": "quiet", "monitor_bucket": False})
    definitions = build_definitions(
        settings.model_copy(update={"buckets": (*settings.buckets, quiet), "pull_parse_interval": 7})
    )

    media = definitions.resolve_sensor_def("media__new_log_keys")
    assert media.minimum_interval_seconds == 420
    assert media.default_status == dg.DefaultSensorStatus.RUNNING
    assert definitions.resolve_sensor_def("quiet__new_log_keys").default_status == dg.DefaultSensorStatus.STOPPED
    assert (
        definitions.resolve_schedule_def("reconcile_log_keys_nightly").default_status
        == dg.DefaultScheduleStatus.RUNNING
    )
    alone = build_definitions(settings.model_copy(update={"buckets": (quiet,)}))
    assert alone.resolve_schedule_def("reconcile_log_keys_nightly").default_status == dg.DefaultScheduleStatus.STOPPED


def test_files_that_may_still_be_written_are_left_to_a_later_tick(settings, instance, put_key, log_folder) -> None:
    """Their day is looked at until they are loaded, however old it is."""
    bucket = settings.buckets[0].model_copy(update={"quiet_seconds": 60})
    waiting = build_definitions(settings.model_copy(update={"buckets": (bucket,)}))
    key = put_key(lines(1), day="2026-03-04")

    result = tick(waiting, instance)

    assert result.run_requests == []
    assert "1 file may still be written; a later tick looks again" in result.skip_reason.skip_message
    assert json.loads(result.cursor) == {"position": "2026-03-04"}
    minute_ago = (log_folder / key).stat().st_mtime - 61
    os.utime(log_folder / key, (minute_ago, minute_ago))
    assert [r.partition_key for r in tick(waiting, instance, result.cursor).run_requests] == ["2026-03-04"]


def test_a_key_that_is_older_than_a_purged_one_is_asked_for_once(definitions, instance, put_key, log_folder) -> None:
    """A version that came to light would start a run at every tick."""
    key = put_key(lines(3), unique="0123456789ABCDEF")
    modified = (log_folder / key).stat().st_mtime
    assert run_as_requested(definitions, instance, tick(definitions, instance).run_requests[0]).success
    assert not (log_folder / key).exists()
    put_key(lines(2), unique="0123456789ABCDEF")
    os.utime(log_folder / key, (modified - 60, modified - 60))

    (request,) = tick(definitions, instance).run_requests
    done = run_as_requested(definitions, instance, request)

    assert done.success
    (loaded,) = done.asset_materializations_for_node("media__log_records")
    assert [loaded.metadata[each].value for each in ("outdated keys", "new keys", "returned keys", "rows")] == [
        1,
        0,
        0,
        3,
    ]
    result = tick(definitions, instance)
    assert result.run_requests == []
    assert "1 skipped as outdated" in result.skip_reason.skip_message
    assert (log_folder / key).exists()
