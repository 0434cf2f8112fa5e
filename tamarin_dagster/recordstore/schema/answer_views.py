"""Define the columns and comments of the views and functions that answer the usual questions (files under views/).

docs/how-to/queries.md describes the purpose of each. Views of records read one day at a time. So every query needs
bounds on request_date, or on request_dtime if the view has a row for each request.
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
    sa.Column("requests", sa.BigInteger, comment="Number of its requests, each answered with 200 or 206."),
    sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses."),
    sa.Column("object_size", sa.BigInteger, comment="Largest size of the object in these requests, in bytes."),
    sa.Column(
        "completeness",
        sa.Double,
        comment="Share of the object's bytes that were sent, at most 1; ranges that overlap count each time, because S3"
        " does not log ranges.",
    ),
    sa.Column("is_complete", sa.Boolean, comment="Whether at least as many bytes were sent as the object has."),
    comment="Downloads: all ranges of one object that one address read, with pauses of at most 30 minutes."
    " Query it with bounds on request_date.",
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
        "referrers", sa.BigInteger, comment="Number of different pages of that host, by their URLs without the query."
    ),
    sa.Column("requests", sa.BigInteger, comment="Requests."),
    sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses."),
    sa.Column(
        "error_count",
        sa.BigInteger,
        comment="Number of failed requests: answered with a 4xx or 5xx, or with a 2xx and an error code.",
    ),
    sa.Column(
        "folded_values",
        sa.BigInteger,
        comment="Number of pages without rows of their own in traffic_daily_by_referrer; null if there are none.",
    ),
    comment="Traffic of each UTC day from pages of other hosts. Query it with bounds on request_date.",
)

s3_cold_object = sa.Table(
    "s3_cold_object",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket of the object."),
    sa.Column("key", sa.Text, comment="Object key, URL-encoded as REST operations log it."),
    sa.Column("first_seen", sa.Date, comment="UTC day of the first request for it in the logs."),
    sa.Column("last_read", sa.Date, comment="UTC day on which it was last read; null if it never was."),
    sa.Column("last_written", sa.Date, comment="UTC day on which it was last written; null if the logs have no write."),
    sa.Column("object_size", sa.BigInteger, comment="Size of the object on the last day with a size, in bytes."),
    sa.Column("days_unread", sa.Integer, comment="Days since it was last read, or since it was first seen."),
    sa.Column(
        "last_folded",
        sa.Date,
        comment="Last UTC day on which some keys of the bucket are folded (traffic_fold): up to that day the object"
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
    sa.Column("operation", sa.Text, comment="Requested operation, as INTERFACE.METHOD.RESOURCE."),
    sa.Column(
        "http_status", sa.SmallInteger, comment="HTTP status of the response: 400 or more, or a 2xx with an error code."
    ),
    sa.Column("error_code", sa.Text, comment="S3's error code, such as NoSuchKey; null if S3 logged none."),
    sa.Column("requests", sa.BigInteger, comment="Number of requests."),
    sa.Column("referrers", sa.BigInteger, comment="Number of different HTTP Referer headers of the requests."),
    sa.Column("user_agents", sa.BigInteger, comment="Number of different HTTP User-Agent headers of the requests."),
    sa.Column("remote_ips", sa.BigInteger, comment="Number of different addresses of the requests."),
    sa.Column("first_request_dtime", sa.TIMESTAMP(timezone=True), comment="Time of the first request (UTC)."),
    sa.Column("last_request_dtime", sa.TIMESTAMP(timezone=True), comment="Time of the last request (UTC)."),
    comment="Failed requests of each UTC day, by object key. Query it with bounds on request_date.",
)

s3_spike = sa.Table(
    "s3_spike",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to."),
    sa.Column("hour", sa.TIMESTAMP(timezone=True), comment="First moment of the UTC hour."),
    sa.Column("measure", sa.Text, comment="The measure that was above its limit: requests or bytes_sent."),
    sa.Column("value", sa.Double, comment="Requests or bytes of the hour."),
    sa.Column("usual", sa.Double, comment="Median of the same hour on the days before, or on the same weekday."),
    sa.Column("times_usual", sa.Double, comment="The value divided by the usual; null if the usual is 0."),
    sa.Column("deviation", sa.Double, comment="Median absolute deviation of these days from the usual."),
    sa.Column("days", sa.Integer, comment="Number of known days before: 14 to 28."),
    comment="Hours with far more requests or bytes than usual: the checks use the same limits.",
)

s3_change = sa.Table(
    "s3_change",
    views,
    sa.Column("bucket", sa.Text, comment="Bucket that the request was made to."),
    sa.Column("request_dtime", sa.TIMESTAMP(timezone=True), comment="Time at which S3 received the request (UTC)."),
    sa.Column("change", sa.Text, comment="One of write, copy (to this key), delete, and expire (by a lifecycle rule)."),
    sa.Column("key", sa.Text, comment="Object key, URL-encoded as REST operations log it."),
    sa.Column("version_id", sa.Text, comment="Version named in the request; null if the request named none."),
    sa.Column("requester", sa.Text, comment="Canonical user id, ARN or service; null if not authenticated."),
    sa.Column("remote_ip", postgresql.INET(), comment="Apparent IP address of the requester; null for S3's own."),
    sa.Column("user_agent", sa.Text, comment="HTTP User-Agent header; null if none was sent."),
    sa.Column("operation", sa.Text, comment="Operation, as INTERFACE.METHOD.RESOURCE."),
    sa.Column("http_status", sa.SmallInteger, comment="HTTP status of the response; null for S3's own actions."),
    sa.Column("object_size", sa.BigInteger, comment="Size of the object, in bytes; null if the line has none."),
    sa.Column("request_id", sa.Text, comment="S3's id of the request; the deletions of one request share it."),
    comment="Objects that were written, copied to, deleted or expired, and who did it."
    " Query it with bounds on request_dtime.",
)

_FAILED = "Number of failed requests: answered with a 4xx or 5xx, or with a 2xx and an error code."
_REQUESTER = "Canonical user id, ARN or service; null if not authenticated."


def _access(name: str, meaning: str, *by: sa.Column[Any]) -> sa.Table:
    """Define a view of each day's requests by bucket, the columns `by`, user agent and operation."""
    return sa.Table(
        name,
        views,
        sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to."),
        sa.Column("request_date", sa.Date, comment="UTC day of the requests."),
        *by,
        sa.Column("user_agent", sa.Text, comment="HTTP User-Agent header; null if none was sent."),
        sa.Column("operation", sa.Text, comment="Requested operation, as INTERFACE.METHOD.RESOURCE."),
        sa.Column("requests", sa.BigInteger, comment="Number of requests."),
        sa.Column("refused_requests", sa.BigInteger, comment=_FAILED),
        sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses."),
        sa.Column("keys", sa.BigInteger, comment="Number of different object keys of the requests."),
        sa.Column("remote_ips", sa.BigInteger, comment="Number of different addresses of the requests."),
        comment=f"Requests of each UTC day {meaning}. Query it with bounds on request_date.",
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
    sa.Column("log_key_id", sa.BigInteger, comment="Log key of the line (s3_log_key.id)."),
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
    " or a forgery. Query it with bounds on request_dtime.",
)

