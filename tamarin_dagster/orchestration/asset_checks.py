"""The checks of a partition or of a whole bucket, and how their results reach each partition.

Some checks need to know what a load saw: the records asset itself returns their results. The others read only the
database and can be run alone: see partition_checks and completeness_checks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryPeriod, RejectReason
from tamarin_dagster.orchestration.delivery_partitions import delivery_partitions, parse_partition_keys, partition_key
from tamarin_dagster.orchestration.naming import archived_key, delivered_key, get_slug, records_key, rollups_key
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.completeness import BASELINE_DAYS
from tamarin_dagster.settings import LoggedBucket

EVERY_KEY_IS_LOADED = "every_log_key_is_loaded"
NO_STRAY_KEYS = "no_stray_keys"
READERS_AGREE = "readers_agree"
EVERY_LINE_IS_ACCOUNTED_FOR = "every_line_is_accounted_for"
ROWS_MATCH_THE_LEDGER = "rows_match_the_ledger"
NO_REJECTED_LINES = "no_rejected_lines"
ARCHIVE_MATCHES_THE_LEDGER = "archive_matches_the_ledger"
NO_DUPLICATE_RECORDS = "no_duplicate_records"
NO_HIDDEN_RECORDS = "no_hidden_records"
DELIVERY_FRESHNESS = "delivery_freshness"
NO_FAILING_PURGES = "no_failing_purges"
ROLLUPS_ADD_UP = "rollups_add_up"
EACH_NAME_BELONGS_TO_A_DAY = "each_name_belongs_to_a_day"

# The checks of each load. Looking for duplicates and hidden records is not among them, since it reads all records of a
# day, which takes seconds on a busy day.
LOAD_CHECKS = (
    EVERY_KEY_IS_LOADED,
    NO_STRAY_KEYS,
    READERS_AGREE,
    EVERY_LINE_IS_ACCOUNTED_FOR,
    ROWS_MATCH_THE_LEDGER,
    NO_REJECTED_LINES,
    ROLLUPS_ADD_UP,
)
ROW_COUNTS = (EVERY_LINE_IS_ACCOUNTED_FOR, ROWS_MATCH_THE_LEDGER, NO_REJECTED_LINES)
# Checks of the records of the last days. They run nightly.
NIGHTLY_CHECKS = (NO_DUPLICATE_RECORDS, NO_HIDDEN_RECORDS)
# Checks of the bucket's present state. They run hourly.
WATCH_CHECKS = (DELIVERY_FRESHNESS, NO_FAILING_PURGES, EACH_NAME_BELONGS_TO_A_DAY)

# The maximum number of names in an event. Further names are only counted.
SAMPLE = 20


@dataclass(frozen=True)
class _Truth:
    """A check. Its description says what must hold, and what to do if it fails."""

    description: str
    blocking: bool = False
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    partitioned: bool = True
    # The asset that is checked. Dagster hides a result when the asset is materialized again. Nothing materializes the
    # external asset of the deliveries, so the next load does not hide the results of hourly and nightly checks.
    asset: Callable[[str], dg.AssetKey] = records_key


_TRUTHS: Mapping[str, _Truth] = {
    EVERY_KEY_IS_LOADED: _Truth(
        "Each listed log key is in the ledger. If this fails, the metadata names the log keys that were skipped, with"
        " the reason. The sensor tries them again, and all others are loaded."
    ),
    NO_STRAY_KEYS: _Truth(
        "Each object with the prefix of the partition's log keys has the name of a log key. Other objects are strays:"
        " they are never read and never deleted. Move them elsewhere, or make log_prefix narrower.",
        severity=dg.AssetCheckSeverity.WARN,
    ),
    READERS_AGREE: _Truth(
        "The compiled reader and the regex reader agree on a sample of this run's lines. If this fails, the regex"
        " reader read the rest of the run, so its records are right. Lines of the same shape that were loaded earlier"
        " may be wrong. Report the masked line, and set `parser: regex` until a new version is released."
    ),
    EACH_NAME_BELONGS_TO_A_DAY: _Truth(
        "Each name under the log prefix belongs to a delivery day. Other names are strays: they are never read and"
        " never deleted. Move them elsewhere, or make log_prefix narrower. If all names are strays, log_prefix is"
        " wrong.",
        severity=dg.AssetCheckSeverity.WARN,
        partitioned=False,
        asset=delivered_key,
    ),
    EVERY_LINE_IS_ACCOUNTED_FOR: _Truth(
        "For each log key, lines = records + rejected + blank. If this fails, the ledger was changed by hand, and"
        " nothing is purged.",
        blocking=True,
    ),
    ROWS_MATCH_THE_LEDGER: _Truth(
        "Postgres holds as many rows of each log key as the ledger says. Expired log keys are not counted. If this"
        " fails, rows were deleted or added by hand, and nothing is purged. To load a log key again, delete its rows"
        " and its row in the ledger.",
        blocking=True,
    ),
    NO_REJECTED_LINES: _Truth(
        "Each line that is not blank became a record. Rejected lines are kept in s3_rejected_line with the reason; the"
        " samples here show letters as a and digits as 9. Their log keys stay in the log bucket unless purge_rejected"
        " is set. After an upgrade, the job reparse_rejected_lines parses them again.",
        severity=dg.AssetCheckSeverity.WARN,
    ),
    ARCHIVE_MATCHES_THE_LEDGER: _Truth(
        "The metadata of the archive's files of the day counts as many rows as the ledger has records of archived log"
        " keys. While log keys wait for the archive, it counts as many as were written. If this fails, the archive was"
        " changed, and nothing is purged. To write the day again, set archived_at to NULL for its log keys in"
        " s3_log_key.",
        blocking=True,
        asset=archived_key,
    ),
    NO_DUPLICATE_RECORDS: _Truth(
        "No record of the days' log keys occurs in another log key too. S3 may deliver a record twice: both rows are"
        " kept, and the view s3_duplicate_record shows them. If whole log keys occur twice, look for copies of them"
        " under the log prefix. The check counts nightly for the last days; the metadata names the days.",
        severity=dg.AssetCheckSeverity.WARN,
        partitioned=False,
        asset=delivered_key,
    ),
    NO_HIDDEN_RECORDS: _Truth(
        "No request URI, referrer or user agent of the days' records contains the beginning of another record. If this"
        " fails, a newline was lost, or a client wrote a record into its request. The line is one record in both cases,"
        " and the view s3_hidden_record shows it. If all lines of a log key are like that, look for a better copy. The"
        " check counts nightly for the last days; the metadata names the days.",
        severity=dg.AssetCheckSeverity.WARN,
        partitioned=False,
        asset=delivered_key,
    ),
    DELIVERY_FRESHNESS: _Truth(
        f"The last log key is not older than an hour, or than twice the largest gap of the last {BASELINE_DAYS} days."
        " Only loaded log keys count. If this fails, check that the bucket's sensor is on and its runs succeed, then"
        " run `tamarin-dagster doctor --bucket {bucket}`.",
        severity=dg.AssetCheckSeverity.WARN,
        partitioned=False,
        asset=delivered_key,
    ),
    NO_FAILING_PURGES: _Truth(
        "No deletion of a log key has failed for more than a day. If this fails, the metadata names the log key and the"
        " answer of the log bucket. Usually the permission s3:DeleteObject is missing (s3:DeleteObjectVersion if the"
        " bucket is versioned): grant it, or set purge_parsed_keys: false. The nightly purge tries again.",
        severity=dg.AssetCheckSeverity.WARN,
        partitioned=False,
        asset=delivered_key,
    ),
    ROLLUPS_ADD_UP: _Truth(
        "The requests, bytes and errors of each rollup of a day add up to those of its records. If this fails, rows"
        " were changed by hand. Materialize the partition alone, which rolls up its days again.",
        partitioned=False,
        asset=rollups_key,
    ),
}


def listing_check_specs(bucket: LoggedBucket, slug: str) -> list[dg.AssetCheckSpec]:
    """Return the specs of the checks whose results the records asset returns."""
    return [check_spec(name, bucket, slug) for name in (EVERY_KEY_IS_LOADED, NO_STRAY_KEYS, READERS_AGREE)]


def check_spec(name: str, bucket: LoggedBucket, slug: str) -> dg.AssetCheckSpec:
    """Return the Dagster spec of the check with this name."""
    truth = _TRUTHS[name]
    return dg.AssetCheckSpec(
        name,
        asset=truth.asset(slug),
        description=truth.description.replace("{bucket}", bucket.name),
        blocking=truth.blocking,
        partitions_def=delivery_partitions(bucket) if truth.partitioned else None,
    )


def check_keys(slug: str, *names: str) -> list[dg.AssetCheckKey]:
    """Return the Dagster keys of these checks of a bucket."""
    return [dg.AssetCheckKey(_TRUTHS[name].asset(slug), name) for name in names]


def group_by_slug(keys: Iterable[dg.AssetCheckKey]) -> dict[str, set[str]]:
    """Return the names of the checks by the slug of their bucket."""
    names: dict[str, set[str]] = {}
    for key in keys:
        names.setdefault(get_slug(key.asset_key), set()).add(key.name)
    return names


def check_result(
    name: str, slug: str, passed: bool, metadata: Mapping[str, Any], description: str | None = None
) -> dg.AssetCheckResult:
    """Return a result of the check, with the severity of the check."""
    return dg.AssetCheckResult(
        passed=passed,
        asset_key=_TRUTHS[name].asset(slug),
        check_name=name,
        severity=_TRUTHS[name].severity,
        metadata=dict(metadata),
        description=description,
    )


def log_per_partition(
    context: dg.OpExecutionContext, results: Mapping[DeliveryPeriod, Sequence[dg.AssetCheckResult]]
) -> list[dg.AssetCheckResult]:
    """Return the results that a step should return, so that each partition gets its own results.

    A run for one partition returns its results. In a run for a range, Dagster 1.13 would store one result without a
    partition and show the check of each partition as planned. So this logs an event for each partition, and returns
    the sums (which block if a blocking check failed for any partition).
    """
    if len(results) == 1:
        return list(next(iter(results.values())))
    summaries: dict[str, dg.AssetCheckResult] = {}
    for period, period_results in results.items():
        for result in period_results:
            name = str(result.check_name)
            _log_result(context, result, partition_key(period))
            before = summaries.get(name)
            failed = int(str(before.metadata["failed partitions"].value)) if before else 0
            failed += not result.passed
            summaries[name] = dg.AssetCheckResult(
                passed=not failed,
                asset_key=result.asset_key,
                check_name=name,
                severity=result.severity,
                metadata={"partitions": len(results), "failed partitions": failed},
            )
    return list(summaries.values())


def _log_result(context: dg.OpExecutionContext, result: dg.AssetCheckResult, partition: str) -> None:
    name = str(result.check_name)
    context.log_event(
        dg.AssetCheckEvaluation(  # type: ignore[arg-type]
            asset_key=cast("dg.AssetKey", result.asset_key),
            check_name=name,
            passed=result.passed,
            severity=result.severity,
            metadata=result.metadata,
            description=result.description,
            partition=partition,
            blocking=_TRUTHS[name].blocking,
        )
    )


def require_periods(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> list[DeliveryPeriod]:
    """Return the partitions of a run. Raises dg.Failure with a remedy if it has none; Dagster's error has no remedy."""
    if not (context.has_partition_key or context.has_partition_key_range):
        raise dg.Failure(
            "no partition was chosen, but a run needs delivery days: choose the partitions in the launch dialog, or"
            " give partition_key (nothing is loaded twice)",
            allow_retries=False,
        )
    return parse_partition_keys(context.partition_keys)


