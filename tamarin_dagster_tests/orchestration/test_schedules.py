"""The nightly second looks."""

from datetime import UTC, datetime

import dagster as dg
from dagster._core.remote_representation.external import RemoteRepository
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.remote_representation.handle import RepositoryHandle

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.orchestration.load_runs import RECORDS, metadata_by_partition
from tamarin_dagster_tests.runs import job_of


def test_reconcile_loads_late_keys_of_the_last_week_in_one_run(definitions, stored_instance, put_key) -> None:
    for day in ("2026-03-03", "2026-03-04", "2026-03-10"):
        put_key(lines(1), day=day)
    schedule = definitions.resolve_schedule_def("reconcile_log_keys_nightly")
    context = dg.build_schedule_context(
        instance=stored_instance, scheduled_execution_time=datetime(2026, 3, 10, 3, 15, tzinfo=UTC)
    )

    [request] = schedule.evaluate_tick(context).run_requests
    assert (request.tags["tamarin/bucket"], request.tags["tamarin/kind"]) == ("media", "reconcile")
    job = job_of(definitions, "reconcile")
    assert set(request.asset_selection) == job.asset_selection
    assert set(request.asset_check_keys) == job.asset_check_selection
    result = job.execute_in_process(instance=stored_instance, tags=dict(request.tags))

    new_keys = {day: metadata["new keys"] for day, metadata in metadata_by_partition(result, RECORDS).items()}
    assert new_keys == {f"2026-03-{day:02}": int(day in (4, 10)) for day in range(4, 11)}
    assert schedule.job_name == "__ASSET_JOB"


def test_one_schedule_asks_for_a_run_of_each_bucket_that_is_not_stopped(settings, stored_instance) -> None:
    """By its setting, or by a person who stopped its sensor in the UI."""
    names = ("media", "films", "quiet", "started")
    buckets = tuple(
        settings.buckets[0].model_copy(update={"name": name, "monitor_bucket": name in ("media", "films")})
        for name in names
    )
    definitions = build_definitions(settings.model_copy(update={"buckets": buckets}))
    repository = RemoteRepository(
        RepositorySnap.from_def(definitions.get_repository_def()),
        RepositoryHandle.for_test(repository_name="__repository__", location_name="here"),
        auto_materialize_use_sensors=True,
    )
    films, started = (repository.get_sensor(f"{name}__new_log_keys") for name in ("films", "started"))
    stored_instance.stop_sensor(films.get_remote_origin_id(), films.selector_id, films)
    stored_instance.start_sensor(started)
    context = dg.build_schedule_context(
        instance=stored_instance,
        repository_def=definitions.get_repository_def(),
        scheduled_execution_time=datetime(2026, 3, 10, 3, 15, tzinfo=UTC),
    )

    for schedule in ("reconcile_log_keys_nightly", "traffic_reports_daily"):
        requests = definitions.resolve_schedule_def(schedule).evaluate_tick(context).run_requests
        assert [request.tags["tamarin/bucket"] for request in requests] == ["media", "started"]
        assert len({request.run_key for request in requests}) == 2


def test_pending_purges_are_retried_nightly(definitions) -> None:
    schedule = definitions.resolve_schedule_def("purge_pending_log_keys_nightly")

    assert schedule.job_name == "purge_pending_log_keys"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_old_records_expire_daily_only_if_months_of_retention_are_set(settings, definitions) -> None:
    kept = build_definitions(settings.model_copy(update={"retention_months": 12}))

    schedule = kept.resolve_schedule_def("expire_old_records_daily")
    assert schedule.job_name == "expire_old_records"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    names = {job.name for job in definitions.resolve_all_job_defs()}
    assert "purge_pending_log_keys" in names
    assert "expire_old_records" not in names
    assert "expire_old_records_daily" not in {each.name for each in definitions.schedules}


def test_deliveries_are_watched_hourly_if_any_bucket_is_monitored(settings, definitions) -> None:
    schedule = definitions.resolve_schedule_def("watch_buckets_hourly")
    assert (schedule.job_name, schedule.cron_schedule) == ("watch_buckets", "25 * * * *")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING

    quiet = settings.buckets[0].model_copy(update={"name": "quiet", "monitor_bucket": False})
    for buckets, status in (
        ((*settings.buckets, quiet), dg.DefaultScheduleStatus.RUNNING),
        ((quiet,), dg.DefaultScheduleStatus.STOPPED),
    ):
        changed = build_definitions(settings.model_copy(update={"buckets": buckets}))
        assert changed.resolve_schedule_def("watch_buckets_hourly").default_status == status
