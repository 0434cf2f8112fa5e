"""What Dagster loads: the definitions for the configured buckets. Assembles, nothing else."""

import sys
from collections.abc import Mapping
from typing import Any

import dagster as dg

from tamarin_dagster.defs.archiving import build_archive_op, build_archived_log_records
from tamarin_dagster.defs.asset_checks import build_database_checks
from tamarin_dagster.defs.assets import (
    build_delivered_log_keys,
    build_log_records,
    build_purge_op,
    build_purged_log_keys,
)
from tamarin_dagster.defs.completeness_checks import (
    build_duplicate_check,
    build_hidden_record_check,
    build_watch_checks,
)
from tamarin_dagster.defs.dimensions_job import build_dimensions_job
from tamarin_dagster.defs.doctor_job import build_doctor_job
from tamarin_dagster.defs.jobs import (
    build_expire_job,
    build_load_job,
    build_purge_job,
    build_reconcile_job,
    build_reparse_job,
    build_watch_job,
)
from tamarin_dagster.defs.naming import slugs
from tamarin_dagster.defs.report import build_report, build_report_job, build_report_schedule
from tamarin_dagster.defs.resources import LogBuckets, RecordDatabase
from tamarin_dagster.defs.schedules import (
    build_dimensions_schedule,
    build_expire_schedule,
    build_purge_schedule,
    build_reconcile_schedule,
    build_watch_schedule,
)
from tamarin_dagster.defs.sensors import build_sensor
from tamarin_dagster.defs.traffic import (
    build_roll_up_job,
    build_roll_up_schedule,
    build_rollup_checks,
    build_traffic_rollups,
)
from tamarin_dagster.defs.traffic_checks import (
    build_alarm_job,
    build_alarm_schedule,
    build_traffic,
    build_traffic_alarms,
)
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError, load_settings


def build_definitions(settings: Settings, *, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return fresh definitions for these settings. Nothing connects until something runs.

    `resources` replace those of the same name: `s3` (an S3Resource), `log_buckets`, `database`.
    """
    purge_log_keys = build_purge_op(settings)
    names = slugs(settings.buckets)
    return dg.Definitions.merge(
        _of_all_buckets(settings, purge_log_keys, resources or {}),
        *([_watching(settings, names)] if settings.buckets else []),
        *([_expiring(settings, settings.retention_months)] if settings.retention_months else []),
        *(_of_bucket(bucket, names[bucket.name], settings, purge_log_keys) for bucket in settings.buckets),
    )


def _of_all_buckets(
    settings: Settings, purge_log_keys: dg.OpDefinition, resources: Mapping[str, Any]
) -> dg.Definitions:
    """What there is once, whatever the buckets."""
    archives = any(settings.archive_of(bucket) for bucket in settings.buckets)
    purge_job = build_purge_job(purge_log_keys, build_archive_op(settings) if archives else None)
    roll_up_job = build_roll_up_job(settings)
    dimensions_job = build_dimensions_job(settings)
    return dg.Definitions(
        jobs=[purge_job, roll_up_job, dimensions_job, build_reparse_job(settings), build_doctor_job(settings)],
        schedules=[
            build_purge_schedule(purge_job),
            build_roll_up_schedule(roll_up_job),
            build_dimensions_schedule(dimensions_job, settings),
        ],
        resources={"database": RecordDatabase(settings)} | _log_buckets(settings, resources) | dict(resources),
        executor=dg.in_process_executor,
    )


def _log_buckets(settings: Settings, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the log buckets' resource, with the resource `s3` if something lies in S3."""
    archives = settings.archives().values()
    if not (
        "s3" in resources
        or any(bucket.log_folder is None for bucket in settings.buckets)
        or any(url.startswith("s3:") for url in archives)
    ):
        return {"log_buckets": LogBuckets()}
    from tamarin_dagster.defs.s3_resource import (  # noqa: PLC0415 - folders do not need it, and it takes half a second
        LogBucketS3Resource,
        S3LogBuckets,
    )

    s3 = resources.get("s3", LogBucketS3Resource.configure_at_launch())
    return {"s3": s3, "log_buckets": S3LogBuckets(s3=s3)}


def _expiring(settings: Settings, months: int) -> dg.Definitions:
    """What drops old records."""
    job = build_expire_job(settings, months)
    return dg.Definitions(jobs=[job], schedules=[build_expire_schedule(job)])


def _watching(settings: Settings, names: Mapping[str, str]) -> dg.Definitions:
    """What looks at all buckets hourly: at their deliveries, and at their traffic."""
    watch_job = build_watch_job(settings.buckets, names)
    alarm_job = build_alarm_job(settings.buckets, names)
    return dg.Definitions(
        jobs=[watch_job, alarm_job],
        schedules=[
            build_watch_schedule(watch_job, settings.buckets),
            build_alarm_schedule(alarm_job, settings.buckets),
        ],
    )


def _of_bucket(bucket: LoggedBucket, slug: str, settings: Settings, purge_log_keys: dg.OpDefinition) -> dg.Definitions:
    """What each bucket has of its own, in the order in which a line travels."""
    archive = settings.archive_of(bucket)
    load_job = build_load_job(bucket, slug, archives=archive is not None)
    reconcile_job = build_reconcile_job(bucket, slug, archives=archive is not None)
    report_job = build_report_job(bucket, slug)
    return dg.Definitions(
        assets=[
            build_delivered_log_keys(bucket, slug),
            build_log_records(bucket, slug, settings),
            *([build_archived_log_records(bucket, slug, settings, archive)] if archive else []),
            build_purged_log_keys(bucket, slug, settings, purge_log_keys),
            build_traffic_rollups(bucket, slug, settings),
            build_traffic(bucket, slug),
            build_report(bucket, slug, settings),
        ],
        asset_checks=[
            build_database_checks(bucket, slug),
            build_duplicate_check(bucket, slug),
            build_hidden_record_check(bucket, slug),
            build_watch_checks(bucket, slug, settings.purges(bucket)),
            build_rollup_checks(bucket, slug, settings),
            build_traffic_alarms(bucket, slug, settings),
        ],
        jobs=[load_job, reconcile_job, report_job],
        sensors=[build_sensor(bucket, slug, load_job, settings)],
        schedules=[
            build_reconcile_schedule(bucket, slug, reconcile_job),
            build_report_schedule(bucket, slug, report_job),
        ],
    )


def _configured() -> Settings:
    try:
        return load_settings()
    except SettingsError:
        # The message says all there is to say; Dagster would show the stack of this import below it.
        sys.tracebacklimit = 0
        raise


defs = build_definitions(_configured())
