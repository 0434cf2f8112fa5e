"""Fill the ledger with rows of log keys that were loaded and purged years ago, and of keys that are still there."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import psycopg

from benchmarks.ingest.stage import LOG_PREFIX, LOGGED_BUCKET
from tamarin_dagster.logkey import LogKey

_LINES = 10
_SECONDS_APART = 30
_YEARS_BACK = 10
"""10,000,000 keys, one every 30 seconds, cover nine and a half years. They end before the days that are loaded."""
_COLUMNS = (
    "bucket, log_bucket_name, key, etag, size, last_modified, delivery_date, line_count, record_count, rejected_count,"
    " blank_count, loaded_at, purged_at"
)
_PAST = f"""
    INSERT INTO s3_log_key ({_COLUMNS})
    SELECT %(bucket)s, (%(log_buckets)s::text[])[1 + n %% cardinality(%(log_buckets)s::text[])],
           name, md5(name), 5500, moment, (moment AT TIME ZONE 'UTC')::date, {_LINES}, {_LINES}, 0, 0, moment, moment
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n,
         LATERAL (SELECT %(begin)s::timestamptz + n * interval '{_SECONDS_APART} seconds') AS at (moment),
         LATERAL (SELECT %(prefix)s || to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD-HH24-MI-SS-')
                         || upper(left(md5(n::text), 16))) AS named (name)
"""


def add_past(url: str, log_bucket_names: Sequence[str], first: int, last: int) -> None:
    """Insert purged log keys with these numbers (from 1), alternating between the log buckets."""
    values = {
        "bucket": LOGGED_BUCKET,
        "log_buckets": list(log_bucket_names),
        "prefix": LOG_PREFIX,
        "begin": datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(365 * _YEARS_BACK),
        "first": first,
        "last": last,
    }
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_PAST, values)
        settle(connection)


def add_listed(url: str, log_bucket_name: str, keys: Iterable[LogKey]) -> None:
    """Insert log keys that are in the log bucket, as loaded."""
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.cursor().copy(f"COPY s3_log_key ({_COLUMNS}) FROM STDIN") as copy:
            for key in keys:
                found = key.object
                copy.write_row(
                    (
                        *(LOGGED_BUCKET, log_bucket_name, found.key, found.etag, found.size, found.last_modified),
                        *(key.delivery_date, _LINES, _LINES, 0, 0, found.last_modified, None),
                    )
                )
        settle(connection)


def settle(connection: psycopg.Connection) -> None:
    """Vacuum and analyze now, so that autovacuum does not do so during a measurement."""
    connection.execute("VACUUM ANALYZE s3_log_key")
    connection.execute("CHECKPOINT")
