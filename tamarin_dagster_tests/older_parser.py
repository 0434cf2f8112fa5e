"""Simulate an older parser: it has rejected lines that the current parser accepts as records."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any


def reject(
    rows: Callable[..., list[tuple[Any, ...]]],
    key: str,
    body: bytes,
    numbers: Sequence[int],
    reason: str = "bad_operation",
) -> None:
    """Turn the records of these lines of a loaded key into rejected lines, in the tables and in the ledger."""
    ((id_,),) = rows("SELECT id FROM s3_log_key WHERE key = :key AND superseded_at IS NULL", key=key)
    lines = body.split(b"\n")
    for number in numbers:
        line = lines[number - 1]
        taken = rows(
            "DELETE FROM s3_log_record WHERE log_key_id = :id AND line_number = :number RETURNING 1",
            id=id_,
            number=number,
        )
        assert taken == [(1,)]
        insert_rejected(rows, id_, number, line, reason)
    rows(
        "UPDATE s3_log_key SET record_count = record_count - :count, rejected_count = rejected_count + :count,"
        " first_request_dtime = (SELECT min(request_dtime) FROM s3_log_record WHERE log_key_id = :id),"
        " last_request_dtime = (SELECT max(request_dtime) FROM s3_log_record WHERE log_key_id = :id) WHERE id = :id",
        id=id_,
        count=len(numbers),
    )


def insert_rejected(
    rows: Callable[..., list[tuple[Any, ...]]], id_: int, number: int, line: bytes, reason: str = "bad_operation"
) -> None:
    """Stores a rejected line; the ledger does not count it."""
    rows(
        "INSERT INTO s3_rejected_line VALUES (:id, :number, :reason, :line, :bytes, :sha256)",
        id=id_,
        number=number,
        reason=reason,
        line=line,
        bytes=len(line),
        sha256=hashlib.sha256(line).digest(),
    )
