"""The step between a load and its purge: the checks of a partition's row counts. It reads only the database."""

from collections.abc import Iterator, Mapping

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.orchestration.asset_checks import (
    ROW_COUNTS,
    check_result,
    check_spec,
    group_by_slug,
    log_per_partition,
    require_periods,
    row_count_results,
)
from tamarin_dagster.orchestration.naming import get_pool, make_name
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.orchestration.steps import SharedStep
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, describe_cause, raise_if_lost
from tamarin_dagster.settings import LoggedBucket, Settings


def build_partition_checks(buckets: Mapping[str, LoggedBucket], settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Build the steps that count rows and compare them with the ledger. `buckets` are the buckets by their slugs."""

    @SharedStep
    def row_counts(
        context: dg.AssetCheckExecutionContext, tamarin_database: RecordDatabase
    ) -> Iterator[dg.AssetCheckResult]:
        (slug,) = group_by_slug(context.selected_asset_check_keys)
        bucket, engine = buckets[slug], tamarin_database.open(settings)
        results = {
            period: _results(engine, bucket, slug, period) for period in require_periods(context.op_execution_context)
        }
        yield from log_per_partition(context.op_execution_context, results)

    return [
        row_counts.checks(
            [check_spec(name, bucket, slug) for name in ROW_COUNTS],
            name=make_name(slug, "row_counts"),
            pool=get_pool(slug),
        )
        for slug, bucket in buckets.items()
    ]


def _results(engine: sa.Engine, bucket: LoggedBucket, slug: str, period: DeliveryPeriod) -> list[dg.AssetCheckResult]:
    """Return the results for one partition. If the database refuses, they fail, and the other partitions go on."""
    try:
        with engine.connect() as connection:
            return row_count_results(connection, bucket, slug, period)
    except DATABASE_ERRORS as error:
        raise_if_lost(error)
        text = f"it could not be checked: {describe_cause(error)}"
        return [check_result(name, slug, False, {"error": describe_cause(error)}, text) for name in ROW_COUNTS]
