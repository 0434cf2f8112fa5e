"""Tests of Dagster itself, on small assets: if one fails, Dagster has changed a behaviour that we need.

Each docstring names what of ours leans on it. Here are partitions, steps, and the shortcomings that we work around:
when one of these fails, Dagster has mended it, and the message says what of ours can go. In test_upstream_checks,
test_upstream_daemon and test_upstream_instance is the rest.

Some of it shows only with processes: that a tick which takes too long yields nothing, that a cancelled run's process is
interrupted, and that `dagster dev` ends when its daemon does but starts no code server again that was killed. test_dev
and chaos/dagster_runs play most of that.
"""

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.launcher import DefaultRunLauncher
from dagster_postgres import DagsterPostgresStorage
from pydantic import Field

from tamarin_dagster_tests.upstream.tiny import (
    DAY,
    DAYS,
    LAST,
    LOADED,
    PURGED,
    RANGE,
    check_rows,
    instance_of,
    just_loaded,
    materialized,
    psycopg2_url,
    range_tags,
    run,
    spec,
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_today_is_a_partition_only_with_an_end_offset_of_one(today: date) -> None:
    """partitions.delivery_days: the sensor asks for today's partition, never for tomorrow's."""
    start = today - timedelta(days=2)
    keys = dg.DailyPartitionsDefinition(start_date=start.isoformat(), end_offset=1).get_partition_keys()
    assert [date.fromisoformat(key) for key in keys] == [start, today - timedelta(days=1), today]
    assert dg.DailyPartitionsDefinition(start_date=start.isoformat()).get_partition_keys() == keys[:2]


def test_range_tags_without_a_partition_make_one_run_of_all_days(instance) -> None:
    """schedules.day_range_tags; the assets read context.partition_keys, since partition_key is refused then."""
    seen = []

    @dg.asset(partitions_def=DAYS)
    def loaded(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        seen.append(list(context.partition_keys))
        seen.append(list(context.op_execution_context.partition_keys))
        with pytest.raises(dg.DagsterInvariantViolationError, match="range of partitions"):
            _ = context.partition_key
        return dg.MaterializeResult()

    result = run([loaded], instance, DAY, LAST)
    assert result.success
    assert seen == [RANGE, RANGE]
    assert materialized(result) == RANGE
    assert range_tags("a", "b") == {
        "dagster/asset_partition_range_start": "a",
        "dagster/asset_partition_range_end": "b",
    }


def test_partition_keys_of_a_run_for_one_day_are_that_day(instance) -> None:
    """assets, asset_checks and completeness_checks read partition_keys in runs of either kind."""
    seen = []

    @dg.asset(partitions_def=DAYS)
    def loaded(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        seen.extend(context.partition_keys)
        return dg.MaterializeResult()

    assert materialized(run([loaded], instance, DAY)) == seen == [DAY]


def test_an_asset_that_does_not_say_what_it_returns_fails_in_a_range_run(instance) -> None:
    """Why each asset of ours is `-> dg.MaterializeResult` or of Nothing: else the IO manager is asked to store it."""

    @dg.asset(partitions_def=DAYS)
    def loaded():
        return None

    assert run([loaded], instance, DAY).success
    result = run([loaded], instance, DAY, LAST)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "does not support persisting an output associated with multiple partitions" in str(failure)


def test_metadata_can_be_added_for_each_partition_of_a_range(instance) -> None:
    """assets.log_records: what MaterializeResult carries would be said of every day alike."""

    @dg.asset(partitions_def=DAYS)
    def loaded(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        for day in context.partition_keys:
            context.add_asset_metadata({"dagster/partition_row_count": int(day[-2:])}, partition_key=day)
        return dg.MaterializeResult(metadata={"run": "all"})

    found = {}
    for event in run([loaded], instance, DAY, LAST).get_asset_materialization_events():
        each = event.step_materialization_data.materialization
        found[each.partition] = {name: value.value for name, value in each.metadata.items()}
    assert found == {day: {"dagster/partition_row_count": int(day[-2:]), "run": "all"} for day in RANGE}


def purged_by(purge: dg.OpDefinition, **config: Any) -> dg.AssetsDefinition:
    """An asset made by an op, as purged_log_keys is."""

    @dg.graph_asset(
        name="purged",
        ins={"records": dg.AssetIn(key=LOADED, dagster_type=dg.Nothing)},
        config={purge.name: {"config": config}} if config else None,
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.multi_run(31),
    )
    def purged(records: None) -> None:
        return purge(records)

    return purged


class PurgeConfig(dg.Config):
    bucket: str | None = None
    first: str | None = Field(default=None, alias="from")


def test_an_op_serves_a_graph_asset_and_a_job_and_knows_which(instance) -> None:
    """assets.build_purge_op purges the days of the run, or whatever is pending; its config is set by the asset."""
    seen = []

    @dg.op(ins={"records": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
    def purge(context: dg.OpExecutionContext, config: PurgeConfig) -> None:
        has = context.has_partition_key, context.has_partition_key_range
        seen.append((has, list(context.partition_keys) if any(has) else None, config.bucket))
        context.add_output_metadata({"keys": 3})

    @dg.job(executor_def=dg.in_process_executor)
    def pending() -> None:
        purge()

    purged = purged_by(purge, bucket="media")
    assert run([purged], instance, DAY).success
    result = run([purged], instance, DAY, LAST)
    assert pending.execute_in_process(instance=instance).success
    assert seen == [
        ((True, False), [DAY], "media"),
        ((False, True), RANGE, "media"),
        ((False, False), None, None),
    ]
    assert materialized(result, PURGED) == RANGE
    counts = {
        each.step_materialization_data.materialization.metadata["keys"].value
        for each in result.get_asset_materialization_events()
    }
    assert counts == {3}


def test_a_field_of_a_config_may_go_by_an_alias(instance) -> None:
    """jobs.ReparseConfig has `from`, which Python keeps for itself."""
    seen = []

    @dg.op
    def reparse(config: PurgeConfig) -> None:
        seen.append(config.first)

    job = dg.GraphDefinition(name="reparse_job", node_defs=[reparse]).to_job()
    assert job.execute_in_process(run_config={"ops": {"reparse": {"config": {"from": "2026-03-06"}}}}).success
    assert seen == ["2026-03-06"]


def test_pools_are_claimed_in_process_by_each_step_and_only_if_they_have_a_limit(tmp_path) -> None:
    """assets, asset_checks: loads and purges have pools; dagster.yaml gives them a default limit."""
    claimed = {}

    def claims(name: str) -> None:
        info = claimed["instance"].event_log_storage.get_concurrency_info(name)
        claimed[name] = (info.slot_count, info.active_slot_count)

    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.multi_run(31), pool="load")
    def loaded() -> dg.MaterializeResult:
        claims("load")
        return dg.MaterializeResult()

    @dg.multi_asset_check(specs=[dg.AssetCheckSpec("counted", asset=LOADED, partitions_def=DAYS)], pool="count")
    def counts() -> Iterator[dg.AssetCheckResult]:
        claims("count")
        yield dg.AssetCheckResult(passed=True, asset_key=LOADED, check_name="counted")

    @dg.op(ins={"records": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing), pool="purge")
    def purge() -> None:
        claims("purge")

    assets = [loaded, counts, purged_by(purge)]
    for limit in (2, None):
        claimed.clear()
        pools = {"default_limit": limit} if limit else {"granularity": "op"}
        with instance_of(tmp_path / str(limit), concurrency={"pools": pools}) as claimed["instance"]:
            assert run(assets, claimed["instance"], DAY).success
            names = ("load", "count", "purge")
            assert [claimed[name] for name in names] == [(2, 1) if limit else (0, 0)] * 3
            for name in names:
                assert claimed["instance"].event_log_storage.get_concurrency_info(name).active_slot_count == 0


@pytest.mark.parametrize(("allowed", "attempts"), [(True, 3), (False, 1)])
@pytest.mark.parametrize("of_graph", [False, True])
def test_a_failure_may_forbid_its_retry_policy(instance, allowed, attempts, of_graph) -> None:
    """assets.convert_store_errors, jobs._select: what does not get better by itself fails at once. Also in graphs."""
    begun = []

    def fail() -> None:
        begun.append(1)
        raise dg.Failure("broken", allow_retries=allowed)

    @dg.asset(partitions_def=DAYS, retry_policy=dg.RetryPolicy(max_retries=2))
    def loaded() -> dg.MaterializeResult:
        fail()
        return dg.MaterializeResult()

    @dg.op(ins={"records": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing), retry_policy=dg.RetryPolicy(max_retries=2))
    def purge() -> None:
        fail()

    result = run([purged_by(purge) if of_graph else loaded], instance, DAY)
    assert not result.success
    assert len(begun) == attempts
    *_, last = [event for event in result.all_events if event.is_step_failure]
    assert last.step_failure_data.user_failure_data.description == "broken"


def test_a_step_that_fails_in_a_run_that_is_being_cancelled_leaves_it_cancelled(instance) -> None:
    """cancelling.cancellable turns the interrupt into a failure without retries; the page still says CANCELED."""

    @dg.op(retry_policy=dg.RetryPolicy(max_retries=2))
    def purge(context: dg.OpExecutionContext) -> None:
        context.instance.report_run_canceling(context.run)
        raise dg.Failure("interrupted", allow_retries=False)

    job = dg.GraphDefinition(name="purges", node_defs=[purge]).to_job()
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert instance.get_run_by_id(result.run_id).status is dg.DagsterRunStatus.CANCELED


def test_an_interrupt_is_no_exception_that_code_would_swallow() -> None:
    """pull and purge record the failure of one key and go on; a cancelled run must not go on."""
    assert issubclass(dg.DagsterExecutionInterruptedError, BaseException)
    assert not issubclass(dg.DagsterExecutionInterruptedError, Exception)


def test_any_object_is_a_resource_for_all_merged_definitions_and_is_handed_on_as_it_is(instance) -> None:
    """definitions.build_definitions, resources: one engine per process, opened at its first use."""
    database = object()
    seen = []

    @dg.asset
    def loaded(database: dg.ResourceParam[object]) -> dg.MaterializeResult:
        seen.append(database)
        return dg.MaterializeResult()

    @dg.asset_check(asset=LOADED)
    def counted(database: dg.ResourceParam[object]) -> dg.AssetCheckResult:
        seen.append(database)
        return dg.AssetCheckResult(passed=True)

    job = dg.define_asset_job("load", [LOADED])

    @dg.sensor(job=job)
    def looks(context: dg.SensorEvaluationContext, database: dg.ResourceParam[object]) -> dg.SkipReason:
        seen.append(database)
        return dg.SkipReason("nothing")

    shared = dg.Definitions(resources={"database": database}, executor=dg.in_process_executor)
    merged = dg.Definitions.merge(
        shared, dg.Definitions(assets=[loaded], asset_checks=[counted], jobs=[job], sensors=[looks])
    )
    assert isinstance(job, UnresolvedAssetJobDefinition)
    assert merged.resolve_job_def("load").execute_in_process(instance=instance).success
    with dg.build_sensor_context(instance=instance, resources=merged.resources, definitions=merged) as context:
        merged.resolve_sensor_def("looks")(context)
    assert seen == [database] * 3
    assert merged.resolve_job_def("load").executor_def.name == "in_process"
    assert merged.resolve_implicit_global_asset_job_def().executor_def.name == "in_process"


def test_the_loggers_that_dagster_yaml_names_write_into_the_log_of_a_run(tmp_path) -> None:
    """dagster.yaml, python_logs: the core does not know Dagster, but its log lines are in the run's log."""

    @dg.asset
    def loaded() -> dg.MaterializeResult:
        logging.getLogger("named.deeper").warning("a key is skipped")
        logging.getLogger("other").warning("not to be seen")
        return dg.MaterializeResult()

    with instance_of(tmp_path, python_logs={"managed_python_loggers": ["named"]}) as instance:
        result = run([loaded], instance)
        entries = [entry for entry in instance.all_logs(result.run_id) if not entry.is_dagster_event]
        assert [(entry.user_message, entry.level, entry.step_key) for entry in entries] == [
            ("a key is skipped", logging.WARNING, "loaded")
        ]


# When one of these fails, Dagster has mended something, and ours can go.


@contextmanager
def raises_still(error: type[Exception], said: str, otherwise: str) -> Iterator[None]:
    """If Dagster no longer raises, the test fails and says which code can be removed."""
    try:
        with pytest.raises(error, match=said):
            yield
    except pytest.fail.Exception:
        pytest.fail(otherwise)


def test_workaround_a_check_of_a_range_run_is_stored_for_no_partition(instance) -> None:
    @dg.multi_asset_check(specs=[spec(blocking=True)])
    def counts() -> Iterator[dg.AssetCheckResult]:
        yield dg.AssetCheckResult(passed=True, asset_key=LOADED, check_name="counted")

    assert run([just_loaded, counts], instance, DAY, LAST).success
    assert check_rows(instance, LOADED, "counted") == {
        (None, "SUCCEEDED"): 1,
        **{(day, "PLANNED"): 1 for day in RANGE},
    }, "range runs store check results for partitions: log_per_partition need not log events any more"


def test_workaround_a_check_without_partitions_stays_planned_for_each_partition(instance) -> None:
    @dg.asset_check(asset=LOADED, name="counted")
    def counts() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    assert run([just_loaded, counts], instance, DAY).success
    assert check_rows(instance, LOADED, "counted") == {(None, "SUCCEEDED"): 1, (DAY, "PLANNED"): 1}, (
        "checks without partitions may ride along with assets that have some:"
        " completeness_checks.build_watch_checks and traffic_checks need no asset that is never materialized for that"
    )


def test_workaround_an_interrupted_step_is_tried_again(instance) -> None:
    begun = []

    @dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
    def purge() -> None:
        begun.append(1)
        raise dg.DagsterExecutionInterruptedError

    dg.GraphDefinition(name="purges", node_defs=[purge]).to_job().execute_in_process(
        instance=instance, raise_on_error=False
    )
    assert len(begun) == 2, "a cancelled step is not retried any more (#15026): cancelling.cancellable can go"


def test_workaround_a_pool_that_is_there_already_fails_who_makes_it_again(tmp_path, empty_url) -> None:
    storage = {"postgres": {"postgres_url": psycopg2_url(empty_url)}}
    with instance_of(tmp_path, storage=storage, concurrency={"pools": {"default_limit": 2}}) as instance:
        events = instance.event_log_storage
        assert events.initialize_concurrency_limit_to_default("load")
        with raises_still(
            sa.exc.InternalError,
            "current transaction is aborted",
            "two runs may make a pool at once (#33552): instance_storage._EventLogStorage can go",
        ):
            events.initialize_concurrency_limit_to_default("load")


def test_workaround_the_storage_wants_psycopg2_and_sqlalchemy_takes_another_driver(empty_url) -> None:
    assert sa.make_url(empty_url).get_dialect().driver == "psycopg", "postgresql:// means psycopg2 again"
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(dg.GraphDefinition(name="nothing").to_job())
        instance.report_engine_event("any", run)
        (event,) = instance.all_logs(run.run_id)
    with raises_still(
        sa.exc.ProgrammingError,
        "NOTIFY",
        "Dagster's storage works with psycopg 3: database.dagster_url need not name psycopg2",
    ):
        DagsterPostgresStorage(empty_url).event_log_storage.store_event(event)
    DagsterPostgresStorage(psycopg2_url(empty_url)).event_log_storage.store_event(event)


def test_workaround_a_run_request_has_no_parameter_for_a_range() -> None:
    found = dg.RunRequest(tags=range_tags(DAY, LAST)).partition_key_range
    assert (found.start, found.end) == (DAY, LAST)
    ways = [*inspect.signature(dg.RunRequest).parameters, *dir(dg.RunRequest)]
    assert [way for way in ways if "range" in way] == ["partition_key_range"], (
        "a range can be requested (#34096): schedules.day_range_tags can go"
    )


def test_workaround_the_default_launcher_cannot_tell_whether_a_run_lives() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        launcher = DefaultRunLauncher()
        launcher.register_instance(instance)
        assert not launcher.supports_check_run_worker_health, (
            "run monitoring looks after the processes of the default launcher: run_launcher.LocalRunLauncher may go"
        )


def test_workaround_the_s3_resource_assumes_no_role() -> None:
    from dagster_aws.s3 import S3Resource  # noqa: PLC0415

    fields = set(S3Resource.model_fields)
    assert {"region_name", "endpoint_url", "profile_name"} <= fields
    assert [name for name in fields if "role" in name] == [], "S3Resource knows roles: s3_resource need not add them"


def test_workaround_partitioned_checks_and_backfill_policies_warn_that_they_may_change() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spec()
        dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.multi_run(3), name="a")(lambda: None)
    assert {warning.category for warning in caught} == {dg.PreviewWarning, dg.BetaWarning}, (
        "the filter for warnings in code_location can go, and the pin in setup.cfg is less pressing"
    )
