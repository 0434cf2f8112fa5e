"""The jobs that check all buckets: hourly their deliveries and traffic, nightly the records of the last days.

A step for each bucket would write about fifty rows into Dagster's storage each hour, and most results would be the same
as an hour before. So one step checks all buckets, and a check that still passes is written again only after
REPEAT_SECONDS.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import cast

import dagster as dg
import sqlalchemy as sa
from pydantic import Field

from tamarin_dagster.orchestration.asset_checks import (
    DELIVERY_FRESHNESS,
    NIGHTLY_CHECKS,
    WATCH_CHECKS,
    check_spec,
    group_by_slug,
)
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.completeness_checks import nightly_results, watch_results
from tamarin_dagster.orchestration.naming import delivered_key, make_name, split_into_groups, traffic_key
from tamarin_dagster.orchestration.resources import LogBuckets, RecordDatabase
from tamarin_dagster.orchestration.schedules import RECONCILED_DAYS, choose_default_status
from tamarin_dagster.orchestration.step_failures import hold_back, raise_held_back
from tamarin_dagster.orchestration.traffic_checks import ANOMALY_CHECKS, anomaly_check_specs, anomaly_results
from tamarin_dagster.settings import LoggedBucket, Settings

# If a check still passes, its result is written again after this time.
REPEAT_SECONDS = 6 * 3600


def build_watch_checks(
    buckets: Mapping[str, LoggedBucket], settings: Settings, prefix: str = ""
) -> list[dg.AssetChecksDefinition]:
    """Build the checks of the buckets' present state, so that people can run any of them in the UI.

    `buckets` are the buckets by their slugs. A group of buckets shares a step. A run executes the chosen checks only.
    """
    return [
        _build_watch_step(group, make_name(prefix, f"watch_{number}"), settings)
        for number, group in enumerate(split_into_groups(buckets), 1)
    ]


def _build_watch_step(buckets: Mapping[str, LoggedBucket], name: str, settings: Settings) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=name,
        specs=[
            spec
            for slug, bucket in buckets.items()
            for spec in (
                *(check_spec(name, bucket, slug) for name in (*WATCH_CHECKS, *NIGHTLY_CHECKS)),
                *anomaly_check_specs(bucket, slug),
            )
        ],
        can_subset=True,
    )
    def watch(
        context: dg.AssetCheckExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> Iterator[dg.AssetCheckResult]:
        engine = tamarin_database.open(settings)
        for slug, wanted in group_by_slug(context.selected_asset_check_keys).items():
            bucket = buckets[slug]
            yield from _hourly_results(bucket, slug, settings, wanted, engine, tamarin_log_buckets)
            yield from nightly_results(bucket, slug, wanted, engine, _last_days(bucket))

    return watch


def build_watch_job(settings: Settings, slugs: Mapping[str, str], prefix: str = "") -> dg.JobDefinition:
    """Build the job that checks all buckets hourly. It does not check the deliveries of unmonitored buckets."""

    @dg.op(
        name=make_name(prefix, "look_at_buckets"),
        out=dg.Out(dg.Nothing),
        description="Checks the deliveries and the traffic of each bucket, and writes the results.",
    )
    def look_at_buckets(
        context: dg.OpExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> None:
        engine = tamarin_database.open(settings)

        def look(bucket: LoggedBucket) -> Iterator[dg.AssetCheckResult]:
            wanted = {*WATCH_CHECKS, *ANOMALY_CHECKS} - ({DELIVERY_FRESHNESS} if not bucket.monitor_bucket else set())
            yield from _hourly_results(bucket, slugs[bucket.name], settings, wanted, engine, tamarin_log_buckets)

        _look_at_all(context, settings.buckets, slugs, (*WATCH_CHECKS, *ANOMALY_CHECKS), look)

    @dg.job(
        name=make_name(prefix, "watch_buckets"),
        description="Checks that monitored buckets get log keys, that deletions of log keys succeed, and that the"
        " traffic has no anomalies.",
        executor_def=dg.in_process_executor,
    )
    def watch_buckets() -> None:
        look_at_buckets()

    return watch_buckets


class LastDaysConfig(dg.Config):
    """The delivery days to check. The default is the last days."""

    first: str | None = Field(default=None, alias="from", description="First delivery day (UTC), like 2026-01-31.")
    last: str | None = Field(default=None, alias="to", description="Last delivery day (UTC), like 2026-01-31.")


def build_nightly_job(settings: Settings, slugs: Mapping[str, str], prefix: str = "") -> dg.JobDefinition:
    """Build the job that looks for duplicates and hidden records among the last days' records of all buckets."""

    @dg.op(
        name=make_name(prefix, "look_at_last_days"),
        out=dg.Out(dg.Nothing),
        description="Looks for duplicates and hidden records in the records of the last days.",
    )
    def look_at_last_days(
        context: dg.OpExecutionContext, config: LastDaysConfig, tamarin_database: RecordDatabase
    ) -> None:
        engine = tamarin_database.open(settings)
        try:
            first, last = (date.fromisoformat(day) if day else None for day in (config.first, config.last))
        except ValueError as error:
            raise dg.Failure(f"from and to must be days like 2026-01-31: {error}", allow_retries=False) from error

        def look(bucket: LoggedBucket) -> Iterator[dg.AssetCheckResult]:
            days = _last_days(bucket, first, last)
            yield from nightly_results(bucket, slugs[bucket.name], NIGHTLY_CHECKS, engine, days)

        _look_at_all(context, settings.buckets, slugs, NIGHTLY_CHECKS, look)

    @dg.job(
        name=make_name(prefix, "check_last_days"),
        description=f"Looks for duplicates and hidden records in the records of the last {RECONCILED_DAYS} days.",
        executor_def=dg.in_process_executor,
    )
    def check_last_days() -> None:
        look_at_last_days()

    return check_last_days


