"""The report of a bucket and month as an asset: a file for each, with its summary on the page."""

from collections.abc import Iterator, Mapping
from datetime import UTC, timedelta
from typing import Any

import dagster as dg

from tamarin_dagster.analytics.report import FEATURE, Month, ReportFile, file_name, write_report
from tamarin_dagster.extras import MissingExtraError, why_missing
from tamarin_dagster.orchestration.assets import RETRY_POLICY
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.naming import ASSET_JOB, in_groups, named, report_key, rollups_key, slug_of
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.orchestration.schedules import active_buckets, status_of
from tamarin_dagster.orchestration.selections import report_selection
from tamarin_dagster.settings import LoggedBucket, Settings

# S3 delivers nearly all records within a day; on the first days of a month the one before is made again.
LATE_DAYS = 3
# Not the bucket's own: among assets of days one of months changes what the page's "Materialize all" offers, and its
# backfill of the bucket's days could not be launched in Chromium any more.
REPORTS_GROUP = "reports"
_MONTH_KEY = "%Y-%m"


def _report_spec(bucket: LoggedBucket, slug: str, settings: Settings) -> dg.AssetSpec:
    return dg.AssetSpec(
        report_key(slug),
        deps=[rollups_key(slug)],
        description=(
            f"A month of {bucket.name} on one page: traffic, files, consumers, referrers, bots, cost, completeness.\n\n"
            f"An HTML file in {settings.reports_folder}, to be looked at, mailed or printed. A partition is the month"
            " (UTC) of the requests; the present month is incomplete."
        ),
        partitions_def=report_partitions(bucket),
        group_name=REPORTS_GROUP,
        owners=list(bucket.owners),
        kinds={"html", "postgres"},
    )


def build_reports(
    buckets: Mapping[str, LoggedBucket], settings: Settings, prefix: str = ""
) -> list[dg.AssetsDefinition]:
    """Build the assets that write a bucket's report of a month. `buckets` are the buckets by their slugs.

    Groups of buckets whose months begin alike share a step, of which a run takes what was chosen.
    """
    alike: dict[str, dict[str, LoggedBucket]] = {}
    for slug, bucket in buckets.items():
        alike.setdefault(str(Month.of(bucket.start_date)), {})[slug] = bucket
    groups = [group for each in alike.values() for group in in_groups(each)]
    return [
        _build_report_step(group, named(prefix, f"traffic_reports_{number}"), settings)
        for number, group in enumerate(groups, 1)
    ]


def _build_report_step(buckets: Mapping[str, LoggedBucket], name: str, settings: Settings) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=name,
        specs=[_report_spec(bucket, slug, settings) for slug, bucket in buckets.items()],
        can_subset=True,
        # A report takes seconds, and a month of the past seldom changes: one by one, each with its own file.
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
            done = _write(buckets[slug_of(key)], month, tamarin_database, settings)
            context.log.info(f"{buckets[slug_of(key)].name}, {month.name}: {done.path}")
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
    """The months from the bucket's first day to the present one."""
    return dg.MonthlyPartitionsDefinition(
        start_date=str(Month.of(bucket.start_date)), fmt=_MONTH_KEY, end_offset=1, timezone="UTC"
    )


def build_report_schedule(settings: Settings, slugs: Mapping[str, str], prefix: str = "") -> dg.ScheduleDefinition:
    """Build the schedule of all reports: daily the present month's, and in its first days that of the month before."""
    selections = {bucket.name: report_selection(bucket, slugs[bucket.name]) for bucket in settings.buckets}

    @dg.schedule(
        name=named(prefix, "traffic_reports_daily"),
        # After the nightly look at late log keys, and after old months are dropped.
        cron_schedule="40 5 * * *",
        execution_timezone="UTC",
        job_name=ASSET_JOB,
        description="Writes each monitored bucket's report of this month, and of the last one while log keys are late.",
        default_status=status_of(settings.buckets),
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
    # What draws takes half a second to import, and so does what cuts secrets out.
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
