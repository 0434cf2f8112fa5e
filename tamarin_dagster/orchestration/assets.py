"""The first two assets of each bucket: the log keys that S3 delivers, and the records that are loaded from them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import quote

import dagster as dg

from tamarin_dagster.logformat import FIELDS, DeliveryPeriod
from tamarin_dagster.logkey import KeyFailure, count_periods
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.orchestration import asset_checks
from tamarin_dagster.orchestration.asset_checks import require_periods
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.delivery_partitions import backfill_policy, delivery_partitions, partition_key
from tamarin_dagster.orchestration.naming import delivered_key, get_group, get_pool, get_slug, make_name, records_key
from tamarin_dagster.orchestration.resources import LogBuckets, RecordDatabase
from tamarin_dagster.orchestration.run_progress import log_loading
from tamarin_dagster.orchestration.steps import SharedStep
from tamarin_dagster.pipeline.discover import describe_outdated, describe_waiting
from tamarin_dagster.pipeline.preview import PREVIEW_COLUMNS, Preview
from tamarin_dagster.pipeline.pull import MisreadLine, Pulled, PulledPeriod, pull_bucket
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.schema.tables import s3_log_record
from tamarin_dagster.settings import LoggedBucket, PartitionUnit, Settings

# Retries help if S3 or Postgres fails for a moment. If a setting is wrong, they cost less than a minute.
RETRY_POLICY = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
# Each night a run loads a monitored bucket, even if there is nothing new. This is the time of one and a half nights.
FRESH_HOURS = 36
# The format of a line in the S3 user guide.
LOG_FORMAT_URL = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html"

RECORD_SCHEMA = dg.TableSchema(
    columns=[
        dg.TableColumn(column.name, str(column.type).lower(), description=column.comment)
        for column in s3_log_record.columns
        if column.name not in {field.name for field in FIELDS}
    ]
    + [dg.TableColumn(field.name, field.sql_type, description=field.meaning) for field in FIELDS]
)


def build_delivered_log_keys(bucket: LoggedBucket, slug: str) -> dg.AssetSpec:
    """Return the external asset for the log keys that S3 delivers."""
    return dg.AssetSpec(
        delivered_key(slug),
        description=(
            f"Log keys with the requests to {bucket.name}, which S3 delivers to {describe_place(bucket)} on a"
            f" best-effort basis.\n\nNo run makes them: the sensor `{make_name(slug, 'new_log_keys')}` looks for them."
            " The checks show whether S3 still delivers log keys, delivers records twice, and allows deletions."
        ),
        group_name=get_group(slug),
        owners=list(bucket.owners),
        kinds={"s3"},
        metadata={"log keys": make_link(bucket)},
    )


def _log_records_spec(bucket: LoggedBucket, slug: str) -> dg.AssetSpec:
    unit = "hour" if bucket.partition == PartitionUnit.HOURLY else "day"
    return dg.AssetSpec(
        records_key(slug),
        deps=[delivered_key(slug)],
        description=(
            f"Requests to {bucket.name} from the log keys in {describe_place(bucket)}: one row in s3_log_record for"
            " each request.\n\nQuery them with `tamarin-dagster sql`. A partition is the UTC"
            f" {unit} in the log keys' names (their delivery). A run loads the log keys that are not in the ledger"
            " `s3_log_key`, so running it again changes nothing."
        ),
        partitions_def=delivery_partitions(bucket),
        freshness_policy=_freshness(bucket),
        owners=list(bucket.owners),
        group_name=get_group(slug),
        kinds={"s3", "postgres", "pandas"},
        metadata={
            "dagster/column_schema": RECORD_SCHEMA,
            "dagster/table_name": f"tamarin.public.{s3_log_record.name}",
            "logged bucket": bucket.name,
            "log bucket": bucket.log_bucket_name,
            "log prefix": bucket.log_prefix,
            "log keys": make_link(bucket),
            "log format": dg.MetadataValue.url(LOG_FORMAT_URL),
        },
    )


def build_log_records(buckets: Mapping[str, LoggedBucket], settings: Settings) -> list[dg.AssetsDefinition]:
    """Build the assets that load the unseen log keys. Their partitions are the days (or hours) of delivery.

    `buckets` are the buckets by their slugs.
    """

    @SharedStep
    def log_records(
        context: dg.AssetExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        slug = get_slug(context.asset_key)
        bucket, periods = buckets[slug], require_periods(context)
        span = f"{count_periods(periods)}, {periods[0]} to {periods[-1]}" if len(periods) > 1 else periods[0]
        context.log.info(f"{bucket.name}: looking at {span}")
        engine = tamarin_database.open(settings)
        with cancellable(), convert_store_errors(bucket):
            store = tamarin_log_buckets.store(bucket)
            pulled = pull_bucket(
                bucket,
                store,
                engine,
                periods=periods,
                run_id=_run_id(context),
                progress=log_loading(context.log, periods),
                connections=settings.load_connections,
                redacts=settings.redact_query_secrets,
                parser=settings.parser,
            )
        results = {}
        with engine.connect() as connection:
            for each in pulled.periods:
                metadata = _metadata(each, pulled, ledger.read_period_counts(connection, bucket.name, each.period))
                add_metadata(context, metadata, each.period)
                results[each.period] = _listing_results(slug, each)
        context.log.info(_summary(bucket, pulled))
        return dg.MaterializeResult(
            check_results=asset_checks.log_per_partition(context.op_execution_context, results),
        )

    return [
        log_records.asset(
            _log_records_spec(bucket, slug),
            name=make_name(slug, "log_records"),
            check_specs=asset_checks.listing_check_specs(bucket, slug),
            backfill_policy=backfill_policy(bucket, settings),
            retry_policy=RETRY_POLICY,
            pool=get_pool(slug),
        )
        for slug, bucket in buckets.items()
    ]


def add_metadata(context: dg.AssetExecutionContext, metadata: Mapping[str, object], period: DeliveryPeriod) -> None:
    """Add metadata to a partition's materialization. Do nothing if the asset is called directly, without a run."""
    if _run_id(context) is not None:
        context.add_asset_metadata(metadata, partition_key=partition_key(period))


