"""What records and rollups mean, as SQL functions that views use: made from the definitions in `traffic`, in Python.

Those of records are one expression each, so that Postgres writes it into the query in place of the call. `repeatable`
makes all of them before the views.
"""

from tamarin_dagster.settings.models import DEFAULT_ALARM_THRESHOLD
from tamarin_dagster.traffic.baseline import (
    MAD_TO_SIGMA,
    MIN_BYTES_RISE,
    MIN_DAYS,
    MIN_MULTIPLE,
    MIN_REQUESTS_RISE,
    MIN_WEEKS,
)
from tamarin_dagster.traffic.operations import CHANGES, DOWNLOADS, ENCODED_ONCE
from tamarin_dagster.traffic.requesters import ANONYMOUS_ID, ANONYMOUS_WORD


def quoted(value: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"


def _first_match(patterns: tuple[tuple[str, str], ...]) -> str:
    cases = " ".join(f"WHEN operation ~ {quoted(pattern)} THEN {quoted(meaning)}" for pattern, meaning in patterns)
    return f"CASE {cases} END"


def _function(name: str, arguments: str, result: str, expression: str) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS {result}\n"
        f"LANGUAGE sql IMMUTABLE PARALLEL SAFE\nRETURN {expression}"
    )


_KNOWN_DAYS = """\
CREATE OR REPLACE FUNCTION s3_known_days(of_bucket text, first_day date, last_day date) RETURNS SETOF date
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CAST(day.start AS date)
    FROM generate_series(CAST(first_day AS timestamp), CAST(last_day AS timestamp), interval '1 day') AS day (start)
    CROSS JOIN (
        SELECT CAST(min(t.rolled_up_at) AT TIME ZONE 'UTC' AS date) AS first
        FROM traffic_day t
        WHERE t.bucket = of_bucket
    ) watched
    WHERE EXISTS (SELECT 1 FROM traffic_day t WHERE t.bucket = of_bucket AND t.request_date = CAST(day.start AS date))
       OR (
            day.start > watched.first
            AND NOT EXISTS (
                SELECT 1 FROM traffic_pending_day p
                WHERE coalesce(p.bucket, of_bucket) = of_bucket AND p.request_date = CAST(day.start AS date)
            )
            AND NOT EXISTS (
                SELECT 1 FROM traffic_part p
                WHERE p.bucket = of_bucket AND p.request_date = CAST(day.start AS date) AND NOT p.is_merged
            )
        );
END"""

# The numbers are our own.
_BASELINE = f"""\
CREATE OR REPLACE FUNCTION s3_baseline(
    of_measure text,
    of_days double precision[],
    of_weeks double precision[],
    threshold double precision DEFAULT {DEFAULT_ALARM_THRESHOLD}
)
RETURNS TABLE (usual double precision, deviation double precision, upper_limit double precision)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        middle.median,
        spread.deviation,
        greatest(
            middle.median + threshold * {MAD_TO_SIGMA} * spread.deviation,
            middle.median
                + CASE of_measure WHEN 'requests' THEN {MIN_REQUESTS_RISE} WHEN 'bytes_sent' THEN {MIN_BYTES_RISE} END,
            {MIN_MULTIPLE} * middle.median
        ) AS upper_limit
    FROM (VALUES (1, of_days, {MIN_DAYS}), (2, of_weeks, {MIN_WEEKS})) AS past (nth, sums, needed)
    CROSS JOIN LATERAL (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY each.value) AS median
        FROM unnest(past.sums) AS each (value)
    ) middle
    CROSS JOIN LATERAL (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(each.value - middle.median)) AS deviation
        FROM unnest(past.sums) AS each (value)
    ) spread
    WHERE cardinality(of_days) >= {MIN_DAYS} AND cardinality(past.sums) >= past.needed
    ORDER BY upper_limit DESC, past.nth
    LIMIT 1;
END"""  # noqa: S608

_ONCE = " OR ".join(f"starts_with(operation, {quoted(beginning)})" for beginning in ENCODED_ONCE)

DEFINITIONS: dict[str, tuple[str, str]] = {
    name: (_function(name, arguments, result, expression), comment)
    for name, arguments, result, expression, comment in (
        (
            "s3_is_download",
            "operation text",
            "boolean",
            f"coalesce(operation ~ {quoted(DOWNLOADS)}, false)",
            "Whether an operation sends the content of an object to somebody.",
        ),
        (
            "s3_object_change",
            "operation text",
            "text",
            _first_match(CHANGES),
            "How an operation changes an object: write, copy, delete or expire; null if it does not.",
        ),
        (
            "s3_is_error",
            "http_status smallint, error_code text",
            "boolean",
            "coalesce(http_status >= 400 OR http_status BETWEEN 200 AND 299 AND error_code IS NOT NULL, false)",
            "Whether a request failed: a status of 4xx or 5xx, or a 2xx with an error code.",
        ),
        (
            "s3_is_anonymous",
            "requester text",
            "boolean",
            f"requester IS NULL OR requester = {quoted(ANONYMOUS_ID)} OR lower(requester) = {quoted(ANONYMOUS_WORD)}",
            "Whether a requester, as logged, was not authenticated.",
        ),
        (
            "s3_rest_key",
            "key text, operation text",
            "text",
            f"CASE WHEN {_ONCE} THEN replace(key, '%', '%25') ELSE key END",
            "An object key as REST operations spell it: S3.* and BATCH.* operations log keys encoded once, not twice.",
        ),
    )
}
DEFINITIONS["s3_known_days"] = (_KNOWN_DAYS, "The UTC days of a bucket whose traffic is known, loaded or without any.")
DEFINITIONS["s3_baseline"] = (_BASELINE, "What is usual for an hour, and the limit above which it is an anomaly.")
"""The statement that makes each function, and its comment."""
