"""Find the consumers that take most of a bucket's bytes, and those that are your own and must not be banned."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.analytics.folds import Fold, find_folds
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_daily_by_remote_ip, traffic_daily_by_requester
from tamarin_dagster.recordstore.whole_numbers import WholeNumber, total
from tamarin_dagster.traffic.requesters import PRIVATE_NETWORKS

Address = IPv4Address | IPv6Address


class ConsumerKind(StrEnum):
    """What identifies a consumer."""

    ip = "ip"
    requester = "requester"


class Own(StrEnum):
    """Why a consumer is your own rather than a stranger: a ban would hit yourself."""

    PRIVATE = "a private address: of a VPC, or of this network"
    FREE = "most of its bytes are not billed: CloudFront, or AWS in the region"
    SERVICE = "a service of AWS"


@dataclass(frozen=True, slots=True)
class Consumer:
    """The traffic of one address or requester.

    Attributes:
        name: an IP address, or a canonical user id, ARN or service.
        bytes_sent: bytes of the responses to it.
        share: its share of all bytes of the bucket, with those that belong to no consumer; 0 to 1.
        times_median: its bytes divided by those of the median consumer; None if these are 0 or not known.
        own: why it is your own; None for a stranger.
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
        count: number of consumers with any request; if some are folded, the minimum of that number.
        bytes_sent: bytes of all of them, and of requests that belong to no consumer.
        median_bytes: the median of the bytes of each; None if some are folded, because it is not known then.
        largest: the consumers that match the limits, the largest first.
        fold: the consumers that have no rows of their own: they count in `bytes_sent` only. None if all have rows.
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


# Private networks, and the addresses of this host, this network, several hosts, or none: RFC 1122, 3927, 4291.
# `ip_address.is_private` has the addresses for documentation too, and changes with the version of Python.
_OWN_NETWORKS = tuple(
    ip_network(text)
    for text in (
        *PRIVATE_NETWORKS,
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"),
    )
)
# S3 user guide, LogFormat, and real logs: AmazonS3, svc:…, s3.amazonaws.com, CloudFront's access identities, and
# service-linked roles.
_SERVICE = re.compile(
    r"AmazonS3|svc:.*|(.+\.)?amazonaws\.com(\.cn)?|arn:aws[a-z-]*:iam::cloudfront:.*"
    r"|arn:aws[a-z-]*:sts::\d{12}:assumed-role/AWSServiceRole.*"
)
_COLUMNS: Mapping[ConsumerKind, sa.Column[Any]] = {
    ConsumerKind.ip: traffic_daily_by_remote_ip.c.remote_ip,
    ConsumerKind.requester: traffic_daily_by_requester.c.requester,
}


def compute_median(bytes_sent: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the median of the consumers' bytes, as s3_hogs has it: of an even number, the mean of the middle two."""
    return sa.func.percentile_cont(0.5).within_group(bytes_sent)


def is_one_value(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition that a row of a daily rollup is of one value: it is not folded."""
    return table.c.folded_values.is_(None)


def find_largest_consumers(
    connection: sa.Connection,
    bucket: str,
    by: ConsumerKind,
    first: date,
    last: date,
    *,
    share: float = 0,
    min_bytes: int = 0,
    limit: int | None = None,
) -> Consumers:
    """Return the consumers with more than `share` of the bucket's bytes and at least `min_bytes`.

    The period is the UTC days `first` to `last`. Requests without an address (S3's own) or without a requester
    (anonymous) belong to no consumer: they count in the sum only.
    """
    taken = _sum_by_consumer(bucket, by, first, last)
    consumer = taken.c
    named = consumer.name.is_not(None)
    middle = compute_median(consumer.bytes_sent).filter(named)
    every = sa.select(
        sa.func.count().filter(named).label("consumers"),
        sa.type_coerce(sa.func.coalesce(sa.func.sum(consumer.bytes_sent), 0), WholeNumber()).label("bytes_sent"),
        sa.type_coerce(sa.func.coalesce(middle, 0), sa.Double()).label("median_bytes"),
    ).cte("every")
    largest = (
        sa.select(*consumer)
        .where(named, consumer.bytes_sent > share * sa.select(every.c.bytes_sent).scalar_subquery())
        .where(consumer.bytes_sent >= min_bytes)
        .order_by(consumer.bytes_sent.desc(), consumer.requests.desc(), consumer.name)
        .limit(limit)
        .subquery("largest")
    )
    rows: Sequence[Any] = connection.execute(
        sa.select(*every.c, *(each.label(f"their_{each.name}") for each in largest.c))
        .select_from(every.outerjoin(largest, sa.true()))
        .order_by(largest.c.bytes_sent.desc(), largest.c.requests.desc(), largest.c.name)
    ).all()
    fold = find_folds(connection, bucket, first, last).get(_COLUMNS[by].name)
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


def find_unseen(
    connection: sa.Connection, bucket: str, by: ConsumerKind, names: Sequence[str], first: date, last: date
) -> set[str]:
    """Return those of the names that made no request on the UTC days `first` to `last`."""
    name, table = _name(_COLUMNS[by]), _COLUMNS[by].table
    seen = sa.select(name).where(
        table.c.bucket == bucket, table.c.request_date.between(first, last), name.in_(names), is_one_value(table)
    )
    return set(names) - set(connection.scalars(seen.distinct()))


def _sum_by_consumer(bucket: str, by: ConsumerKind, first: date, last: date) -> sa.CTE:
    """Return the sums of each consumer. The row without a name has those of no consumer, and the folded ones."""
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
    """Return the address; an IPv4 address that is written as IPv6 becomes IPv4. Raises ValueError."""
    address = ip_address(name)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_private(address: Address) -> bool:
    """Return whether the address belongs to nobody on the internet."""
    return any(address.version == network.version and address in network for network in _OWN_NETWORKS)
