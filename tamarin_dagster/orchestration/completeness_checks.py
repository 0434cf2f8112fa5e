"""Checks of deliveries and deletions.

They find records that were delivered twice, records inside records, a silent bucket, and deletions that fail.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.orchestration.asset_checks import (
    DELIVERY_FRESHNESS,
    EACH_NAME_BELONGS_TO_A_DAY,
    NO_DUPLICATE_RECORDS,
    NO_FAILING_PURGES,
    NO_HIDDEN_RECORDS,
    SAMPLE,
    check_result,
    name_table,
)
from tamarin_dagster.orchestration.resources import LogBuckets
from tamarin_dagster.pipeline.discover import describe_strays, describe_unsearched, survey
from tamarin_dagster.recordstore import completeness
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, describe_cause, raise_if_lost
from tamarin_dagster.settings import LoggedBucket

# S3 does not promise how often it delivers, so the bucket's own past is the baseline, once there is enough of it.
MIN_DELIVERIES = 20
MIN_SPAN = timedelta(days=2)
# A busy bucket's gaps are minutes long, and S3 has slow hours.
MIN_SILENCE = timedelta(hours=1)
# The purge tries again each night. A log key that the second night did not delete needs a person.
PURGE_PATIENCE = timedelta(days=1)


def nightly_results(
    bucket: LoggedBucket, slug: str, wanted: Collection[str], engine: sa.Engine, days: Sequence[date]
) -> Iterator[dg.AssetCheckResult]:
    """Look for records that were delivered twice or that contain others, in the log keys of these delivery days.

    If the database refuses a query, that check fails, and the next check still runs.
    """

    def duplicates(connection: sa.Connection, day: date) -> dg.AssetCheckResult:
        return _duplicate_result(slug, completeness.find_duplicates(connection, bucket.name, day))

    def hidden_records(connection: sa.Connection, day: date) -> dg.AssetCheckResult:
        return _hidden_result(slug, completeness.find_hidden_records(connection, bucket.name, day))

    for name, look in ((NO_DUPLICATE_RECORDS, duplicates), (NO_HIDDEN_RECORDS, hidden_records)):
        if name not in wanted:
            continue
        try:
            with engine.connect() as connection:
                yield _sum_up({day: look(connection, day) for day in days})
        except DATABASE_ERRORS as error:
            raise_if_lost(error)
            text = f"it could not be checked: {describe_cause(error)}"
            yield check_result(name, slug, False, {"error": describe_cause(error)}, text)


def _sum_up(results: Mapping[date, dg.AssetCheckResult]) -> dg.AssetCheckResult:
    """Return one result for a check that has no partitions, from the results of several days.

    Numbers are added up. The rest is taken from the first day that failed, or from the first day. The check has no
    partitions because a partitioned check needs a partitioned asset, and the UI would show all partitions of an
    external asset as missing.
    """
    failing = {day: result for day, result in results.items() if not result.passed}
    first = next(iter((failing or results).values()))
    metadata = dict(first.metadata)
    for name, value in metadata.items():
        if isinstance(value, dg.IntMetadataValue):
            metadata[name] = dg.MetadataValue.int(
                sum(int(str(each.metadata[name].value)) for each in results.values() if name in each.metadata)
            )
    days = list(results)
    metadata["looked at"] = dg.MetadataValue.text(f"{days[0]} to {days[-1]}")
    if failing:
        metadata["failed for"] = dg.MetadataValue.text(", ".join(map(str, list(failing)[:SAMPLE])))
    return dg.AssetCheckResult(
        passed=not failing,
        asset_key=first.asset_key,
        check_name=first.check_name,
        severity=first.severity,
        metadata=metadata,
        description=first.description,
    )


def _duplicate_result(slug: str, found: completeness.Duplicates) -> dg.AssetCheckResult:
    """Return the result of NO_DUPLICATE_RECORDS for a day."""
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


def _hidden_result(slug: str, found: completeness.HiddenRecords) -> dg.AssetCheckResult:
    """Return the result of NO_HIDDEN_RECORDS for a day."""
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


def watch_results(
    bucket: LoggedBucket, slug: str, purges: bool, wanted: Collection[str], engine: sa.Engine, log_buckets: LogBuckets
) -> Iterator[dg.AssetCheckResult]:
    """Check that S3 still delivers, that deletions succeed, and that the log prefix contains no strays.

    `purges` says whether the bucket's log keys are deleted. If not, the check of deletions passes, even if earlier
    deletions failed.
    """
    now = datetime.now(UTC)
    with engine.connect() as connection:
        if DELIVERY_FRESHNESS in wanted:
            baseline = completeness.get_delivery_baseline(connection, bucket.name, now)
            yield _freshness_result(slug, baseline, now)
        if NO_FAILING_PURGES in wanted:
            failing = (
                completeness.find_failing_purges(connection, bucket.name, now - PURGE_PATIENCE) if purges else None
            )
            yield _purge_result(slug, failing)
    if EACH_NAME_BELONGS_TO_A_DAY in wanted:
        yield _stray_result(slug, bucket, log_buckets)


def _freshness_result(slug: str, baseline: completeness.DeliveryBaseline, now: datetime) -> dg.AssetCheckResult:
    metadata: dict[str, object] = {"deliveries": baseline.deliveries}
    if baseline.first is None or baseline.last is None or baseline.largest_gap is None:
        allowed = None
    else:
        metadata["last delivery"] = dg.MetadataValue.timestamp(baseline.last)
        metadata["largest gap"] = str(baseline.largest_gap)
        metadata["silent for"] = str(timedelta(seconds=int((now - baseline.last).total_seconds())))
        enough = baseline.deliveries >= MIN_DELIVERIES and baseline.last - baseline.first >= MIN_SPAN
        allowed = max(2 * baseline.largest_gap, MIN_SILENCE) if enough else None
    if allowed is None or baseline.last is None:
        return check_result(DELIVERY_FRESHNESS, slug, True, metadata, "too little history for a baseline")
    return check_result(
        DELIVERY_FRESHNESS,
        slug,
        now - baseline.last <= allowed,
        metadata | {"silence allowed": str(allowed)},
    )


def _stray_result(slug: str, bucket: LoggedBucket, log_buckets: LogBuckets) -> dg.AssetCheckResult:
    """Return the result for strays. If the log bucket cannot be listed, only this check and the sensor's ticks fail."""
    try:
        seen = survey(log_buckets.store(bucket), bucket)
    except LogStoreError as error:
        return check_result(
            EACH_NAME_BELONGS_TO_A_DAY, slug, False, {"error": str(error)}, "the log bucket could not be listed"
        )
    strays, metadata = seen.strays, dict[str, object](strays=len(seen.strays))
    said = [describe_strays(strays)] if strays else []
    if strays:
        metadata["names"] = name_table(strays)
    if seen.unsearched:
        metadata["folders not searched"] = name_table(seen.unsearched)
        said.append(describe_unsearched(seen))
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
