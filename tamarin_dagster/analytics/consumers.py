"""Who takes most of a bucket's bytes, and whom one would hurt oneself by shutting out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.analytics.folds import Fold, folds_of
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_daily_by_remote_ip, traffic_daily_by_requester
from tamarin_dagster.recordstore.whole_numbers import WholeNumber, total
from tamarin_dagster.traffic.requesters import PRIVATE_NETWORKS

Address = IPv4Address | IPv6Address


class ConsumerKind(StrEnum):
    """What a consumer is told by."""

    ip = "ip"
    requester = "requester"


class Own(StrEnum):
    """Why somebody is one's own rather than a stranger: a ban would shut out oneself."""

    PRIVATE = "a private address: of a VPC, or of this network"
    FREE = "most of its bytes are not billed: CloudFront, or AWS in the region"
    SERVICE = "a service of AWS"


@dataclass(frozen=True, slots=True)
class Consumer:
    """What one address or requester took.

    Attributes:
        name: an IP address, or a canonical user id, ARN or service.
        bytes_sent: bytes of the responses to it.
        share: of all bytes of the bucket, those of nobody in particular too; 0 to 1.
        times_median: how many times what the median consumer took; None if that is nothing, or not known.
        own: why it is one's own; None for a stranger.
    """

    name: str
    requests: int
    bytes_sent: int
    share: float
    times_median: float | None
    own: Own | None


@dataclass(frozen=True, slots=True)
class Consumers:
    """The consumers of a bucket over some days.

    Attributes:
        count: how many took anything at all, or asked for it; at least, if some are folded.
        bytes_sent: of all of them, and of requests that are nobody's in particular.
        median_bytes: the median of what each took; None if some are folded, since it is not known then.
        largest: those who were asked for, the largest first.
        fold: the consumers that have no rows of their own, which are in `bytes_sent` alone; None if all have.
    """

    bucket: str
    by: ConsumerKind
    first: date
    last: date
    count: int
    bytes_sent: int
    median_bytes: float | None
    largest: tuple[Consumer, ...]
    fold: Fold | None = None


# And this host, this network, several hosts, none: RFC 1122, 3927, 4291. Not `ip_address.is_private`, which has the
# addresses of documentation too, and others from version to version of Python.
_OWN_NETWORKS = tuple(
    ip_network(text)
    for text in (
        *PRIVATE_NETWORKS,
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"),
    )
)
# S3 user guide, LogFormat, and what logs have: AmazonS3, svc:…, s3.amazonaws.com, CloudFront's access identities and
# service-linked roles.
_SERVICE = re.compile(
    r"AmazonS3|svc:.*|(.+\.)?amazonaws\.com(\.cn)?|arn:aws[a-z-]*:iam::cloudfront:.*"
    r"|arn:aws[a-z-]*:sts::\d{12}:assumed-role/AWSServiceRole.*"
)
_COLUMNS: Mapping[ConsumerKind, sa.Column[Any]] = {
    ConsumerKind.ip: traffic_daily_by_remote_ip.c.remote_ip,
    ConsumerKind.requester: traffic_daily_by_requester.c.requester,
}


