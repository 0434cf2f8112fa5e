"""Assembling: names, and how wrong settings look to Dagster's own commands."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.settings import LoggedBucket, Settings

PROJECT = Path(__file__).parents[2]
DAY = "2026-10-01"


def test_buckets_whose_names_differ_only_in_punctuation_get_names_of_their_own() -> None:
    buckets = tuple(LoggedBucket(name=name, log_bucket_name="log-bucket") for name in ("a.b.c", "a-b-c", "a_b_c"))

    definitions = build_definitions(Settings(buckets=buckets))

    assert {key.path[0] for key in definitions.resolve_all_asset_keys()} == {"a_b_c", "a_b_c_2", "a_b_c_3"}
    dg.Definitions.validate_loadable(definitions)


def test_definitions_without_buckets_load() -> None:
    definitions = build_definitions(Settings())

    dg.Definitions.validate_loadable(definitions)
    assert "watch_buckets" not in {job.name for job in definitions.resolve_all_job_defs()}


def test_jobs_and_schedules_are_as_many_for_a_hundred_buckets_as_for_one() -> None:
    """Three jobs of assets for each bucket made a thousand buckets take 323 s of CPU to load."""

    def names(count: int) -> tuple[set[str], set[str], int]:
        buckets = tuple(LoggedBucket(name=f"bucket-{n}", log_bucket_name="log-bucket") for n in range(count))
        repository = build_definitions(Settings(buckets=buckets)).get_repository_def()
        jobs = {job.name for job in repository.get_all_jobs()}
        return jobs, {schedule.name for schedule in repository.schedule_defs}, len(repository.sensor_defs)

    jobs, schedules, sensors = names(1)
    assert names(100) == (jobs, schedules, 100)
    assert sensors == 1
    assert jobs == {
        "__ASSET_JOB",
        "check_last_days",
        "classify_user_agents",
        "doctor",
        "prune_dagster_storage",
        "purge_pending_log_keys",
        "reparse_rejected_lines",
        "roll_up_traffic",
        "watch_buckets",
    }
    assert schedules == {
        "check_last_days_nightly",
        "classify_user_agents_hourly",
        "purge_pending_log_keys_nightly",
        "reconcile_log_keys_nightly",
        "prune_dagster_storage_nightly",
        "roll_up_traffic_hourly",
        "traffic_reports_daily",
        "watch_buckets_hourly",
    }


def test_buckets_of_different_first_days_and_partitions_share_the_job() -> None:
    entries = ({"start_date": "2026-01-01"}, {"start_date": "2026-03-01"}, {"partition": "hourly", "start_date": DAY})
    buckets = tuple(
        LoggedBucket.model_validate({"name": f"bucket-{n}", "log_bucket_name": "log-bucket"} | entry)
        for n, entry in enumerate(entries)
    )

    dg.Definitions.validate_loadable(build_definitions(Settings(buckets=buckets)))


@pytest.mark.parametrize("days", [31, 5])
def test_a_run_of_a_backfill_has_as_many_days_as_the_settings_say(days) -> None:
    """Both assets alike: else Dagster would not run them together."""
    bucket = LoggedBucket(name="media", log_bucket_name="log-bucket")
    definitions = build_definitions(Settings(buckets=(bucket,), days_per_run=days))
    for name in ("log_records", "purged_log_keys"):
        policy = definitions.get_assets_def(dg.AssetKey(["media", name])).backfill_policy
        assert policy is not None
        assert policy.max_partitions_per_run == days


def run(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=PROJECT,
        env=os.environ | {"TAMARIN_CONFIG": str(tmp_path / "tamarin.yaml"), "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        ("dagster", "definitions", "validate"),
        pytest.param(("dagster_dg_cli.cli", "check", "defs"), marks=pytest.mark.slow),
    ],
)
def test_the_project_loads_by_either_command_line(tmp_path, command) -> None:
    (tmp_path / "tamarin.yaml").write_text("buckets: [{name: media, log_bucket_name: log-bucket}]")

    done = run(tmp_path, *command)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_wrong_settings_show_their_lines_and_no_stack(tmp_path) -> None:
    (tmp_path / "tamarin.yaml").write_text("buckets: [{name: media}]\npull_parse_intervall: 3\n")

    done = run(tmp_path, "dagster", "definitions", "validate")

    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "buckets[0] 'media': log_bucket_name: is missing" in said
    assert "pull_parse_intervall: unknown setting (did you mean pull_parse_interval?)" in said
    assert "definitions.py" not in said


def test_a_bucket_that_is_taken_out_of_the_settings_leaves_nothing_behind() -> None:
    buckets = tuple(LoggedBucket(name=name, log_bucket_name="log-bucket") for name in ("media", "films"))

    def names(*configured: LoggedBucket) -> set[str]:
        repository = build_definitions(Settings(buckets=configured)).get_repository_def()
        kinds = (repository.sensor_defs, repository.schedule_defs, repository.get_all_jobs())
        assets = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
        return assets | {each.name for kind in kinds for each in kind}

    gone = names(*buckets) - names(buckets[0])
    assert gone == {name for name in names(*buckets) if name.startswith("films")}
    assert {"films__new_log_keys", "films/log_records"} <= gone
