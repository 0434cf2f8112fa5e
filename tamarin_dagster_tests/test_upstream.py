"""What we rely on of Dagster itself, on definitions of these tests' own: what fails here has changed in Dagster.

Each docstring names what of ours leans on it. The last section holds the shortcomings that we work around: when one of
its tests fails, Dagster has mended it, and the message says what of ours can go.

Some of it shows only with processes: that runs are processes whose event names them, that a cancelled run's process is
interrupted, and that `dagster dev` ends when its daemon does but starts no code server again that was killed. test_dev
and chaos/dagster_runs play these.
"""

import asyncio
import inspect
import logging
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.event_log.schema import ConcurrencyLimitsTable
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._core.test_utils import BasicLoadingContext, freeze_time
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage
from pydantic import Field

from tamarin_dagster import dev
from tamarin_dagster_tests.daemon_in_process import Daemon, daemon_of, instance_of

DAYS = dg.DailyPartitionsDefinition("2026-03-01", end_date="2026-04-01")
DAY, LAST = "2026-03-04", "2026-03-06"
RANGE = ["2026-03-04", "2026-03-05", "2026-03-06"]
NOW = datetime(2026, 4, 2, 3, 0, tzinfo=UTC)
LOADED, PURGED, DELIVERED = dg.AssetKey("loaded"), dg.AssetKey("purged"), dg.AssetKey("delivered")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def range_tags(first: str, last: str) -> dict[str, str]:
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def run(
    assets: Sequence[Any], instance: dg.DagsterInstance, *days: str, selection: Any = None, **others: Any
) -> dg.ExecuteInProcessResult:
    """Of no partition, of a day, or of a range of days; of all that is given, or of the selection."""
    return dg.materialize(
        assets,
        instance=instance,
        selection=selection,
        partition_key=days[0] if len(days) == 1 else None,
        tags=range_tags(*days) if len(days) == 2 else None,
        raise_on_error=False,
        **others,
    )


def materialized(result: dg.ExecuteInProcessResult, key: dg.AssetKey = LOADED) -> list[str | None]:
    """The partitions."""
    materializations = [
        event.step_materialization_data.materialization for event in result.get_asset_materialization_events()
    ]
    return [each.partition for each in materializations if each.asset_key == key]


def check_rows(instance: dg.DagsterInstance, asset: dg.AssetKey, name: str) -> Counter[tuple[str | None, str]]:
    """What is stored of a check: how many rows for each partition and status."""
    key = dg.AssetCheckKey(asset, name)
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return Counter((row.partition, row.status.value) for row in history)


# ------------------------------------------------------------------------------------------------ partitions and ranges


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


# ------------------------------------------------------------------------------------------------ steps


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
    """assets.retried_if_transient, jobs._chosen: what does not get better by itself fails at once. Also in graphs."""
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
    """ingest and purge record the failure of one key and go on; a cancelled run must not go on."""
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
    """dagster.yaml, python_logs: the core does not know Dagster, and what it says of a key stands in the run's log."""

    @dg.asset
    def loaded() -> dg.MaterializeResult:
        logging.getLogger("named.deeper").warning("a key is left alone")
        logging.getLogger("other").warning("not to be seen")
        return dg.MaterializeResult()

    with instance_of(tmp_path, python_logs={"managed_python_loggers": ["named"]}) as instance:
        result = run([loaded], instance)
        entries = [entry for entry in instance.all_logs(result.run_id) if not entry.is_dagster_event]
        assert [(entry.user_message, entry.level, entry.step_key) for entry in entries] == [
            ("a key is left alone", logging.WARNING, "loaded")
        ]


# ------------------------------------------------------------------------------------------------ checks


def spec(name: str = "counted", asset: dg.AssetKey = LOADED, **others: Any) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=asset, partitions_def=DAYS, **others)


@dg.asset(key=LOADED, partitions_def=DAYS)
def just_loaded() -> dg.MaterializeResult:
    return dg.MaterializeResult()


@dg.asset(key=PURGED, partitions_def=DAYS, deps=[LOADED])
def just_purged() -> dg.MaterializeResult:
    return dg.MaterializeResult()


