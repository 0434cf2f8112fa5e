"""The columns and comments of the views and functions that answer the usual questions (files under views/).

What they are good for is told in docs/how-to/queries.md. Views of records take a day at a time: ask with bounds on
request_date, or on request_dtime where a view has a row for each request.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.recordstore.schema.tables import views

s3_request_day = sa.Table(
    "s3_request_day",
    views,
    sa.Column("request_date", sa.Date, comment="UTC day."),
    sa.Column("starts", sa.TIMESTAMP(timezone=True), comment="Its first moment."),
    sa.Column("ends", sa.TIMESTAMP(timezone=True), comment="The first moment of the next."),
    comment="The UTC days of the months for which there are partitions of records.",
)

s3_download = sa.Table(
    "s3_download",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to."),
    sa.Column("request_date", sa.Date, comment="UTC day on which the download began."),
    sa.Column("key", sa.Text, comment="Object key, URL-encoded as S3 logs it."),
    sa.Column("remote_ip", postgresql.INET(), comment="Apparent IP address of the requester."),
    sa.Column("user_agent", sa.Text, comment="HTTP User-Agent header; null if none was sent."),
    sa.Column("first_request_dtime", sa.TIMESTAMP(timezone=True), comment="Time of its first request (UTC)."),
    sa.Column("last_request_dtime", sa.TIMESTAMP(timezone=True), comment="Time of its last request (UTC)."),
    sa.Column("requests", sa.BigInteger, comment="Requests that it took, each answered with 200 or 206."),
    sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses."),
    sa.Column("object_size", sa.BigInteger, comment="Size of the object, the largest that they tell, in bytes."),
    sa.Column(
        "completeness",
        sa.Double,
        comment="Bytes sent as a part of the size, 1 at the most; ranges that overlap count each time, since S3 logs no"
        " ranges.",
    ),
    sa.Column("is_complete", sa.Boolean, comment="Whether as many bytes were sent as the object has."),
    comment="Downloads: what one address read of one object with pauses of at most 30 minutes, in however many ranges."
    " Ask with bounds on request_date.",
)

s3_hotlink = sa.Table(
    "s3_hotlink",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to."),
    sa.Column("request_date", sa.Date, comment="UTC day of the requests."),
    sa.Column(
        "referrer_host",
        sa.Text,
        comment="Host that the HTTP Referer header names, in lower case, without port; null if it names none.",
    ),
    sa.Column(
        "referrers", sa.BigInteger, comment="Pages of that host, as far as their addresses differ before the query."
    ),
    sa.Column("requests", sa.BigInteger, comment="Requests."),
    sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses."),
    sa.Column(
        "error_count",
        sa.BigInteger,
        comment="Those of them that failed: answered with a 4xx or 5xx, or with a 2xx and an error code.",
    ),
    sa.Column(
        "folded_values",
        sa.BigInteger,
        comment="Those of the pages that have no rows of their own in traffic_daily_by_referrer; null if none.",
    ),
    comment="Traffic of each UTC day that the pages of other hosts brought. Ask with bounds on request_date.",
)

s3_cold_object = sa.Table(
    "s3_cold_object",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket of the object."),
    sa.Column("key", sa.Text, comment="Object key, URL-encoded as REST operations log it."),
    sa.Column("first_seen", sa.Date, comment="UTC day of the first request for it in the logs."),
    sa.Column("last_read", sa.Date, comment="UTC day on which it was last read; null if it never was."),
    sa.Column("last_written", sa.Date, comment="UTC day on which it was last written; null if the logs have none."),
    sa.Column("object_size", sa.BigInteger, comment="Size of the object on the last day that tells one, in bytes."),
    sa.Column("days_unread", sa.Integer, comment="Days since it was last read, or first seen if it never was."),
    sa.Column(
        "last_folded",
        sa.Date,
        comment="Last UTC day on which rows stand for several keys of the bucket (traffic_fold): until then the object"
        " may have been read or deleted unseen. Null if there is no such day.",
    ),
    comment="Objects that nobody has read for 90 days, as far as requests for them are in the logs.",
)

s3_error = sa.Table(
    "s3_error",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to."),
    sa.Column("request_date", sa.Date, comment="UTC day of the requests."),
    sa.Column("key", sa.Text, comment="Object key, URL-encoded as S3 logs it; null for operations on the bucket."),
    sa.Column("operation", sa.Text, comment="What was asked for, as INTERFACE.METHOD.RESOURCE."),
    sa.Column(
        "http_status", sa.SmallInteger, comment="HTTP status of the response: from 400 on, or a 2xx with an error code."
    ),
    sa.Column("error_code", sa.Text, comment="S3's error code, such as NoSuchKey; null if it gave none."),
    sa.Column("requests", sa.BigInteger, comment="Requests."),
    sa.Column("referrers", sa.BigInteger, comment="Different HTTP Referer headers that they came with."),
    sa.Column("user_agents", sa.BigInteger, comment="Different HTTP User-Agent headers that they came with."),
    sa.Column("remote_ips", sa.BigInteger, comment="Different addresses that they came from."),
    sa.Column("first_request_dtime", sa.TIMESTAMP(timezone=True), comment="Time of the first of them (UTC)."),
    sa.Column("last_request_dtime", sa.TIMESTAMP(timezone=True), comment="Time of the last of them (UTC)."),
    comment="Requests of each UTC day that failed, by key. Ask with bounds on request_date.",
)

s3_spike = sa.Table(
    "s3_spike",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to."),
    sa.Column("hour", sa.TIMESTAMP(timezone=True), comment="First moment of the UTC hour."),
    sa.Column("measure", sa.Text, comment="What there was more of: requests, or bytes_sent."),
    sa.Column("value", sa.Double, comment="How many there were in the hour."),
    sa.Column("usual", sa.Double, comment="The median of the same hour of the days, or weekdays, before."),
    sa.Column("times_usual", sa.Double, comment="How many times as much as that it is; null if that is 0."),
    sa.Column("deviation", sa.Double, comment="The median absolute deviation of these days from it."),
    sa.Column("days", sa.Integer, comment="How many days before are known: 14 to 28."),
    comment="Hours with far more requests or bytes than usual, as the checks judge them.",
)

s3_change = sa.Table(
    "s3_change",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket that the request was made to."),
    sa.Column("request_dtime", sa.TIMESTAMP(timezone=True), comment="Time at which S3 received the request (UTC)."),
    sa.Column("change", sa.Text, comment="One of write, copy (to this key), delete, and expire (by a lifecycle rule)."),
    sa.Column("key", sa.Text, comment="Object key, URL-encoded as REST operations log it."),
    sa.Column("version_id", sa.Text, comment="Version that was named in the request; null if none was."),
    sa.Column("requester", sa.Text, comment="Canonical user id, ARN or service; null if not authenticated."),
    sa.Column("remote_ip", postgresql.INET(), comment="Apparent IP address of the requester; null for S3's own."),
    sa.Column("user_agent", sa.Text, comment="HTTP User-Agent header; null if none was sent."),
    sa.Column("operation", sa.Text, comment="What was done, as INTERFACE.METHOD.RESOURCE."),
    sa.Column("http_status", sa.SmallInteger, comment="HTTP status of the response; null for S3's own doings."),
    sa.Column("object_size", sa.BigInteger, comment="Size of the object, in bytes; null if the line has none."),
    sa.Column("request_id", sa.Text, comment="Id that S3 gave the request; the deletions of one request share it."),
    comment="Objects that were written, copied to, deleted or expired, with who did it."
    " Ask with bounds on request_dtime.",
)

_FAILED = "Those of them that failed: answered with a 4xx or 5xx, or with a 2xx and an error code."
_REQUESTER = "Canonical user id, ARN or service; null if not authenticated."


def _access(name: str, meaning: str, *by: sa.Column[Any]) -> sa.Table:
    """A view of each day's requests by bucket, these columns, user agent and operation."""
    return sa.Table(
        name,
        views,
        sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to."),
        sa.Column("request_date", sa.Date, comment="UTC day of the requests."),
        *by,
        sa.Column("user_agent", sa.Text, comment="HTTP User-Agent header; null if none was sent."),
        sa.Column("operation", sa.Text, comment="What was asked for, as INTERFACE.METHOD.RESOURCE."),
        sa.Column("requests", sa.BigInteger, comment="Requests."),
        sa.Column("refused_requests", sa.BigInteger, comment=_FAILED),
        sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses."),
        sa.Column("keys", sa.BigInteger, comment="Different objects that they were for."),
        sa.Column("remote_ips", sa.BigInteger, comment="Different addresses that they came from."),
        comment=f"Requests of each UTC day {meaning}. Ask with bounds on request_date.",
    )


