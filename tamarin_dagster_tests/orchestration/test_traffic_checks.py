"""The alarms in Dagster: hourly, warning, with who and what in the metadata, and of no partition."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from tamarin_dagster.analytics.past import find_last_settled_day
from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.orchestration.traffic_checks import ANOMALY_CHECKS, SHOWN_CHARACTERS, TOO_LITTLE_HISTORY
from tamarin_dagster_tests.analytics.traffic_rows import DAY, GB, HOUR, Traffic, midnight
from tamarin_dagster_tests.runs import job_of

TRAFFIC = dg.AssetKey(["media", "traffic"])
BANDWIDTH, REQUESTS, ERRORS, NEWCOMER, TALKER = ANOMALY_CHECKS


def looked_at(definitions: dg.Definitions, instance: dg.DagsterInstance) -> dict[str, dg.AssetCheckEvaluation]:
    """Return the results of the hourly job, by check."""
    result = definitions.resolve_job_def("watch_buckets").execute_in_process(instance=instance)
    assert result.success
    evaluations = [each for each in result.get_asset_check_evaluations() if each.check_name in ANOMALY_CHECKS]
    assert {(each.asset_key, each.severity, each.partition) for each in evaluations} == {
        (TRAFFIC, dg.AssetCheckSeverity.WARN, None)
    }
    return {each.check_name: each for each in evaluations}


def table(evaluation: dg.AssetCheckEvaluation, name: str) -> list[dict]:
    return [row.data for row in evaluation.metadata[name].records]


@pytest.fixture
def traffic(engine) -> Traffic:
    return Traffic(engine)


def test_each_alarm_says_who_and_what(definitions, instance, traffic, today) -> None:
    now = datetime.now(UTC)
    spike = now.replace(minute=0, second=0, microsecond=0) - 6 * HOUR
    day, settled = spike.date(), find_last_settled_day(now)
    traffic.days(today - 31 * DAY, today)
    present = {spike: (40_000, 20_000, 50 * GB)}
    usual = (1000, 10, 2 * GB)
    traffic.hours(
        midnight(today - 31 * DAY),
        spike,
        requests=lambda hour: present.get(hour, usual)[0],
        error_count=lambda hour: present.get(hour, usual)[1],
        bytes_sent=lambda hour: present.get(hour, usual)[2],
    )
    agent = "<script>\x1b[2J" + "x" * SHOWN_CHARACTERS
    traffic.daily("user_agent", day, **{agent: 30 * GB})
    traffic.daily("referrer", day, **{"https://example.org/a?token=secret": 30 * GB})
    traffic.daily(
        "remote_ip", settled, **{f"198.51.100.{number}": GB for number in range(20)}, **{"203.0.113.7": 80 * GB}
    )

    found = looked_at(definitions, instance)

    assert {name: each.passed for name, each in found.items()} == dict.fromkeys(ANOMALY_CHECKS, False)
    hour = f"{spike:%Y-%m-%d %H:%M}"
    assert table(found[BANDWIDTH], "hours") == [{"hour": hour, "found": 50 * GB, "usual": 2 * GB, "limit": 4 * GB}]
    assert table(found[REQUESTS], "hours") == [{"hour": hour, "found": 40_000, "usual": 1000, "limit": 11_000}]
    assert table(found[ERRORS], "hours") == [{"hour": hour, "found": "50.0%", "usual": "1.0%", "limit": "11.0%"}]
    assert found[BANDWIDTH].metadata["day"].value == str(day)
    assert found[BANDWIDTH].metadata["days known"].value == 28
    assert found[BANDWIDTH].description == f"{hour} UTC: {50 * GB}, usually {2 * GB}"
    reasons = table(found[BANDWIDTH], "more than usual on that day")
    cells = {"that day": 30 * GB, "usual": 0, "more": 30 * GB}
    assert {"what": "referrer", "who": "https://example.org/a", **cells} in reasons
    (shown,) = [row["who"] for row in reasons if row["what"] == "user agent"]
    assert shown.startswith("<script>\\x1b[2Jx")
    assert len(shown) < SHOWN_CHARACTERS + 10
    consumer = {"what": "IP address", "who": "203.0.113.7", "requests": 80_000_000, "bytes": 80 * GB, "share": "80.0%"}
    consumer |= {"of the median": "80.0 times", "its own": ""}
    assert table(found[NEWCOMER], "new consumers") == [consumer | {"rank": 1}]
    week = str(settled - 6 * DAY)
    assert table(found[TALKER], "top talkers") == [
        consumer | {"from": first, "to": str(settled)} for first in (str(settled), week)
    ]
    assert "token" not in str(found)


def test_what_is_usual_alarms_nobody(definitions, instance, traffic, today) -> None:
    traffic.days(today - 31 * DAY, today)
    traffic.hours(midnight(today - 31 * DAY), midnight(today), bytes_sent=lambda _: 2 * GB)

    found = looked_at(definitions, instance)

    assert {name: (each.passed, each.description) for name, each in found.items()} == dict.fromkeys(
        ANOMALY_CHECKS, (True, None)
    )


def test_too_little_history_passes_and_says_so(definitions, instance, traffic, today) -> None:
    traffic.days(today - 3 * DAY, today)
    traffic.hours(midnight(today - DAY), midnight(today), bytes_sent=lambda _: 900 * GB)

    found = looked_at(definitions, instance)

    assert {each.passed for each in found.values()} == {True}
    assert {name for name, each in found.items() if each.description == TOO_LITTLE_HISTORY} == set(ANOMALY_CHECKS) - {
        TALKER
    }
    assert found[BANDWIDTH].metadata["hours judged"].value == 0


def test_a_bucket_has_a_threshold_and_a_share_of_its_own(settings, instance, traffic, today) -> None:
    settled = find_last_settled_day(datetime.now(UTC))
    traffic.daily(
        "remote_ip", settled, **{f"198.51.100.{number}": 8 * GB for number in range(10)}, **{"203.0.113.7": 20 * GB}
    )

    def has_passed(**changes: float) -> bool:
        bucket = settings.buckets[0].model_copy(update=changes)
        return looked_at(build_definitions(settings.model_copy(update={"buckets": (bucket,)})), instance)[TALKER].passed

    assert (has_passed(), has_passed(hog_share=0.19)) == (True, False)
    assert settings.get_alarm_threshold(settings.buckets[0]) == 6
    assert settings.get_alarm_threshold(settings.buckets[0].model_copy(update={"alarm_threshold": 9.0})) == 9


def test_one_run_looks_at_the_traffic_of_all_buckets(settings, instance) -> None:
    quiet = settings.buckets[0].model_copy(update={"name": "quiet", "monitor_bucket": False})
    definitions = build_definitions(settings.model_copy(update={"buckets": (*settings.buckets, quiet)}))
    result = definitions.resolve_job_def("watch_buckets").execute_in_process(instance=instance)
    found = {(each.asset_key.path[0], each.check_name) for each in result.get_asset_check_evaluations()}
    assert {each for each in found if each[1] in ANOMALY_CHECKS} == {
        (bucket, name) for bucket in ("media", "quiet") for name in ANOMALY_CHECKS
    }


def test_no_load_hides_or_plans_an_alarm(definitions, instance, put_key) -> None:
    """A result of what a load materializes would be shown until the next load alone."""
    looked_at(definitions, instance)
    job_of(definitions, "load").execute_in_process(instance=instance, partition_key="2026-03-05")

    key = dg.AssetCheckKey(TRAFFIC, BANDWIDTH)
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
    assert [(each.partition, each.status.value) for each in history] == [(None, "SUCCEEDED")]
    assert not instance.get_latest_materialization_event(TRAFFIC)
