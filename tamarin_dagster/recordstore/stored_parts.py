"""Store the partial sums of loads: rows of `traffic_part`, written in the load's transaction, merged by a roll-up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import sqlalchemy as sa

from tamarin_dagster.logformat.frames import group_by_day
from tamarin_dagster.recordstore.pending_days import BUCKET_BYTES, note
from tamarin_dagster.recordstore.schema.traffic_tables import PART_COLUMNS, traffic_part
from tamarin_dagster.traffic.parts import from_bytes, to_bytes
from tamarin_dagster.traffic.sums import sum_up

# A load has records of a few days of one bucket. If its lines are of thousands of buckets or days, not each gets a
# part: days beyond this number are noted, and summed up from their records.
MAX_DAYS = 32


@dataclass(frozen=True, slots=True)
class DayPart:
    """Sums of some of the records of a bucket's UTC day, by the dimensions of PART_COLUMNS, as bytes."""

    bucket: str
    request_date: date
    requests: int
    sums: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Parts:
    """The sums of a load.

    Attributes:
        parts: one for each of its days.
        others: buckets and days without a part, whose records must be summed up again.
    """

    parts: tuple[DayPart, ...] = ()
    others: frozenset[tuple[str, date]] = frozenset()


def make_parts(records: pa.Table, bucket: str, region: str | None) -> Parts:
    """Return the partial sums of records.

    Args:
        records: columns of `logformat.RECORDS_SCHEMA`.
        bucket: the logged bucket.
        region: the bucket's region; None if it is not known.
    """
    groups = group_by_day(records)
    named = [each for each in groups if len(each.bucket.encode()) <= BUCKET_BYTES]
    largest = sorted(named, key=lambda each: -len(each.rows))[:MAX_DAYS]
    parts = []
    for each in largest:
        rows = records if len(each.rows) == records.num_rows else records.take(pa.array(each.rows))
        sums = sum_up(rows, region if each.bucket == bucket else None)
        packed = {dimension: to_bytes(table) for dimension, table in sums.items()}
        parts.append(DayPart(each.bucket, each.day, rows.num_rows, packed))
    done = {(each.bucket, each.request_date) for each in parts}
    return Parts(tuple(parts), frozenset((each.bucket, each.day) for each in named) - done)


def store(connection: sa.Connection, parts: Parts) -> None:
    """Write the partial sums of a load. Rows are only added: no load waits for another."""
    if parts.parts:
        connection.execute(sa.insert(traffic_part), [_row(each, is_merged=False) for each in parts.parts])
    note(connection, parts.others)


def store_merged(connection: sa.Connection, part: DayPart) -> None:
    """Write the part that holds all sums of the day's rollups."""
    connection.execute(sa.insert(traffic_part), [_row(part, is_merged=True)])


def _row(part: DayPart, *, is_merged: bool) -> dict[str, object]:
    sums = {PART_COLUMNS[dimension]: packed for dimension, packed in part.sums.items()}
    return {
        "bucket": part.bucket,
        "request_date": part.request_date,
        "requests": part.requests,
        "is_merged": is_merged,
        **sums,
    }


@dataclass(frozen=True, slots=True)
class FoundParts:
    """The parts of a day.

    Attributes:
        ids: the ids of the parts, oldest first.
        has_merged: whether one of them holds all sums of the day's rollups.
        has_new: whether one of them is not in the rollups yet.
    """

    ids: tuple[int, ...]
    has_merged: bool
    has_new: bool


def find(connection: sa.Connection, bucket: str, day: date) -> FoundParts:
    """Return the parts of the day, and lock them, so that nobody else deletes them before the transaction ends."""
    part = traffic_part.c
    statement = sa.select(part.id, part.is_merged).where(part.bucket == bucket, part.request_date == day)
    found = connection.execute(statement.order_by(part.id).with_for_update()).all()
    merged = [row.is_merged for row in found]
    return FoundParts(tuple(row.id for row in found), any(merged), not all(merged))


def read(connection: sa.Connection, ids: Sequence[int], dimension: str) -> Iterator[pa.Table]:
    """Yield the sums by one dimension of these parts, one part at a time."""
    column = traffic_part.c[PART_COLUMNS[dimension]]
    statement = sa.select(column).where(traffic_part.c.id == sa.any_(sa.literal(list(ids), sa.ARRAY(sa.BigInteger))))
    with connection.execute(statement.order_by(traffic_part.c.id), execution_options={"yield_per": 16}) as rows:
        for packed in rows.scalars():
            yield from_bytes(packed)


def delete_parts(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Delete these parts."""
    chosen = traffic_part.c.id == sa.any_(sa.literal(list(ids), sa.ARRAY(sa.BigInteger)))
    connection.execute(sa.delete(traffic_part).where(chosen))


def delete_old(connection: sa.Connection, days: int) -> int:
    """Delete merged parts that are older than `days`; return their number.

    The rollups stay. After a later load of such a day, its records are summed up again.
    """
    part = traffic_part.c
    is_old = part.made_at < sa.func.now() - sa.func.make_interval(0, 0, 0, days)
    # A locked part is being read by a roll-up.
    chosen = sa.select(part.id).where(part.is_merged, is_old).with_for_update(skip_locked=True)
    return connection.execute(sa.delete(traffic_part).where(part.id.in_(chosen))).rowcount
