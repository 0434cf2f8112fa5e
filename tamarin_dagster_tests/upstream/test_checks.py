"""Checks: what we rely on of Dagster itself, as test_upstream says."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.test_utils import BasicLoadingContext

from tamarin_dagster_tests.upstream.tiny import (
    DAY,
    DAYS,
    DELIVERED,
    LAST,
    LOADED,
    PURGED,
    RANGE,
    check_rows,
    just_loaded,
    just_purged,
    materialized,
    run,
    spec,
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


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
    """asset_checks.log_per_partition logs each day's result and returns their sum."""

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
        specs=[dg.AssetCheckSpec(name, asset=DELIVERED) for name in ("freshness", "purges")], can_subset=True
    )
    def watch(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        for key in context.selected_asset_check_keys:
            yield dg.AssetCheckResult(passed=True, asset_key=DELIVERED, check_name=key.name)

    job = dg.define_asset_job("watch", selection=dg.AssetSelection.checks(dg.AssetCheckKey(DELIVERED, "freshness")))
    delivered = dg.AssetSpec(DELIVERED, partitions_def=DAYS)
    definitions = dg.Definitions(assets=[delivered], asset_checks=[watch], jobs=[job])
    assert definitions.resolve_job_def("watch").execute_in_process(instance=instance).success
    assert check_rows(instance, DELIVERED, "freshness") == {(None, "SUCCEEDED"): 1}
    assert check_rows(instance, DELIVERED, "purges") == {}
    assert is_shown(instance, DELIVERED, "freshness")


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


def is_shown(instance: dg.DagsterInstance, asset: dg.AssetKey, name: str) -> bool:
    """Return whether the UI shows the last result of a check as a result of the present asset."""
    key = dg.AssetCheckKey(asset, name)
    record, *_ = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    return asyncio.run(record.targets_latest_materialization(BasicLoadingContext(instance)))


def test_a_result_is_no_longer_shown_once_its_asset_is_materialized_again(instance) -> None:
    """Why hourly and nightly checks are of delivered_log_keys, which are never materialized (_Truth.asset)."""
    assets = [just_loaded, failing(dg.AssetCheckSeverity.WARN, False)]
    assert run(assets, instance, DAY).success
    assert is_shown(instance, LOADED, "counted")
    assert run(assets, instance, LAST, selection=dg.AssetSelection.assets(LOADED).without_checks()).success
    assert is_shown(instance, LOADED, "counted")
    assert run(assets, instance, DAY, selection=dg.AssetSelection.assets(LOADED).without_checks()).success
    assert not is_shown(instance, LOADED, "counted")


def test_freshness_knows_nothing_of_partitions(instance) -> None:
    """Why delivery_freshness is a check: a backfill of old days would make the asset fresh."""
    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1))

    @dg.asset(key=LOADED, partitions_def=DAYS, freshness_policy=policy)
    def loaded() -> dg.MaterializeResult:
        return dg.MaterializeResult()

    node = dg.Definitions(assets=[loaded]).resolve_asset_graph().get(LOADED)
    assert run([loaded], instance, "2026-03-01").success
    evaluated = TimeWindowFreshnessPolicyEvaluator().evaluate_freshness(BasicLoadingContext(instance), node)
    assert asyncio.run(evaluated) is FreshnessState.PASS
