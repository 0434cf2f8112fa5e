"""The step between a load and its purge: the checks of a partition's row counts. It reads only the database."""

from collections.abc import Iterator

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.orchestration.asset_checks import (
    ROW_COUNTS,
    check_result,
    check_spec,
    log_per_partition,
    require_periods,
    row_count_results,
)
from tamarin_dagster.orchestration.naming import get_pool, make_name
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, cause_of, raise_if_lost
from tamarin_dagster.settings import LoggedBucket, Settings


def build_partition_checks(bucket: LoggedBucket, slug: str, settings: Settings) -> dg.AssetChecksDefinition:
    """Build the step that counts rows and compares them with the ledger."""

    @dg.multi_asset_check(
        name=make_name(slug, "row_counts"),
        specs=[check_spec(name, bucket, slug) for name in ROW_COUNTS],
        pool=get_pool(slug),
    )
    def row_counts(
        context: dg.AssetCheckExecutionContext, tamarin_database: RecordDatabase
    ) -> Iterator[dg.AssetCheckResult]:
        engine = tamarin_database.open(settings)
        results = {
            period: _results(engine, bucket, slug, period) for period in require_periods(context.op_execution_context)
        }
        yield from log_per_partition(context.op_execution_context, results)

    return row_counts


def _results(engine: sa.Engine, bucket: LoggedBucket, slug: str, period: DeliveryPeriod) -> list[dg.AssetCheckResult]:
    """Return the results for one partition. If the database refuses, they fail, and the other partitions go on."""
    try:
        with engine.connect() as connection:
            return row_count_results(connection, bucket, slug, period)
    except DATABASE_ERRORS as error:
        raise_if_lost(error)
        text = f"it could not be checked: {cause_of(error)}"
        return [check_result(name, slug, False, {"error": cause_of(error)}, text) for name in ROW_COUNTS]
