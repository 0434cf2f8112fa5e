"""Jobs for all buckets: purge pending log keys, parse rejected lines again, and drop records after retention_months.

Runs of a bucket's assets do not have a job of their own: see selections.
"""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
from pydantic import Field

from tamarin_dagster.analytics.rollups import get_limits, roll_up
from tamarin_dagster.logstore.archiving import place_name
from tamarin_dagster.orchestration.archive_assets import build_archive_failures_op
from tamarin_dagster.orchestration.asset_checks import SAMPLE
from tamarin_dagster.orchestration.assets import RETRY_POLICY, failure_table
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.naming import make_name
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.orchestration.step_failures import hold_back, raise_held_back
from tamarin_dagster.pipeline.reparse import Reparsed, reparse_bucket
from tamarin_dagster.pipeline.retain import (
    describe_owed,
    describe_unpurged,
    expire,
    find_first_kept_day,
    make_lake_proof,
)
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError


def build_purge_job(
    purge_log_keys: dg.OpDefinition, archive_log_records: dg.OpDefinition | None, prefix: str = ""
) -> dg.JobDefinition:
    """Build the job that purges all loaded log keys of all buckets and days that an earlier purge could not delete.

    If any bucket has an archive, the job first archives all pending records.
    """
    report_archive_failures = build_archive_failures_op(prefix)

    @dg.job(
        name=make_name(prefix, "purge_pending_log_keys"),
        description="Deletes all log keys that are still in the log bucket and are proved loaded, of every bucket that"
        " purges.",
        executor_def=dg.in_process_executor,
    )
    def purge_pending_log_keys() -> None:
        if archive_log_records is None:
            purge_log_keys()
        else:
            failures = archive_log_records()
            report_archive_failures(failures, purged=purge_log_keys(failures))

    return purge_pending_log_keys


def build_expire_job(settings: Settings, months: int, prefix: str = "") -> dg.JobDefinition:
    """Build the job that drops the months of records that are older than retention_months."""

    @dg.op(
        name=make_name(prefix, "drop_old_months"),
        out=dg.Out(dg.Nothing),
        retry_policy=RETRY_POLICY,
        description="Marks log keys as expired in the ledger, then drops whole monthly partitions of records.",
    )
    def drop_old_months(context: dg.OpExecutionContext, tamarin_database: RecordDatabase) -> None:
        engine = tamarin_database.open(settings)
        with cancellable():
            # Rollups stay when their records are dropped, so they must be complete. Other days do not matter here.
            first_kept = find_first_kept_day(months, datetime.now(UTC).date())
            rolled_up = roll_up(
                engine,
                regions=settings.regions,
                limits=get_limits(settings),
                last=first_kept - timedelta(days=1),
            )
            archives = {name: place_name(url) for name, url in settings.archives().items()}
            done = expire(engine, months, archives=archives, proof=make_lake_proof(settings, engine))
        context.log.info(str(done))
        for bucket in settings.buckets:
            if settings.should_purge(bucket) and (left := done.unpurged.get(bucket.name)):
                context.log.warning(describe_unpurged(bucket.name, left))
        context.add_output_metadata(
            {
                "kept from": done.first_kept.isoformat(),
                "dropped partitions": [partition.name for partition in done.partitions],
                "dropped bytes": done.bytes,
                "keys marked as expired": done.keys,
                "deleted rejected lines": done.rejected_lines,
                "expired keys still in the log bucket": sum(done.unpurged.values()),
                "keys waiting for the archive": sum(owed.keys for owed in done.owed),
            }
        )
        for failure in rolled_up.failures:
            context.log.error(str(failure))
        if stays := [*map(str, done.kept_back), *map(describe_owed, done.owed)]:
            raise dg.Failure("; ".join(stays), allow_retries=False)

    @dg.job(
        name=make_name(prefix, "expire_old_records"),
        description=f"Drops the records that are older than the current month and the {months} months before it.",
        executor_def=dg.in_process_executor,
    )
    def expire_old_records() -> None:
        drop_old_months()

    return expire_old_records


class ReparseConfig(dg.Config):
    """Which rejected lines to parse again. The default is those of all buckets and days."""

    bucket: str | None = Field(default=None, description="Only this logged bucket.")
    first: str | None = Field(default=None, alias="from", description="First delivery day (UTC), like 2026-01-31.")
    last: str | None = Field(default=None, alias="to", description="Last delivery day (UTC), like 2026-01-31.")


def build_reparse_job(settings: Settings, prefix: str = "") -> dg.JobDefinition:
    """Build the job that moves rejected lines into the records if the current parser can read them.

    Run it after an upgrade.
    """

    @dg.op(
        name=make_name(prefix, "reparse_lines"),
        out=dg.Out(dg.Nothing),
        retry_policy=RETRY_POLICY,
        description="Parses rejected lines again and moves those that are records now, in one transaction per log key.",
    )
    def reparse_lines(context: dg.OpExecutionContext, config: ReparseConfig, tamarin_database: RecordDatabase) -> None:
        buckets, first, last = _select(settings, config)
        reparsed = []
        failed: list[dg.Failure] = []
        for bucket in buckets:
            with cancellable(), hold_back(failed, bucket):
                done = reparse_bucket(
                    bucket,
                    tamarin_database.open(settings),
                    first=first,
                    last=last,
                    redacts=settings.redact_query_secrets,
                    parser=settings.parser,
                )
                reparsed.append(done)
                context.log.info(f"{bucket.name}: {done}")
        failures = [failure for done in reparsed for failure in done.failures]
        for failure in failures[:SAMPLE]:
            context.log.warning(f"{failure.key} was not changed: {failure.error}")
        context.add_output_metadata(
            _counts(reparsed) | ({"why they failed": failure_table(failures)} if failures else {})
        )
        raise_held_back(failed)

    @dg.job(
        name=make_name(prefix, "reparse_rejected_lines"),
        description="Parses the rejected lines of all buckets again, and moves those that are records now.",
        executor_def=dg.in_process_executor,
    )
    def reparse_rejected_lines() -> None:
        reparse_lines()

    return reparse_rejected_lines


def _select(settings: Settings, config: ReparseConfig) -> tuple[list[LoggedBucket], date | None, date | None]:
    """Return the buckets and days of a run. Raises dg.Failure with the allowed values if one is wrong."""
    try:
        buckets = [settings.bucket(config.bucket)] if config.bucket else list(settings.buckets)
        first, last = (date.fromisoformat(day) if day else None for day in (config.first, config.last))
    except SettingsError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except ValueError as error:
        raise dg.Failure(f"from and to must be days like 2026-01-31: {error}", allow_retries=False) from error
    return buckets, first, last


def _counts(reparsed: list[Reparsed]) -> dict[str, object]:
    def total(name: str) -> int:
        return sum(getattr(done, name) for done in reparsed)

    return {
        "keys with rejected lines": total("keys"),
        "changed keys": total("changed"),
        "lines": total("lines"),
        "lines that are records now": total("moved"),
        "lines still rejected": total("rejected"),
        "lines with another reason": total("reasons_changed"),
        "oversized lines skipped": total("oversized"),
        "failed keys": sum(len(done.failures) for done in reparsed),
    }