s3_anonymous_access = _access("s3_anonymous_access", "that were made without credentials")
s3_old_tls = _access(
    "s3_old_tls",
    "over TLS older than 1.2, or without TLS",
    sa.Column("tls_version", sa.Text, comment="Version of TLS, as S3 logs it; null if there was none."),
    sa.Column("requester", sa.Text, comment=_REQUESTER),
)
s3_acl_dependent = _access(
    "s3_acl_dependent",
    "that needed an access control list",
    sa.Column("requester", sa.Text, comment=_REQUESTER),
)

s3_hidden_record = sa.Table(
    "s3_hidden_record",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket that the request was made to."),
    sa.Column("request_dtime", sa.TIMESTAMP(timezone=True), comment="Time at which S3 received the request (UTC)."),
    sa.Column("log_key_id", sa.BigInteger, comment="Log key that the line stood in (s3_log_key.id)."),
    sa.Column("log_key", sa.Text, comment="Name of that log key."),
    sa.Column("line_number", sa.Integer, comment="Number of the line in that log key, from 1."),
    sa.Column("hidden_records", sa.BigInteger, comment="Number of beginnings of other records in the line."),
    sa.Column("fields", sa.ARRAY(sa.Text), comment="Columns that hold them: request_uri, referrer or user_agent."),
    sa.Column(
        "beginnings",
        sa.ARRAY(sa.Text),
        comment="The beginnings, in the order of the line: [time] address requester request-id OPERATION.",
    ),
    comment="Records whose request URI, referrer or user agent holds the beginning of another record: a lost newline,"
    " or a forgery. Ask with bounds on request_dtime.",
)

