"""Checks of what S3's best effort came to: duplicates of a day nightly; silence and failing deletions hourly."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.logstore import roots
from tamarin_dagster.orchestration import watching
from tamarin_dagster.orchestration.traffic_checks import ANOMALY_CHECKS
from tamarin_dagster.settings import LoggedBucket
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.orchestration.load_runs import (
    ADDED_UP,
    CHECKS,
    PURGED,
    RECORDS,
    check_results,
    metadata_by_partition,
)
from tamarin_dagster_tests.recordstore.log_keys import load_keys, log_key
from tamarin_dagster_tests.runs import job_of

DAY = "2026-03-05"
DUPLICATES, FRESHNESS, PURGES = "no_duplicate_records", "delivery_freshness", "no_failing_purges"
HIDDEN = "no_hidden_records"
NAMES = "each_name_belongs_to_a_day"
DELIVERED = dg.AssetKey(["media", "delivered_log_keys"])
QUIET = LoggedBucket(name="quiet", log_bucket_name="quiet-logs", monitor_bucket=False)


def run(definitions, instance, job: str, *days: str) -> dg.ExecuteInProcessResult:
    """Of no partition, of a day, or of a range of days."""
    first_last = dict(zip(("start", "end"), days, strict=False)) if len(days) == 2 else {}
    chosen = definitions.resolve_job_def(job) if job == "watch_buckets" else job_of(definitions, job)
    return chosen.execute_in_process(
        instance=instance,
        partition_key=days[0] if len(days) == 1 else None,
        tags={f"dagster/asset_partition_range_{end}": day for end, day in first_last.items()},
        raise_on_error=False,
    )


def nightly(definitions, instance, first: str, last: str) -> dg.ExecuteInProcessResult:
    """A load of these days, and then the nightly look at them."""
    assert run(definitions, instance, "load", *sorted({first, last})).success
    return definitions.resolve_job_def("check_last_days").execute_in_process(
        instance=instance,
        run_config={"ops": {"look_at_last_days": {"config": {"from": first, "to": last}}}},
    )


def results_of(result: dg.ExecuteInProcessResult, name: str) -> dict[str | None, dg.AssetCheckEvaluation]:
    """By partition."""
    return {each.partition: each for each in result.get_asset_check_evaluations() if each.check_name == name}


def statuses(instance, name: str, asset: dg.AssetKey = DELIVERED) -> dict[str | None, str]:
    history = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(asset, name), limit=100)
    assert max(Counter(record.partition for record in history).values()) == 1
    return {record.partition: record.status.value for record in history}


def test_the_nightly_job_counts_duplicates_for_each_day_and_purges_all_the_same(
    definitions, instance, put_key, log_folder
) -> None:
    put_key(lines(3), day="2026-03-04", unique="0" * 15 + "A")
    put_key(lines(2) + line(request_id="B0"), day="2026-03-04", unique="0" * 15 + "B")
    put_key(lines(1), day="2026-03-06", unique="0" * 15 + "C")

    result = nightly(definitions, instance, "2026-03-04", "2026-03-06")

    assert result.success
    found = results_of(result, DUPLICATES)
    assert found.keys() == {None}
    first = found[None]
    assert (first.passed, first.severity) == (False, dg.AssetCheckSeverity.WARN)
    # of the 4th and of the 6th
    assert first.metadata["extra copies"].value == 3 + 2
    assert first.metadata["records with copies"].value == 2 + 1
    assert first.metadata["looked at"].value == "2026-03-04 to 2026-03-06"
    assert first.metadata["failed for"].value == "2026-03-04, 2026-03-06"
    a, b, c = (f"logs/2026-03-0{day}-10-00-00-{0:015}{end}" for day, end in ((4, "A"), (4, "B"), (6, "C")))
    assert [row.data for row in first.metadata["samples"].records] == [
        {
            "requested": "2026-03-05 09:58:01",
            "request id": f"{number:016X}",
            "extra copies": copies,
            "log keys": ", ".join(keys),
        }
        for number, copies, keys in ((0, 2, (a, b, c)), (1, 1, (a, b)))
    ]
    failed = dg.AssetCheckSeverity.WARN
    assert {each.severity for each in result.get_asset_check_evaluations() if not each.passed} == {failed}
    assert not list(log_folder.glob("logs/*"))
    assert statuses(instance, DUPLICATES) == {None: "FAILED"}


def test_nothing_of_a_request_but_its_id_and_time_is_shown(definitions, instance, put_key) -> None:
    secret = line(key="secret-key", user_agent="secret-agent", remote_ip="203.0.113.77")
    put_key(secret)
    put_key(secret)

    result = nightly(definitions, instance, DAY, DAY)

    (found,) = results_of(result, DUPLICATES).values()
    assert not found.passed
    shown = str(found.metadata)
    assert "3E57427F33A59F07" in shown
    assert not any(each in shown for each in ("secret", "203.0.113.77", "curl"))


def test_the_nightly_job_warns_of_records_that_lost_their_newline_and_shows_where(
    definitions, instance, put_key, log_folder
) -> None:
    """Nothing of the requests but their time is shown."""
    secret = line(key="secret-key", user_agent="secret-agent", remote_ip="203.0.113.77").rstrip(b"\n")
    key = put_key(lines(2) + secret + b"\r" + secret + b"\r" + secret + b"\n", day="2026-03-04")
    put_key(lines(3), day="2026-03-05")

    result = nightly(definitions, instance, "2026-03-04", "2026-03-05")

    assert result.success
    found = results_of(result, HIDDEN)
    assert {day: each.passed for day, each in found.items()} == {None: False}
    first = found[None]
    assert first.metadata["failed for"].value == "2026-03-04"
    assert first.severity == dg.AssetCheckSeverity.WARN
    assert first.metadata["records that hold others"].value == 1
    assert first.metadata["hidden records"].value == 2
    assert [row.data for row in first.metadata["samples"].records] == [
        {
            "requested": "2026-03-05 09:58:01",
            "log key": key,
            "line": 3,
            "hidden records": 2,
            "columns": "user_agent",
        }
    ]
    assert not any(each in str(first.metadata) for each in ("secret", "203.0.113.77"))
    assert not list(log_folder.glob("logs/*")), "it stops no purge"
    assert statuses(instance, HIDDEN) == {None: "FAILED"}


def test_each_job_runs_the_checks_that_belong_to_it(definitions, instance, put_key) -> None:
    """Assets that a job selects bring all of their checks along, unless it says which."""
    put_key(lines(1))

    for job in ("load", "reconcile"):
        result = run(definitions, instance, job, DAY)
        assert check_results(result) == dict.fromkeys([*((name, DAY) for name in CHECKS), ADDED_UP], True)
        assert metadata_by_partition(result, PURGED).keys() == {DAY}
    last_days = definitions.resolve_job_def("check_last_days").execute_in_process(instance=instance)
    assert check_results(last_days) == {(DUPLICATES, None): True, (HIDDEN, None): True}
    watched = check_results(run(definitions, instance, "watch_buckets"))
    assert watched == {(name, None): True for name in (FRESHNESS, PURGES, NAMES, *ANOMALY_CHECKS)}


def test_a_stray_that_belongs_to_no_day_is_told_of_once_and_fails_no_day(definitions, instance, put_key, log_folder):
    """One README under the prefix made the check of each day fail."""
    put_key(lines(1))
    (log_folder / "logs/README").write_text("hello")

    assert check_results(run(definitions, instance, "load", DAY))["no_stray_keys", DAY]
    found = watched(definitions, instance, NAMES)

    assert not found.passed
    assert [row.data["name"] for row in found.metadata["names"].records] == ["logs/README"]


def test_a_folder_that_is_not_searched_to_its_end_is_named_by_the_check(
    definitions, instance, put_key, log_folder, monkeypatch
):
    monkeypatch.setattr(roots, "MAX_PAGES_WITHOUT_LOG_KEYS", 1)
    put_key(lines(1))
    (log_folder / "logs/photos").mkdir()
    for number in range(1001):
        (log_folder / f"logs/photos/{number:04}").touch()

    found = watched(definitions, instance, NAMES)

    assert not found.passed
    assert found.description.startswith("at least 50 strays; 1 folder was not searched to the end")
    assert [row.data["name"] for row in found.metadata["folders not searched"].records] == ["logs/photos/"]


def test_a_log_bucket_that_cannot_be_listed_fails_that_check_alone(settings, instance, log_folder):
    definitions = build_definitions(settings)
    log_folder.rmdir()

    found = watched(definitions, instance, NAMES)

    assert not found.passed
    assert found.description == "the log bucket could not be listed"
    assert "the folder does not exist" in found.metadata["error"].value


def deliver(engine, silent: timedelta, every: timedelta, deliveries: int, bucket: str = "media") -> datetime:
    """Add this number of log keys, the last of this age, and return the time of the last."""
    last = datetime.now(UTC).replace(microsecond=0) - silent
    times = [last - every * number for number in range(deliveries)]
    keys = [log_key(f"logs/{time:%Y-%m-%d-%H-%M-%S}-{0:016}", day=time.date()) for time in times]
    load_keys(engine, keys, [b""] * deliveries, bucket=bucket, log_bucket_name=bucket)
    return last


def watched(definitions, instance, name: str = FRESHNESS) -> dg.AssetCheckEvaluation:
    result = run(definitions, instance, "watch_buckets")
    assert result.success
    (found,) = results_of(result, name).values()
    assert found.severity == dg.AssetCheckSeverity.WARN
    return found


@pytest.mark.parametrize(
    ("silent", "every", "deliveries", "passed"),
    [
        # twice the gap of three hours
        (timedelta(hours=5), timedelta(hours=3), 20, True),
        (timedelta(hours=7), timedelta(hours=3), 20, False),
        # an hour, however small the gaps
        (timedelta(minutes=55), timedelta(minutes=5), 600, True),
        (timedelta(minutes=65), timedelta(minutes=5), 600, False),
        # a silence does not wear off
        (timedelta(days=400), timedelta(hours=3), 20, False),
    ],
)
def test_a_bucket_that_always_delivered_may_not_be_silent_for_long(
    definitions, instance, engine, silent, every, deliveries, passed
) -> None:
    last = deliver(engine, silent, every, deliveries)

    found = watched(definitions, instance)

    assert found.passed == passed
    assert found.description is None
    assert found.metadata["deliveries"].value == deliveries
    assert found.metadata["last delivery"].value == last.replace(second=0).timestamp()
    assert found.metadata["largest gap"].value == str(every)
    assert found.metadata["silence allowed"].value == str(max(2 * every, timedelta(hours=1)))
    assert found.metadata["silent for"].value.startswith(str(silent).rsplit(":", 2)[0])


@pytest.mark.parametrize(
    ("every", "deliveries"),
    [(timedelta(hours=3), 19), (timedelta(hours=2), 20), (timedelta(seconds=1), 300), (timedelta(), 1), (None, 0)],
)
def test_too_little_history_is_no_habit(definitions, instance, engine, every, deliveries) -> None:
    """19 deliveries; 20 within 38 hours; 300 keys in a few minutes; one; none."""
    if every is not None:
        deliver(engine, timedelta(days=20), every, deliveries)

    found = watched(definitions, instance)

    assert found.passed
    assert found.description == "too little history for a baseline"
    assert found.metadata["deliveries"].value == (deliveries if deliveries < 300 else pytest.approx(5, abs=1))


def test_a_deletion_that_fails_for_more_than_a_day_is_named_with_its_error(
    settings, definitions, instance, engine, rows
) -> None:
    now = datetime.now(UTC)
    load_keys(engine, [log_key(name) for name in ("fresh", "long", "longer", "fine")], [b""] * 4)
    for key, hours in (("fresh", 23), ("long", 25), ("longer", 50)):
        rows(
            "UPDATE s3_log_key SET purge_error = 'AccessDenied: ' || key, purge_failed_at = :since WHERE key = :key",
            since=now - timedelta(hours=hours),
            key=key,
        )

    found = watched(definitions, instance, PURGES)

    assert not found.passed
    assert found.metadata["keys"].value == 2
    assert [row.data for row in found.metadata["failing"].records] == [
        {"key": key, "error": f"AccessDenied: {key}", "since": f"{now - timedelta(hours=hours):%Y-%m-%d %H:%M:%S}"}
        for key, hours in (("longer", 50), ("long", 25))
    ]
    keeping = build_definitions(settings.model_copy(update={"purge_parsed_keys": False}))
    found = watched(keeping, instance, PURGES)
    assert found.passed
    assert found.description == "purge_parsed_keys is off: nothing is deleted"


def test_one_run_watches_all_buckets_but_not_the_habit_of_those_that_are_not_monitored(
    settings, instance, engine, log_folder
) -> None:
    quiet = QUIET.model_copy(update={"log_bucket_name": log_folder.as_uri()})
    definitions = build_definitions(settings.model_copy(update={"buckets": (*settings.buckets, quiet)}))
    for bucket in ("media", "quiet"):
        deliver(engine, timedelta(hours=7), timedelta(hours=3), 20, bucket)

    result = run(definitions, instance, "watch_buckets")

    assert result.success
    found = {(each.asset_key.path[0], each.check_name): each.passed for each in result.get_asset_check_evaluations()}
    assert found == {
        ("media", FRESHNESS): False,
        **{(bucket, name): True for bucket in ("media", "quiet") for name in (PURGES, NAMES, *ANOMALY_CHECKS)},
    }

    by_hand = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(),
        asset_check_selection={dg.AssetCheckKey(dg.AssetKey(["quiet", "delivered_log_keys"]), FRESHNESS)},
    )
    (evaluation,) = by_hand.execute_in_process(instance=instance).get_asset_check_evaluations()
    assert (evaluation.asset_key.path[0], evaluation.passed, evaluation.partition) == ("quiet", False, None)


@pytest.mark.parametrize("days", [(DAY,), ("2026-03-04", "2026-03-06")])
def test_what_is_materialized_on_the_page_leaves_no_check_planned(definitions, instance, put_key, days) -> None:
    """Dagster 1.13 runs all checks of the asset then, and would plan one without partitions for each partition too."""
    put_key(lines(3))
    everything = definitions.resolve_implicit_global_asset_job_def()
    range_tags = dict(zip(("start", "end"), days, strict=False)) if len(days) == 2 else {}

    result = everything.get_subset(asset_selection={RECORDS, PURGED}).execute_in_process(
        instance=instance,
        partition_key=days[0] if len(days) == 1 else None,
        tags={f"dagster/asset_partition_range_{end}": day for end, day in range_tags.items()},
    )

    assert result.success
    expected = ["2026-03-04", DAY, "2026-03-06"] if len(days) == 2 else [DAY]
    for name in CHECKS:
        found = statuses(instance, name, RECORDS)
        assert {day: status for day, status in found.items() if day} == dict.fromkeys(expected, "SUCCEEDED"), name
    assert {each.check_name for each in result.get_asset_check_evaluations()} == CHECKS


def test_a_check_that_still_passes_is_written_again_only_after_a_while(
    definitions, instance, log_folder, monkeypatch
) -> None:
    """Each hour each bucket had some fifty rows in Dagster's storage that said what they had said before."""
    first = run(definitions, instance, "watch_buckets").get_asset_check_evaluations()
    assert {each.check_name for each in first} == {FRESHNESS, PURGES, NAMES, *ANOMALY_CHECKS}
    assert run(definitions, instance, "watch_buckets").get_asset_check_evaluations() == []

    (log_folder / "logs").mkdir(exist_ok=True)
    (log_folder / "logs/README").write_text("hello")
    for _ in range(2):
        (failing,) = run(definitions, instance, "watch_buckets").get_asset_check_evaluations()
        assert (failing.check_name, failing.passed) == (NAMES, False)
    (log_folder / "logs/README").unlink()
    (better,) = run(definitions, instance, "watch_buckets").get_asset_check_evaluations()
    assert (better.check_name, better.passed) == (NAMES, True)

    monkeypatch.setattr(watching, "REPEAT_SECONDS", -1)
    assert len(run(definitions, instance, "watch_buckets").get_asset_check_evaluations()) == len(first)
