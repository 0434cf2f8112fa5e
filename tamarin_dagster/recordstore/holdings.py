"""What the ledger holds of each bucket in total. Its sums are authoritative; the records are not counted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tamarin_dagster.logformat import parse_key_name
from tamarin_dagster.recordstore.schema.tables import s3_log_key
from tamarin_dagster.recordstore.whole_numbers import WholeNumber

# The part of a name after all prefixes and folders: `YYYY-mm-DD-HH-MM-SS-` and 16 characters.
_NAME_CHARACTERS = 36


@dataclass(frozen=True, slots=True)
class Holding:
    """What is loaded of one bucket from one log bucket, over live (not superseded) keys.

    Attributes:
        keys: all of them, also purged and expired ones.
        returned_keys: those whose bytes were found in the log bucket again after they were purged.
        records, rejected_lines: those that they were loaded with.
        unpurged_keys: those that are still in the log bucket as far as the ledger knows, have no rejected line and did
            not expire: those that a purge deletes.
        failing_keys: those whose last deletion attempt failed.
    """

    bucket: str
    log_bucket_name: str
    keys: int = 0
    purged_keys: int = 0
    returned_keys: int = 0
    expired_keys: int = 0
    records: int = 0
    rejected_lines: int = 0
    unpurged_keys: int = 0
    failing_keys: int = 0


@dataclass(frozen=True, slots=True)
class NewestKey:
    """The most recently delivered log key. `delivered_at` is the time (UTC) in its name."""

    key: str
    delivered_at: datetime | None
    loaded_at: datetime


def list_holdings(connection: sa.Connection) -> list[Holding]:
    """Return the holding of each bucket and log bucket that the ledger knows, in order.

    It scans the ledger once, on as many cores as Postgres uses for it: 0.8 s for each million keys on two.
    """
    key = s3_log_key.c
    unexpired = key.expired_at.is_(None)
    there = sa.and_(key.purged_at.is_(None), unexpired)
    statement = (
        sa.select(
            key.bucket,
            key.log_bucket_name,
            sa.func.count(),
            sa.func.count(key.purged_at),
            sa.func.count(key.returned_at),
            sa.func.count(key.expired_at),
            sa.type_coerce(sa.func.sum(key.record_count), WholeNumber()),
            sa.type_coerce(sa.func.sum(key.rejected_count), WholeNumber()),
            sa.func.count().filter(there, key.rejected_count == 0),
            sa.func.count(key.purge_failed_at).filter(there),
        )
        .where(key.superseded_at.is_(None))
        .group_by(key.bucket, key.log_bucket_name)
        .order_by(key.bucket, key.log_bucket_name)
    )
    rows: list[Any] = list(connection.execute(statement))
    return [Holding(*row) for row in rows]


def find_newest_key(connection: sa.Connection, bucket: str, log_bucket_name: str) -> NewestKey | None:
    """Return the bucket's most recently delivered live key from that log bucket, by the time in its name.

    By index: only names of the newest day's keys are compared.
    """
    key = s3_log_key.c
    plain = sa.func.regexp_replace(key.key, r"([.](txt|log|gz|zst)){1,2}$", "")
    statement = (
        sa.select(key.key, key.loaded_at, sa.func.right(plain, _NAME_CHARACTERS).label("name"))
        .where(key.bucket == bucket, key.log_bucket_name == log_bucket_name, key.superseded_at.is_(None))
        .order_by(key.delivery_date.desc(), sa.literal_column("name").desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    if row is None:
        return None
    name = parse_key_name(row.name)
    return NewestKey(row.key, name.delivery_time if name else None, row.loaded_at)
