"""The asset of a bucket's monthly reports: one file for each month, with its summary in the metadata."""

from collections.abc import Iterator, Mapping
from datetime import UTC, timedelta
from typing import Any

import dagster as dg

from tamarin_dagster.analytics.report import FEATURE, Month, ReportFile, file_name, write_report
from tamarin_dagster.extras import MissingExtraError, why_missing
from tamarin_dagster.orchestration.assets import RETRY_POLICY
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.naming import (
    ASSET_JOB,
    get_slug,
    make_name,
    report_key,
    rollups_key,
    split_into_groups,
)
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.orchestration.schedules import active_buckets, choose_default_status
from tamarin_dagster.orchestration.selections import report_selection
from tamarin_dagster.settings import LoggedBucket, Settings

# S3 delivers nearly all records within a day. On the first days of a month, the report of the month before is written
# again.
LATE_DAYS = 3
# The reports do not share the bucket's group. An asset with months among assets with days changes what "Materialize
# all" in the UI offers, and a backfill of the bucket's days could no longer be launched there.
REPORTS_GROUP = "reports"
_MONTH_KEY = "%Y-%m"


def _report_spec(bucket: LoggedBucket, slug: str, settings: Settings) -> dg.AssetSpec:
    return dg.AssetSpec(
        report_key(slug),
        deps=[rollups_key(slug)],
        description=(
            f"A month of {bucket.name} on one page: traffic, files, consumers, referrers, bots, cost, completeness.\n\n"
            f"The report is an HTML file in {settings.reports_folder}. A partition is the month (UTC) of the requests;"
            " the current month is incomplete."
        ),
        partitions_def=report_partitions(bucket),
        group_name=REPORTS_GROUP,
        owners=list(bucket.owners),
        kinds={"html", "postgres"},
    )


def build_reports(
    buckets: Mapping[str, LoggedBucket], settings: Settings, prefix: str = ""
) -> list[dg.AssetsDefinition]:
    """Build the assets that write the buckets' reports of a month. `buckets` are the buckets by their slugs.

    A group of buckets whose first month is the same shares a step. A run writes the chosen reports only.
    """
    by_month: dict[str, dict[str, LoggedBucket]] = {}
    for slug, bucket in buckets.items():
        by_month.setdefault(str(Month.of(bucket.start_date)), {})[slug] = bucket
    groups = [group for each in by_month.values() for group in split_into_groups(each)]
    return [
        _build_report_step(group, make_name(prefix, f"traffic_reports_{number}"), settings)
        for number, group in enumerate(groups, 1)
    ]


def _build_report_step(buckets: Mapping[str, LoggedBucket], name: str, settings: Settings) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=name,
        specs=[_report_spec(bucket, slug, settings) for slug, bucket in buckets.items()],
        can_subset=True,
        # A report takes seconds, and past months seldom change, so each run writes the files of one month.
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        retry_policy=RETRY_POLICY,
    )
    def traffic_reports(
        context: dg.AssetExecutionContext, tamarin_database: RecordDatabase
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        if not context.has_partition_key:
            raise dg.Failure(
                "no month was chosen: choose partitions in the launch dialog, or give a partition_key like 2026-03",
                allow_retries=False,
            )
        month = Month.parse(context.partition_key)
        for key in sorted(context.selected_asset_keys):
            bucket = buckets[get_slug(key)]
            done = _write(bucket, month, tamarin_database, settings)
            context.log.info(f"{bucket.name}, {month.name}: {done.path}")
            yield dg.MaterializeResult(asset_key=key, metadata=_metadata(done))

    return traffic_reports


def _write(bucket: LoggedBucket, month: Month, tamarin_database: RecordDatabase, settings: Settings) -> ReportFile:
    try:
        with cancellable():
            return write_report(
                tamarin_database.open(settings),
                bucket.name,
                month,
                settings.reports_folder / file_name(bucket.name, month),
                anonymize_ips=settings.anonymize_ips,
                key=settings.anonymize_key,
            )
    except MissingExtraError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def report_partitions(bucket: LoggedBucket) -> dg.MonthlyPartitionsDefinition:
    """Return the months from the bucket's first day to the current month."""
    return dg.MonthlyPartitionsDefinition(
        start_date=str(Month.of(bucket.start_date)), fmt=_MONTH_KEY, end_offset=1, timezone="UTC"
    )


def build_report_schedule(settings: Settings, slugs: Mapping[str, str], prefix: str = "") -> dg.ScheduleDefinition:
    """Build the daily schedule of all reports. On the first days of a month it also writes the report before it."""
    selections = {bucket.name: report_selection(bucket, slugs[bucket.name]) for bucket in settings.buckets}

    @dg.schedule(
        name=make_name(prefix, "traffic_reports_daily"),
        # After the nightly look at late log keys, and after old months are dropped.
        cron_schedule="40 5 * * *",
        execution_timezone="UTC",
        job_name=ASSET_JOB,
        description="Writes the current month's report of each monitored bucket. While log keys of the last month are"
        " still late, it writes that report too.",
        default_status=choose_default_status(settings.buckets),
    )
    def reports_daily(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        if missing := why_missing("report", FEATURE):
            return dg.SkipReason(missing)
        today = context.scheduled_execution_time.astimezone(UTC).date()
        months = sorted({Month.of(today), Month.of(today - timedelta(days=LATE_DAYS))})
        requests = []
        for bucket in active_buckets(settings, slugs, context.instance):
            selection = selections[bucket.name]
            requests += [
                dg.RunRequest(
                    run_key=f"{today}:{selection.bucket_tag}:{month}",
                    partition_key=str(month),
                    asset_selection=list(selection.assets),
                    asset_check_keys=[],
                    tags=selection.tags,
                )
                for month in months
                if month >= Month.of(bucket.start_date)
            ]
        return requests or dg.SkipReason("no bucket is monitored, or all of their sensors are stopped")

    return reports_daily


def _metadata(done: ReportFile) -> dict[str, Any]:
    # The drawing and the redaction take half a second each to import.
    from tamarin_dagster.analytics.report.summary import summarize  # noqa: PLC0415

    report = done.report
    metadata: dict[str, Any] = {
        "summary": dg.MetadataValue.md(summarize(report)),
        "report": dg.MetadataValue.path(done.path),
        "requests": report.traffic.requests,
        "bytes sent": report.traffic.bytes_sent,
        "errors": report.traffic.error_count,
        "files": report.files.count,
        "IP addresses": report.addresses.count,
        "days with requests": report.completeness.rolled_up_days,
        "rejected lines": report.completeness.rejected_lines,
        "bytes of the file": done.bytes,
    }
    if report.cost:
        metadata["estimated US dollars"] = round(report.cost.dollars, 2)
    return metadata