def row_count_results(
    connection: sa.Connection, bucket: LoggedBucket, slug: str, period: DeliveryPeriod
) -> list[dg.AssetCheckResult]:
    """Count a partition's rows in Postgres, compare them with the ledger, and return the results of ROW_COUNTS."""
    counts = ledger.read_period_counts(connection, bucket.name, period)
    unaccounted = ledger.list_unaccounted_keys(connection, bucket.name, period)
    differences = ledger.count_differences(connection, ledger.list_live_ids(connection, bucket.name, period))
    # Rejected lines of expired log keys are deleted, and nobody can do anything about them, so they do not count.
    reasons = ledger.count_rejected_reasons(connection, bucket.name, period) if counts.rejected else {}
    samples = ledger.list_rejected_samples(connection, bucket.name, period, SAMPLE) if reasons else []
    return [
        check_result(
            EVERY_LINE_IS_ACCOUNTED_FOR,
            slug,
            not unaccounted,
            {"lines": counts.lines, "records": counts.records, "rejected": counts.rejected, "blank": counts.blank}
            | ({"keys": unaccounted[:SAMPLE]} if unaccounted else {}),
        ),
        check_result(
            ROWS_MATCH_THE_LEDGER,
            slug,
            not differences,
            {"keys": counts.keys, "rows": counts.records}
            | ({"expired keys, not counted": counts.expired_keys} if counts.expired_keys else {})
            | ({"differences": _difference_table(differences)} if differences else {}),
        ),
        check_result(
            NO_REJECTED_LINES,
            slug,
            not reasons,
            {"rejected lines": sum(reasons.values()), "keys with rejected lines": counts.keys_with_rejected}
            | ({"reasons": _reason_table(reasons), "samples, masked": _sample_table(samples)} if reasons else {}),
        ),
    ]


def _reason_table(reasons: Mapping[str, int]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({"reason": reason, "lines": count, "what it means": RejectReason(reason).description})
            for reason, count in reasons.items()
        ]
    )


def _sample_table(samples: Sequence[ledger.RejectedSample]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {"key": s.key, "line": s.line_number, "reason": s.reason, "bytes": s.line_bytes, "shape": s.shape}
            )
            for s in samples
        ]
    )


def name_table(names: Sequence[str]) -> dg.TableMetadataValue:
    """Return a table of the first names, for metadata."""
    return dg.MetadataValue.table(records=[dg.TableRecord({"name": name}) for name in names[:SAMPLE]])


def _difference_table(differences: Sequence[ledger.CountDifference]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {
                    "key": d.key,
                    "records expected": d.expected_records,
                    "records found": d.found_records,
                    "rejected expected": d.expected_rejected,
                    "rejected found": d.found_rejected,
                }
            )
            for d in differences[:SAMPLE]
        ]
    )
