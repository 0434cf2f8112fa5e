"""Steps whose function is the same for each bucket, and steps that groups of buckets share."""

import dagster as dg

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.orchestration.naming import BUCKETS_PER_STEP
from tamarin_dagster.orchestration.steps import SharedStep
from tamarin_dagster.settings import LoggedBucket, Settings

POLICIES = {"backfill_policy": dg.BackfillPolicy.multi_run(5), "retry_policy": dg.RetryPolicy(max_retries=2)}


class Shop(dg.ConfigurableResource):
    name: str = "corner"


def spec(name: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        dg.AssetKey([name, "records"]),
        deps=[dg.AssetKey([name, "delivered"])],
        group_name=name,
        partitions_def=dg.DailyPartitionsDefinition("2026-01-01"),
    )


def test_a_shared_step_makes_what_dg_asset_makes() -> None:
    check = dg.AssetCheckSpec("complete", asset=dg.AssetKey(["a", "records"]))

    def records(context: dg.AssetExecutionContext, shop: Shop) -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])

    expected = dg.asset(
        key=spec("a").key,
        deps=[dg.AssetKey(["a", "delivered"])],
        group_name="a",
        partitions_def=spec("a").partitions_def,
        check_specs=[check],
        pool="a_pool",
        **POLICIES,
    )(records)
    made = SharedStep(records).asset(spec("a"), name="a__records", check_specs=[check], pool="a_pool", **POLICIES)

    for name in ("keys", "check_keys", "keys_by_output_name", "backfill_policy", "can_subset", "partitions_def"):
        assert getattr(made, name) == getattr(expected, name), name
    assert list(made.keys_by_input_name.values()) == list(expected.keys_by_input_name.values())
    assert made.get_asset_spec(spec("a").key).deps == expected.get_asset_spec(spec("a").key).deps
    for name in ("name", "pool", "retry_policy", "required_resource_keys"):
        assert getattr(made.op, name) == getattr(expected.op, name), name
    assert [(each.name, each.is_required) for each in made.op.output_defs] == [
        (each.name, each.is_required) for each in expected.op.output_defs
    ]


def test_each_bucket_has_its_own_op_of_a_shared_step_and_the_function_knows_which() -> None:
    seen: list[str] = []

    @SharedStep
    def records(context: dg.AssetExecutionContext, shop: Shop) -> dg.MaterializeResult:
        seen.append(f"{context.asset_key.path[0]} {shop.name} {context.partition_key}")
        return dg.MaterializeResult()

    made = [records.asset(spec(name), name=f"{name}__records", **POLICIES) for name in ("a", "b")]

    done = dg.materialize(made, partition_key="2026-01-02", resources={"shop": Shop()})

    assert done.success
    assert sorted(seen) == ["a corner 2026-01-02", "b corner 2026-01-02"]
    assert [each.op.name for each in made] == ["a__records", "b__records"]


def test_a_bucket_more_is_four_ops_more_and_groups_share_the_rest() -> None:
    """With seven ops for each bucket, a thousand buckets took 40 s of CPU to load."""

    def count_ops(count: int) -> int:
        buckets = tuple(
            LoggedBucket(name=f"bucket-{n}", log_bucket_name="log-bucket", start_date="2026-01-01")
            for n in range(count)
        )
        return len(build_definitions(Settings(buckets=buckets)).resolve_implicit_global_asset_job_def().nodes)

    groups = 3  # of checks of deliveries and traffic, of checks of rollups, of reports
    assert count_ops(BUCKETS_PER_STEP) == 4 * BUCKETS_PER_STEP + groups
    assert count_ops(BUCKETS_PER_STEP + 1) == 4 * (BUCKETS_PER_STEP + 1) + 2 * groups
