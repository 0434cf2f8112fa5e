"""The looks at all buckets: hourly at deliveries and traffic, nightly at the records of the last days.

A step per bucket would write some fifty rows for each into Dagster's storage each hour, most of them the same as an
hour before. So one step looks at all buckets, and a check that still passes is written again only after a while.
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
    names_by_slug,
)
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.completeness_checks import nightly_results, watch_results
from tamarin_dagster.orchestration.failures import held_back, raise_held_back
from tamarin_dagster.orchestration.naming import delivered_key, in_groups, named, traffic_key
from tamarin_dagster.orchestration.resources import LogBuckets, RecordDatabase
from tamarin_dagster.orchestration.schedules import RECONCILED_DAYS, status_of
from tamarin_dagster.orchestration.traffic_checks import ALARMS, alarm_check_specs, alarm_results
from tamarin_dagster.settings import LoggedBucket, Settings

# A check that passes, as it did before, is written again after so many seconds.
REPEAT_SECONDS = 6 * 3600


def build_watch_checks(
    buckets: Mapping[str, LoggedBucket], settings: Settings, prefix: str = ""
) -> list[dg.AssetChecksDefinition]:
    """Build the checks of the buckets as they are now, so that a person can run any of them in the UI.

    `buckets` are the buckets by their slugs. Groups of them share a step, of which a run takes what was chosen.
    """
    return [
        _build_watch_step(group, named(prefix, f"watch_{number}"), settings)
        for number, group in enumerate(in_groups(buckets), 1)
    ]


def _build_watch_step(buckets: Mapping[str, LoggedBucket], name: str, settings: Settings) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=name,
        specs=[
            spec
            for slug, bucket in buckets.items()
            for spec in (
                *(check_spec(name, bucket, slug) for name in (*WATCH_CHECKS, *NIGHTLY_CHECKS)),
                *alarm_check_specs(bucket, slug),
            )
        ],
        can_subset=True,
    )
    def watch(
        context: dg.AssetCheckExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> Iterator[dg.AssetCheckResult]:
        engine = tamarin_database.open(settings)
        for slug, wanted in names_by_slug(context.selected_asset_check_keys).items():
            bucket = buckets[slug]
            yield from _hourly_results(bucket, slug, settings, wanted, engine, tamarin_log_buckets)
            yield from nightly_results(bucket, slug, wanted, engine, _last_days(bucket))

    return watch


def build_watch_job(settings: Settings, slugs: Mapping[str, str], prefix: str = "") -> dg.JobDefinition:
    """Build the job that looks at all buckets hourly. Unmonitored ones may fall silent."""

    @dg.op(
        name=named(prefix, "look_at_buckets"),
        out=dg.Out(dg.Nothing),
        description="Looks at the deliveries and the traffic of each bucket, and writes the results of its checks.",
    )
    def look_at_buckets(
        context: dg.OpExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> None:
        engine = tamarin_database.open(settings)

        def look(bucket: LoggedBucket) -> Iterator[dg.AssetCheckResult]:
            wanted = {*WATCH_CHECKS, *ALARMS} - ({DELIVERY_FRESHNESS} if not bucket.monitor_bucket else set())
            yield from _hourly_results(bucket, slugs[bucket.name], settings, wanted, engine, tamarin_log_buckets)

        _look_at_all(context, settings.buckets, slugs, (*WATCH_CHECKS, *ALARMS), look)

    @dg.job(
        name=named(prefix, "watch_buckets"),
        description="Checks that monitored buckets get log keys, that deletions of log keys succeed, and that the"
        " traffic has no anomalies.",
        executor_def=dg.in_process_executor,
    )
    def watch_buckets() -> None:
        look_at_buckets()

    return watch_buckets


class LastDaysConfig(dg.Config):
    """The delivery days that are looked at: the last ones, if nothing is given."""

    first: str | None = Field(default=None, alias="from", description="First delivery day (UTC), like 2026-01-31.")
    last: str | None = Field(default=None, alias="to", description="Last delivery day (UTC), like 2026-01-31.")


def build_nightly_job(settings: Settings, slugs: Mapping[str, str], prefix: str = "") -> dg.JobDefinition:
    """Build the job that looks for duplicates and hidden records among the last days' records of all buckets."""

    @dg.op(
        name=named(prefix, "look_at_last_days"),
        out=dg.Out(dg.Nothing),
        description="Reads the records of the last days for what S3 delivered twice, and for records in records.",
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
        name=named(prefix, "check_last_days"),
        description=f"Looks for duplicates and hidden records in the records of the last {RECONCILED_DAYS} days.",
        executor_def=dg.in_process_executor,
    )
    def check_last_days() -> None:
        look_at_last_days()

    return check_last_days