def _run_id(context: dg.AssetExecutionContext) -> str | None:
    """Return the id of the run, or None if the asset is called directly, without a run."""
    try:
        return context.run.run_id
    except dg.DagsterError:
        return None


@contextmanager
def convert_store_errors(bucket: LoggedBucket) -> Iterator[None]:
    """Turn a LogStoreError into a dg.Failure. Dagster retries the step only if the error is transient."""
    try:
        yield
    except LogStoreError as error:
        # The message is complete. A stack trace below it would only fill the page.
        raise dg.Failure(f"bucket {bucket.name}: {error}", allow_retries=error.transient) from None


def describe_place(bucket: LoggedBucket) -> str:
    """Return the place of the bucket's log keys, for messages: the log bucket and the prefix."""
    return f"{bucket.log_bucket_name}/{bucket.log_prefix}"


def make_link(bucket: LoggedBucket) -> dg.MetadataValue[str]:
    """Return a link to the bucket's log keys: the page in the AWS console, or the folder."""
    if bucket.log_folder is not None:
        return dg.MetadataValue.path(bucket.log_folder / bucket.log_prefix)
    if bucket.endpoint_url:
        return dg.MetadataValue.text(f"{bucket.endpoint_url} {describe_place(bucket)}")
    region = f"region={quote(bucket.region)}&" if bucket.region else ""
    prefix = quote(bucket.log_prefix, safe="")
    return dg.MetadataValue.url(
        f"https://console.aws.amazon.com/s3/buckets/{quote(bucket.log_bucket_name)}?{region}prefix={prefix}"
    )


def _freshness(bucket: LoggedBucket) -> dg.FreshnessPolicy | None:
    hours = bucket.freshness_hours or (FRESH_HOURS if bucket.monitor_bucket else None)
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours)) if hours else None


