"""Per bucket with an archive an asset: its records as Parquet files there, before its log keys are purged."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from tamarin_dagster.logformat import DeliveryPeriod, delivery_day
from tamarin_dagster.orchestration import asset_checks
from tamarin_dagster.orchestration.assets import RETRY_POLICY, retried_if_transient
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.failures import held_back
from tamarin_dagster.orchestration.naming import archived_key, group_of, named, pool_of, records_key
from tamarin_dagster.orchestration.partitions import backfill_policy, delivery_partitions, partition_key
from tamarin_dagster.orchestration.resources import LogBuckets, RecordDatabase
from tamarin_dagster.pipeline.archive import Archived, Verified, archive, verify
from tamarin_dagster.settings import LAKE_SCHEME, LoggedBucket, Settings


def build_archived_log_records(bucket: LoggedBucket, slug: str, settings: Settings, url: str) -> dg.AssetsDefinition:
    """The asset that writes a bucket's records to its archive, a delivery day at a time, once the day is over."""

    @dg.asset(
        key=archived_key(slug),
        deps=[records_key(slug)],
        description=(
            f"Records of {bucket.name} in {url}, as Parquet files in folders logged_bucket=.../delivery_day=..."
            ".\n\nWritten a delivery day at a time, once it is over, and again if late keys come. No log key is"
            " purged before its records are there."
        ),
        partitions_def=delivery_partitions(bucket),
        backfill_policy=backfill_policy(bucket, settings),
        owners=list(bucket.owners),
        check_specs=[asset_checks.check_spec(asset_checks.ARCHIVE_MATCHES_THE_LEDGER, bucket, slug)],
        group_name=group_of(slug),
        kinds={"iceberg" if url.startswith(LAKE_SCHEME) else "parquet"},
        pool=pool_of(slug),
        retry_policy=RETRY_POLICY,
        metadata={"archive": url},
    )
    def archived_log_records(
        context: dg.AssetExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        periods = asset_checks.chosen_periods(context)
        days = sorted({delivery_day(period) for period in periods})
        engine = tamarin_database.open(settings)
        with cancellable(), retried_if_transient(bucket):
            place = tamarin_log_buckets.archive(bucket, settings)
            if place is None:
                raise dg.Failure(f"{bucket.name} has no archive any more; reload the definitions", allow_retries=False)
            done = archive(bucket, place, engine, days=days)
            found = {day: verify(bucket, place, engine, day) for day in days}
        _tell(context, bucket, done)
        for period in periods:
            state = found[delivery_day(period)]
            metadata = _metadata(done, state, delivery_day(period))
            context.add_asset_metadata(metadata, partition_key=partition_key(period))
        return dg.MaterializeResult(
            check_results=asset_checks.per_partition(context.op_execution_context, _results(slug, periods, found))
        )

    return archived_log_records


def build_archive_op(settings: Settings, prefix: str = "") -> dg.OpDefinition:
    """The op that archives whatever waits in the log buckets, of all buckets with an archive.

    It returns what failed, and succeeds: the purge after it is to go on with the other buckets. See
    `build_archive_failures_op`.
    """

    @dg.op(
        name=named(prefix, "archive_log_records"),
        retry_policy=RETRY_POLICY,
        description="Writes the records of log keys that wait for a purge to their archive.",
    )
    def archive_log_records(
        context: dg.OpExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> list[str]:
        keys = waiting = 0
        failed: list[dg.Failure] = []
        for bucket in settings.buckets:
            with cancellable(), held_back(failed, bucket):
                if place := tamarin_log_buckets.archive(bucket, settings):
                    done = archive(bucket, place, tamarin_database.open(settings))
                    keys, waiting = keys + done.keys, waiting + done.waiting_keys
                    _tell(context, bucket, done)
        context.add_output_metadata({"archived keys": keys, "keys waiting": waiting})
        return [str(failure.description) for failure in failed]

    return archive_log_records


def build_archive_failures_op(prefix: str = "") -> dg.OpDefinition:
    """The op that fails the run for the buckets that could not be archived, once the others are purged."""

    @dg.op(
        name=named(prefix, "tell_archive_failures"),
        ins={"purged": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        description="Fails if a bucket could not be archived. Its log keys were not purged; those of the others were.",
    )
    def tell_archive_failures(failures: list[str]) -> None:
        if failures:
            raise dg.Failure("; ".join(failures), allow_retries=False)

    return tell_archive_failures


def _tell(context: dg.OpExecutionContext | dg.AssetExecutionContext, bucket: LoggedBucket, done: Archived) -> None:
    """What was done, and each day that was left as it was, in the log of the run."""
    context.log.info(f"{bucket.name}: {done}")
    for day, problem in done.problems.items():
        context.log.warning(f"{bucket.name}, delivery day {day} is not archived: {problem}")


def _metadata(done: Archived, found: Verified, day: date) -> dict[str, object]:
    """What a person wants to know of a partition's day: as the archive has it now."""
    return {
        "archive": found.place,
        "database": found.database,
        "files": len(found.files),
        "rows": found.listed_rows,
        "bytes that this run wrote": done.bytes,
        "dagster/partition_row_count": found.listed_rows,
        "archived keys": found.state.archived_keys,
        "keys waiting": found.state.waiting_keys,
        "written now": day in done.days,
    } | ({"why not": done.problems[day]} if day in done.problems else {})


def _results(
    slug: str, periods: Sequence[DeliveryPeriod], found: dict[date, Verified]
) -> dict[DeliveryPeriod, list[dg.AssetCheckResult]]:
    results = {}
    for period in periods:
        day = found[delivery_day(period)]
        results[period] = [
            asset_checks.check_result(
                asset_checks.ARCHIVE_MATCHES_THE_LEDGER,
                slug,
                day.is_true,
                {
                    "archive": day.place,
                    "database": day.database,
                    "written by database": (day.record and day.record.database) or "none",
                    "rows in the files": day.found_rows,
                    "rows that were written": day.listed_rows,
                    "records of archived keys": day.state.archived_records,
                    "keys waiting": day.state.waiting_keys,
                }
                | ({"files missing or damaged": asset_checks.name_table(day.wrong_files)} if day.wrong_files else {}),
            )
        ]
    return results
