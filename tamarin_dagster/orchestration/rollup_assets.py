"""The asset of a bucket's rollups, the check that they add up, and the job that rolls up all pending days."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.analytics.checking import SumDifference, check_sums
from tamarin_dagster.analytics.dimension_refresh import refresh_dimensions
from tamarin_dagster.analytics.rollups import RolledUp, get_limits, pending_days, roll_up
from tamarin_dagster.orchestration.asset_checks import (
    ROLLUPS_ADD_UP,
    SAMPLE,
    check_result,
    check_spec,
    group_by_slug,
    require_periods,
)
from tamarin_dagster.orchestration.assets import RETRY_POLICY
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.delivery_partitions import backfill_policy, delivery_partitions
from tamarin_dagster.orchestration.naming import (
    get_group,
    get_pool,
    get_slug,
    make_name,
    records_key,
    rollups_key,
    split_into_groups,
)
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.orchestration.run_progress import log_roll_up
from tamarin_dagster.orchestration.step_failures import fail_for, failure_rows
from tamarin_dagster.orchestration.steps import SharedStep
from tamarin_dagster.recordstore import pending_days as noted
from tamarin_dagster.recordstore.failures import DayFailure
from tamarin_dagster.recordstore.schema.traffic_tables import ROLLUPS
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError


def _traffic_rollups_spec(bucket: LoggedBucket, slug: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        rollups_key(slug),
        deps=[records_key(slug)],
        description=(
            f"Traffic of {bucket.name} by hour, and by day and object key, address, requester, referrer and user agent:"
            f" {', '.join(f'`{table.name}`' for table in ROLLUPS)}.\n\nA partition's log keys contain requests of its"
            " day and of the day before. Each day with new records is rolled up again, in one transaction. If a day"
            " takes long and more records are arriving, it is left for the job `roll_up_traffic`, which makes it within"
            " the hour. If you materialize this asset alone, it rolls up its days again."
        ),
        partitions_def=delivery_partitions(bucket),
        owners=list(bucket.owners),
        group_name=get_group(slug),
        kinds={"postgres"},
    )


def build_traffic_rollups(buckets: Mapping[str, LoggedBucket], settings: Settings) -> list[dg.AssetsDefinition]:
    """Build the assets that roll up the buckets' traffic: each request day whose records have changed.

    `buckets` are the buckets by their slugs.
    """

    @SharedStep
    def traffic_rollups(context: dg.AssetExecutionContext, tamarin_database: RecordDatabase) -> dg.MaterializeResult:  # type: ignore[type-arg]
        slug = get_slug(context.asset_key)
        bucket, periods = buckets[slug], require_periods(context)
        engine, others = tamarin_database.open(settings), _get_other_buckets(bucket, settings)
        alone = not _is_loading_records(context, slug)
        with cancellable():
            if alone:
                with engine.begin() as connection:
                    noted.note_delivered(connection, bucket.name, periods, others)
            done = roll_up(
                engine,
                regions=settings.regions,
                limits=get_limits(settings),
                skips=others,
                patient=not alone,
                progress=log_roll_up(context.log),
            )
            failures = [*done.failures, *_refresh_dimensions(context.log, engine, settings)]
        fail_for(context.log, failures, own=bucket.name)
        return dg.MaterializeResult(metadata=_make_metadata(done))

    return [
        traffic_rollups.asset(
            _traffic_rollups_spec(bucket, slug),
            name=make_name(slug, "traffic_rollups"),
            backfill_policy=backfill_policy(bucket, settings),
            retry_policy=RETRY_POLICY,
            pool=get_pool(slug),
        )
        for slug, bucket in buckets.items()
    ]


def build_rollup_checks(
    buckets: Mapping[str, LoggedBucket], settings: Settings, prefix: str = ""
) -> list[dg.AssetChecksDefinition]:
    """Build the checks that each rollup adds up to the records, for all days rolled up since the last check.

    `buckets` are the buckets by their slugs. A group of buckets shares a step. A run executes the chosen checks only.
    """
    return [
        _build_sums_step(group, make_name(prefix, f"rollup_sums_{number}"), settings)
        for number, group in enumerate(split_into_groups(buckets), 1)
    ]


def _build_sums_step(buckets: Mapping[str, LoggedBucket], name: str, settings: Settings) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=name,
        specs=[check_spec(ROLLUPS_ADD_UP, bucket, slug) for slug, bucket in buckets.items()],
        can_subset=True,
    )
    def rollup_sums(
        context: dg.AssetCheckExecutionContext, tamarin_database: RecordDatabase
    ) -> Iterator[dg.AssetCheckResult]:
        engine = tamarin_database.open(settings)
        for slug in group_by_slug(context.selected_asset_check_keys):
            checked = check_sums(engine, skips=_get_other_buckets(buckets[slug], settings))
            wrong = checked.differences
            metadata: dict[str, Any] = {"days added up": checked.days, "days left for the next time": checked.left}
            if checked.failures:
                metadata["days that could not be added up"] = failure_rows(checked.failures)
            if wrong:
                metadata["differences"] = dg.MetadataValue.table(records=[_difference(each) for each in wrong[:SAMPLE]])
            yield check_result(ROLLUPS_ADD_UP, slug, not (wrong or checked.failures), metadata)

    return rollup_sums


def build_roll_up_job(settings: Settings, prefix: str = "") -> dg.JobDefinition:
    """Build the job that rolls up all pending days of all buckets.

    Those are the days that runs left for later, and the days that were loaded without Dagster.
    """

    @dg.op(
        name=make_name(prefix, "roll_up_days"),
        out=dg.Out(dg.Nothing),
        retry_policy=RETRY_POLICY,
        description="Rolls up each day whose records have changed.",
    )
    def roll_up_days(context: dg.OpExecutionContext, tamarin_database: RecordDatabase) -> None:
        engine = tamarin_database.open(settings)
        with cancellable():
            done = roll_up(
                engine,
                regions=settings.regions,
                limits=get_limits(settings),
                progress=log_roll_up(context.log),
            )
            failures = [*done.failures, *_refresh_dimensions(context.log, engine, settings)]
        context.add_output_metadata(_make_metadata(done))
        fail_for(context.log, failures)

    @dg.job(
        name=make_name(prefix, "roll_up_traffic"),
        description="Rolls up each day of all buckets whose records have changed since its last rollup.",
        executor_def=dg.in_process_executor,
    )
    def roll_up_traffic() -> None:
        roll_up_days()

    return roll_up_traffic


def build_roll_up_schedule(job: dg.JobDefinition, settings: Settings, prefix: str = "") -> dg.ScheduleDefinition:
    """Build the hourly schedule, which requests a run if any day is pending."""

    @dg.schedule(
        name=make_name(prefix, "roll_up_traffic_hourly"),
        job=job,
        # Not at the full hour, and not together with watch_buckets.
        cron_schedule="50 * * * *",
        execution_timezone="UTC",
        description="Rolls up the days that loads have left for later.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def roll_up_hourly(tamarin_database: RecordDatabase) -> dg.RunRequest | dg.SkipReason:
        with tamarin_database.open(settings).connect() as connection:
            days = len(pending_days(connection))
        return dg.RunRequest() if days else dg.SkipReason("all days are rolled up")

    return roll_up_hourly


def _refresh_dimensions(log: dg.DagsterLogManager, engine: sa.Engine, settings: Settings) -> list[DayFailure]:
    """Classify, price and look up new values, and return the days that failed.

    A wrong price file is only a warning here: it fails the job `classify_user_agents`.
    """
    try:
        return refresh_dimensions(engine, settings).failures
    except SettingsError as error:
        log.warning(f"the rollups are up to date, but agents, prices and networks are not: {error}")
        return []


def _is_loading_records(context: dg.AssetExecutionContext, slug: str) -> bool:
    """Return whether the run loads the bucket's records before its rollups. A direct call has no run."""
    try:
        job = context.job_def
    except dg.DagsterError:
        return False
    return records_key(slug) in job.asset_layer.executable_asset_keys


def _get_other_buckets(bucket: LoggedBucket, settings: Settings) -> list[str]:
    """Return the other configured buckets, which their own runs roll up.

    Bucket names that occur only in lines belong to nobody, so any run rolls them up.
    """
    return [each.name for each in settings.buckets if each is not bucket]


def _make_metadata(done: RolledUp) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "days rolled up": len(done.days),
        "requests": done.requests,
        "seconds": round(done.seconds, 2),
        "days left for later": done.waiting,
    }
    if done.kept:
        metadata["days that were skipped (expired, or rolled up by another run)"] = done.kept
    if done.days:
        rows = [
            dg.TableRecord({"bucket": each.bucket, "day": str(each.day), "requests": each.requests})
            for each in done.days[-SAMPLE:]
        ]
        metadata["days"] = dg.MetadataValue.table(records=rows)
    return metadata


def _difference(each: SumDifference) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "rollup": each.rollup,
            "bucket": each.bucket,
            "day": str(each.day),
            "requests": each.found.requests,
            "requests in records": each.records.requests,
            "bytes": each.found.bytes_sent,
            "bytes in records": each.records.bytes_sent,
            "errors": each.found.error_count,
            "errors in records": each.records.error_count,
        }
    )
