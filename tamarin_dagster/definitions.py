"""Assemble the Dagster definitions of the configured buckets: `build_definitions`.

Importing this module reads nothing and builds nothing. The module that Dagster loads is tamarin_dagster.code_location.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from tamarin_dagster.orchestration.archive_assets import build_archive_op, build_archived_log_records
from tamarin_dagster.orchestration.assets import build_delivered_log_keys, build_log_records
from tamarin_dagster.orchestration.delivery_partitions import warn_if_clamped
from tamarin_dagster.orchestration.dimensions_job import build_dimensions_job
from tamarin_dagster.orchestration.doctor_job import build_doctor_job
from tamarin_dagster.orchestration.jobs import build_expire_job, build_purge_job, build_reparse_job
from tamarin_dagster.orchestration.lake_assets import build_lake_records
from tamarin_dagster.orchestration.naming import DATABASE, LOG_BUCKETS, S3, make_slugs
from tamarin_dagster.orchestration.partition_checks import build_partition_checks
from tamarin_dagster.orchestration.pruning import build_prune_job, build_prune_schedule
from tamarin_dagster.orchestration.purging import build_purge_op, build_purged_log_keys
from tamarin_dagster.orchestration.report_asset import build_report_schedule, build_reports
from tamarin_dagster.orchestration.resources import FOLDERS_ONLY, RECORD_DATABASE
from tamarin_dagster.orchestration.rollup_assets import (
    build_roll_up_job,
    build_roll_up_schedule,
    build_rollup_checks,
    build_traffic_rollups,
)
from tamarin_dagster.orchestration.schedules import (
    build_dimensions_schedule,
    build_expire_schedule,
    build_purge_schedule,
    build_reconcile_schedule,
)
from tamarin_dagster.orchestration.sensors import build_sensor
from tamarin_dagster.orchestration.traffic_checks import build_traffic
from tamarin_dagster.orchestration.watching import (
    build_nightly_job,
    build_nightly_schedule,
    build_watch_checks,
    build_watch_job,
    build_watch_schedule,
)
from tamarin_dagster.settings import LoggedBucket, Settings


def build_definitions(
    settings: Settings, *, prefix: str = "", resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Return new definitions for these settings. Load them as they are, or merge them into other definitions.

    Nothing connects until something runs. The definitions have no executor and no loggers, so merged definitions use
    their own.

    Args:
        settings: all settings, as `load_settings` returns them.
        prefix: the prefix of the names of all assets, jobs, schedules, sensors and pools: `acme/media/log_records`. Use
            letters, digits and underscores, with `/` between parts.
        resources: replacements for `tamarin_database` (a RecordDatabase), `tamarin_log_buckets` (a LogBuckets), or
            `tamarin_s3`, the S3Resource of dagster-aws with the credentials.
    """
    names = make_slugs(settings.buckets, prefix)
    buckets = {names[bucket.name]: bucket for bucket in settings.buckets}
    with warnings.catch_warnings():
        # In the minor version that setup.cfg pins, partitioned checks are a preview and backfill policies are a beta.
        # Tests (tamarin_dagster_tests/upstream) check the behaviour that this project needs.
        warnings.filterwarnings("ignore", category=dg.PreviewWarning)
        warnings.filterwarnings("ignore", category=dg.BetaWarning)
        parts = [
            _build_shared(settings, prefix, resources or {}),
            *(
                [_build_schedules(settings, prefix, names), _build_buckets(buckets, settings, prefix)]
                if buckets
                else []
            ),
            *([_build_expiry(settings, prefix, settings.retention_months)] if settings.retention_months else []),
        ]
        return dg.Definitions.merge(*parts, _build_pruning(settings, prefix, parts))


def _build_shared(settings: Settings, prefix: str, resources: Mapping[str, Any]) -> dg.Definitions:
    """Return the definitions that exist once, for all buckets."""
    archives = any(settings.archive_of(bucket) for bucket in settings.buckets)
    archive_op = build_archive_op(settings, prefix) if archives else None
    purge_job = build_purge_job(build_purge_op(settings, prefix), archive_op, prefix)
    roll_up_job = build_roll_up_job(settings, prefix)
    dimensions_job = build_dimensions_job(settings, prefix)
    return dg.Definitions(
        jobs=[
            purge_job,
            roll_up_job,
            dimensions_job,
            build_reparse_job(settings, prefix),
            build_doctor_job(settings, prefix),
        ],
        schedules=[
            build_purge_schedule(purge_job, prefix),
            build_roll_up_schedule(roll_up_job, settings, prefix),
            build_dimensions_schedule(dimensions_job, settings, prefix),
        ],
        resources={DATABASE: RECORD_DATABASE} | _build_log_buckets(settings, resources) | dict(resources),
    )


