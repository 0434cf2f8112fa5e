"""Define the columns and comments of the views of estimated cost and of bots (files under views/)."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.recordstore.schema.tables import views

_ASK = "Query it with bounds on request_date."


def _days(meaning: str = "UTC day of the requests.") -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("bucket", sa.Text, comment="Bucket that the requests were made to."),
        sa.Column("request_date", sa.Date, comment=meaning),
    )


def _estimates() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("requests", sa.BigInteger, comment="Number of requests, billed or not."),
        sa.Column("bytes_sent", sa.Numeric, comment="Bytes of their responses, billed or not."),
        sa.Column("estimated_requests_usd", sa.Numeric, comment="Estimated cost of the requests."),
        sa.Column("estimated_transfer_usd", sa.Numeric, comment="Estimated cost of the transfer."),
        sa.Column(
            "estimated_usd", sa.Numeric, comment="Sum of both; null until the month has prices (s3_monthly_price)."
        ),
        sa.Column("price_region", sa.Text, comment="Region of the prices."),
        sa.Column("price_date", sa.Date, comment="Day for which the prices are right."),
        sa.Column(
            "unpriced_requests",
            sa.BigInteger,
            comment="Requests without a price in the price list, such as transitions: the estimate lacks them.",
        ),
    )


def _folded(meaning: str) -> sa.Column[object]:
    return sa.Column("folded_values", sa.BigInteger, comment=meaning)


def _cost_by(name: str, meaning: str, *dimension: sa.Column[object], has_folded_rows: bool = True) -> sa.Table:
    comment = f"Estimated cost of each UTC day {meaning}. {_ASK}"
    folded = [_folded("Number of values in the row if it is folded (traffic_fold); null for one value.")]
    return sa.Table(name, views, *_days(), *dimension, *_estimates(), *(folded * has_folded_rows), comment=comment)


def _kind() -> sa.Column[object]:
    return sa.Column(
        "kind",
        sa.Text,
        comment="Kind that the user agent claims to be (user_agent_kind); unknown if none was sent or in a folded row.",
    )


s3_cost_daily = _cost_by("s3_cost_daily", "by bucket", has_folded_rows=False)
s3_cost_by_key = _cost_by(
    "s3_cost_by_key",
    "by object key",
    sa.Column(
        "key", sa.Text, comment="Object key, URL-encoded as REST operations log it; null for operations on the bucket."
    ),
)
s3_cost_by_prefix = _cost_by(
    "s3_cost_by_prefix",
    "by prefix",
    sa.Column("prefix", sa.Text, comment="Object key up to its first slash; empty without one, null without a key."),
    has_folded_rows=False,
)
s3_cost_by_remote_ip = _cost_by(
    "s3_cost_by_remote_ip",
    "by IP address",
    sa.Column("remote_ip", postgresql.INET(), comment="Apparent IP address of the requester; null for S3's own."),
    sa.Column("country", sa.Text, comment="ISO 3166 code of its country, if known (remote_ip_network)."),
    sa.Column("asn", sa.BigInteger, comment="Number of its network (autonomous system), if known."),
    sa.Column("network_name", sa.Text, comment="Owner of that network, if known."),
)
s3_cost_by_requester = _cost_by(
    "s3_cost_by_requester",
    "by requester",
    sa.Column("requester", sa.Text, comment="Canonical user id, ARN or service; null if not authenticated."),
)
s3_cost_by_referrer = _cost_by(
    "s3_cost_by_referrer",
    "by referrer",
    sa.Column("referrer", sa.Text, comment="HTTP Referer header without its query; null if none was sent."),
)
s3_cost_by_user_agent = _cost_by(
    "s3_cost_by_user_agent",
    "by user agent",
    sa.Column("user_agent", sa.Text, comment="HTTP User-Agent header; null if none was sent."),
    _kind(),
    sa.Column("name", sa.Text, comment="Its name for itself without a version, if known."),
)
s3_bot_traffic = sa.Table(
    "s3_bot_traffic",
    views,
    *_days(),
    _kind(),
    sa.Column("name", sa.Text, comment="Their name for themselves without a version, if known."),
    sa.Column("user_agents", sa.BigInteger, comment="Number of distinct user agents of that name."),
    *_estimates()[:2],
    sa.Column("error_count", sa.BigInteger, comment="Number of failed requests."),
    *_estimates()[2:],
    _folded("Number of user agents without their own rows, whose kind is unknown; null if there are none."),
    comment=f"Traffic and estimated cost of each UTC day by kind and name of user agents: bots and people. {_ASK}",
)

COST_VIEWS = (
    s3_cost_daily,
    s3_cost_by_key,
    s3_cost_by_prefix,
    s3_cost_by_remote_ip,
    s3_cost_by_requester,
    s3_cost_by_referrer,
    s3_cost_by_user_agent,
    s3_bot_traffic,
)
