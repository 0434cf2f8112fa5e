"""Checks of what S3 delivers and lets us delete.

Records delivered twice, records inside of records, a bucket gone silent, deletions that fail.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.defs.asset_checks import (
    DELIVERIES_KEEP_THEIR_HABIT,
    EACH_NAME_BELONGS_TO_A_DAY,
    NO_DUPLICATE_RECORDS,
    NO_FAILING_PURGES,
    NO_HIDDEN_RECORDS,
    SAMPLE,
    WATCH_CHECKS,
    check_result,
    check_spec,
    chosen_periods,
    isolated_results,
    name_table,
    per_partition,
)
from tamarin_dagster.defs.resources import LogBuckets, RecordDatabase
from tamarin_dagster.discovery import count_strays, not_searched, survey
from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.recordstore import completeness
from tamarin_dagster.settings import LoggedBucket

# S3 says of no bucket how often it delivers, so a bucket's own past is the measure, once there is enough of it.
HABIT_DELIVERIES = 20
HABIT_SPAN = timedelta(days=2)
# A busy bucket's gaps are minutes long, and S3 has slow hours.
LEAST_SILENCE = timedelta(hours=1)
# Each night's purge tries again: what a second night has not deleted wants a person.
PURGE_PATIENCE = timedelta(days=1)


def build_duplicate_check(bucket: LoggedBucket, slug: str) -> dg.AssetChecksDefinition:
    """Whether S3 delivered any of a partition's records twice: a step of its own, since it takes longest."""

    def look(connection: sa.Connection, period: DeliveryPeriod) -> dg.AssetCheckResult:
        return _duplicate_result(slug, completeness.duplicates_of(connection, bucket.name, period))

    return _check_of_each_partition(bucket, slug, f"{slug}__duplicates", NO_DUPLICATE_RECORDS, look)


def _check_of_each_partition(
    bucket: LoggedBucket,
    slug: str,
    step: str,
    name: str,
    look: Callable[[sa.Connection, DeliveryPeriod], dg.AssetCheckResult],
) -> dg.AssetChecksDefinition:
    """Build one check that looks at the database for each partition of a run, in a step of its own."""

    @dg.multi_asset_check(name=step, specs=[check_spec(name, bucket, slug)], pool=f"tamarin_{slug}")
    def check(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[RecordDatabase]
    ) -> Iterator[dg.AssetCheckResult]:
        results = {
            period: isolated_results(database, slug, (name,), partial(_looked_at, look, period))
            for period in chosen_periods(context.op_execution_context)
        }
        yield from per_partition(context.op_execution_context, results)

    return check


def _looked_at(
    look: Callable[[sa.Connection, DeliveryPeriod], dg.AssetCheckResult],
    period: DeliveryPeriod,
    connection: sa.Connection,
) -> list[dg.AssetCheckResult]:
    return [look(connection, period)]


def _duplicate_result(slug: str, found: completeness.Duplicates) -> dg.AssetCheckResult:
    rows = [
        dg.TableRecord(
            {
                "requested": f"{each.request_dtime.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
                "request id": each.request_id,
                "extra copies": each.copies,
                "log keys": ", ".join(each.log_keys[:SAMPLE]),
            }
        )
        for each in found.samples
    ]
    return check_result(
        NO_DUPLICATE_RECORDS,
        slug,
        not found.copies,
        {"extra copies": found.copies, "records with copies": found.records}
        | ({"samples": dg.MetadataValue.table(records=rows)} if rows else {}),
    )


def build_hidden_record_check(bucket: LoggedBucket, slug: str) -> dg.AssetChecksDefinition:
    """Build the check whether any of a partition's records holds the beginning of another one."""

    def look(connection: sa.Connection, period: DeliveryPeriod) -> dg.AssetCheckResult:
        return _hidden_result(slug, completeness.hidden_records_of(connection, bucket.name, period))

    return _check_of_each_partition(bucket, slug, f"{slug}__hidden_records", NO_HIDDEN_RECORDS, look)


def _hidden_result(slug: str, found: completeness.HiddenRecords) -> dg.AssetCheckResult:
    rows = [
        dg.TableRecord(
            {
                "requested": f"{each.request_dtime.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
                "log key": each.log_key,
                "line": each.line_number,
                "hidden records": each.hidden_records,
                "columns": ", ".join(each.fields),
            }
        )
        for each in found.samples
    ]
    return check_result(
        NO_HIDDEN_RECORDS,
        slug,
        not found.records,
        {"records that hold others": found.records, "hidden records": found.hidden_records}
        | ({"samples": dg.MetadataValue.table(records=rows)} if rows else {}),
    )