# What the functions answer, as tables; how one is called stands in `info`.
functions = sa.MetaData()

s3_hogs = sa.Table(
    "s3_hogs",
    functions,
    sa.Column("kind", sa.Text, comment="remote_ip or requester: each request is in both."),
    sa.Column("consumer", sa.Text, comment="The address, or the requester."),
    sa.Column("requests", sa.BigInteger, comment="Requests."),
    sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses."),
    sa.Column("byte_share", sa.Double, comment="Its part of all bytes of the bucket in these days, from 0 to 1."),
    sa.Column(
        "times_median",
        sa.Double,
        comment="Its bytes as a multiple of its kind's median; null if that is 0, or not known: see missing_bytes.",
    ),
    sa.Column("times_mean", sa.Double, comment="Its bytes as a multiple of its kind's mean; null like times_median."),
    sa.Column(
        "missing_bytes",
        sa.Numeric,
        comment="Bytes that it may have in addition, at most, in rows that stand for several consumers (traffic_fold).",
    ),
    info={"arguments": "of_bucket text, first_day date, last_day date"},
    comment="The consumers of a bucket in the days from the first to the last, by address and by requester, beside the"
    " others.",
)

s3_cold_objects = sa.Table(
    "s3_cold_objects",
    functions,
    *(sa.Column(column.name, column.type, comment=column.comment) for column in s3_cold_object.columns),
    info={
        "arguments": "of_bucket text, unread_days integer DEFAULT 90,"
        " as_of date DEFAULT ((now() AT TIME ZONE 'UTC'::text))::date"
    },
    comment="Objects that nobody has read for so many days before a day, as far as requests for them are in the logs.",
)

s3_spike_causes = sa.Table(
    "s3_spike_causes",
    functions,
    sa.Column("kind", sa.Text, comment="key, remote_ip, referrer or user_agent: each request is in all four."),
    sa.Column("value", sa.Text, comment="Which one; null for requests without any."),
    sa.Column("requests", sa.BigInteger, comment="Requests of the hour."),
    sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses."),
    sa.Column("usual_requests", sa.Double, comment="The mean of the same hour of the seven days before."),
    sa.Column("usual_bytes", sa.Double, comment="The mean of its bytes."),
    sa.Column("more_requests", sa.Double, comment="Requests above that mean; below 0 if they were fewer."),
    sa.Column("more_bytes", sa.Double, comment="Bytes above that mean; below 0 if they were fewer."),
    info={"arguments": "of_bucket text, in_hour timestamp with time zone"},
    comment="What had more traffic in an hour than in the same hour of the seven days before: keys, addresses,"
    " referrers, agents.",
)

s3_estimated_cost = sa.Table(
    "s3_estimated_cost",
    functions,
    sa.Column("requests_usd", sa.Numeric, comment="What the requests cost, as an estimate."),
    sa.Column("transfer_usd", sa.Numeric, comment="What the transfer costs, as an estimate."),
    sa.Column("total_usd", sa.Numeric, comment="Both."),
    sa.Column("price_region", sa.Text, comment="Region whose prices these are."),
    sa.Column("price_date", sa.Date, comment="Day as of which the prices are right."),
    sa.Column("unpriced_requests", sa.BigInteger, comment="Requests without a price in the list, which are left out."),
    info={
        "arguments": "of_bucket text, request_date date, requests bigint, put_requests bigint,"
        " unbilled_requests bigint, ia_transitions bigint, gir_transitions bigint, glacier_transitions bigint,"
        " deep_archive_transitions bigint, bytes_sent numeric, unbilled_bytes numeric, interregion_bytes numeric"
    },
    comment="What requests and bytes of a bucket's day are estimated to cost; no row if its month has no prices.",
)

ANSWERS = (
    s3_download,
    s3_hotlink,
    s3_cold_object,
    s3_error,
    s3_spike,
    s3_change,
    s3_anonymous_access,
    s3_old_tls,
    s3_acl_dependent,
    s3_hidden_record,
    s3_request_day,
)
FUNCTIONS = (s3_hogs, s3_cold_objects, s3_spike_causes, s3_estimated_cost)
