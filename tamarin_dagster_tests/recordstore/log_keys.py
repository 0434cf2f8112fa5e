"""Log keys for tests of the record store, made without a log bucket."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from tamarin_dagster.logformat import parse_logs
from tamarin_dagster.logkey import LogKey, LogObject
from tamarin_dagster.recordstore.loading import Batch, LoadedBatch, load, prepare

DAY = date(2026, 3, 5)
_MODIFIED = datetime(2026, 3, 5, 10, 0, tzinfo=UTC)


def log_key(name: str, etag: str = "a", *, minutes: int = 0, day: date = DAY, version: str | None = None) -> LogKey:
    """Return a key of that name and generation, written so many minutes after ten."""
    return LogKey(LogObject(name, etag, 100, _MODIFIED + timedelta(minutes=minutes), version), day)


def prepared(
    engine: sa.Engine,
    bucket: str,
    log_bucket_name: str,
    keys: Sequence[LogKey],
    bodies: Sequence[bytes],
    *,
    digests: Sequence[bytes | None] | None = None,
) -> Batch:
    """Parse these bodies, ready to load."""
    return prepare(engine, bucket, log_bucket_name, keys, parse_logs(bodies).redact(), digests=digests)


def load_keys(
    engine: sa.Engine,
    keys: Sequence[LogKey],
    bodies: Sequence[bytes],
    *,
    bucket: str = "media",
    log_bucket_name: str = "logs",
    run_id: str | None = None,
) -> LoadedBatch:
    """Load them as one batch."""
    digests = [hashlib.sha256(body).digest() for body in bodies]
    return load(engine, prepared(engine, bucket, log_bucket_name, keys, bodies, digests=digests), run_id)
