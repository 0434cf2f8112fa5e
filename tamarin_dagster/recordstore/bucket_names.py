"""Check that the records of a configured bucket are of that bucket: its name may be misspelled.

A log key does not say whose requests it holds, except in the partitioned layout, but each of its lines does. If a
bucket is configured under a wrong name, everything is loaded, and every answer about the bucket is empty.
"""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from tamarin_dagster.recordstore.holdings import find_newest_key
from tamarin_dagster.recordstore.pending_days import select_due_days
from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_log_record
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day

# The newest log keys of a bucket, and the number of their records to check: 10 ms, whatever the table's size.
_SAMPLED_KEYS = 20
SAMPLED_RECORDS = 20_000
# Other names to show.
NAMED_BUCKETS = 3


@dataclass(frozen=True, slots=True)
class ForeignRecords:
    """Records that were loaded for a bucket, but all name other buckets.

    Attributes:
        bucket: the name in the settings.
        records: the number of records that were checked, the newest ones.
        others: the buckets that they name, each with its number of records, the most frequent first.
    """

    bucket: str
    records: int
    others: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        named = [f"{count:,} of {self.records:,} are of {name}" for name, count in self.others[:NAMED_BUCKETS]]
        if more := len(self.others) - NAMED_BUCKETS:
            named += [f"others of {more} more"] * (more > 0)
        return f"none of the newest records is of {self.bucket}: {', '.join(named)}"

    @property
    def remedy(self) -> str:
        """What to do."""
        names = " or ".join(name for name, _ in self.others[:NAMED_BUCKETS])
        return f"check the bucket's name in the settings (name: {names}?), and its log_prefix"


def find_foreign_records(connection: sa.Connection, bucket: str) -> ForeignRecords | None:
    """Return the newest records that were loaded for the bucket, if all of them name other buckets; otherwise None.

    If log keys of several buckets share a prefix, the few newest may be of others by chance, so the rollups are asked
    too.
    """
    key = s3_log_key.c
    newest = connection.execute(
        sa.select(key.id, key.first_request_dtime, key.last_request_dtime)
        .where(
            key.bucket == bucket,
            key.record_count > 0,
            key.superseded_at.is_(None),
            key.expired_at.is_(None),
            key.first_request_dtime.is_not(None),
        )
        .order_by(key.delivery_date.desc(), key.delivery_hour.desc())
        .limit(_SAMPLED_KEYS)
    ).all()
    if not newest:
        return None
    record = s3_log_record.c
    sample = (
        sa.select(record.bucket)
        .where(
            record.log_key_id.in_([row.id for row in newest]),
            # limits the query to their months
            record.request_dtime >= min(row.first_request_dtime for row in newest),
            record.request_dtime <= max(row.last_request_dtime for row in newest),
        )
        .limit(SAMPLED_RECORDS)
        .subquery()
    )
    count = sa.func.count().label("records")
    statement = sa.select(sample.c.bucket, count).group_by(sample.c.bucket).order_by(count.desc(), sample.c.bucket)
    found = [(name or "(no bucket)", int(records)) for name, records in connection.execute(statement)]
    if not found or bucket in dict(found):
        return None
    rolled_up = sa.exists().where(traffic_day.c.bucket == bucket, traffic_day.c.requests > 0)
    pending = sa.exists().where(select_due_days().c.bucket == bucket)
    if connection.scalar(sa.select(sa.or_(rolled_up, pending))):
        return None
    return ForeignRecords(bucket, sum(records for _, records in found), tuple(found))


@dataclass(frozen=True, slots=True)
class FormerName:
    """A name under which the log keys of a bucket were loaded, and which is not in the settings any more."""

    name: str
    keys: int

    def __str__(self) -> str:
        return (
            f"log keys under its log prefix were loaded under the name {self.name}, which is not configured:"
            f" {self.keys:,} of those that are still there"
        )

    @property
    def remedy(self) -> str:
        """What to do."""
        return (
            f"a log key is loaded once: set name to {self.name} again, or remove what was loaded under that name, and"
            " pull again (docs/how-to/buckets.md#remove)"
        )


def find_former_name(
    connection: sa.Connection, bucket: str, log_bucket_name: str, log_prefix: str, configured: Collection[str]
) -> FormerName | None:
    """Return the other name that most log keys under the bucket's prefix were loaded under, if it is not `configured`.

    None if log keys were loaded for the bucket itself. Log keys that are purged or superseded are not considered.
    """
    if find_newest_key(connection, bucket, log_bucket_name):
        return None
    key, count = s3_log_key.c, sa.func.count().label("keys")
    statement = (
        sa.select(key.bucket, count)
        .where(
            key.log_bucket_name == log_bucket_name,
            key.purged_at.is_(None),
            key.superseded_at.is_(None),
            sa.func.starts_with(key.key, log_prefix),
            key.bucket.not_in(configured),
        )
        .group_by(key.bucket)
        .order_by(count.desc(), key.bucket)
        .limit(1)
    )
    row = connection.execute(statement).first()
    return FormerName(row.bucket, row.keys) if row else None
