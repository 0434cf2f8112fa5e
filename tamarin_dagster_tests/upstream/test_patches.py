"""When the classes in orchestration.patches can go: each test fails once Dagster no longer needs the patch.

And the tables of Dagster's that orchestration.pruning deletes from, whose columns are no public interface.
"""

from collections import Counter
from datetime import UTC, datetime

import dagster as dg
import pytest
import sqlalchemy as sa
from celery import states
from dagster._check import CheckError
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.launcher import DefaultRunLauncher, WorkerStatus
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
from dagster_postgres.event_log import PostgresEventLogStorage

from tamarin_dagster.orchestration.pruning import OPERATIONAL_OF_SUCCESS, REFERRED_TO
from tamarin_dagster_tests.upstream.tiny import instance_of, psycopg2_url

# Each type of event there is, that is neither operational nor refers to an asset or check: these are kept.
KEPT = {
    *("STEP_FAILURE", "PIPELINE_FAILURE", "PIPELINE_CANCELED", "RUN_SUSPENDED", "RUN_RESUMED"),
    *("RESOURCE_INIT_FAILURE", "STEP_EXPECTATION_RESULT"),
    *("HOOK_COMPLETED", "HOOK_ERRORED", "HOOK_SKIPPED"),
    *("ALERT_START", "ALERT_SUCCESS", "ALERT_FAILURE"),
    *("FRESHNESS_STATE_EVALUATION", "ASSET_STORE_OPERATION", "ASSET_HEALTH_CHANGED", "ASSET_WIPED"),
    "CODE_LOCATION_UPDATED",
}


def test_the_default_launcher_still_cannot_be_asked_whether_a_run_lives() -> None:
    """patches.run_launcher can go when it can."""
    assert not DefaultRunLauncher().supports_check_run_worker_health


def test_celerys_launcher_still_takes_a_run_of_a_dead_worker_for_a_running_one() -> None:
    """patches.celery_run_launcher overrides this method, and can go when it distinguishes the two."""
    launcher = CeleryRunLauncher(default_queue="runs", broker="memory://", backend="cache+memory://")
    launcher.celery.backend.store_result("task", {"hostname": "a worker that is gone"}, states.STARTED)
    run = dg.DagsterRun(job_name="load", tags={DAGSTER_CELERY_TASK_ID_TAG: "task"})
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_dagsters_postgres_storage_still_connects_anew_for_each_statement(empty_url) -> None:
    """patches.instance_storage keeps connections, and can go when Dagster does."""
    made: Counter[str] = Counter()
    listener = lambda *_: made.update(["connections"])  # noqa: E731
    sa.event.listen(sa.pool.Pool, "connect", listener)
    try:
        storage = PostgresEventLogStorage(psycopg2_url(empty_url), should_autocreate_tables=True)
        made.clear()
        for _ in range(5):
            storage.get_dynamic_partitions("none")
        storage.dispose()
    finally:
        sa.event.remove(sa.pool.Pool, "connect", listener)
    assert made["connections"] >= 5


def test_every_type_of_event_is_either_pruned_or_kept_on_purpose() -> None:
    """A type that a new Dagster brings is kept until somebody decides about it."""
    pruned = {kind.value for kind in OPERATIONAL_OF_SUCCESS}
    referring = {kind.value for kind in REFERRED_TO}
    assert pruned & referring == {"ASSET_MATERIALIZATION_PLANNED"}
    assert {kind.value for kind in dg.DagsterEventType} - pruned - referring <= KEPT
    assert {status.value for status in FINISHED_STATUSES} == {"SUCCESS", "FAILURE", "CANCELED"}
    assert {status.value for status in BULK_ACTION_TERMINAL_STATUSES} == {
        *("COMPLETED", "FAILED", "CANCELED", "COMPLETED_SUCCESS", "COMPLETED_FAILED")
    }


def test_the_columns_that_pruning_reads_are_there(tmp_path, empty_url, monkeypatch) -> None:
    monkeypatch.setenv("URL", psycopg2_url(empty_url))
    with instance_of(tmp_path, storage={"postgres": {"postgres_url": {"env": "URL"}}}) as instance:
        run_id = instance.create_run_for_job(dg.GraphDefinition(name="empty").to_job()).run_id
        run = instance.get_run_by_id(run_id)
        instance.report_engine_event("hello", run)
        instance.report_run_failed(run)
        with instance.run_storage.connect() as connection:
            status, end, updated, backfill = connection.execute(
                sa.text("SELECT status, end_time, update_timestamp, backfill_id FROM runs WHERE run_id = :id"),
                {"id": run_id},
            ).one()
        assert (status, backfill) == ("FAILURE", None)
        now = datetime.now(UTC)
        assert abs(end - now.timestamp()) < 60
        assert abs((updated.replace(tzinfo=UTC) - now).total_seconds()) < 60


def test_one_run_cannot_make_partitions_of_assets_that_begin_on_different_days() -> None:
    """Why there is no one run for many buckets: each begins on its own day (docs/decisions/0005)."""

    @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2026-03-01"))
    def one() -> dg.MaterializeResult:
        return dg.MaterializeResult()

    @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2026-03-02"))
    def other() -> dg.MaterializeResult:
        return dg.MaterializeResult()

    job = dg.Definitions(assets=[one, other]).resolve_implicit_global_asset_job_def()
    both = job.get_subset(asset_selection={one.key, other.key})
    with pytest.raises(CheckError, match="no PartitionsDefinition shared by all the provided assets"):
        both.execute_in_process(partition_key="2026-03-04")
