"""Nightly: a second look at the days behind the sensor's lookback, and at purges that failed; then old months go.

And hourly a look at what should have happened and did not.
"""

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PRIORITY_TAG,
)

from tamarin_dagster.analysis.dimensions import pending_dimensions
from tamarin_dagster.defs.naming import FIRST
from tamarin_dagster.defs.partitions import whole_days
from tamarin_dagster.defs.resources import RecordDatabase
from tamarin_dagster.settings import LoggedBucket, Settings

# S3 delivers nearly all keys within hours; a week catches what came when nothing was running.
RECONCILED_DAYS = 7


def build_reconcile_schedule(
    bucket: LoggedBucket, slug: str, job: UnresolvedAssetJobDefinition
) -> dg.ScheduleDefinition:
    """Loads the late keys of the last RECONCILED_DAYS days, and looks for duplicates in them, all in one run."""

    @dg.schedule(
        name=f"{slug}__reconcile",
        cron_schedule="15 3 * * *",
        execution_timezone="UTC",
        job=job,
        description=f"Loads late log keys of {bucket.name}: looks again at its last {RECONCILED_DAYS} days.",
        default_status=_status(bucket),
    )
    def reconcile(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        today = context.scheduled_execution_time.date()
        first = max(bucket.start_date, today - timedelta(days=RECONCILED_DAYS - 1))
        return dg.RunRequest(tags=range_tags(*whole_days(bucket, first, today)) | {PRIORITY_TAG: FIRST})

    return reconcile


def build_purge_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Purges nightly what is pending."""
    return dg.ScheduleDefinition(
        name="purge_pending_log_keys_nightly",
        job=job,
        cron_schedule="45 3 * * *",
        execution_timezone="UTC",
        description="Deletes log keys that are loaded and that an earlier purge could not delete.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def build_expire_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Drops old months: daily, since late keys may bring records of a month that is dropped already."""
    return dg.ScheduleDefinition(
        name="expire_old_records_daily",
        job=job,
        # After the nightly purge, which can delete no key that expired.
        cron_schedule="15 5 * * *",
        execution_timezone="UTC",
        description="Drops the records that are older than retention_months.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def build_dimensions_schedule(job: dg.JobDefinition, settings: Settings) -> dg.ScheduleDefinition:
    """Looks hourly for what the runs that made the rollups left undone, or an upgrade has changed."""

    @dg.schedule(
        name="classify_user_agents_hourly",
        job=job,
        # Off the full hour, and not with the watch.
        cron_schedule="35 * * * *",
        execution_timezone="UTC",
        description="Classifies user agents, prices days, and looks up addresses, if any are pending.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def classify_user_agents_hourly(database: dg.ResourceParam[RecordDatabase]) -> dg.RunRequest | dg.SkipReason:
        if pending_dimensions(database.engine, settings):
            return dg.RunRequest()
        return dg.SkipReason("Every user agent and address is known, and every day is priced.")

    return classify_user_agents_hourly


def build_watch_schedule(job: UnresolvedAssetJobDefinition, buckets: Sequence[LoggedBucket]) -> dg.ScheduleDefinition:
    """Looks hourly whether deliveries go on, if any bucket is monitored."""
    monitored = any(bucket.monitor_bucket for bucket in buckets)
    return dg.ScheduleDefinition(
        name="watch_deliveries_hourly",
        job=job,
        # Off the full hour, when everything else starts.
        cron_schedule="25 * * * *",
        execution_timezone="UTC",
        description="Checks that monitored buckets still get deliveries, and that log keys can be deleted.",
        default_status=dg.DefaultScheduleStatus.RUNNING if monitored else dg.DefaultScheduleStatus.STOPPED,
    )


def range_tags(first: str, last: str) -> dict[str, str]:
    """Tags that make one run of a range of partitions; RunRequest has no parameter for it yet (dagster #34096)."""
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def _status(bucket: LoggedBucket) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if bucket.monitor_bucket else dg.DefaultScheduleStatus.STOPPED
