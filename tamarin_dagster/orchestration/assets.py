"""Per bucket two assets: log keys as S3 delivers them, and the records that they become."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import quote

import dagster as dg

from tamarin_dagster.logformat import FIELDS, DeliveryPeriod
from tamarin_dagster.logkey import KeyFailure, count_periods
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.orchestration import asset_checks
from tamarin_dagster.orchestration.asset_checks import chosen_periods
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.naming import (
    delivered_key,
    group_of,
    named,
    pool_of,
    records_key,
    slug_of,
)
from tamarin_dagster.orchestration.partitions import backfill_policy, delivery_partitions, partition_key
from tamarin_dagster.orchestration.resources import LogBuckets, RecordDatabase
from tamarin_dagster.orchestration.steps import SharedStep
from tamarin_dagster.pipeline.discover import describe_outdated, describe_waiting
from tamarin_dagster.pipeline.preview import PREVIEW_COLUMNS, Preview
from tamarin_dagster.pipeline.pull import MisreadLine, Progress, Pulled, PulledPeriod, pull
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.schema.tables import s3_log_record
from tamarin_dagster.settings import LoggedBucket, PartitionUnit, Settings

# S3 and Postgres may stumble; a wrong setting does not get better, but costs no more than a minute.
RETRY_POLICY = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
# Seconds between two lines of progress in the log of a run.
PROGRESS_SECONDS = 10
# A monitored bucket's records are looked at each night, whether anything has come or not; this is a night and a half.
FRESH_HOURS = 36
# What a line holds, as S3 says it.
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
            f"Log keys with the requests to {bucket.name}, which S3 delivers to {place_of(bucket)} on a best-effort"
            f" basis.\n\nNo run makes them: the sensor `{named(slug, 'new_log_keys')}` looks for them. The checks show"
            " whether S3 still delivers, delivers twice, and allows deletions."
        ),
        group_name=group_of(slug),
        owners=list(bucket.owners),
        kinds={"s3"},
        metadata={"log keys": link_to(bucket)},
    )


def _log_records_spec(bucket: LoggedBucket, slug: str) -> dg.AssetSpec:
    unit = "hour" if bucket.partition == PartitionUnit.HOURLY else "day"
    return dg.AssetSpec(
        records_key(slug),
        deps=[delivered_key(slug)],
        description=(
            f"Requests to {bucket.name}, one row each in s3_log_record, from the log keys in {place_of(bucket)}.\n\n"
            f"Ask in SQL: `tamarin-dagster sql`. A partition is the UTC {unit} in the log keys' names (their delivery)."
            " A run loads the log keys that are not in the ledger `s3_log_key`, so running it again changes nothing."
        ),
        partitions_def=delivery_partitions(bucket),
        freshness_policy=_freshness(bucket),
        owners=list(bucket.owners),
        group_name=group_of(slug),
        kinds={"s3", "postgres", "pandas"},
        metadata={
            "dagster/column_schema": RECORD_SCHEMA,
            "dagster/table_name": f"tamarin.public.{s3_log_record.name}",
            "logged bucket": bucket.name,
            "log bucket": bucket.log_bucket_name,
            "log prefix": bucket.log_prefix,
            "log keys": link_to(bucket),
            "what a line holds": dg.MetadataValue.url(LOG_FORMAT_URL),
        },
    )


def build_log_records(buckets: Mapping[str, LoggedBucket], settings: Settings) -> list[dg.AssetsDefinition]:
    """Build the assets that load the buckets' unseen log keys, by day (or hour) of their delivery.

    `buckets` are the buckets by their slugs.
    """

    @SharedStep
    def log_records(
        context: dg.AssetExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        slug = slug_of(context.asset_key)
        bucket, periods = buckets[slug], chosen_periods(context)
        span = f"{count_periods(periods)}, {periods[0]} to {periods[-1]}" if len(periods) > 1 else periods[0]
        context.log.info(f"{bucket.name}: looking at {span}")
        engine = tamarin_database.open(settings)
        with cancellable(), retried_if_transient(bucket):
            store = tamarin_log_buckets.store(bucket)
            pulled = pull(
                bucket,
                store,
                engine,
                periods=periods,
                run_id=_run_id(context),
                progress=_progress_log(context, periods),
                connections=settings.load_connections,
                redacts=settings.redact_query_secrets,
                parser=settings.parser,
            )
        results = {}
        with engine.connect() as connection:
            for each in pulled.periods:
                metadata = _metadata(each, pulled, ledger.period_counts(connection, bucket.name, each.period))
                add_metadata(context, metadata, each.period)
                results[each.period] = _listing_results(slug, each)
        context.log.info(_summary(bucket, pulled))
        return dg.MaterializeResult(
            check_results=asset_checks.per_partition(context.op_execution_context, results),
        )

    return [
        log_records.asset(
            _log_records_spec(bucket, slug),
            name=named(slug, "log_records"),
            check_specs=asset_checks.listing_check_specs(bucket, slug),
            backfill_policy=backfill_policy(bucket, settings),
            retry_policy=RETRY_POLICY,
            pool=pool_of(slug),
        )
        for slug, bucket in buckets.items()
    ]


def add_metadata(context: dg.AssetExecutionContext, metadata: Mapping[str, object], period: DeliveryPeriod) -> None:
    """Add metadata to a partition's materialization; an asset that is called directly, without a run, has none."""
    if _run_id(context) is not None:
        context.add_asset_metadata(metadata, partition_key=partition_key(period))


