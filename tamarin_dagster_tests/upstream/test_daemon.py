"""Sensors, schedules, backfills, and runs that die: what we rely on of Dagster's daemon, as test_upstream says."""

import logging
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._check import CheckError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._core.test_utils import freeze_time
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import consume_new_runs_for_automatic_reexecution
from dagster._daemon.monitoring.run_monitoring import monitor_started_run, monitor_starting_run
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._grpc.impl import _run_in_subprocess
from dagster._grpc.types import ExecuteExternalJobArgs
from dagster._grpc.utils import default_sensor_grpc_timeout

from tamarin_dagster_tests.upstream.tiny import (
    DAY,
    DAYS,
    LAST,
    LOADED,
    PURGED,
    Daemon,
    daemon_of,
    instance_of,
    range_tags,
)

pytestmark = [
    # of Dagster's own making
    pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars` is deprecated"),
    pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources` is deprecated"),
    # a backfill's runs are run at once here, within its event loop
    pytest.mark.filterwarnings("ignore:coroutine .*shutdown_asyncgens.* was never awaited"),
]

# By which all of March is over.
NOW = datetime(2026, 4, 2, 3, 0, tzinfo=UTC)


@dg.asset(key=LOADED, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.multi_run(3))
def loaded_but_for_one_day(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    if "2026-03-13" in context.partition_keys:
        raise dg.Failure("never")
    return dg.MaterializeResult()


@dg.asset(key=PURGED, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.multi_run(3), deps=[LOADED])
def purged_in_runs_of_three() -> dg.MaterializeResult:
    return dg.MaterializeResult()


load = dg.define_asset_job("load", [LOADED, PURGED], tags={"tamarin/bucket": "media.example.org"})


@dg.sensor(job=load, default_status=dg.DefaultSensorStatus.RUNNING)
def asks(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    requests = [
        dg.RunRequest(run_key=f"keys of {day}", partition_key=day, tags={"digest": "d"}) for day in (DAY, "2026-03-13")
    ]
    return dg.SensorResult(run_requests=requests, cursor=f"{context.cursor or ''}I")


@dg.sensor(job=load, default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=30)
def on() -> dg.SensorResult:
    return dg.SensorResult(run_requests=[], skip_reason="seen: nothing", cursor="moved")


@dg.sensor(job=load)
def off() -> dg.SensorResult:
    return dg.SensorResult(run_requests=[])


@dg.sensor(job=load, default_status=dg.DefaultSensorStatus.RUNNING)
def breaks() -> dg.SensorResult:
    raise LookupError("the listing failed")


@dg.schedule(
    job=load, cron_schedule="15 3 * * *", execution_timezone="UTC", default_status=dg.DefaultScheduleStatus.RUNNING
)
def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    time = context.scheduled_execution_time
    assert time.utcoffset() == timedelta()
    first = datetime(2026, 3, time.day, tzinfo=UTC)
    return dg.RunRequest(tags=range_tags(first.date().isoformat(), (first + timedelta(days=2)).date().isoformat()))


_assets = dg.Definitions(
    assets=[loaded_but_for_one_day, purged_in_runs_of_three], jobs=[load], executor=dg.in_process_executor
)
looked_after = dg.Definitions.merge(_assets, dg.Definitions(sensors=[asks], schedules=[nightly]))
idle = dg.Definitions.merge(_assets, dg.Definitions(sensors=[on, off, breaks]))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """With a sensor that asks for two runs at each tick, one of which fails, and a nightly schedule."""
    with daemon_of(tmp_path, __name__, "looked_after") as daemon:
        yield daemon


@pytest.fixture
def idle_daemon(tmp_path: Path) -> Iterator[Daemon]:
    """With sensors that ask for nothing."""
    with daemon_of(tmp_path, __name__, "idle") as daemon:
        yield daemon


def test_a_run_key_is_never_run_twice_not_even_when_its_run_failed_and_the_cursor_moves_on(daemon) -> None:
    """sensors._request numbers its attempts in the run_key; the cursor is no proof of loading (dagster #15982)."""
    for minute in range(3):
        daemon.look_at_sensors(NOW + timedelta(minutes=minute))
    runs = daemon.runs(**{"dagster/sensor_name": "asks"})
    assert sorted((run.tags["dagster/partition"], run.status.value) for run in runs) == [
        (DAY, "SUCCESS"),
        ("2026-03-13", "FAILURE"),
    ]
    assert daemon.cursor("asks") == "III"


@pytest.mark.slow
def test_a_requested_run_has_the_tags_of_its_partition_its_job_and_its_request(daemon) -> None:
    """sensors: runs under way are found by the bucket's tag, attempts by the digest's; the day is read off a tag."""
    daemon.look_at_sensors(NOW)
    (found,) = daemon.runs(**{"dagster/partition": DAY, "tamarin/bucket": "media.example.org", "digest": "d"})
    assert found.tags["dagster/run_key"] == f"keys of {DAY}"
    (record,) = daemon.instance.get_run_records(dg.RunsFilter(tags={"dagster/partition": DAY}), limit=5)
    assert record.start_time <= record.end_time <= record.update_timestamp.timestamp() + 1


@pytest.mark.slow
def test_a_sensor_ticks_by_itself_if_its_default_says_so_until_a_person_stops_it(idle_daemon) -> None:
    """sensors.build_sensor, schedules: monitor_bucket sets the default; Dagster honours a change in the UI."""
    idle_daemon.look_at_sensors(NOW)
    assert (len(idle_daemon.ticks("on")), idle_daemon.ticks("off")) == (1, [])
    on, off = (idle_daemon.repository().get_sensor(name) for name in ("on", "off"))
    idle_daemon.instance.stop_sensor(on.get_remote_origin_id(), on.selector_id, on)
    idle_daemon.instance.start_sensor(off)
    idle_daemon.look_at_sensors(NOW + timedelta(minutes=1))
    assert (len(idle_daemon.ticks("on")), len(idle_daemon.ticks("off"))) == (1, 1)


@pytest.mark.slow
def test_a_sensor_ticks_no_sooner_than_its_interval(idle_daemon) -> None:
    """sensors.build_sensor: pull_parse_interval."""
    for seconds, ticks in ((0, 1), (29, 1), (31, 2)):
        idle_daemon.look_at_sensors(NOW + timedelta(seconds=seconds))
        assert len(idle_daemon.ticks("on")) == ticks


@pytest.mark.slow
def test_a_tick_that_skips_says_why_and_still_moves_its_cursor(idle_daemon) -> None:
    """sensors.new_log_keys reports what it saw in its skip message; it has none if it requests runs."""
    idle_daemon.look_at_sensors(NOW)
    (tick,) = idle_daemon.ticks("on")
    assert (tick.status.value, tick.skip_reason, idle_daemon.cursor("on")) == ("SKIPPED", "seen: nothing", "moved")
    with pytest.raises(CheckError, match="both run_requests and skip_reason"):
        dg.SensorResult(run_requests=[dg.RunRequest()], skip_reason="seen: nothing")


@pytest.mark.slow
def test_a_tick_that_raises_fails_and_has_no_cursor(idle_daemon) -> None:
    """sensors.find_unseen_periods: a listing that failed is not an empty one."""
    idle_daemon.look_at_sensors(NOW)
    (tick,) = idle_daemon.ticks("breaks")
    assert tick.status.value == "FAILURE"
    assert "the listing failed" in tick.error.to_string()
    assert idle_daemon.cursor("breaks") is None


def test_a_partition_that_does_not_exist_yet_fails_the_whole_tick() -> None:
    """sensors.find_unseen_periods: a key that is dated tomorrow waits for its day, so that today is loaded."""

    @dg.sensor(job=load)
    def ahead() -> dg.SensorResult:
        return dg.SensorResult(run_requests=[dg.RunRequest(partition_key=day) for day in (DAY, "2026-04-01")])

    definitions = dg.Definitions.merge(_assets, dg.Definitions(sensors=[ahead]))
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, definitions=definitions) as context,
        pytest.raises(dg.DagsterUnknownPartitionError, match="2026-04-01"),
    ):
        definitions.resolve_sensor_def("ahead").evaluate_tick(context)


