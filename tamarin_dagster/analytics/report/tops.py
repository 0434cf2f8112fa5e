"""Read where a month's traffic comes from (files, consumers, referrers, user agents), and what it costs."""

from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.analytics.consumers import compute_median, is_one_value
from tamarin_dagster.analytics.report.figures import (
    Agents,
    AgentTraffic,
    ConsumerTraffic,
    Cost,
    File,
    Files,
    MonthPrices,
    Referrer,
    SizeClass,
    TopConsumers,
    Traffic,
)
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.analytics.report.pseudonyms import NameOfAddress, as_it_is
from tamarin_dagster.analytics.report.query_parts import (
    MEASURES,
    billed_sums,
    dollars_sum,
    read_billed,
    read_traffic,
    select_by,
    select_days,
    sum_columns,
    take_largest,
)
from tamarin_dagster.recordstore.schema.dimension_tables import s3_monthly_price, user_agent_kind
from tamarin_dagster.recordstore.schema.traffic_tables import (
    traffic_daily_by_key,
    traffic_daily_by_referrer,
    traffic_daily_by_remote_ip,
    traffic_daily_by_requester,
    traffic_daily_by_user_agent,
)
from tamarin_dagster.traffic.operations import TRANSITIONS

TOP_FILES = 20
TOP_CONSUMERS = 20
# The length of all other lists.
TOP = 10

_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3
# The limits between the size classes of objects. 128 KiB is the minimum that S3 bills for an object in Standard-IA.
_SIZE_BOUNDS = (0, 16 * _KIB, 128 * _KIB, _MIB, 16 * _MIB, 128 * _MIB, _GIB)


def read_month_prices(connection: sa.Connection, bucket: str, month: Month) -> MonthPrices | None:
    """Return the prices of a request and a byte in the month; None if they are not known."""
    price = s3_monthly_price.c
    row = connection.execute(
        sa.select(s3_monthly_price).where(price.bucket == bucket, price.month == month.first)
    ).one_or_none()
    if row is None:
        return None
    transitions = (getattr(row, f"{name}_usd") for name in TRANSITIONS)
    return MonthPrices(
        row.region,
        row.region_is_assumed,
        row.price_date,
        float(row.put_request_usd),
        float(row.get_request_usd),
        float(row.internet_byte_usd),
        float(row.interregion_byte_usd),
        tuple(None if usd is None else float(usd) for usd in transitions),
    )


def files(connection: sa.Connection, bucket: str, month: Month, prices: MonthPrices | None = None) -> Files:
    """Return everything about objects, with one scan of the rollup."""
    table = traffic_daily_by_key
    largest_size = sa.func.max(table.c.object_size).label("object_size")
    by_key = (
        select_by(table.c.key, bucket, month, dollars_sum(table, prices), largest_size)
        .where(table.c.key.is_not(None))
        .cte("by_key")
    )
    size = by_key.c.object_size
    bounds = sa.cast(list(_SIZE_BOUNDS), postgresql.ARRAY(sa.BigInteger))
    size_class = sa.func.coalesce(sa.func.width_bucket(size, bounds), 0)
    of_one = (sa.literal(0).label("size_class"), sa.literal(1, sa.BigInteger).label("files"))
    each = sa.select(sa.literal("largest").label("question"), *by_key.c, *of_one)
    failing = sa.select(sa.literal("failing").label("question"), *by_key.c, *of_one).where(by_key.c.error_count > 0)
    sizes = sa.select(
        sa.literal("sizes").label("question"),
        sa.null().label("key"),
        *sum_columns(by_key),
        sa.func.sum(by_key.c.dollars).label("dollars"),
        sa.func.max(size).label("object_size"),
        size_class.label("size_class"),
        sa.func.count().label("files"),
    ).group_by(size_class)
    statement: Any = sa.union_all(
        sa.select(take_largest(each, "bytes_sent", TOP_FILES)),
        sa.select(take_largest(failing, "error_count", TOP)),
        sizes,
    )
    rows: dict[str, list[Any]] = {"largest": [], "failing": [], "sizes": []}
    for row in connection.execute(statement):
        rows[row.question].append(row)

    def read_files(question: str) -> tuple[File, ...]:
        return tuple(File(row.key, read_traffic(row), row.object_size, row.dollars) for row in rows[question])

    classes = {row.size_class: row for row in rows["sizes"]}
    upper: tuple[int | None, ...] = (*_SIZE_BOUNDS[1:], None)
    return Files(
        count=sum(row.files for row in rows["sizes"]),
        largest=read_files("largest"),
        failing=read_files("failing"),
        sizes=tuple(
            SizeClass(lower, below, classes[number].files, read_traffic(classes[number]))
            if number in classes
            else SizeClass(lower, below, 0, Traffic())
            for number, (lower, below) in enumerate(zip(_SIZE_BOUNDS, upper, strict=True), 1)
        )
        if set(classes) - {0}
        else (),
    )


