"""The rejected lines of loaded keys: find them, read them in chunks, and move them to the records."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import cast

import psycopg
import sqlalchemy as sa

from tamarin_dagster.logformat import ParsedLogs, RejectReason
from tamarin_dagster.recordstore.loading import copy_parsed
from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_rejected_line
from tamarin_dagster.recordstore.stored_parts import make_parts, store

# A key may hold hundreds of thousands of rejected lines, each of up to 1 MiB. Both limits bound a chunk: lines cost
# memory in Python, bytes cost memory in the parser. Larger chunks were no faster.
CHUNK_BYTES = 8 * 1024 * 1024
CHUNK_LINES = 20_000
# Lines in one answer of the server. With 10 short lines reading took twice as long, with 500 no less; long lines may
# have 1 MiB each.
FETCH_LINES = 50

# Retention has dropped records of an expired key, and no others of it may follow.
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
    """A rejected line as stored. `line` is None if it cannot be parsed again: only its start is stored, or it is torn,
    which only the lines around it can show.
    """

    line_number: int
    reason: str
    line: bytes | None


def list_keys_with_rejected_lines(
    connection: sa.Connection, bucket: str, first: date | None, last: date | None, limit: int, after: int = 0
) -> list[RejectedKey]:
    """Return the bucket's live, unexpired keys that have rejected lines, in the order of their ids after `after`.

    `first` and `last` are delivery days; None means no limit.
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


def read_stored_lines(connection: sa.Connection, key_id: int) -> Generator[list[StoredLine]]:
    """Yield the key's rejected lines in the order of their numbers, in chunks of CHUNK_BYTES or CHUNK_LINES.

    They are those at the first chunk, whatever is deleted between two. Close it before the transaction ends.
    """
    line = s3_rejected_line.c
    is_whole = sa.and_(line.line_bytes == sa.func.octet_length(line.line), line.reason != str(RejectReason.TORN))
    whole = sa.case((is_whole, line.line)).label("line")
    statement = (
        sa.select(line.line_number, line.reason, whole).where(line.log_key_id == key_id).order_by(line.line_number)
    )
    chunk: list[StoredLine] = []
    size = 0
    # A server-side cursor: a query per chunk would sort the whole key each time, as long as it has no statistics.
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
    """Lock the key until the transaction ends, and return whether it is still live and has not expired.

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
    """Delete these rejected lines of the key and insert the records of `parsed`, one for each of them.

    Also adds their sums; `bucket` and `region` are those of the logged bucket, see `make_parts`.
    """
    if not line_numbers:
        return
    line = s3_rejected_line.c
    statement = sa.delete(s3_rejected_line).where(line.log_key_id == key_id, line.line_number == sa.any_(_NUMBERS))
    connection.execute(statement, {"numbers": list(line_numbers)})
    cursor = cast("psycopg.Cursor", connection.connection.cursor())
    records = copy_parsed(cursor, parsed, [key_id] * len(parsed.counts))
    store(connection, make_parts(records, bucket, region))


def change_reasons(connection: sa.Connection, key_id: int, reasons: Mapping[str, Sequence[int]]) -> None:
    """Give rejected lines of the key a new reason: `reasons` has the numbers of the lines for each reason."""
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
    """Correct the ledger after so many of the key's lines, of these request times, were moved."""
    key = s3_log_key.c
    times = sa.TIMESTAMP(timezone=True)
    connection.execute(
        sa.update(s3_log_key)
        .where(key.id == key_id)
        .values(
            record_count=key.record_count + count,
            rejected_count=key.rejected_count - count,
            archived_at=None,  # the archive lacks the moved records
            # least and greatest of NULL and a time are the time.
            first_request_dtime=sa.func.least(key.first_request_dtime, sa.cast(first_request_dtime, times)),
            last_request_dtime=sa.func.greatest(key.last_request_dtime, sa.cast(last_request_dtime, times)),
        )
    )


_NUMBERS = sa.bindparam("numbers", type_=sa.ARRAY(sa.Integer))