def _metadata(each: PulledPeriod, pulled: Pulled, counts: ledger.PeriodCounts) -> Mapping[str, object]:
    """Return the metadata of a partition: its state in the ledger now, and what this run added."""
    lines = sum(every.lines for every in pulled.periods)
    metadata: dict[str, object] = {
        "keys": counts.keys,
        "lines": counts.lines,
        "rows": counts.records,
        "rejected lines": counts.rejected,
        "bytes": counts.bytes,
        "new keys": each.keys,
        "new rows": each.records,
        "returned keys": each.returned,
        "outdated keys": each.outdated,
        "waiting files": each.waiting,
        "lines/s": round(lines / pulled.seconds, 1) if pulled.seconds else 0.0,
        "strays": len(each.strays),
        "failed keys": len(each.failures),
        "dagster/partition_row_count": counts.records,
    }
    if counts.first_request and counts.last_request:
        metadata["first request"] = dg.MetadataValue.timestamp(counts.first_request)
        metadata["last request"] = dg.MetadataValue.timestamp(counts.last_request)
    if each.preview:
        metadata["preview"] = _preview_table(each.preview)
    return metadata


def _listing_results(slug: str, each: PulledPeriod) -> list[dg.AssetCheckResult]:
    return [
        asset_checks.check_result(
            asset_checks.EVERY_KEY_IS_LOADED,
            slug,
            not each.failures,
            {
                "keys listed": each.listed,
                "loaded before": each.seen,
                "loaded now": each.keys,
                "returned": each.returned,
                "skipped as outdated": each.outdated,
                "files that may still be written": each.waiting,
            }
            | ({"outdated": asset_checks.name_table(each.outdated_names)} if each.outdated_names else {})
            | ({"skipped": failure_table(each.failures)} if each.failures else {}),
        ),
        asset_checks.check_result(
            asset_checks.NO_STRAY_KEYS,
            slug,
            not each.strays,
            {"strays": len(each.strays)} | ({"names": asset_checks.name_table(each.strays)} if each.strays else {}),
        ),
        asset_checks.check_result(
            asset_checks.READERS_AGREE,
            slug,
            not each.misread,
            {"misread lines": len(each.misread)} | ({"lines": _misread_table(each.misread)} if each.misread else {}),
        ),
    ]


def _preview_table(preview: Preview) -> dg.TableMetadataValue:
    """Return a table of the first records of this run."""
    rows = [dg.TableRecord(dict(zip(PREVIEW_COLUMNS, row, strict=True))) for row in preview.rows]
    columns = [dg.TableColumn(name, "string") for name in PREVIEW_COLUMNS]
    return dg.MetadataValue.table(records=rows, schema=dg.TableSchema(columns=columns))


def failure_table(failures: list[KeyFailure]) -> dg.TableMetadataValue:
    """Return a table of the first failures, for metadata."""
    rows = [dg.TableRecord({"key": f.key, "error": f.error}) for f in failures[: asset_checks.SAMPLE]]
    return dg.MetadataValue.table(records=rows)


def _misread_table(lines: Sequence[MisreadLine]) -> dg.TableMetadataValue:
    rows = [
        dg.TableRecord({"key": line.key, "line": line.line_number, "masked": line.masked})
        for line in lines[: asset_checks.SAMPLE]
    ]
    return dg.MetadataValue.table(records=rows)


def _summary(bucket: LoggedBucket, pulled: Pulled) -> str:
    def total(name: str) -> int:
        return sum(getattr(each, name) for each in pulled.periods)

    return (
        f"{bucket.name}: {count_noun(total('keys'), 'log key')} loaded ({total('seen'):,} were loaded before),"
        f" {count_noun(total('lines'), 'line')} = {total('records'):,} rows + {total('rejected'):,} rejected"
        f" + {total('blank'):,} blank,"
        f" in {pulled.seconds:.1f} s; {len(pulled.failures):,} skipped"
        + (f"; {count_noun(returned, 'returned log key')} to purge again" if (returned := total("returned")) else "")
        + (f"; {describe_outdated(outdated, pulled.outdated_names[0])}" if (outdated := total("outdated")) else "")
        + (f"; {describe_waiting(bucket, pulled.waiting)}" if pulled.waiting else "")
    )