# The results of the functions, as tables. `info` has the arguments of each function.
functions = sa.MetaData()

s3_hogs = sa.Table(
    "s3_hogs",
    functions,
    sa.Column("kind", sa.Text, comment="remote_ip or requester: each request is in both."),
    sa.Column("consumer", sa.Text, comment="The address, or the requester."),
    sa.Column("requests", sa.BigInteger, comment="Number of requests."),
    sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses."),
    sa.Column("byte_share", sa.Double, comment="Its share of all bytes of the bucket in these days, from 0 to 1."),
    sa.Column(
        "times_median",
        sa.Double,
        comment="Its bytes divided by the median of its kind; null if that is 0 or not known: see missing_bytes.",
    ),
    sa.Column("times_mean", sa.Double, comment="Its bytes divided by the mean of its kind; null like times_median."),
    sa.Column(
        "missing_bytes",
        sa.Numeric,
        comment="Maximum number of bytes that it may have in addition, in folded rows (traffic_fold).",
    ),
    info={"arguments": "of_bucket text, first_day date, last_day date"},
    comment="The consumers of a bucket from the first day to the last, by address and by requester, compared with the"
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
    comment="Objects that nobody has read for a number of days before a day, as far as requests for them are in the"
    " logs.",
)

s3_spike_causes = sa.Table(
    "s3_spike_causes",
    functions,
    sa.Column("kind", sa.Text, comment="key, remote_ip, referrer or user_agent: each request is in all four."),
    sa.Column("value", sa.Text, comment="The key, address, referrer or user agent; null for requests without one."),
    sa.Column("requests", sa.BigInteger, comment="Number of requests in the hour."),
    sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses."),
    sa.Column("usual_requests", sa.Double, comment="Mean of its requests in the same hour of the seven days before."),
    sa.Column("usual_bytes", sa.Double, comment="Mean of its bytes in the same hour of the seven days before."),
    sa.Column("more_requests", sa.Double, comment="Requests above that mean; negative if there were fewer."),
    sa.Column("more_bytes", sa.Double, comment="Bytes above that mean; negative if there were fewer."),
    info={"arguments": "of_bucket text, in_hour timestamp with time zone"},
    comment="Keys, addresses, referrers and user agents with more traffic in an hour than in the same hour of the seven"
    " days before.",
)

s3_estimated_cost = sa.Table(
    "s3_estimated_cost",
    functions,
    sa.Column("requests_usd", sa.Numeric, comment="Estimated cost of the requests."),
    sa.Column("transfer_usd", sa.Numeric, comment="Estimated cost of the transfer."),
    sa.Column("total_usd", sa.Numeric, comment="Sum of both."),
    sa.Column("price_region", sa.Text, comment="Region of the prices."),
    sa.Column("price_date", sa.Date, comment="Day for which the prices are right."),
    sa.Column("unpriced_requests", sa.BigInteger, comment="Requests without a price in the list, which are left out."),
    info={
        "arguments": "of_bucket text, request_date date, requests bigint, put_requests bigint,"
        " unbilled_requests bigint, ia_transitions bigint, gir_transitions bigint, glacier_transitions bigint,"
        " deep_archive_transitions bigint, bytes_sent numeric, unbilled_bytes numeric, interregion_bytes numeric"
    },
    comment="Estimated cost of requests and bytes of a bucket's day; no row if its month has no prices.",
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