def failing(severity: dg.AssetCheckSeverity, blocking: bool) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(specs=[spec(blocking=blocking)])
    def counts() -> Iterator[dg.AssetCheckResult]:
        yield dg.AssetCheckResult(passed=False, asset_key=LOADED, check_name="counted", severity=severity)

    return counts


@pytest.mark.parametrize(
    ("severity", "blocking", "purged"),
    [
        (dg.AssetCheckSeverity.ERROR, True, []),
        (dg.AssetCheckSeverity.ERROR, False, [DAY]),
        (dg.AssetCheckSeverity.WARN, False, [DAY]),
        (dg.AssetCheckSeverity.WARN, True, [DAY]),
    ],
)
def test_a_blocking_error_fails_the_run_and_what_comes_after_it_and_nothing_else_does(
    instance, severity, blocking, purged
) -> None:
    """asset_checks: two checks hold up the purge of their own run; the others warn, or only say so."""
    result = run([just_loaded, just_purged, failing(severity, blocking)], instance, DAY)
    assert result.success == bool(purged)
    assert materialized(result) == [DAY]
    assert materialized(result, PURGED) == purged
    assert check_rows(instance, LOADED, "counted") == {(DAY, "FAILED"): 1}


def test_a_blocking_error_does_not_hold_up_another_run(instance) -> None:
    """Why purge proves for itself what it deletes: the check is a gate that can be walked around."""
    assets = [just_loaded, just_purged, failing(dg.AssetCheckSeverity.ERROR, True)]
    assert not run(assets, instance, DAY).success
    assert materialized(run(assets, instance, DAY, selection=[PURGED]), PURGED) == [DAY]


@pytest.mark.parametrize("sums_up", [True, False])
def test_results_logged_by_hand_are_of_their_partition_and_only_the_returned_one_blocks(instance, sums_up) -> None:
    """asset_checks.per_partition logs each day's result and returns their sum."""

    @dg.multi_asset_check(specs=[spec(blocking=True)])
    def counts(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        for day in context.op_execution_context.partition_keys:
            context.op_execution_context.log_event(
                dg.AssetCheckEvaluation(
                    asset_key=LOADED, check_name="counted", passed=day != LAST, partition=day, blocking=True
                )
            )
        yield dg.AssetCheckResult(passed=not sums_up, asset_key=LOADED, check_name="counted")

    result = run([just_loaded, just_purged, counts], instance, DAY, LAST)
    assert result.success != sums_up
    assert materialized(result, PURGED) == ([] if sums_up else RANGE)
    rows = check_rows(instance, LOADED, "counted")
    assert {row: count for row, count in rows.items() if row[0]} == {
        (day, "FAILED" if day == LAST else "SUCCEEDED"): 1 for day in RANGE
    }


def test_a_result_within_the_step_of_an_asset_is_logged_by_hand_too(instance) -> None:
    """assets.log_records returns the results of two checks itself, and logs them by op_execution_context."""

    @dg.asset(key=LOADED, partitions_def=DAYS, check_specs=[spec()])
    def loaded(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        for day in context.partition_keys:
            context.op_execution_context.log_event(
                dg.AssetCheckEvaluation(asset_key=LOADED, check_name="counted", passed=True, partition=day)
            )
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True, check_name="counted")])

    assert run([loaded], instance, DAY, LAST).success
    rows = check_rows(instance, LOADED, "counted")
    assert {row: count for row, count in rows.items() if row[0]} == {(day, "SUCCEEDED"): 1 for day in RANGE}


