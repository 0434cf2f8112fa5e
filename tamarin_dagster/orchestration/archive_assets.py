"""The asset that writes a bucket's records to its archive as Parquet files before its log keys are purged.

Only buckets with an archive have this asset.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import dagster as dg

from tamarin_dagster.logformat import DeliveryPeriod, delivery_day
from tamarin_dagster.orchestration import asset_checks
from tamarin_dagster.orchestration.assets import RETRY_POLICY, convert_store_errors
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.delivery_partitions import backfill_policy, delivery_partitions, partition_key
from tamarin_dagster.orchestration.naming import archived_key, get_group, get_pool, get_slug, make_name, records_key
from tamarin_dagster.orchestration.resources import LogBuckets, RecordDatabase
from tamarin_dagster.orchestration.step_failures import hold_back
from tamarin_dagster.orchestration.steps import SharedStep
from tamarin_dagster.pipeline.archive import Archived, Verified, archive_bucket, verify
from tamarin_dagster.settings import LAKE_SCHEME, LoggedBucket, Settings


def _archived_log_records_spec(bucket: LoggedBucket, slug: str, url: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        archived_key(slug),
        deps=[records_key(slug)],
        description=(
            f"Records of {bucket.name} in {url}, as Parquet files in folders logged_bucket=.../delivery_day=...\n\n"
            "A delivery day is written once it is over, and again if late log keys arrive. No log key is"
            " purged before its records are in the archive."
        ),
        partitions_def=delivery_partitions(bucket),
        owners=list(bucket.owners),
        group_name=get_group(slug),
        kinds={"iceberg" if url.startswith(LAKE_SCHEME) else "parquet"},
        metadata={"archive": url},
    )


def build_archived_log_records(buckets: Mapping[str, LoggedBucket], settings: Settings) -> list[dg.AssetsDefinition]:
    """Build the assets that write records to the archive, each delivery day once the day is over.

    `buckets` are the buckets by their slugs. A bucket without an archive has no such asset.
    """
    urls = {slug: url for slug, bucket in buckets.items() if (url := settings.archive_of(bucket))}

    @SharedStep
    def archived_log_records(
        context: dg.AssetExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        slug = get_slug(context.asset_key)
        bucket, periods = buckets[slug], asset_checks.require_periods(context)
        days = sorted({delivery_day(period) for period in periods})
        engine = tamarin_database.open(settings)
        with cancellable(), convert_store_errors(bucket):
            place = tamarin_log_buckets.archive(bucket, settings)
            if place is None:
                raise dg.Failure(f"{bucket.name} has no archive any more; reload the definitions", allow_retries=False)
            done = archive_bucket(bucket, place, engine, days=days)
            found = {day: verify(bucket, place, engine, day) for day in days}
        _log_archived(context, bucket, done)
        for period in periods:
            state = found[delivery_day(period)]
            metadata = _metadata(done, state, delivery_day(period))
            context.add_asset_metadata(metadata, partition_key=partition_key(period))
        return dg.MaterializeResult(
            check_results=asset_checks.log_per_partition(context.op_execution_context, _results(slug, periods, found))
        )

    return [
        archived_log_records.asset(
            _archived_log_records_spec(buckets[slug], slug, url),
            name=make_name(slug, "archived_log_records"),
            check_specs=[asset_checks.check_spec(asset_checks.ARCHIVE_MATCHES_THE_LEDGER, buckets[slug], slug)],
            backfill_policy=backfill_policy(buckets[slug], settings),
            retry_policy=RETRY_POLICY,
            pool=get_pool(slug),
        )
        for slug, url in urls.items()
    ]


def build_archive_op(settings: Settings, prefix: str = "") -> dg.OpDefinition:
    """Build the op that archives all pending records of every bucket that has an archive.

    The op succeeds even if a bucket fails, so that the purge after it continues with the other buckets. It returns the
    failures for the op of `build_archive_failures_op`.
    """

    @dg.op(
        name=make_name(prefix, "archive_log_records"),
        retry_policy=RETRY_POLICY,
        description="Writes the records of log keys that wait for a purge to the archive of their bucket.",
    )
    def archive_log_records(
        context: dg.OpExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> list[str]:
        keys = waiting = 0
        failed: list[dg.Failure] = []
        for bucket in settings.buckets:
            with cancellable(), hold_back(failed, bucket):
                if place := tamarin_log_buckets.archive(bucket, settings):
                    done = archive_bucket(bucket, place, tamarin_database.open(settings))
                    keys, waiting = keys + done.keys, waiting + done.waiting_keys
                    _log_archived(context, bucket, done)
        context.add_output_metadata({"archived keys": keys, "keys waiting": waiting})
        return [str(failure.description) for failure in failed]

    return archive_log_records


def build_archive_failures_op(prefix: str = "") -> dg.OpDefinition:
    """Build the op that fails the run if a bucket could not be archived, after the other buckets are purged."""

    @dg.op(
        name=make_name(prefix, "report_archive_failures"),
        ins={"purged": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        description="Fails if a bucket could not be archived. The log keys of that bucket were not purged; those of the"
        " other buckets were.",
    )
    def report_archive_failures(failures: list[str]) -> None:
        if failures:
            raise dg.Failure("; ".join(failures), allow_retries=False)

    return report_archive_failures


def _log_archived(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, bucket: LoggedBucket, done: Archived
) -> None:
    """Log what was archived, and a warning for each day that was not."""
    context.log.info(f"{bucket.name}: {done}")
    for day, problem in done.problems.items():
        context.log.warning(f"{bucket.name}, delivery day {day} is not archived: {problem}")


def _metadata(done: Archived, found: Verified, day: date) -> dict[str, object]:
    """Return the metadata of a partition: the state of its day in the archive now."""
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