def median_of(bytes_sent: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the median of what consumers took, as s3_hogs has it; of an even number the mean of the middle two."""
    return sa.func.percentile_cont(0.5).within_group(bytes_sent)


def is_one_value(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that a row of a daily rollup stands for one value: it is not folded."""
    return table.c.folded_values.is_(None)


def largest_consumers(
    connection: sa.Connection,
    bucket: str,
    by: ConsumerKind,
    first: date,
    last: date,
    *,
    share: float = 0,
    least_bytes: int = 0,
    limit: int | None = None,
) -> Consumers:
    """Who took more than that share of the bucket's bytes, and at least so many, over the UTC days `first` to `last`.

    Requests without an address (S3's own) or a requester (anonymous) are nobody's: they count for the sum alone.
    """
    taken = _taken(bucket, by, first, last)
    consumer = taken.c
    named = consumer.name.is_not(None)
    middle = median_of(consumer.bytes_sent).filter(named)
    every = sa.select(
        sa.func.count().filter(named).label("consumers"),
        sa.type_coerce(sa.func.coalesce(sa.func.sum(consumer.bytes_sent), 0), WholeNumber()).label("bytes_sent"),
        sa.type_coerce(sa.func.coalesce(middle, 0), sa.Double()).label("median_bytes"),
    ).cte("every")
    largest = (
        sa.select(*consumer)
        .where(named, consumer.bytes_sent > share * sa.select(every.c.bytes_sent).scalar_subquery())
        .where(consumer.bytes_sent >= least_bytes)
        .order_by(consumer.bytes_sent.desc(), consumer.requests.desc(), consumer.name)
        .limit(limit)
        .subquery("largest")
    )
    rows: Sequence[Any] = connection.execute(
        sa.select(*every.c, *(each.label(f"their_{each.name}") for each in largest.c))
        .select_from(every.outerjoin(largest, sa.true()))
        .order_by(largest.c.bytes_sent.desc(), largest.c.requests.desc(), largest.c.name)
    ).all()
    fold = folds_of(connection, bucket, first, last).get(_COLUMNS[by].name)
    median_bytes = rows[0].median_bytes if fold is None else None
    return Consumers(
        bucket,
        by,
        first,
        last,
        rows[0].consumers,
        rows[0].bytes_sent,
        median_bytes,
        tuple(_consumer(by, row, median_bytes) for row in rows if row.their_name is not None),
        fold,
    )


def unseen(
    connection: sa.Connection, bucket: str, by: ConsumerKind, names: Sequence[str], first: date, last: date
) -> set[str]:
    """Those of the names who asked for nothing over the UTC days `first` to `last`."""
    name, table = _name(_COLUMNS[by]), _COLUMNS[by].table
    seen = sa.select(name).where(
        table.c.bucket == bucket, table.c.request_date.between(first, last), name.in_(names), is_one_value(table)
    )
    return set(names) - set(connection.scalars(seen.distinct()))


def _taken(bucket: str, by: ConsumerKind, first: date, last: date) -> sa.CTE:
    """What each took; the row without a name has what is nobody's, and what is folded."""
    column = _COLUMNS[by]
    table = column.table
    one = sa.case((is_one_value(table), column))
    sums = (total(table.c[measure]).label(measure) for measure in ("requests", "bytes_sent", "unbilled_bytes"))
    grouped = (
        sa.select(one.label(column.name), *sums)
        .where(table.c.bucket == bucket, table.c.request_date.between(first, last))
        .group_by(one)
        .subquery()
    )
    return sa.select(_name(grouped.c[column.name]).label("name"), *list(grouped.c)[1:]).cte("taken")


def _name(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.host(column) if isinstance(column.type, postgresql.INET) else column


def _consumer(by: ConsumerKind, row: Any, median_bytes: float | None) -> Consumer:
    return Consumer(
        name=row.their_name,
        requests=row.their_requests,
        bytes_sent=row.their_bytes_sent,
        share=row.their_bytes_sent / row.bytes_sent if row.bytes_sent else 0.0,
        times_median=row.their_bytes_sent / median_bytes if median_bytes else None,
        own=_own(by, row.their_name, row.their_bytes_sent, row.their_unbilled_bytes),
    )


def _own(by: ConsumerKind, name: str, bytes_sent: int, unbilled_bytes: int) -> Own | None:
    if by is ConsumerKind.ip and is_private(as_address(name)):
        return Own.PRIVATE
    if by is ConsumerKind.requester and _SERVICE.fullmatch(name):
        return Own.SERVICE
    return Own.FREE if 2 * unbilled_bytes > bytes_sent else None


def as_address(name: str) -> Address:
    """The address; an IPv4 one that is written as IPv6 as what it is. Raises ValueError."""
    address = ip_address(name)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_private(address: Address) -> bool:
    """Whether it is nobody's on the internet."""
    return any(address.version == network.version and address in network for network in _OWN_NETWORKS)
