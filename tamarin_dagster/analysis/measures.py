"""What the daily rollups sum up of the records, as expressions on `s3_log_record`.

They are asked of each record, so what most records are is asked first: a busy bucket's are GETs that succeeded.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.traffic.unbilled import UNBILLED_ERROR_CODES
from tamarin_dagster.recordstore.tables import s3_log_record
from tamarin_dagster.recordstore.whole_numbers import WholeNumber

_record = s3_log_record.c

# Operations at the price of PUT (S3 pricing: "PUT, COPY, POST, LIST requests"): those that write, and those that list.
PUT_OPERATIONS = r"^REST[.](PUT|POST|COPY)[.]|^REST[.]GET[.](BUCKET|BUCKETVERSIONS|UPLOADS?)$"
# Those that cost nothing: deletions, and what S3 does by itself.
FREE_OPERATIONS = r"[.]DELETE[.]|^REST[.]POST[.]MULTI_OBJECT_DELETE$|^S3[.]"
# Where a gateway endpoint shows a request's address, it came from within the region.
PRIVATE_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")

# What a row of the sums by hours is named.
HOUR = "hour"

_PLAIN_READ = _record.operation == "REST.GET.OBJECT"


def midnight(day: date) -> datetime:
    """The day's first moment, in UTC."""
    return datetime.combine(day, time(), UTC)


def of_day(day: date) -> sa.ColumnElement[bool]:
    """The condition that a record's request was made on that UTC day."""
    start = midnight(day)
    return sa.and_(_record.request_dtime >= start, _record.request_dtime < start + timedelta(days=1))


def sums_of(bucket: str, day: date, region: str | None) -> sa.Select[Any]:
    """The records of a bucket's day, summed up in one reading: by each dimension of the rollups alone.

    A row has the value of one dimension, which `grouped_by` names, and NULL in the columns of the others. An hour's
    groups are finer: by operation, status and the time that the request took.
    """
    hour = sa.func.date_bin(
        sa.cast("1 hour", sa.Interval), _record.request_dtime, midnight(day), type_=_record.request_dtime.type
    ).label(HOUR)
    single = (_record.key, _record.remote_ip, _record.requester, _record.referrer, _record.user_agent)
    hourly = (hour, _record.operation, _record.http_status, _record.total_time)
    names = [*(column.name for column in single), HOUR]
    # The bits of GROUPING, the first column's the highest, are set for those that are not grouped by. By operation only
    # the hours are.
    masks = {(1 << len(names)) - 1 - (1 << place): name for place, name in enumerate(reversed(names))}
    grouping = sa.func.grouping(*single, _record.operation)
    return (
        sa.select(
            sa.case(masks, value=grouping).cast(sa.Text).label("grouped_by"),
            *single,
            *hourly,
            *_measures(region),
            *_key_measures(),
        )
        .where(_record.bucket == bucket, of_day(day))
        .group_by(
            sa.func.grouping_sets(*(sa.tuple_(column) for column in single), sa.tuple_(sa.text(HOUR), *hourly[1:]))
        )
    )


def _measures(region: str | None) -> list[sa.Label[Any]]:
    """The measures that all daily rollups have, in the tables' order. `region`: of the bucket; None if not known.

    Transfer is free to CloudFront and within the region: the address is private then, or S3 names the region. A request
    from a region is taken to be from the bucket's own if that is not known.
    """
    plain = sa.and_(_PLAIN_READ, sa.or_(_record.http_status <= 300, _record.http_status == 304))
    error = sa.or_(
        _record.http_status >= 500,
        sa.and_(_record.error_code == "AccessDenied", _record.requester.is_(None)),
        _record.error_code == sa.any_(sa.literal(list(UNBILLED_ERROR_CODES), sa.ARRAY(sa.Text))),
    )
    free_operation = _record.operation.regexp_match(FREE_OPERATIONS)
    unbilled = sa.case((plain, sa.false()), else_=sa.func.coalesce(sa.or_(error, free_operation), sa.false()))
    put = sa.case((_PLAIN_READ, sa.false()), else_=_record.operation.regexp_match(PUT_OPERATIONS))
    from_cloudfront = sa.case(
        (_record.requester.is_(None), _record.user_agent == "Amazon CloudFront"),
        else_=_record.requester.regexp_match("cloudfront", flags="i"),
    )
    free = sa.case(
        (_record.source_region.is_not(None), _record.source_region == region if region else sa.true()),
        (from_cloudfront, sa.true()),
        else_=sa.or_(*(_within(network) for network in PRIVATE_NETWORKS)),
    )
    elsewhere = _record.source_region != region if region else sa.false()
    return [
        _count(sa.true()).label("requests"),
        _bytes(sa.true()).label("bytes_sent"),
        _count(_record.http_status >= 400).label("error_count"),
        _count(put, ~unbilled).label("put_requests"),
        _count(unbilled).label("unbilled_requests"),
        _bytes(sa.or_(free, unbilled)).label("unbilled_bytes"),
        _bytes(sa.and_(elsewhere, ~unbilled)).label("interregion_bytes"),
    ]


def _key_measures() -> list[sa.Label[Any]]:
    """The measures that the rollup by key has beside them, in the table's order."""
    read = sa.and_(_record.http_status < 400, sa.or_(_PLAIN_READ, _record.operation == "WEBSITE.GET.OBJECT"))
    deleted = sa.and_(
        ~_PLAIN_READ,
        _record.operation.regexp_match(r"[.]DELETE[.]OBJECT$|^S3[.]EXPIRE[.]OBJECT$|^S3[.]CREATE[.]DELETEMARKER$"),
        sa.func.coalesce(_record.http_status, 204) < 300,
    )
    return [
        _count(read).label("reads"),
        _count(deleted).label("deletes"),
        sa.func.max(_record.object_size).label("object_size"),
    ]


def short_referrer(referrer: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """A referrer less its query and fragment: what they hold is many, and nobody's business."""
    return sa.func.regexp_replace(referrer, "[?#].*", "")


def _within(network: str) -> sa.ColumnElement[bool]:
    return _record.remote_ip.op("<<=", is_comparison=True)(sa.cast(network, postgresql.INET()))


def _count(chosen: sa.ColumnElement[bool], *more: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.type_coerce(_of_those(sa.func.count(), sa.and_(chosen, *more)), sa.BigInteger)


def _bytes(chosen: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    # A sum of bigint is numeric, and may be more than a bigint holds.
    return sa.type_coerce(sa.func.coalesce(_of_those(sa.func.sum(_record.bytes_sent), chosen), 0), WholeNumber())


def _of_those(total: sa.Function[Any], chosen: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return total if isinstance(chosen, sa.True_) else total.filter(chosen)