def build_watch_schedule(job: dg.JobDefinition, settings: Settings, prefix: str = "") -> dg.ScheduleDefinition:
    """Build the hourly schedule, which runs if any bucket is monitored."""
    return dg.ScheduleDefinition(
        name=make_name(prefix, "watch_buckets_hourly"),
        job=job,
        # Not at the full hour, when many other programs start.
        cron_schedule="25 * * * *",
        execution_timezone="UTC",
        description="Checks deliveries, deletions and traffic of all buckets.",
        default_status=choose_default_status(settings.buckets),
    )


def build_nightly_schedule(job: dg.JobDefinition, settings: Settings, prefix: str = "") -> dg.ScheduleDefinition:
    """Build the nightly schedule. It runs after late log keys are loaded."""
    return dg.ScheduleDefinition(
        name=make_name(prefix, "check_last_days_nightly"),
        job=job,
        cron_schedule="15 4 * * *",
        execution_timezone="UTC",
        description="Looks for duplicates and hidden records among the last days' records.",
        default_status=choose_default_status(settings.buckets),
    )


def _look_at_all(
    context: dg.OpExecutionContext,
    buckets: Iterable[LoggedBucket],
    slugs: Mapping[str, str],
    names: Collection[str],
    look: Callable[[LoggedBucket], Iterator[dg.AssetCheckResult]],
) -> None:
    """Check each bucket and write the results that are news. A bucket that fails does not stop the others."""
    known = _Known(context.instance, [key for slug in slugs.values() for key in _check_keys(slug, names)])
    looked = written = failing = 0
    failed: list[dg.Failure] = []
    for bucket in buckets:
        with cancellable(), hold_back(failed, bucket):
            for result in look(bucket):
                looked, failing = looked + 1, failing + (not result.passed)
                if known.is_news(result):
                    written += 1
                    context.log_event(_evaluation(result))  # type: ignore[arg-type]
                if not result.passed:
                    context.log.warning(f"{bucket.name}: {result.check_name} fails: {result.description or ''}")
    context.add_output_metadata({"checks": looked, "failing checks": failing, "written results": written})
    raise_held_back(failed)


def _hourly_results(
    bucket: LoggedBucket,
    slug: str,
    settings: Settings,
    wanted: Collection[str],
    engine: sa.Engine,
    log_buckets: LogBuckets,
) -> Iterator[dg.AssetCheckResult]:
    yield from watch_results(bucket, slug, settings.should_purge(bucket), wanted, engine, log_buckets)
    if not set(ANOMALY_CHECKS).isdisjoint(wanted):
        yield from anomaly_results(bucket, slug, settings, wanted, engine)


def _last_days(bucket: LoggedBucket, first: date | None = None, last: date | None = None) -> list[date]:
    """Return the delivery days from the first to the last. The default is the last RECONCILED_DAYS days."""
    last = last or datetime.now(UTC).date()
    first = max(bucket.start_date, first or last - timedelta(days=RECONCILED_DAYS - 1))
    return [first + timedelta(days=number) for number in range((last - first).days + 1)] or [last]


def _check_keys(slug: str, names: Collection[str]) -> list[dg.AssetCheckKey]:
    return [
        dg.AssetCheckKey(traffic_key(slug) if name in ANOMALY_CHECKS else delivered_key(slug), name)
        for name in sorted(names)
    ]


class _Known:
    """The checks that Dagster already shows as passed."""

    def __init__(self, instance: dg.DagsterInstance, keys: list[dg.AssetCheckKey]) -> None:
        found = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys) if keys else {}
        old = time.time() - REPEAT_SECONDS
        self._passed = {
            key for key, record in found.items() if record.status.value == "SUCCEEDED" and record.create_timestamp > old
        }

    def is_news(self, result: dg.AssetCheckResult) -> bool:
        """Return whether the result should be written: the check fails, or it did not pass recently."""
        return not result.passed or _get_check_key(result) not in self._passed


def _evaluation(result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """Return the event that the step of an asset check would write."""
    key = _get_check_key(result)
    return dg.AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.passed,
        severity=result.severity,
        metadata=result.metadata,
        description=result.description,
    )


def _get_check_key(result: dg.AssetCheckResult) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(cast("dg.AssetKey", result.asset_key), str(result.check_name))
