"""Per bucket the rollups of its traffic, and the checks that they add up; and the job that makes what is due of all."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.errors import DagsterInvalidPropertyError

from tamarin_dagster.analytics.checking import SumDifference, check_sums
from tamarin_dagster.analytics.dimensions import refresh_dimensions
from tamarin_dagster.analytics.rollups import RolledUp, RolledUpDay, limits_of, pending_days, roll_up
from tamarin_dagster.orchestration.asset_checks import (
    ROLLUPS_ADD_UP,
    SAMPLE,
    check_result,
    check_spec,
    chosen_periods,
    names_by_slug,
)
from tamarin_dagster.orchestration.assets import PROGRESS_SECONDS, RETRY_POLICY
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.failures import fail_for, failure_rows
from tamarin_dagster.orchestration.naming import group_of, in_groups, named, pool_of, records_key, rollups_key, slug_of
from tamarin_dagster.orchestration.partitions import backfill_policy, delivery_partitions
from tamarin_dagster.orchestration.resources import RecordDatabase
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
            f" {', '.join(f'`{table.name}`' for table in ROLLUPS)}.\n\nA partition's log keys hold requests of its day"
            " and the one before: each day of which records have come is summed up again, in one transaction. One that"
            " takes long is left for later while more is coming; `roll_up_traffic` makes it within the hour."
            " Materialized alone, it makes its days again."
        ),
        partitions_def=delivery_partitions(bucket),
        owners=list(bucket.owners),
        group_name=group_of(slug),
        kinds={"postgres"},
    )


def build_traffic_rollups(buckets: Mapping[str, LoggedBucket], settings: Settings) -> list[dg.AssetsDefinition]:
    """Build the assets that sum up the buckets' traffic: each day of requests whose records have changed.

    `buckets` are the buckets by their slugs.
    """

    @SharedStep
    def traffic_rollups(context: dg.AssetExecutionContext, tamarin_database: RecordDatabase) -> dg.MaterializeResult:  # type: ignore[type-arg]
        slug = slug_of(context.asset_key)
        bucket, periods = buckets[slug], chosen_periods(context)
        engine, others = tamarin_database.open(settings), _others(bucket, settings)
        alone = not _loads_records_too(context, slug)
        with cancellable():
            if alone:
                with engine.begin() as connection:
                    noted.note_delivered(connection, bucket.name, periods, others)
            done = roll_up(
                engine,
                regions=settings.regions,
                limits=limits_of(settings),
                skips=others,
                patient=not alone,
                progress=_progress_log(context.log),
            )
            failures = [*done.failures, *_refresh_dimensions(context.log, engine, settings)]
        fail_for(context.log, failures, own=bucket.name)
        return dg.MaterializeResult(metadata=_told(done))

    return [
        traffic_rollups.asset(
            _traffic_rollups_spec(bucket, slug),
            name=named(slug, "traffic_rollups"),
            backfill_policy=backfill_policy(bucket, settings),
            retry_policy=RETRY_POLICY,
            pool=pool_of(slug),
        )
        for slug, bucket in buckets.items()
    ]


def build_rollup_checks(
    buckets: Mapping[str, LoggedBucket], settings: Settings, prefix: str = ""
) -> list[dg.AssetChecksDefinition]:
    """Build the checks that each rollup adds up to the records, on all days rolled up since they were found right.

    `buckets` are the buckets by their slugs. Groups of them share a step, of which a run takes what was chosen.
    """
    return [
        _build_sums_step(group, named(prefix, f"rollup_sums_{number}"), settings)
        for number, group in enumerate(in_groups(buckets), 1)
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
        for slug in names_by_slug(context.selected_asset_check_keys):
            checked = check_sums(engine, skips=_others(buckets[slug], settings))
            wrong = checked.differences
            metadata: dict[str, Any] = {"days added up": checked.days, "days left for the next time": checked.left}
            if checked.failures:
                metadata["days that could not be added up"] = failure_rows(checked.failures)
            if wrong:
                metadata["differences"] = dg.MetadataValue.table(records=[_difference(each) for each in wrong[:SAMPLE]])
            yield check_result(ROLLUPS_ADD_UP, slug, not (wrong or checked.failures), metadata)

    return rollup_sums


def build_roll_up_job(settings: Settings, prefix: str = "") -> dg.JobDefinition:
    """Rolls up whatever is due, of all buckets: what runs left for later, and what was loaded without Dagster."""

    @dg.op(
        name=named(prefix, "roll_up_days"),
        out=dg.Out(dg.Nothing),
        retry_policy=RETRY_POLICY,
        description="Sums up each day whose records have changed.",
    )
    def roll_up_days(context: dg.OpExecutionContext, tamarin_database: RecordDatabase) -> None:
        engine = tamarin_database.open(settings)
        with cancellable():
            done = roll_up(
                engine,
                regions=settings.regions,
                limits=limits_of(settings),
                progress=_progress_log(context.log),
            )
            failures = [*done.failures, *_refresh_dimensions(context.log, engine, settings)]
        context.add_output_metadata(_told(done))
        fail_for(context.log, failures)

    @dg.job(
        name=named(prefix, "roll_up_traffic"),
        description="Makes the rollups of each day whose records have changed since, of all buckets.",
        executor_def=dg.in_process_executor,
    )
    def roll_up_traffic() -> None:
        roll_up_days()

    return roll_up_traffic


def build_roll_up_schedule(job: dg.JobDefinition, settings: Settings, prefix: str = "") -> dg.ScheduleDefinition:
    """Hourly, if anything is due."""

    @dg.schedule(
        name=named(prefix, "roll_up_traffic_hourly"),
        job=job,
        # Off the hour and away from the hourly look at the deliveries.
        cron_schedule="50 * * * *",
        execution_timezone="UTC",
        description="Makes the rollups that loads have left for later.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def roll_up_hourly(tamarin_database: RecordDatabase) -> dg.RunRequest | dg.SkipReason:
        with tamarin_database.open(settings).connect() as connection:
            days = len(pending_days(connection))
        return dg.RunRequest() if days else dg.SkipReason("all days are rolled up")

    return roll_up_hourly


def _refresh_dimensions(log: dg.DagsterLogManager, engine: sa.Engine, settings: Settings) -> list[DayFailure]:
    """What is to be known of new agents and addresses. A wrong file of prices fails the job that does only that.

    Returns the days that failed.
    """
    try:
        return refresh_dimensions(engine, settings).failures
    except SettingsError as error:
        log.warning(f"the rollups are made; agents, prices and networks are not up to date: {error}")
        return []


def _loads_records_too(context: dg.AssetExecutionContext, slug: str) -> bool:
    """Whether the run makes the bucket's records before its rollups. A direct call of the asset is in no run."""
    try:
        job = context.job_def
    except DagsterInvalidPropertyError:
        return False
    return records_key(slug) in job.asset_layer.executable_asset_keys


def _others(bucket: LoggedBucket, settings: Settings) -> list[str]:
    """The other configured buckets: their own runs roll them up. What only lines name is anybody's."""
    return [each.name for each in settings.buckets if each is not bucket]


def _told(done: RolledUp) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "days rolled up": len(done.days),
        "requests": done.requests,
        "seconds": round(done.seconds, 2),
        "days left for later": done.waiting,
    }
    if done.kept:
        metadata["days that needed nothing (expired, or rolled up elsewhere)"] = done.kept
    if done.days:
        rows = [
            dg.TableRecord({"bucket": each.bucket, "day": str(each.day), "requests": each.requests})
            for each in done.days[-SAMPLE:]
        ]
        metadata["days"] = dg.MetadataValue.table(records=rows)
    return metadata


class _progress_log:  # noqa: N801 - used as a function
    """Progress as lines in the run's log, at most one in PROGRESS_SECONDS."""

    def __init__(self, log: dg.DagsterLogManager) -> None:
        self._log = log
        self._last = time.monotonic()

    def __call__(self, day: RolledUpDay, left: int) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            self._log.info(f"{day.bucket}, {day.day}: {day.requests:,} requests rolled up; {left:,} days left")


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
