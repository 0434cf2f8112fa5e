"""The rejected lines of loaded keys: found, read again in chunks, and moved into the records."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import cast

import psycopg
import sqlalchemy as sa

from tamarin_dagster.logformat import ParsedLogs, RejectReason
from tamarin_dagster.recordstore.loading import copy_parsed
from tamarin_dagster.recordstore.parts import parts_of, store
from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_rejected_line

# A key may hold hundreds of thousands of rejected lines, each of up to 1 MiB. What is handed on at a time is bounded by
# both: lines cost memory in Python, bytes in the parser. Larger chunks were no faster.
CHUNK_BYTES = 8 * 1024 * 1024
CHUNK_LINES = 20_000
# Lines in one answer of the server's: with 10 short ones reading took twice as long, with 500 no less; long ones may
# make 1 MiB each.
FETCH_LINES = 50

# Retention has dropped records of an expired key; no others of it are to come.
_LIVE = sa.and_(s3_log_key.c.superseded_at.is_(None), s3_log_key.c.expired_at.is_(None))


@dataclass(frozen=True, slots=True)
class RejectedKey:
    """A live generation of a log key that has rejected lines and did not expire, with the id of its ledger row."""

    id: int
    key: str
    log_bucket_name: str
    delivery_date: date


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A rejected line as it is stored. `line` is None if it cannot be read again: only its start is stored, or it is
    torn, which it was known by from the lines around it.
    """

    line_number: int
    reason: str
    line: bytes | None


def keys_with_rejected_lines(
    connection: sa.Connection, bucket: str, first: date | None, last: date | None, limit: int, after: int = 0
) -> list[RejectedKey]:
    """The bucket's live, unexpired keys that have rejected lines, in the order of their ids from `after` on.

    `first` and `last` are delivery days; None leaves that end open.
    """
    key = s3_log_key.c
    statement = (
        sa.select(key.id, key.key, key.log_bucket_name, key.delivery_date)
        .where(key.bucket == bucket, _LIVE, key.rejected_count > 0, key.id > after)
        .order_by(key.id)
        .limit(limit)
    )
    if first is not None:
        statement = statement.where(key.delivery_date >= first)
    if last is not None:
        statement = statement.where(key.delivery_date <= last)
    return [RejectedKey(*row) for row in connection.execute(statement)]


def stored_lines(connection: sa.Connection, key_id: int) -> Generator[list[StoredLine]]:
    """The key's rejected lines in the order of their numbers, in chunks of about CHUNK_BYTES and at most CHUNK_LINES.

    They are those at the first chunk, whatever is deleted between two. To be closed before the transaction ends.
    """
    line = s3_rejected_line.c
    is_whole = sa.and_(line.line_bytes == sa.func.octet_length(line.line), line.reason != str(RejectReason.TORN))
    whole = sa.case((is_whole, line.line)).label("line")
    statement = (
        sa.select(line.line_number, line.reason, whole).where(line.log_key_id == key_id).order_by(line.line_number)
    )
    chunk: list[StoredLine] = []
    size = 0
    # A cursor of the server's: a query per chunk would sort the whole key for each, while it has no statistics.
    with connection.execute(statement, execution_options={"yield_per": FETCH_LINES}) as rows:
        for row in rows:
            chunk.append(StoredLine(row.line_number, row.reason, row.line))
            size += len(row.line or b"")
            if size >= CHUNK_BYTES or len(chunk) == CHUNK_LINES:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk


def lock(connection: sa.Connection, key: RejectedKey) -> bool:
    """Keeps all others from the key until the transaction ends; whether it is still live, and has not expired.

    A load that supersedes it locks the same row.
    """
    statement = sa.select(s3_log_key.c.id).where(s3_log_key.c.id == key.id, _LIVE).with_for_update()
    return connection.scalar(statement) is not None


def move(
    connection: sa.Connection,
    key_id: int,
    line_numbers: Sequence[int],
    parsed: ParsedLogs,
    *,
    bucket: str,
    region: str | None,
) -> None:
    """Takes these rejected lines of the key out, and puts the records of `parsed` in: one for each of them.

    Their sums are added, too; `bucket` and `region` are the logged bucket's, see `parts_of`.
    """
    if not line_numbers:
        return
    line = s3_rejected_line.c
    statement = sa.delete(s3_rejected_line).where(line.log_key_id == key_id, line.line_number == sa.any_(_NUMBERS))
    connection.execute(statement, {"numbers": list(line_numbers)})
    cursor = cast("psycopg.Cursor", connection.connection.cursor())
    records = copy_parsed(cursor, parsed, [key_id] * len(parsed.counts))
    store(connection, parts_of(records, bucket, region))


def change_reasons(connection: sa.Connection, key_id: int, reasons: Mapping[str, Sequence[int]]) -> None:
    """Gives rejected lines of the key another reason: `reasons` has the numbers of the lines for each."""
    line = s3_rejected_line.c
    for reason, line_numbers in reasons.items():
        statement = (
            sa.update(s3_rejected_line)
            .where(line.log_key_id == key_id, line.line_number == sa.any_(_NUMBERS))
            .values(reason=reason)
        )
        connection.execute(statement, {"numbers": list(line_numbers)})


def count_moved(
    connection: sa.Connection,
    key_id: int,
    count: int,
    first_request_dtime: datetime | None,
    last_request_dtime: datetime | None,
) -> None:
    """Makes the ledger true again once so many of the key's lines, of these request times, were moved."""
    key = s3_log_key.c
    times = sa.TIMESTAMP(timezone=True)
    connection.execute(
        sa.update(s3_log_key)
        .where(key.id == key_id)
        .values(
            record_count=key.record_count + count,
            rejected_count=key.rejected_count - count,
            archived_at=None,  # what is in the archive lacks them
            # Of NULL and a time either is the time.
            first_request_dtime=sa.func.least(key.first_request_dtime, sa.cast(first_request_dtime, times)),
            last_request_dtime=sa.func.greatest(key.last_request_dtime, sa.cast(last_request_dtime, times)),
        )
    )


_NUMBERS = sa.bindparam("numbers", type_=sa.ARRAY(sa.Integer))