def test_a_check_of_an_asset_that_nothing_makes_runs_after_what_its_spec_names(instance) -> None:
    """asset_checks.check_spec: duplicates are counted of what S3 delivered, after the records are loaded."""
    order = []

    @dg.asset(key=LOADED, partitions_def=DAYS, deps=[DELIVERED])
    def loaded() -> dg.MaterializeResult:
        order.append("loaded")
        return dg.MaterializeResult()

    @dg.multi_asset_check(specs=[spec("no_duplicates", DELIVERED, additional_deps=[LOADED])])
    def duplicates() -> Iterator[dg.AssetCheckResult]:
        order.append("checked")
        yield dg.AssetCheckResult(passed=True, asset_key=DELIVERED, check_name="no_duplicates")

    delivered = dg.AssetSpec(DELIVERED, partitions_def=DAYS)
    definitions = dg.Definitions(
        assets=[delivered, loaded],
        asset_checks=[duplicates],
        jobs=[
            dg.define_asset_job(
                "nightly",
                selection=dg.AssetSelection.assets(LOADED)
                | dg.AssetSelection.checks(dg.AssetCheckKey(DELIVERED, "no_duplicates")),
            )
        ],
    )
    result = definitions.resolve_job_def("nightly").execute_in_process(instance=instance, partition_key=DAY)
    assert order == ["loaded", "checked"]
    assert materialized(result, DELIVERED) == []
    assert check_rows(instance, DELIVERED, "no_duplicates") == {(DAY, "SUCCEEDED"): 1}
    assert not definitions.resolve_asset_graph().get(DELIVERED).is_materializable


def test_a_check_without_partitions_that_runs_without_its_asset_leaves_nothing_planned(instance) -> None:
    """completeness_checks.build_watch_checks are of the bucket as it is now, on an asset that has partitions."""

    @dg.multi_asset_check(
        specs=[dg.AssetCheckSpec(name, asset=DELIVERED) for name in ("habit", "purges")], can_subset=True
    )
    def watch(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        for key in context.selected_asset_check_keys:
            yield dg.AssetCheckResult(passed=True, asset_key=DELIVERED, check_name=key.name)

    job = dg.define_asset_job("watch", selection=dg.AssetSelection.checks(dg.AssetCheckKey(DELIVERED, "habit")))
    delivered = dg.AssetSpec(DELIVERED, partitions_def=DAYS)
    definitions = dg.Definitions(assets=[delivered], asset_checks=[watch], jobs=[job])
    assert definitions.resolve_job_def("watch").execute_in_process(instance=instance).success
    assert check_rows(instance, DELIVERED, "habit") == {(None, "SUCCEEDED"): 1}
    assert check_rows(instance, DELIVERED, "purges") == {}


def test_a_selection_of_assets_brings_their_checks_along_unless_it_is_told_not_to() -> None:
    """jobs._job_of: the sensor's job leaves out the checks that are slow."""
    graph = dg.Definitions(
        assets=[just_loaded, just_purged], asset_checks=[failing(dg.AssetCheckSeverity.WARN, False)]
    ).resolve_asset_graph()
    counted = dg.AssetCheckKey(LOADED, "counted")
    both = dg.AssetSelection.assets(LOADED, PURGED)
    assert both.resolve_checks(graph) == {counted}
    bare = both.without_checks()
    assert bare.resolve_checks(graph) == set()
    chosen = bare | dg.AssetSelection.checks(counted)
    assert (chosen.resolve(graph), chosen.resolve_checks(graph)) == ({LOADED, PURGED}, {counted})


def test_a_result_is_no_longer_shown_once_its_asset_is_materialized_again(instance) -> None:
    """Why hourly and nightly checks are of delivered_log_keys, which are never materialized (_Truth.asset)."""
    check = failing(dg.AssetCheckSeverity.WARN, False)
    key = dg.AssetCheckKey(LOADED, "counted")

    def is_shown() -> bool:
        context = BasicLoadingContext(instance)
        (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        return asyncio.run(record.targets_latest_materialization(context))

    alone = dg.AssetSelection.checks(key)
    assert run([just_loaded, check], instance, DAY, selection=alone).success
    assert is_shown()  # nothing was ever materialized
    assert run([just_loaded, check], instance, DAY).success
    assert is_shown()
    assert run([just_loaded, check], instance, DAY, selection=dg.AssetSelection.assets(LOADED).without_checks()).success
    assert not is_shown()


def test_freshness_knows_nothing_of_partitions(instance) -> None:
    """Why deliveries_keep_their_habit is a check: a backfill of old days would make the asset fresh."""
    from dagster._core.definitions.freshness import FreshnessState  # noqa: PLC0415
    from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator  # noqa: PLC0415

    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1))

    @dg.asset(key=LOADED, partitions_def=DAYS, freshness_policy=policy)
    def loaded() -> dg.MaterializeResult:
        return dg.MaterializeResult()

    node = dg.Definitions(assets=[loaded]).resolve_asset_graph().get(LOADED)
    assert run([loaded], instance, "2026-03-01").success
    evaluated = TimeWindowFreshnessPolicyEvaluator().evaluate_freshness(BasicLoadingContext(instance), node)
    assert asyncio.run(evaluated) is FreshnessState.PASS