def addresses(
    connection: sa.Connection,
    bucket: str,
    month: Month,
    prices: MonthPrices | None = None,
    name_of: NameOfAddress = as_it_is,
) -> TopConsumers:
    """Return the IP addresses. Requests that S3 makes by itself have none, and are left out."""
    found = _consumers(connection, bucket, month, prices, traffic_daily_by_remote_ip.c.remote_ip)
    return replace(found, largest=tuple(replace(each, name=name_of(each.name)) for each in found.largest))


def requesters(connection: sa.Connection, bucket: str, month: Month, prices: MonthPrices | None = None) -> TopConsumers:
    """Return accounts, roles and services. Requests that were not authenticated have no requester: see `nobody`."""
    table = traffic_daily_by_requester
    anonymous = sa.select(*sum_columns(table)).where(*select_days(table, bucket, month), table.c.requester.is_(None))
    nobody = read_traffic(connection.execute(anonymous).one())
    return replace(_consumers(connection, bucket, month, prices, table.c.requester), nobody=nobody)


def referrers(connection: sa.Connection, bucket: str, month: Month) -> tuple[Referrer, ...]:
    """Return the sites whose pages led to requests, those with the most bytes."""
    table = traffic_daily_by_referrer
    host = table.c.referrer_host
    site = sa.case((table.c.referrer.is_(None), None), else_=sa.func.coalesce(host, ""))
    statement = (
        sa.select(site.label("site"), *sum_columns(table))
        # A folded row for referrers of many hosts belongs to no site.
        .where(*select_days(table, bucket, month), sa.or_(host.is_not(None), is_one_value(table)))
        .group_by(site)
        .order_by(sa.desc("bytes_sent"), sa.desc("requests"))
        .limit(TOP)
    )
    return tuple(Referrer(row.site, read_traffic(row)) for row in connection.execute(statement))


def agents(connection: sa.Connection, bucket: str, month: Month) -> Agents:
    """Return user agents, and the kinds that they claim to be. The kind of a folded row is not known."""
    table = traffic_daily_by_user_agent
    by_agent = (
        sa.select(table.c.user_agent, is_one_value(table).label("is_one"), *sum_columns(table))
        .where(*select_days(table, bucket, month))
        .group_by("user_agent", "is_one")
    ).subquery()
    kind = user_agent_kind.c
    is_known = sa.and_(by_agent.c.is_one, kind.user_agent == by_agent.c.user_agent)
    every = (
        sa.select(by_agent.c.is_one, by_agent.c.user_agent, kind.kind, *(by_agent.c[name] for name in MEASURES))
        .join_from(by_agent, user_agent_kind, is_known, isouter=True)
        .cte("every")
    )
    largest = take_largest(sa.select(every).where(every.c.is_one), "bytes_sent", TOP)
    kinds = sa.select(sa.false(), sa.null(), every.c.kind, *sum_columns(every)).group_by(every.c.kind)
    rows = connection.execute(sa.union_all(sa.select(largest), kinds)).all()
    of_kinds = sorted((row for row in rows if not row.is_one), key=lambda row: -row.bytes_sent)
    known = any(row.kind for row in of_kinds)
    return Agents(
        kinds=tuple((row.kind or "unknown", read_traffic(row)) for row in of_kinds) if known else (),
        largest=tuple(AgentTraffic(row.user_agent, row.kind, read_traffic(row)) for row in rows if row.is_one),
    )


def cost(connection: sa.Connection, bucket: str, month: Month, prices: MonthPrices | None) -> Cost | None:
    """Return the estimated cost. Every rollup by day has the same sums: that of requesters has the fewest rows."""
    if prices is None:
        return None
    table = traffic_daily_by_requester
    row = connection.execute(sa.select(*billed_sums(table)).where(*select_days(table, bucket, month))).one()
    return Cost(prices, read_billed(row))


def _consumers(
    connection: sa.Connection, bucket: str, month: Month, prices: MonthPrices | None, dimension: sa.Column[Any]
) -> TopConsumers:
    every = (
        select_by(dimension, bucket, month, dollars_sum(dimension.table, prices))
        .where(dimension.is_not(None))
        .cte("every")
    )
    # Scalar subqueries are evaluated once. A join with the row of sums is evaluated for each consumer if the planner
    # expects a single consumer, as it does before the first ANALYZE of a rollup.
    median = sa.select(compute_median(every.c.bytes_sent)).scalar_subquery().label("median")
    count = sa.select(sa.func.count()).select_from(every).scalar_subquery().label("consumers")
    statement = (
        sa.select(every, median, count)
        .order_by(every.c.bytes_sent.desc(), every.c.requests.desc(), every.c[dimension.name])
        .limit(TOP_CONSUMERS)
    )
    rows = connection.execute(statement).all()
    if not rows:
        return TopConsumers()
    largest = tuple(ConsumerTraffic(str(row[0]), read_traffic(row), row.dollars) for row in rows)
    return TopConsumers(rows[0].consumers, float(rows[0].median), largest)
