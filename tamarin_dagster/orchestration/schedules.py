"""The nightly schedules: load late log keys, retry failed purges, and drop old months.

Each schedule works for all buckets.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import dagster as dg

from tamarin_dagster.analytics.dimension_refresh import pending_dimensions
from tamarin_dagster.orchestration.delivery_partitions import first_partition_date, whole_days
from tamarin_dagster.orchestration.naming import (
    ASSET_JOB,
    FIRST,
    PRIORITY_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    make_name,
)
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.orchestration.selections import reconcile_selection
from tamarin_dagster.settings import LoggedBucket, Settings

# S3 delivers nearly all keys within hours. A week also covers the time when nothing was running.
RECONCILED_DAYS = 7


def build_reconcile_schedule(settings: Settings, slugs: Mapping[str, str], prefix: str = "") -> dg.ScheduleDefinition:
    """Build the schedule that loads the late keys of each bucket's last RECONCILED_DAYS days, a run per bucket.

    It leaves out the buckets that are not monitored, and those whose sensor somebody has stopped.
    """
    selections = {bucket.name: reconcile_selection(bucket, slugs[bucket.name], settings) for bucket in settings.buckets}

    @dg.schedule(
        name=make_name(prefix, "reconcile_log_keys_nightly"),
        cron_schedule="15 3 * * *",
        execution_timezone="UTC",
        job_name=ASSET_JOB,
        description=f"Loads late log keys: looks again at each monitored bucket's last {RECONCILED_DAYS} days.",
        default_status=choose_default_status(settings.buckets),
    )
    def reconcile(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        today = context.scheduled_execution_time.date()
        requests = []
        for bucket in active_buckets(settings, slugs, context.instance):
            first = max(first_partition_date(bucket), today - timedelta(days=RECONCILED_DAYS - 1))
            selection = selections[bucket.name]
            requests.append(
                dg.RunRequest(
                    run_key=f"{today}:{selection.bucket_tag}",
                    asset_selection=list(selection.assets),
                    asset_check_keys=list(selection.checks),
                    tags=range_tags(*whole_days(bucket, first, today)) | selection.tags | {PRIORITY_TAG: FIRST},
                )
            )
        return requests or dg.SkipReason("no bucket is monitored, or all of their sensors are stopped")

    return reconcile


def active_buckets(
    settings: Settings, slugs: Mapping[str, str], instance: dg.DagsterInstance
) -> Iterator[LoggedBucket]:
    """Yield the monitored buckets whose sensor is not stopped. Stopping the sensor stops the bucket's schedules too."""
    statuses = {
        state.name: state.status.value
        for state in instance.all_instigator_state()
        if state.instigator_type.value == "SENSOR"
    }
    for bucket in settings.buckets:
        status = statuses.get(make_name(slugs[bucket.name], "new_log_keys"))
        if status == "RUNNING" or (bucket.monitor_bucket and status != "STOPPED"):
            yield bucket


def build_purge_schedule(job: dg.JobDefinition, prefix: str = "") -> dg.ScheduleDefinition:
    """Build the nightly schedule that purges all pending log keys."""
    return dg.ScheduleDefinition(
        name=make_name(prefix, "purge_pending_log_keys_nightly"),
        job=job,
        cron_schedule="45 3 * * *",
        execution_timezone="UTC",
        description="Deletes log keys that are loaded and that an earlier purge could not delete.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def build_expire_schedule(job: dg.JobDefinition, prefix: str = "") -> dg.ScheduleDefinition:
    """Build the schedule that drops old months: daily, since late log keys may add records to dropped months."""
    return dg.ScheduleDefinition(
        name=make_name(prefix, "expire_old_records_daily"),
        job=job,
        # After the nightly purge, which cannot delete a log key once it is expired.
        cron_schedule="15 5 * * *",
        execution_timezone="UTC",
        description="Drops the records that are older than retention_months.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def build_dimensions_schedule(job: dg.JobDefinition, settings: Settings, prefix: str = "") -> dg.ScheduleDefinition:
    """Build the hourly schedule that finishes what roll-ups could not, and what an upgrade has changed."""

    @dg.schedule(
        name=make_name(prefix, "classify_user_agents_hourly"),
        job=job,
        # Not at the full hour, and not together with watch_buckets.
        cron_schedule="35 * * * *",
        execution_timezone="UTC",
        description="Classifies user agents, prices days, and looks up addresses, if any are pending.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def classify_user_agents_hourly(tamarin_database: RecordDatabase) -> dg.RunRequest | dg.SkipReason:
        if pending_dimensions(tamarin_database.open(settings), settings):
            return dg.RunRequest()
        return dg.SkipReason("all user agents and addresses are known, and all days are priced")

    return classify_user_agents_hourly


def range_tags(first: str, last: str) -> dict[str, str]:
    """Return tags that make one run of a range of partitions. RunRequest has no parameter for it (dagster #34096)."""
    return {RANGE_START_TAG: first, RANGE_END_TAG: last}


def choose_default_status(buckets: Sequence[LoggedBucket]) -> dg.DefaultScheduleStatus:
    """Return the default status of a schedule of these buckets: it is on if any of them is monitored."""
    monitored = any(bucket.monitor_bucket for bucket in buckets)
    return dg.DefaultScheduleStatus.RUNNING if monitored else dg.DefaultScheduleStatus.STOPPED
