"""The asset that loads a bucket's delivery days into the lake with Spark, in a process of its own (Dagster Pipes).

It exists only if the settings name a lake and a Spark master. `lake_process` is the process.
"""

import sys
from collections.abc import Mapping
from typing import Any

import dagster as dg

from tamarin_dagster.logformat import delivery_day
from tamarin_dagster.orchestration import asset_checks
from tamarin_dagster.orchestration.assets import RETRY_POLICY
from tamarin_dagster.orchestration.delivery_partitions import backfill_policy, delivery_partitions
from tamarin_dagster.orchestration.naming import delivered_key, get_group, get_pool, get_slug, lake_key, make_name
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.orchestration.steps import SharedStep
from tamarin_dagster.settings import Lake, LoggedBucket, Settings

PROCESS = "tamarin_dagster.orchestration.lake_process"


def build_lake_records(buckets: Mapping[str, LoggedBucket], settings: Settings) -> list[dg.AssetsDefinition]:
    """Build the assets that load days into the lake, by the slugs of the buckets; none without a Spark master."""
    lake = settings.lake
    if lake is None or lake.spark_master is None:
        return []

    @SharedStep
    def lake_records(context: dg.AssetExecutionContext, tamarin_database: RecordDatabase) -> dg.MaterializeResult:  # type: ignore[type-arg]
        bucket = buckets[get_slug(context.asset_key)]
        days = sorted({delivery_day(period) for period in asset_checks.require_periods(context)})
        given = settings.model_copy(update={"database_url": tamarin_database.database_url or settings.database_url})
        ended = dg.PipesSubprocessClient().run(
            context=context.op_execution_context,
            command=[sys.executable, "-m", PROCESS],
            extras={
                "settings": _dump(given),
                "bucket": bucket.name,
                "first": days[0].isoformat(),
                "last": days[-1].isoformat(),
            },
        )
        return ended.get_materialize_result()

    return [
        lake_records.asset(
            _spec(bucket, slug, lake),
            name=make_name(slug, "lake_records"),
            backfill_policy=backfill_policy(bucket, settings),
            retry_policy=RETRY_POLICY,
            pool=get_pool(slug),
        )
        for slug, bucket in buckets.items()
    ]


def _spec(bucket: LoggedBucket, slug: str, lake: Lake) -> dg.AssetSpec:
    return dg.AssetSpec(
        lake_key(slug),
        deps=[delivered_key(slug)],
        description=(
            f"Records of {bucket.name} in {lake.url}, loaded from the log bucket with Spark ({lake.spark_master}).\n\n"
            "A delivery day is replaced at once. Postgres gets no record of it, and no log key is deleted."
        ),
        partitions_def=delivery_partitions(bucket),
        owners=list(bucket.owners),
        group_name=get_group(slug),
        kinds={"spark", "iceberg"},
        metadata={"lake": lake.url},
    )


def _dump(settings: Settings) -> dict[str, Any]:
    """Return the settings for the process. They hold secrets; Pipes passes them in a file that only this user reads."""
    dumped = settings.model_dump(mode="json")
    if settings.lake is not None:
        dumped["lake"]["properties"] = settings.lake.reveal_properties()
    return dumped
