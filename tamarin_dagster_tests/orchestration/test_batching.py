"""When a sensor asks for a run, and when it waits for more log keys."""

from datetime import timedelta

import dagster as dg
import pytest

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.orchestration.batching import minutes_to_wait
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.orchestration.test_sensors import run_as_requested, tick


def runs_of_a_day(keys_per_minute: float, interval: float = 5, least: float | None = None) -> int:
    """Return the number of runs of a partition in a day with evenly spread keys, if each run ends immediately."""
    runs, last, loaded = 0, None, 0.0
    for number in range(int(24 * 60 / interval)):
        now = number * interval
        keys = int(keys_per_minute * now - loaded) + (last is None)
        since = None if last is None else now - last
        if keys and not minutes_to_wait(keys, since, interval=interval, least=least):
            runs, last, loaded = runs + 1, now, keys_per_minute * now
    return runs


def test_the_first_keys_of_a_partition_do_not_wait() -> None:
    """A first load, the demo, each day of a backlog."""
    assert minutes_to_wait(1, None, interval=5, least=None) == 0
    assert minutes_to_wait(1, None, interval=5, least=60) == 0


@pytest.mark.parametrize(("keys", "minutes"), [(1, 30), (100, 30), (200, 15), (500, 6), (600, 0), (10_000, 0)])
def test_the_more_keys_wait_the_shorter_they_do(keys, minutes) -> None:
    assert minutes_to_wait(keys, 0, interval=5, least=None) == minutes
    assert minutes_to_wait(keys, minutes, interval=5, least=None) == 0


def test_a_set_minimum_holds_for_any_number_of_keys() -> None:
    assert minutes_to_wait(10_000, 20, interval=5, least=60) == 40
    assert minutes_to_wait(1, 60, interval=5, least=60) == 0
    assert minutes_to_wait(1, 0, interval=5, least=0) == 0


def test_a_quiet_bucket_makes_tens_of_runs_a_day_and_a_busy_one_a_run_each_tick() -> None:
    assert runs_of_a_day(1, least=0) == 288
    assert runs_of_a_day(1) == 48
    assert runs_of_a_day(1 / 60) <= 24
    assert runs_of_a_day(20) == 96
    assert runs_of_a_day(1_000) == 288


def test_new_keys_of_a_loaded_day_wait_for_more_and_the_tick_says_so(settings, instance, put_key, monkeypatch) -> None:
    waiting = build_definitions(settings.model_copy(update={"minutes_between_runs": None}))
    put_key(lines(1), day="2026-03-04")
    assert run_as_requested(waiting, instance, tick(waiting, instance).run_requests[0]).success
    put_key(lines(1), day="2026-03-04")
    put_key(lines(1), day="2026-03-05")

    result = tick(waiting, instance)

    assert [request.partition_key for request in result.run_requests] == ["2026-03-05"]
    only_one = build_definitions(settings.model_copy(update={"minutes_between_runs": 20, "pull_parse_interval": 1}))
    result = tick(only_one, instance)
    assert [request.partition_key for request in result.run_requests] == ["2026-03-05"]

    at_once = build_definitions(settings.model_copy(update={"minutes_between_runs": 0}))
    assert [each.partition_key for each in tick(at_once, instance).run_requests] == ["2026-03-04", "2026-03-05"]


def test_a_tick_in_which_all_keys_wait_says_for_how_long_and_holds_its_position(settings, instance, put_key) -> None:
    waiting = build_definitions(settings.model_copy(update={"minutes_between_runs": None}))
    put_key(lines(1), day="2026-03-04")
    assert run_as_requested(waiting, instance, tick(waiting, instance).run_requests[0]).success
    put_key(lines(1), day="2026-03-04")

    result = tick(waiting, instance)

    assert result.run_requests == []
    said = result.skip_reason.skip_message
    assert "2026-03-04: 1 new keys wait for more, at most 30 min (minutes_between_runs)" in said
    assert result.cursor == '{"position": "2026-03-04"}'


def test_a_wait_ends_when_its_time_is_over(settings, stored_instance, put_key, monkeypatch) -> None:
    definitions = build_definitions(settings.model_copy(update={"minutes_between_runs": 30}))
    put_key(lines(1))
    assert run_as_requested(definitions, stored_instance, tick(definitions, stored_instance).run_requests[0]).success
    put_key(lines(1))
    assert tick(definitions, stored_instance).run_requests == []
    now = next(record.end_time for record in stored_instance.get_run_records())

    monkeypatch.setattr("tamarin_dagster.orchestration.sensors.time.time", lambda: now + timedelta(minutes=30).seconds)

    assert isinstance(tick(definitions, stored_instance).run_requests[0], dg.RunRequest)
