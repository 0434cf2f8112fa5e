"""What records mean, as SQL functions that views use: made from the definitions in `traffic`, which are in Python.

Each is one expression, so that Postgres writes it into the query in place of the call. `repeatable` makes them before
the views.
"""

from tamarin_dagster.traffic.operations import (
    BILLING,
    DELETES,
    ENCODED_ONCE,
    GET_PRICE,
    OPERATION_CLASSES,
    OTHER,
    READS,
)
from tamarin_dagster.traffic.requesters import ANONYMOUS_ID, ANONYMOUS_WORD


def quoted(value: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"


def _first_match(patterns: tuple[tuple[str, str], ...], otherwise: str) -> str:
    cases = " ".join(f"WHEN operation ~ {quoted(pattern)} THEN {quoted(meaning)}" for pattern, meaning in patterns)
    return f"CASE {cases} ELSE {quoted(otherwise)} END"


def _function(name: str, arguments: str, result: str, expression: str) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS {result}\n"
        f"LANGUAGE sql IMMUTABLE PARALLEL SAFE\nRETURN {expression}"
    )


_ONCE = " OR ".join(f"starts_with(operation, {quoted(beginning)})" for beginning in ENCODED_ONCE)

DEFINITIONS: dict[str, tuple[str, str]] = {
    name: (_function(name, arguments, result, expression), comment)
    for name, arguments, result, expression, comment in (
        (
            "s3_operation_class",
            "operation text",
            "text",
            _first_match(OPERATION_CLASSES, OTHER),
            "The class of an operation: read, list, write, delete, lifecycle or other.",
        ),
        (
            "s3_operation_billing",
            "operation text",
            "text",
            _first_match(BILLING, GET_PRICE),
            "What an operation is billed as: get, put, free, or a transition to a storage class.",
        ),
        (
            "s3_is_read",
            "operation text",
            "boolean",
            f"coalesce(operation ~ {quoted(READS)}, false)",
            "Whether an operation reads the content of an object.",
        ),
        (
            "s3_is_delete",
            "operation text",
            "boolean",
            f"coalesce(operation ~ {quoted(DELETES)}, false)",
            "Whether an operation deletes an object.",
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
"""The statement that makes each function, and its comment."""
