"""The checks of a partition's row counts, which read only the database: the step between a load and its purge."""

from collections.abc import Iterator, Mapping

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.orchestration.asset_checks import (
    ROW_COUNTS,
    check_result,
    check_spec,
    chosen_periods,
    names_by_slug,
    per_partition,
    row_count_results,
)
from tamarin_dagster.orchestration.naming import named, pool_of
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.orchestration.steps import SharedStep
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, cause_of, raise_if_lost
from tamarin_dagster.settings import LoggedBucket, Settings


def build_partition_checks(buckets: Mapping[str, LoggedBucket], settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Build the steps that count rows and hold them against the ledger. `buckets` are the buckets by their slugs."""

    @SharedStep
    def row_counts(
        context: dg.AssetCheckExecutionContext, tamarin_database: RecordDatabase
    ) -> Iterator[dg.AssetCheckResult]:
        (slug,) = names_by_slug(context.selected_asset_check_keys)
        bucket, engine = buckets[slug], tamarin_database.open(settings)
        results = {
            period: _results(engine, bucket, slug, period) for period in chosen_periods(context.op_execution_context)
        }
        yield from per_partition(context.op_execution_context, results)

    return [
        row_counts.checks(
            [check_spec(name, bucket, slug) for name in ROW_COUNTS],
            name=named(slug, "row_counts"),
            pool=pool_of(slug),
        )
        for slug, bucket in buckets.items()
    ]


def _results(engine: sa.Engine, bucket: LoggedBucket, slug: str, period: DeliveryPeriod) -> list[dg.AssetCheckResult]:
    """What the checks of one partition find. If the database refuses, they fail, and other partitions are checked."""
    try:
        with engine.connect() as connection:
            return row_count_results(connection, bucket, slug, period)
    except DATABASE_ERRORS as error:
        raise_if_lost(error)
        text = f"it could not be checked: {cause_of(error)}"
        return [check_result(name, slug, False, {"error": cause_of(error)}, text) for name in ROW_COUNTS]
