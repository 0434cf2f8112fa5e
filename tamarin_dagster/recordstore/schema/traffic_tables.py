"""Define the rollups: a day's traffic by hour, object key, address, requester, referrer and user agent, and its parts.

Each load stores the sums of its records as parts (`traffic_part`), in its own transaction. `analytics.rollups` merges
the parts of a day and writes the day's rows. A day has a limited number of rows for each dimension: the values with the
most bytes and the most requests have rows of their own. A row with `folded_values` has the sums of the other values of
one prefix, network, role, host or product. Names of keys and agents may have any length, so no index holds them.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.recordstore.schema.tables import metadata
from tamarin_dagster.recordstore.whole_numbers import WholeNumber


def _bucket() -> sa.Column[str]:
    return sa.Column("bucket", sa.Text, nullable=False, comment="Bucket that the requests were made to.")


def _request_date() -> sa.Column[object]:
    return sa.Column("request_date", sa.Date, nullable=False, comment="UTC day of the requests.")


def _count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, comment=comment)


def _bytes(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, WholeNumber, nullable=False, comment=comment)


def _measures() -> tuple[sa.Column[int], ...]:
    """Return the measures of each daily rollup."""
    return (
        _count("requests", "Requests."),
        _bytes("bytes_sent", "Bytes of their responses."),
        _count("error_count", "Requests that failed: answered with a 4xx or 5xx, or with a 2xx and an error code."),
        _count("put_requests", "Requests that are billed at the price of PUT, COPY, POST and LIST."),
        _count(
            "unbilled_requests",
            "Requests that are not billed: DELETE, lifecycle, 5xx, and errors that S3 does not bill.",
        ),
        _bytes("unbilled_bytes", "Bytes with free transfer: to CloudFront, within the region, or of unbilled errors."),
        _bytes("interregion_bytes", "Bytes that went to another region of AWS."),
    )


def _more_measures() -> tuple[sa.Column[Any], ...]:
    """Return the measures that few rows have; they are null instead of 0."""
    return (
        sa.Column(
            "ia_transitions",
            sa.BigInteger,
            comment="Lifecycle transitions to Standard-IA, One Zone-IA and Intelligent-Tiering; null if none.",
        ),
        sa.Column(
            "gir_transitions",
            sa.BigInteger,
            comment="Lifecycle transitions to Glacier Instant Retrieval; null if none.",
        ),
        sa.Column(
            "glacier_transitions",
            sa.BigInteger,
            comment="Lifecycle transitions to Glacier Flexible Retrieval; null if none.",
        ),
        sa.Column(
            "deep_archive_transitions",
            sa.BigInteger,
            comment="Lifecycle transitions to Glacier Deep Archive; null if none.",
        ),
        sa.Column(
            "folded_values",
            sa.BigInteger,
            comment="How many values without their own rows this row sums up; null for one value.",
        ),
    )


def _daily(dimension: sa.Column[object], meaning: str, *more: sa.Column[Any]) -> sa.Table:
    name = f"traffic_daily_by_{dimension.name}"
    return sa.Table(
        name,
        metadata,
        _bucket(),
        _request_date(),
        dimension,
        *_measures(),
        *more,
        *_more_measures(),
        sa.Index(f"{name}_day", "bucket", "request_date"),
        comment=f"Traffic of each UTC day by {meaning}. The rows of a day add up to all of its records.",
    )


traffic_pending_day = sa.Table(
    "traffic_pending_day",
    metadata,
    sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to; NULL means all of the day."),
    _request_date(),
    comment="Request days whose records must be summed up again, because some were deleted. A day may be listed more"
    " than once.",
)

# The columns of traffic_part that hold sums, by the dimension of `traffic.sums`.
PART_COLUMNS = {
    "hour": "hours",
    "key": "keys",
    "remote_ip": "remote_ips",
    "requester": "requesters",
    "referrer": "referrers",
    "user_agent": "user_agents",
}
traffic_part = sa.Table(
    "traffic_part",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True, comment="Number of the part."),
    _bucket(),
    _request_date(),
    _count("requests", "Records that were summed up."),
    sa.Column(
        "is_merged",
        sa.Boolean,
        nullable=False,
        comment="Whether it contains all sums of the day's rollups.",
    ),
    sa.Column(
        "made_at",
        sa.TIMESTAMP(timezone=True),
        nullable=False,
        server_default=sa.func.now(),
        comment="When its transaction began.",
    ),
    *(
        sa.Column(
            column,
            sa.LargeBinary,
            nullable=False,
            comment=f"Sums by {dimension}: a compressed Arrow IPC stream (see docs/explanation/rollups.md).",
        )
        for dimension, column in PART_COLUMNS.items()
    ),
    sa.Index("traffic_part_day", "bucket", "request_date"),
    comment="Partial sums of records by bucket and UTC day: a part for each load, until `roll-up` merges them.",
)

traffic_fold = sa.Table(
    "traffic_fold",
    metadata,
    _bucket(),
    _request_date(),
    sa.Column("dimension", sa.Text, comment="One of key, remote_ip, requester, referrer and user_agent."),
    _count("folded_values", "Values without their own rows."),
    _count("requests", "Their requests."),
    _bytes("bytes_sent", "Bytes of their responses."),
    _count("missing_requests", "Maximum number of requests that a row of one value may lack; 0 if rows are exact."),
    _bytes("missing_bytes", "Maximum number of bytes that a row of one value may lack; 0 if rows are exact."),
    sa.PrimaryKeyConstraint("bucket", "request_date", "dimension"),
    comment="The days and dimensions with more values than rows, with the folded part of the day's traffic.",
)

traffic_day = sa.Table(
    "traffic_day",
    metadata,
    _bucket(),
    _request_date(),
    _count("requests", "Records in the rollups."),
    _bytes("bytes_sent", "Bytes of their responses."),
    sa.Column("rolled_up_at", sa.TIMESTAMP(timezone=True), nullable=False, comment="When the rollups were made."),
    sa.Column("seconds", sa.Float, nullable=False, comment="Seconds that this took."),
    sa.Column(
        "checked_at",
        sa.TIMESTAMP(timezone=True),
        comment="The rolled_up_at of the rollups that a check has found to add up to the records.",
    ),
    sa.Column(
        "expired_at",
        sa.TIMESTAMP(timezone=True),
        comment="When retention dropped its records. Its rollups do not change from then on.",
    ),
    sa.PrimaryKeyConstraint("bucket", "request_date"),
    comment="The days with rollups: one row for each bucket and UTC request day.",
)

traffic_hourly = sa.Table(
    "traffic_hourly",
    metadata,
    _bucket(),
    sa.Column("hour", sa.TIMESTAMP(timezone=True), nullable=False, comment="First moment of the UTC hour."),
    sa.Column(
        "operation_class", sa.Text, nullable=False, comment="One of read, list, write, delete, lifecycle and other."
    ),
    sa.Column("status_class", sa.SmallInteger, comment="First digit of the HTTP status; null if there was none."),
    _count("requests", "Requests."),
    _bytes("bytes_sent", "Bytes of their responses."),
    _count("error_count", "Requests that failed: answered with a 4xx or 5xx, or with a 2xx and an error code."),
    sa.Column("p50_total_time", sa.BigInteger, comment="Half of the requests took no longer than this, in ms."),
    sa.Column("p95_total_time", sa.BigInteger, comment="95 % of the requests took no longer than this, in ms."),
    sa.Column("max_total_time", sa.BigInteger, comment="Longest time of a request, in ms."),
    sa.Index("traffic_hourly_hour", "bucket", "hour"),
    comment="Traffic of each UTC hour by kind of operation and status.",
)

traffic_daily_by_key = _daily(
    sa.Column(
        "key", sa.Text, comment="Object key, URL-encoded as REST operations log it; null for operations on the bucket."
    ),
    "object key",
    _count("reads", "Requests that read the object, or found it unchanged."),
    _count("deletes", "Requests and S3's own actions that deleted the object."),
    sa.Column("object_size", sa.BigInteger, comment="Size of the object, the largest seen that day, in bytes."),
    # Migration 0007 makes the function; a change of it needs a migration that writes this column again.
    # Names of any length do not fit into a B-tree. Nobody can make two names whose digests are equal in 16 bytes.
    sa.Column(
        "key_digest",
        sa.LargeBinary,
        sa.Computed("s3_key_digest(key)"),
        comment="First 16 bytes of the key's SHA-256, for fast comparison of keys.",
    ),
)
# One scan of this index finds everything about each key, three times as fast as grouping the rows of a year by name.
sa.Index(
    "traffic_daily_by_key_digest",
    *(traffic_daily_by_key.c[name] for name in ("bucket", "key_digest", "request_date")),
    postgresql_include=["put_requests", "reads", "deletes", "object_size"],
    postgresql_where=sa.text("folded_values IS NULL"),
)
traffic_daily_by_remote_ip = _daily(
    sa.Column("remote_ip", postgresql.INET(), comment="Apparent IP address of the requester; null for S3's own."),
    "IP address",
)
# One scan of this index finds the consumers of a year in the order of their addresses, three times as fast as grouping
# the rows of the table, most of which are addresses of one day. Names of requesters do not fit into a B-tree.
sa.Index(
    "traffic_daily_by_remote_ip_address",
    *(traffic_daily_by_remote_ip.c[name] for name in ("bucket", "remote_ip", "request_date")),
    postgresql_include=["requests", "bytes_sent"],
    postgresql_where=sa.text("folded_values IS NULL"),
)
traffic_daily_by_requester = _daily(
    sa.Column("requester", sa.Text, comment="Canonical user id, ARN or service; null if not authenticated."),
    "requester",
)
traffic_daily_by_referrer = _daily(
    sa.Column("referrer", sa.Text, comment="HTTP Referer header without its query; null if none was sent."),
    "referrer",
    # Migration 0012 makes the function; a change of it needs a migration that writes this column again.
    # Computed once, when the row is written: reading it from the text would take most of a query's time.
    sa.Column(
        "referrer_host",
        sa.Text,
        sa.Computed("s3_referrer_host(referrer)"),
        comment="Host that it names, in lower case, without port; null if it names none.",
    ),
)
traffic_daily_by_user_agent = _daily(
    sa.Column("user_agent", sa.Text, comment="HTTP User-Agent header; null if none was sent."),
    "user agent",
)

ROLLUPS = (
    traffic_hourly,
    traffic_daily_by_key,
    traffic_daily_by_remote_ip,
    traffic_daily_by_requester,
    traffic_daily_by_referrer,
    traffic_daily_by_user_agent,
)