def _build_log_buckets(settings: Settings, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resource of the log buckets, and the credentials resource if any bucket or archive is in S3."""
    if LOG_BUCKETS in resources:
        return {}
    archives = settings.archives().values()
    if not (
        S3 in resources
        or any(bucket.log_folder is None for bucket in settings.buckets)
        or any(url.startswith("s3:") for url in archives)
    ):
        return {LOG_BUCKETS: FOLDERS_ONLY}
    # Folders do not need dagster-aws, which takes half a second to import.
    from tamarin_dagster.orchestration.s3_resource import S3_CREDENTIALS, S3_LOG_BUCKETS, S3LogBuckets  # noqa: PLC0415

    if S3 in resources:
        return {LOG_BUCKETS: S3LogBuckets(s3=resources[S3])}
    return {S3: S3_CREDENTIALS, LOG_BUCKETS: S3_LOG_BUCKETS}


def _build_schedules(settings: Settings, prefix: str, names: Mapping[str, str]) -> dg.Definitions:
    """Return the jobs and schedules of all buckets: hourly checks, nightly checks, late keys and reports."""
    watch_job = build_watch_job(settings, names, prefix)
    nightly_job = build_nightly_job(settings, names, prefix)
    return dg.Definitions(
        jobs=[watch_job, nightly_job],
        schedules=[
            build_watch_schedule(watch_job, settings, prefix),
            build_nightly_schedule(nightly_job, settings, prefix),
            build_reconcile_schedule(settings, names, prefix),
            build_report_schedule(settings, names, prefix),
        ],
    )


def _build_pruning(settings: Settings, prefix: str, parts: Iterable[dg.Definitions]) -> dg.Definitions:
    """Return the job and schedule that prune the runs of all these definitions."""
    assets = {key for part in parts for each in part.assets or () for key in each.keys}  # type: ignore[union-attr]
    jobs = [job.name for part in parts for job in part.jobs or ()]
    instigators = [each.name for part in parts for each in (*(part.sensors or ()), *(part.schedules or ()))]
    job = build_prune_job(settings, assets, jobs, instigators, prefix)
    return dg.Definitions(jobs=[job], schedules=[build_prune_schedule(job, prefix)])


def _build_expiry(settings: Settings, prefix: str, months: int) -> dg.Definitions:
    """Return the job and schedule that drop old records."""
    job = build_expire_job(settings, months, prefix)
    return dg.Definitions(jobs=[job], schedules=[build_expire_schedule(job, prefix)])


def _build_buckets(buckets: Mapping[str, LoggedBucket], settings: Settings, prefix: str) -> dg.Definitions:
    """Return the definitions of the buckets by their slugs, in the order in which a line travels."""
    for bucket in buckets.values():
        warn_if_clamped(bucket)
    return dg.Definitions(
        assets=[
            _build_external_assets(buckets),
            *build_log_records(buckets, settings),
            *build_archived_log_records(buckets, settings),
            *build_lake_records(buckets, settings),
            *build_purged_log_keys(buckets, settings),
            *build_traffic_rollups(buckets, settings),
            *build_reports(buckets, settings, prefix),
        ],
        asset_checks=[
            *build_partition_checks(buckets, settings),
            *build_rollup_checks(buckets, settings, prefix),
            *build_watch_checks(buckets, settings, prefix),
        ],
        sensors=[build_sensor(bucket, slug, settings) for slug, bucket in buckets.items()],
    )


def _build_external_assets(buckets: Mapping[str, LoggedBucket]) -> dg.AssetsDefinition:
    """Return the assets that no run makes, in one object: Dagster loads it faster than one object for each."""
    return dg.AssetsDefinition(
        specs=[
            spec
            for slug, bucket in buckets.items()
            for spec in (build_delivered_log_keys(bucket, slug), build_traffic(bucket, slug))
        ]
    )