def test_a_tick_has_60_seconds(monkeypatch) -> None:
    """sensors.TICK_BUDGET_SECONDS stays below it: what takes longer is forgotten (dagster #14830, #25116)."""
    assert default_sensor_grpc_timeout() == 60
    monkeypatch.setenv("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", "100")
    assert default_sensor_grpc_timeout() == 100


def test_what_is_not_finished_is_queued_running_or_being_cancelled() -> None:
    """sensors._days_in_flight."""
    status = dg.DagsterRunStatus
    ended = {status.SUCCESS, status.FAILURE, status.CANCELED, status.MANAGED}
    assert set(NOT_FINISHED_STATUSES) == set(status) - ended


@pytest.mark.slow
def test_a_schedule_asks_for_a_range_by_tags_at_its_time_in_utc(daemon) -> None:
    """schedules.build_reconcile_schedule: one run for the last days, which has no partition (dagster #34096)."""
    daemon.look_at_schedules(NOW)
    assert daemon.runs() == []
    daemon.look_at_schedules(NOW + timedelta(minutes=16))
    (found,) = daemon.runs()
    assert found.status is dg.DagsterRunStatus.SUCCESS
    assert "dagster/partition" not in found.tags
    assert found.tags["tamarin/bucket"] == "media.example.org"
    events = daemon.instance.all_logs(found.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert Counter(entry.dagster_event.partition for entry in events) == {
        "2026-03-02": 2,
        "2026-03-03": 2,
        "2026-03-04": 2,
    }


@pytest.mark.slow
def test_a_backfill_of_assets_that_share_a_policy_makes_runs_of_so_many_days_each(daemon) -> None:
    """partitions.BACKFILL_POLICY: each run has at most that many days, and both assets."""
    runs = daemon.backfill(NOW, ["loaded", "purged"], DAYS.get_partition_keys()[:5])
    assert [(run.tags[ASSET_PARTITION_RANGE_START_TAG], run.tags[ASSET_PARTITION_RANGE_END_TAG]) for run in runs] == [
        ("2026-03-01", "2026-03-03"),
        ("2026-03-04", "2026-03-05"),
    ]
    assert all(run.asset_selection == {LOADED, PURGED} for run in runs)
    assert all("dagster/partition" not in run.tags for run in runs)


MONTHS = dg.MonthlyPartitionsDefinition("2026-01-01", end_offset=1)


@dg.asset(key="monthly", partitions_def=MONTHS)
def monthly() -> dg.MaterializeResult:
    return dg.MaterializeResult()


@dg.asset_check(asset=PURGED, name="wanted", partitions_def=DAYS)
def wanted() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset=PURGED, name="unwanted", partitions_def=DAYS)
def unwanted() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