def _run_id(context: dg.AssetExecutionContext) -> str | None:
    """Return the run's id; None where the asset is called directly, without a run."""
    try:
        return context.run.run_id
    except dg.DagsterError:
        return None


@contextmanager
def retried_if_transient(bucket: LoggedBucket) -> Iterator[None]:
    """A log bucket that a person has to see to fails the step at once, with what to do in the first line."""
    try:
        yield
    except LogStoreError as error:
        # The message says all there is to say; a stack below it would fill the page.
        raise dg.Failure(f"bucket {bucket.name}: {error}", allow_retries=error.transient) from None


def place_of(bucket: LoggedBucket) -> str:
    """Return where the log keys lie, as people say it."""
    return f"{bucket.log_bucket_name}/{bucket.log_prefix}"


def link_to(bucket: LoggedBucket) -> dg.MetadataValue[str]:
    """Where a person can look at the log keys: the bucket's page in AWS's console, or the folder."""
    if bucket.log_folder is not None:
        return dg.MetadataValue.path(bucket.log_folder / bucket.log_prefix)
    if bucket.endpoint_url:
        return dg.MetadataValue.text(f"{bucket.endpoint_url} {place_of(bucket)}")
    region = f"region={quote(bucket.region)}&" if bucket.region else ""
    prefix = quote(bucket.log_prefix, safe="")
    return dg.MetadataValue.url(
        f"https://console.aws.amazon.com/s3/buckets/{quote(bucket.log_bucket_name)}?{region}prefix={prefix}"
    )


def _freshness(bucket: LoggedBucket) -> dg.FreshnessPolicy | None:
    hours = bucket.freshness_hours or (FRESH_HOURS if bucket.monitor_bucket else None)
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours)) if hours else None


def _metadata(each: PulledPeriod, pulled: Pulled, counts: ledger.PeriodCounts) -> Mapping[str, object]:
    """What a person wants to know of a partition: as the ledger has it now, and what this run added."""
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
        "lines/s": round(lines / pulled.seconds) if pulled.seconds else 0,
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
    """The first records of this run, as a table."""
    rows = [dg.TableRecord(dict(zip(PREVIEW_COLUMNS, row, strict=True))) for row in preview.rows]
    columns = [dg.TableColumn(name, "string") for name in PREVIEW_COLUMNS]
    return dg.MetadataValue.table(records=rows, schema=dg.TableSchema(columns=columns))


def failure_table(failures: list[KeyFailure]) -> dg.TableMetadataValue:
    """The first failures, for metadata."""
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


class _progress_log:  # noqa: N801 - used as a function
    """Progress as lines in the run's log, at most one in PROGRESS_SECONDS."""

    def __init__(self, context: dg.AssetExecutionContext, periods: Sequence[DeliveryPeriod]) -> None:
        self._context = context
        self._periods = count_periods(periods)
        self._started = self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            seconds = now - self._started
            left = progress.seconds_left(seconds)
            remains = f"; about {timedelta(seconds=round(left))} left" if left else ""
            self._context.log.info(
                f"at {progress.period}, {progress.looked:,} of {self._periods} looked at: {progress.keys:,} keys,"
                f" {progress.lines:,} lines, {progress.lines / seconds:,.0f} lines/s{remains}"
            )