def build_watch_schedule(job: dg.JobDefinition, settings: Settings, prefix: str = "") -> dg.ScheduleDefinition:
    """Build the hourly schedule, which runs if any bucket is monitored."""
    return dg.ScheduleDefinition(
        name=named(prefix, "watch_buckets_hourly"),
        job=job,
        # Off the full hour, when everything else starts.
        cron_schedule="25 * * * *",
        execution_timezone="UTC",
        description="Checks deliveries, deletions and traffic of all buckets.",
        default_status=status_of(settings.buckets),
    )


def build_nightly_schedule(job: dg.JobDefinition, settings: Settings, prefix: str = "") -> dg.ScheduleDefinition:
    """Build the schedule that comes after the nightly look for late log keys."""
    return dg.ScheduleDefinition(
        name=named(prefix, "check_last_days_nightly"),
        job=job,
        cron_schedule="15 4 * * *",
        execution_timezone="UTC",
        description="Looks for duplicates and hidden records among the last days' records.",
        default_status=status_of(settings.buckets),
    )


def _look_at_all(
    context: dg.OpExecutionContext,
    buckets: Iterable[LoggedBucket],
    slugs: Mapping[str, str],
    names: Collection[str],
    look: Callable[[LoggedBucket], Iterator[dg.AssetCheckResult]],
) -> None:
    """Write the results of each bucket's checks that are news. A bucket that fails does not stop the others."""
    known = _Known(context.instance, [key for slug in slugs.values() for key in _check_keys(slug, names)])
    looked = written = failing = 0
    failed: list[dg.Failure] = []
    for bucket in buckets:
        with cancellable(), held_back(failed, bucket):
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
    if not set(ALARMS).isdisjoint(wanted):
        yield from alarm_results(bucket, slug, settings, wanted, engine)


def _last_days(bucket: LoggedBucket, first: date | None = None, last: date | None = None) -> list[date]:
    """The delivery days from the first to the last: by default RECONCILED_DAYS of them, to today."""
    last = last or datetime.now(UTC).date()
    first = max(bucket.start_date, first or last - timedelta(days=RECONCILED_DAYS - 1))
    return [first + timedelta(days=number) for number in range((last - first).days + 1)] or [last]


def _check_keys(slug: str, names: Collection[str]) -> list[dg.AssetCheckKey]:
    return [
        dg.AssetCheckKey(traffic_key(slug) if name in ALARMS else delivered_key(slug), name) for name in sorted(names)
    ]


class _Known:
    """The newest result of each check, as Dagster has it."""

    def __init__(self, instance: dg.DagsterInstance, keys: list[dg.AssetCheckKey]) -> None:
        found = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys) if keys else {}
        old = time.time() - REPEAT_SECONDS
        self._passed = {
            key for key, record in found.items() if record.status.value == "SUCCEEDED" and record.create_timestamp > old
        }

    def is_news(self, result: dg.AssetCheckResult) -> bool:
        """Whether the result is to be written: it fails, or did not pass lately."""
        return not result.passed or _key_of(result) not in self._passed


def _evaluation(result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """Return the event that an asset check's own step would write."""
    key = _key_of(result)
    return dg.AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.passed,
        severity=result.severity,
        metadata=result.metadata,
        description=result.description,
    )


def _key_of(result: dg.AssetCheckResult) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(cast("dg.AssetKey", result.asset_key), str(result.check_name))