# ------------------------------------------------------------------------------------------------ sensors, schedules, backfills


@dg.asset(key=LOADED, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.multi_run(3))
def loaded_but_for_one_day(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    if "2026-03-13" in context.partition_keys:
        raise dg.Failure("never")
    return dg.MaterializeResult()


@dg.asset(key=PURGED, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.multi_run(3), deps=[LOADED])
def purged_in_runs_of_three() -> dg.MaterializeResult:
    return dg.MaterializeResult()


load = dg.define_asset_job("load", [LOADED, PURGED], tags={"tamarin/bucket": "media.example.org"})


@dg.sensor(job=load, default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=30)
def running(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    requests = [
        dg.RunRequest(run_key=f"key of {day}", partition_key=day, tags={"digest": "d"}) for day in (DAY, "2026-03-13")
    ]
    return dg.SensorResult(run_requests=requests, cursor=f"{context.cursor or ''}I")


@dg.sensor(job=load, minimum_interval_seconds=30)
def stopped() -> dg.SensorResult:
    return dg.SensorResult(cursor="has run")


@dg.sensor(job=load, default_status=dg.DefaultSensorStatus.RUNNING)
def skips() -> dg.SensorResult:
    return dg.SensorResult(run_requests=[], skip_reason="seen: nothing", cursor="moved")


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


looked_after = dg.Definitions(
    assets=[loaded_but_for_one_day, purged_in_runs_of_three],
    jobs=[load],
    sensors=[running, stopped, skips, breaks],
    schedules=[nightly],
    executor=dg.in_process_executor,
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with daemon_of(tmp_path, __name__, "looked_after") as daemon:
        yield daemon


def test_a_run_key_is_never_run_twice_not_even_when_its_run_failed_and_the_cursor_moves_on(daemon) -> None:
    """sensors._request numbers its attempts in the run_key; the cursor is no proof of loading (dagster #15982)."""
    for minute in range(3):
        daemon.look_at_sensors(NOW + timedelta(minutes=minute))
    runs = daemon.runs(**{"dagster/sensor_name": "running"})
    assert sorted((run.tags["dagster/partition"], run.status.value) for run in runs) == [
        (DAY, "SUCCESS"),
        ("2026-03-13", "FAILURE"),
    ]
    assert daemon.cursor("running") == "III"


def test_a_requested_run_has_the_tags_of_its_partition_its_job_and_its_request(daemon) -> None:
    """sensors: runs under way are found by the bucket's tag, attempts by the digest's; the day is read off a tag."""
    daemon.look_at_sensors(NOW)
    (found,) = daemon.runs(**{"dagster/partition": DAY, "tamarin/bucket": "media.example.org", "digest": "d"})
    assert found.tags["dagster/run_key"] == f"key of {DAY}"
    (record,) = daemon.instance.get_run_records(dg.RunsFilter(tags={"dagster/partition": DAY}), limit=5)
    assert record.start_time <= record.end_time <= record.update_timestamp.timestamp() + 1


def test_a_sensor_ticks_by_itself_if_its_default_says_so_until_a_person_stops_it(daemon) -> None:
    """sensors.build_sensor, schedules: monitor_bucket sets the default; who switches it off on the page is heeded."""
    daemon.look_at_sensors(NOW)
    assert (len(daemon.ticks("running")), daemon.ticks("stopped")) == (1, [])
    (state,) = [each for each in daemon.instance.all_instigator_state() if each.name == "running"]
    remote = daemon.workspace.create_request_context().get_code_location("here").get_repository("__repository__")
    daemon.instance.stop_sensor(state.instigator_origin_id, state.selector_id, remote.get_sensor("running"))
    daemon.instance.start_sensor(remote.get_sensor("stopped"))
    daemon.look_at_sensors(NOW + timedelta(minutes=1))
    assert (len(daemon.ticks("running")), len(daemon.ticks("stopped"))) == (1, 1)


def test_a_sensor_ticks_no_sooner_than_its_interval(daemon) -> None:
    """sensors.build_sensor: pull_parse_interval."""
    for seconds in (0, 29, 31):
        daemon.look_at_sensors(NOW + timedelta(seconds=seconds))
    assert len(daemon.ticks("running")) == 2


def test_a_tick_that_skips_says_why_and_still_moves_its_cursor(daemon) -> None:
    """sensors.new_log_keys tells in its skip message what it saw; it has none if it asks for runs."""
    daemon.look_at_sensors(NOW)
    (tick,) = daemon.ticks("skips")
    assert (tick.status.value, tick.skip_reason, daemon.cursor("skips")) == ("SKIPPED", "seen: nothing", "moved")
    with pytest.raises(dg.DagsterInvariantViolationError, match="both run_requests and skip_reason"):
        dg.SensorResult(run_requests=[dg.RunRequest()], skip_reason="seen: nothing")


def test_a_tick_that_raises_fails_and_has_no_cursor(daemon) -> None:
    """sensors.unseen_days: a listing that failed is not an empty one."""
    daemon.look_at_sensors(NOW)
    (tick,) = daemon.ticks("breaks")
    assert tick.status.value == "FAILURE"
    assert "the listing failed" in tick.error.to_string()
    assert daemon.cursor("breaks") is None


def test_a_partition_that_does_not_exist_yet_fails_the_whole_tick(instance) -> None:
    """sensors.unseen_days: a key that is dated tomorrow waits for its day, or today's would not be loaded either."""

    @dg.sensor(job=load)
    def ahead() -> dg.SensorResult:
        return dg.SensorResult(run_requests=[dg.RunRequest(partition_key=day) for day in (DAY, "2026-04-01")])

    definitions = dg.Definitions.merge(
        dg.Definitions(assets=[just_loaded, just_purged], jobs=[load]), dg.Definitions(sensors=[ahead])
    )
    with (
        dg.build_sensor_context(instance=instance, definitions=definitions) as context,
        pytest.raises(dg.DagsterUnknownPartitionError, match="2026-04-01"),
    ):
        definitions.resolve_sensor_def("ahead").evaluate_tick(context)


def test_a_tick_has_60_seconds(monkeypatch) -> None:
    """sensors.TICK_BUDGET_SECONDS stays below it: what takes longer is forgotten (dagster #14830, #25116)."""
    from dagster._grpc.utils import default_sensor_grpc_timeout  # noqa: PLC0415

    assert default_sensor_grpc_timeout() == 60
    monkeypatch.setenv("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", "100")
    assert default_sensor_grpc_timeout() == 100


def test_what_is_not_finished_is_queued_running_or_being_cancelled() -> None:
    """sensors._days_in_flight."""
    status = dg.DagsterRunStatus
    ended = {status.SUCCESS, status.FAILURE, status.CANCELED, status.MANAGED}
    assert set(NOT_FINISHED_STATUSES) == set(status) - ended


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


def test_a_backfill_of_assets_that_share_a_policy_makes_runs_of_so_many_days_each(daemon) -> None:
    """partitions.BACKFILL_POLICY: each run has at most that many days, and both assets."""
    runs = daemon.backfill(["loaded", "purged"], DAYS.get_partition_keys()[:7])
    assert [(run.tags[ASSET_PARTITION_RANGE_START_TAG], run.tags[ASSET_PARTITION_RANGE_END_TAG]) for run in runs] == [
        ("2026-03-01", "2026-03-03"),
        ("2026-03-04", "2026-03-06"),
        ("2026-03-07", "2026-03-07"),
    ]
    assert all(run.asset_selection == {LOADED, PURGED} for run in runs)
    assert all("dagster/partition" not in run.tags for run in runs)
