"""Per bucket three assets: log keys as S3 delivers them, the records that they become, and what is deleted then."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from tamarin_dagster.defs import asset_checks
from tamarin_dagster.defs.cancelling import cancellable
from tamarin_dagster.defs.naming import delivered_key, purged_key, records_key
from tamarin_dagster.defs.partitions import BACKFILL_POLICY, days_of, delivery_days
from tamarin_dagster.defs.resources import LogBuckets, RecordDatabase
from tamarin_dagster.ingest import Progress, Pulled, PulledDay, pull
from tamarin_dagster.logformat import FIELDS
from tamarin_dagster.logkey import KeyFailure
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.purge import purge
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.tables import s3_log_key, s3_log_record
from tamarin_dagster.settings import LoggedBucket, Settings

# S3 and Postgres may stumble; a wrong setting does not get better, but costs no more than a minute.
RETRY_POLICY = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
# One purge at a time: it is the store's request rate that bounds it.
PURGE_POOL = "tamarin_purge"
# Seconds between two lines of progress in the log of a run.
PROGRESS_SECONDS = 10

RECORD_SCHEMA = dg.TableSchema(
    columns=[
        dg.TableColumn(column.name, str(column.type).lower(), description=column.comment)
        for column in s3_log_record.columns
        if column.name not in {field.name for field in FIELDS}
    ]
    + [dg.TableColumn(field.name, field.sql_type, description=field.meaning) for field in FIELDS]
)


def build_delivered_log_keys(bucket: LoggedBucket, slug: str) -> dg.AssetSpec:
    """The asset that stands for what S3 delivers: nothing here makes it."""
    return dg.AssetSpec(
        delivered_key(slug),
        description=(
            f"Log keys that S3 delivers to `{_place(bucket)}`: requests to **{bucket.name}**, by best effort.\n\nThe"
            " checks tell whether it goes on delivering, delivers twice, and lets us delete."
        ),
        partitions_def=delivery_days(bucket),
        group_name=slug,
        kinds={"s3"},
    )


def build_log_records(bucket: LoggedBucket, slug: str, settings: Settings) -> dg.AssetsDefinition:
    """The asset that loads a bucket's unseen log keys, day by day of their delivery."""

    @dg.asset(
        key=records_key(slug),
        deps=[delivered_key(slug)],
        description=(
            f"Requests to **{bucket.name}**, one row each in `s3_log_record`, from the log keys in"
            f" `{_place(bucket)}`.\n\nA partition is the UTC day in the log keys' names (their delivery). Loads what"
            " the ledger `s3_log_key` does not know yet: to run it again, or over days already loaded, changes nothing."
        ),
        partitions_def=delivery_days(bucket),
        backfill_policy=BACKFILL_POLICY,
        check_specs=asset_checks.listing_check_specs(bucket, slug),
        group_name=slug,
        kinds={"s3", "postgres", "pandas"},
        pool=f"tamarin_{slug}",
        retry_policy=RETRY_POLICY,
        metadata={
            "dagster/column_schema": RECORD_SCHEMA,
            "dagster/table_name": f"tamarin.public.{s3_log_record.name}",
            "logged bucket": bucket.name,
            "log bucket": bucket.log_bucket_name,
            "log prefix": bucket.log_prefix,
        },
    )
    def log_records(
        context: dg.AssetExecutionContext,
        database: dg.ResourceParam[RecordDatabase],
        log_buckets: dg.ResourceParam[LogBuckets],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        days = days_of(context.partition_keys)
        context.log.info(f"{bucket.name}: looking at {len(days)} day(s), {days[0]} to {days[-1]}")
        engine = database.engine
        with cancellable(), retried_if_transient(bucket):
            store = log_buckets.store(bucket)
            pulled = pull(
                bucket,
                store,
                engine,
                days=days,
                run_id=context.run.run_id,
                progress=_progress_log(context),
                connections=settings.load_connections,
                redacts=settings.redact_query_secrets,
            )
        results = {}
        with engine.connect() as connection:
            for day in pulled.days:
                metadata = _day_metadata(day, pulled, ledger.day_counts(connection, bucket.name, day.day))
                context.add_asset_metadata(metadata, partition_key=day.day.isoformat())
                results[day.day] = _listing_results(slug, day, pulled)
        context.log.info(_summary(bucket, pulled))
        return dg.MaterializeResult(
            check_results=asset_checks.per_partition(context.op_execution_context, results),
        )

    return log_records


@contextmanager
def retried_if_transient(bucket: LoggedBucket) -> Iterator[None]:
    """A log bucket that a person has to see to fails the step at once, with what to do in the first line."""
    try:
        yield
    except LogStoreError as error:
        raise dg.Failure(f"bucket {bucket.name}: {error}", allow_retries=error.transient) from error


class PurgeConfig(dg.Config):
    """Whose keys are purged: a bucket's; without a name those of all buckets that purge."""

    bucket: str | None = None


def build_purge_op(settings: Settings) -> dg.OpDefinition:
    """The op that purges: in the asset the days of the run, in the maintenance job all that is pending."""

    @dg.op(
        ins={"records": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        pool=PURGE_POOL,
        retry_policy=RETRY_POLICY,
        description="Deletes log keys that a query on committed rows proves loaded. Safe to run alone.",
    )
    def purge_log_keys(
        context: dg.OpExecutionContext,
        config: PurgeConfig,
        database: dg.ResourceParam[RecordDatabase],
        log_buckets: dg.ResourceParam[LogBuckets],
    ) -> None:
        days = days_of(context.partition_keys) if context.has_partition_key or context.has_partition_key_range else None
        buckets = [settings.bucket(config.bucket)] if config.bucket else settings.buckets
        keys = size = kept = 0
        by_day: Counter[str] = Counter()
        failures: list[KeyFailure] = []
        for bucket in buckets:
            if not settings.purges(bucket):
                context.log.info(f"{bucket.name}: purge_parsed_keys is off, its log keys stay")
                continue
            with cancellable(), retried_if_transient(bucket):
                store = log_buckets.store(bucket)
                rejected_too = settings.purges_rejected(bucket)
                purged = purge(bucket, store, database.engine, days=days, with_rejected=rejected_too)
            by_day.update({day.isoformat(): count for day, count in purged.by_day.items()})
            keys, size, failures = keys + purged.keys, size + purged.bytes, failures + purged.failures
            kept += purged.kept.keys
            context.log.info(
                f"{bucket.name}: purged {purged.keys:,} keys ({purged.bytes:,} bytes) in {purged.seconds:.1f} s;"
                f" {purged.kept.keys:,} keys with rejected lines stay"
            )
        for failure in failures[: asset_checks.SAMPLE]:
            context.log.warning(f"{failure.key} is not purged: {failure.error}")
        context.add_output_metadata(
            {
                "purged keys": keys,
                "purged bytes": size,
                "keys not purged": len(failures),
                "keys kept for rejected lines": kept,
            }
            | ({"keys by day": dict(by_day)} if len(by_day) > 1 else {})
            | ({"why not": failure_table(failures)} if failures else {})
        )

    return purge_log_keys


def build_purged_log_keys(
    bucket: LoggedBucket, slug: str, settings: Settings, op: dg.OpDefinition
) -> dg.AssetsDefinition:
    """The asset that stands for a bucket's deleted log keys; its materializations are the record of deletions."""
    note = "" if settings.purges(bucket) else "\n\n`purge_parsed_keys` is off for this bucket: nothing is deleted."

    @dg.graph_asset(
        key=purged_key(slug),
        description=(
            f"Log keys of **{bucket.name}** that were deleted from `{_place(bucket)}` after their rows were proved"
            f" complete in `{s3_log_key.name}` and `{s3_log_record.name}`. Keys with rejected lines stay"
            f"{' only if a line is oversized' if settings.purges_rejected(bucket) else ''}.{note}"
        ),
        ins={"records": dg.AssetIn(key=records_key(slug), dagster_type=dg.Nothing)},
        config={op.name: {"config": {"bucket": bucket.name}}},
        partitions_def=delivery_days(bucket),
        backfill_policy=BACKFILL_POLICY,
        group_name=slug,
        kinds={"s3"},
    )
    def purged_log_keys(records: None) -> None:
        return op(records)  # type: ignore[no-any-return]

    return purged_log_keys


def _place(bucket: LoggedBucket) -> str:
    return f"{bucket.log_bucket_name}/{bucket.log_prefix}"


def _day_metadata(day: PulledDay, pulled: Pulled, counts: ledger.DayCounts) -> Mapping[str, object]:
    """What a person wants to know of the day: as the ledger has it now, and what this run added."""
    lines = sum(each.lines for each in pulled.days)
    metadata: dict[str, object] = {
        "dagster/partition_row_count": counts.records,
        "keys": counts.keys,
        "lines": counts.lines,
        "rows": counts.records,
        "rejected lines": counts.rejected,
        "bytes": counts.bytes,
        "new keys": day.keys,
        "new rows": day.records,
        "lines/s": round(lines / pulled.seconds, 1) if pulled.seconds else 0.0,
        "strays": len(day.strays),
        "failed keys": len(day.failures),
    }
    if counts.first_request and counts.last_request:
        metadata["first request"] = dg.MetadataValue.timestamp(counts.first_request)
        metadata["last request"] = dg.MetadataValue.timestamp(counts.last_request)
    return metadata


def _listing_results(slug: str, day: PulledDay, pulled: Pulled) -> list[dg.AssetCheckResult]:
    strays = [*day.strays, *pulled.strays]
    return [
        asset_checks.check_result(
            asset_checks.EVERY_KEY_IS_LOADED,
            slug,
            not day.failures,
            {"keys listed": day.listed, "loaded before": day.seen, "loaded now": day.keys}
            | ({"left alone": failure_table(day.failures)} if day.failures else {}),
        ),
        asset_checks.check_result(
            asset_checks.NO_STRAY_KEYS,
            slug,
            not strays,
            {"strays of this day": len(day.strays), "strays elsewhere": len(pulled.strays)}
            | ({"names": strays[: asset_checks.SAMPLE]} if strays else {}),
        ),
    ]


def failure_table(failures: list[KeyFailure]) -> dg.TableMetadataValue:
    """The first failures, for metadata."""
    rows = [dg.TableRecord({"key": f.key, "error": f.error}) for f in failures[: asset_checks.SAMPLE]]
    return dg.MetadataValue.table(records=rows)


def _summary(bucket: LoggedBucket, pulled: Pulled) -> str:
    def total(name: str) -> int:
        return sum(getattr(day, name) for day in pulled.days)

    return (
        f"{bucket.name}: {total('keys'):,} keys loaded ({total('seen'):,} were loaded before), {total('lines'):,} lines"
        f" = {total('records'):,} rows + {total('rejected'):,} rejected + {total('blank'):,} blank,"
        f" in {pulled.seconds:.1f} s; {len(pulled.failures)} keys left alone"
    )


class _progress_log:  # noqa: N801 - used as a function
    """Progress as lines in the run's log, at most one in PROGRESS_SECONDS."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._started = self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            rate = progress.lines / (now - self._started)
            self._context.log.info(
                f"at {progress.day}: {progress.keys:,} keys, {progress.lines:,} lines, {rate:,.0f} lines/s"
            )