def build_watch_checks(bucket: LoggedBucket, slug: str, purges: bool) -> dg.AssetChecksDefinition:
    """Whether deliveries go on, deletions succeed and nothing else lies there: of the bucket as it is, not of any day.

    `purges`: whether its log keys are meant to be deleted; else nothing fails, whatever did before that was set.
    """

    @dg.multi_asset_check(
        name=f"{slug}__watch",
        specs=[check_spec(name, bucket, slug) for name in WATCH_CHECKS],
        can_subset=True,
    )
    def watch(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[RecordDatabase],
        log_buckets: dg.ResourceParam[LogBuckets],
    ) -> Iterator[dg.AssetCheckResult]:
        now = datetime.now(UTC)
        wanted = {key.name for key in context.selected_asset_check_keys}
        with database.engine.connect() as connection:
            if DELIVERIES_KEEP_THEIR_HABIT in wanted:
                habit = completeness.delivery_habit(connection, bucket.name, now)
                yield _habit_result(slug, habit, now)
            if NO_FAILING_PURGES in wanted:
                failing = completeness.failing_purges(connection, bucket.name, now - PURGE_PATIENCE) if purges else None
                yield _purge_result(slug, failing)
        if EACH_NAME_BELONGS_TO_A_DAY in wanted:
            yield _stray_result(slug, bucket, log_buckets)

    return watch


def _habit_result(slug: str, habit: completeness.DeliveryHabit, now: datetime) -> dg.AssetCheckResult:
    metadata: dict[str, object] = {"deliveries": habit.deliveries}
    if habit.first is None or habit.last is None or habit.largest_gap is None:
        allowed = None
    else:
        metadata["last delivery"] = dg.MetadataValue.timestamp(habit.last)
        metadata["largest gap"] = str(habit.largest_gap)
        metadata["silent for"] = str(timedelta(seconds=int((now - habit.last).total_seconds())))
        enough = habit.deliveries >= HABIT_DELIVERIES and habit.last - habit.first >= HABIT_SPAN
        allowed = max(2 * habit.largest_gap, LEAST_SILENCE) if enough else None
    if allowed is None or habit.last is None:
        return check_result(DELIVERIES_KEEP_THEIR_HABIT, slug, True, metadata, "too little history to tell a habit")
    return check_result(
        DELIVERIES_KEEP_THEIR_HABIT,
        slug,
        now - habit.last <= allowed,
        metadata | {"silence allowed": str(allowed)},
    )


def _stray_result(slug: str, bucket: LoggedBucket, log_buckets: LogBuckets) -> dg.AssetCheckResult:
    """A log bucket that cannot be listed fails this check alone; its sensor's ticks fail too."""
    try:
        seen = survey(log_buckets.store(bucket), bucket)
    except LogStoreError as error:
        return check_result(EACH_NAME_BELONGS_TO_A_DAY, slug, False, {"error": str(error)}, "it could not be looked at")
    strays, metadata = seen.strays, dict[str, object](strays=len(seen.strays))
    said = [f"{count_strays(strays)} stray(s)"] if strays else []
    if strays:
        metadata["names"] = name_table(strays)
    if seen.unsearched:
        metadata["folders not searched"] = name_table(seen.unsearched)
        said.append(not_searched(seen))
    return check_result(EACH_NAME_BELONGS_TO_A_DAY, slug, not said, metadata, "; ".join(said) or None)


def _purge_result(slug: str, failing: completeness.FailingPurges | None) -> dg.AssetCheckResult:
    if failing is None:
        return check_result(NO_FAILING_PURGES, slug, True, {}, "purge_parsed_keys is off: nothing is deleted")
    rows = [
        dg.TableRecord(
            {"key": each.key, "error": each.error, "since": f"{each.since.astimezone(UTC):%Y-%m-%d %H:%M:%S}"}
        )
        for each in failing.samples
    ]
    return check_result(
        NO_FAILING_PURGES,
        slug,
        not failing.keys,
        {"keys": failing.keys} | ({"failing": dg.MetadataValue.table(records=rows)} if rows else {}),
    )