WANTED = dg.AssetCheckKey(PURGED, "wanted")


@dg.sensor(
    asset_selection=dg.AssetSelection.assets(PURGED).without_checks() | dg.AssetSelection.checks(WANTED),
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def asks_for_assets() -> dg.SensorResult:
    request = dg.RunRequest(
        run_key="a", partition_key=DAY, asset_selection=[PURGED], asset_check_keys=[WANTED], tags={"kind": "load"}
    )
    return dg.SensorResult(run_requests=[request])


@dg.schedule(
    job_name="__ASSET_JOB",
    cron_schedule="15 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def asks_for_both() -> list[dg.RunRequest]:
    return [
        dg.RunRequest(
            run_key="range",
            asset_selection=[PURGED],
            asset_check_keys=[WANTED],
            tags=range_tags("2026-03-02", "2026-03-03"),
        ),
        dg.RunRequest(run_key="month", asset_selection=[monthly.key], asset_check_keys=[], partition_key="2026-02-01"),
    ]


one_job = dg.Definitions(
    assets=[loaded_but_for_one_day, purged_in_runs_of_three, monthly],
    asset_checks=[wanted, unwanted],
    sensors=[asks_for_assets],
    schedules=[asks_for_both],
    executor=dg.in_process_executor,
)


def test_a_sensor_and_a_schedule_ask_the_asset_job_for_assets_checks_and_partitions(tmp_path) -> None:
    """selections, schedules: no job of ours holds assets whose partitions begin on different days."""
    with daemon_of(tmp_path, __name__, "one_job") as daemon:
        daemon.look_at_sensors(NOW)
        daemon.look_at_schedules(NOW)
        daemon.look_at_schedules(NOW + timedelta(minutes=16))
        runs = {run.tags["dagster/run_key"]: run for run in daemon.runs()}
        assert {key: (run.job_name, run.status.value) for key, run in runs.items()} == dict.fromkeys(
            ("a", "range", "month"), ("__ASSET_JOB", "SUCCESS")
        )
        assert (runs["a"].tags["dagster/partition"], runs["a"].tags["kind"]) == (DAY, "load")
        assert runs["month"].tags["dagster/partition"] == "2026-02-01"
        made, checked = dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION
        partitions = {
            key: sorted(entry.dagster_event.partition for entry in daemon.instance.all_logs(run.run_id, of_type=made))
            for key, run in runs.items()
        }
        assert partitions == {"a": [DAY], "range": ["2026-03-02", "2026-03-03"], "month": ["2026-02-01"]}
        names = {
            key: {
                entry.dagster_event.asset_check_evaluation_data.check_name
                for entry in daemon.instance.all_logs(run.run_id, of_type=checked)
            }
            for key, run in runs.items()
        }
        assert names == {"a": {"wanted"}, "range": {"wanted"}, "month": set()}


def job_of(pool: str) -> dg.JobDefinition:
    @dg.op(name=f"work_{pool}", pool=pool)
    def work() -> None: ...

    @dg.job(name=f"job_{pool}")
    def job() -> None:
        work()

    return job


queued_jobs = dg.Definitions(jobs=[job_of(pool) for pool in "abc"])


@pytest.mark.slow
def test_a_run_whose_pool_is_full_waits_in_the_queue_and_others_go_before_it(tmp_path) -> None:
    """Otherwise runs of one bucket's backfill would take all slots, and wait there. A higher priority goes first: the
    sensors' (orchestration/sensors.py), so that what is new does not wait for a backfill of years.
    """
    queue = {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"}
    limits = {"runs": {"max_concurrent_runs": 4}, "pools": {"default_limit": 2}}
    with daemon_of(tmp_path, __name__, "queued_jobs", run_coordinator=queue, concurrency=limits) as daemon:
        names: dict[str, str] = {}

        def enqueue(name: str, **tags: str) -> None:
            job = queued_jobs.resolve_job_def(f"job_{name[0]}")
            origin = daemon.repository().get_full_job(job.name).get_remote_origin()
            run = daemon.instance.create_run_for_job(
                job, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin, tags=tags
            )
            names[run.run_id] = name

        for pool in "abc":
            daemon.instance.event_log_storage.initialize_concurrency_limit_to_default(pool)
        for name in ("a1", "a2", "a3", "a4", "b1", "b2", "b3", "c1"):
            enqueue(name)
        enqueue("c2", **{"dagster/priority": "1"})
        chosen = QueuedRunCoordinatorDaemon(interval_seconds=1)._get_runs_to_dequeue(
            daemon.instance, daemon.instance.get_concurrency_config(), fixed_iteration_time=None
        )
    assert [names[run.run_id] for run in chosen] == ["c2", "a1", "a2", "b1"]


class GoneLauncher(DefaultRunLauncher):
    """Says that each run's process is gone."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:  # noqa: ARG002
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its process 1 is gone")


def record(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **others: Any) -> Any:
    """Of a new run that has come so far."""
    run = instance.create_run_for_job(looked_after.resolve_job_def("load"), status=status, **others)
    return instance.get_run_record_by_id(run.run_id)


@dg.job
def plain() -> None:
    pass


@pytest.mark.slow
def test_a_run_tells_first_which_process_it_is(daemon) -> None:
    """run_launcher.LocalRunLauncher reads the pid from that event, which the code server's child writes."""
    run = daemon.instance.create_run_for_job(plain)
    arguments = ExecuteExternalJobArgs(
        job_origin=daemon.repository().get_full_job("load").get_remote_origin(),
        run_id=run.run_id,
        instance_ref=daemon.instance.get_ref(),
    )
    _run_in_subprocess(dg.serialize_value(arguments), dg.reconstructable(plain), multiprocessing.Event(), print, print)
    first, *_ = daemon.instance.all_logs(run.run_id)
    assert first.dagster_event_type is dg.DagsterEventType.ENGINE_EVENT
    assert first.dagster_event.message == f"Started process for run (pid: {os.getpid()})."
    assert first.dagster_event.engine_event_data.metadata["pid"].value == str(os.getpid())
    assert daemon.instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS


def test_run_monitoring_asks_the_launcher_and_fails_a_run_whose_process_is_gone(tmp_path) -> None:
    """run_launcher.LocalRunLauncher, and run_monitoring in dagster.yaml; the run is then tried again."""
    launcher = {"module": __name__, "class": "GoneLauncher"}
    retries = {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}
    with instance_of(tmp_path, run_launcher=launcher, run_retries=retries) as instance:
        started = record(instance, dg.DagsterRunStatus.STARTED)
        monitor_started_run(instance, None, started, logging.getLogger(__name__))
        run = instance.get_run_by_id(started.dagster_run.run_id)
        assert run.status is dg.DagsterRunStatus.FAILURE
        assert run.tags["dagster/will_retry"] == "true"
        *_, last = instance.all_logs(run.run_id)
        assert "its process 1 is gone" in last.dagster_event.message


@pytest.mark.slow
def test_a_run_that_does_not_start_in_time_fails_and_is_tried_again(tmp_path) -> None:
    """dagster.yaml, run_monitoring.start_timeout_seconds: until then it holds up its day."""
    monitoring = {"enabled": True, "start_timeout_seconds": 60}
    with instance_of(tmp_path, run_monitoring=monitoring, run_retries={"enabled": True, "max_retries": 2}) as instance:
        waiting = record(instance, dg.DagsterRunStatus.NOT_STARTED)
        run_id = waiting.dagster_run.run_id
        for seconds, status in ((59, dg.DagsterRunStatus.NOT_STARTED), (61, dg.DagsterRunStatus.FAILURE)):
            with freeze_time(waiting.create_timestamp + timedelta(seconds=seconds)):
                monitor_starting_run(instance, waiting, logging.getLogger(__name__))
            assert instance.get_run_by_id(run_id).status is status
        assert instance.get_run_by_id(run_id).tags["dagster/will_retry"] == "true"


@pytest.mark.slow
def test_a_run_that_failed_by_itself_is_not_tried_again_and_a_dead_one_is_with_the_same_tags(tmp_path) -> None:
    """dagster.yaml, run_retries; sensors count the second run as an attempt at the same keys, and as one of its day."""
    retries = {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}
    tags = {"digest": "d", "tamarin/bucket": "media"} | range_tags(DAY, LAST)
    with daemon_of(tmp_path, __name__, "looked_after", run_retries=retries) as daemon:
        daemon.look_at_sensors(NOW)
        (failed,) = daemon.runs(**{"dagster/partition": "2026-03-13"})
        assert (failed.status, failed.tags["dagster/will_retry"]) == (dg.DagsterRunStatus.FAILURE, "false")
        origins = {"remote_job_origin": failed.remote_job_origin, "job_code_origin": failed.job_code_origin}
        dead = record(daemon.instance, dg.DagsterRunStatus.STARTED, tags=tags, **origins).dagster_run
        daemon.instance.report_run_failed(dead, "its process is gone")
        ended = daemon.instance.get_run_records(dg.RunsFilter(run_ids=[failed.run_id, dead.run_id]))
        list(consume_new_runs_for_automatic_reexecution(daemon.workspace, ended, logging.getLogger(__name__)))
        assert daemon.runs(**{"dagster/parent_run_id": failed.run_id}) == []
        (again,) = daemon.runs(**{"dagster/parent_run_id": dead.run_id})
        assert again.status is dg.DagsterRunStatus.SUCCESS
        assert tags.items() <= again.tags.items()


@pytest.mark.slow
def test_slots_of_a_dead_run_are_freed_some_time_after_its_end(tmp_path) -> None:
    """dagster.yaml, run_monitoring.free_slots_after_run_end_seconds: else a bucket's pool stays full (#32560)."""
    settings = {
        "run_monitoring": {"enabled": True, "free_slots_after_run_end_seconds": 60},
        "concurrency": {"pools": {"default_limit": 1}},
    }
    with daemon_of(tmp_path, __name__, "looked_after", **settings) as daemon:
        storage = daemon.instance.event_log_storage
        dead = record(daemon.instance, dg.DagsterRunStatus.STARTED).dagster_run
        storage.initialize_concurrency_limit_to_default("load")
        assert storage.claim_concurrency_slot("load", dead.run_id, "loaded").is_claimed
        daemon.instance.report_run_failed(dead, "its process is gone")
        ended = datetime.fromtimestamp(daemon.instance.get_run_record_by_id(dead.run_id).end_time, UTC)
        for seconds, held in ((50, 1), (70, 0)):
            daemon.free_slots(ended + timedelta(seconds=seconds))
            assert storage.get_concurrency_info("load").active_slot_count == held
