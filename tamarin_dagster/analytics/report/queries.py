"""Read a report's values in one snapshot of the database: the rollups of a bucket's month and of the month before."""

from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from tamarin_dagster.analytics.folds import Fold, find_folds
from tamarin_dagster.analytics.report import over_time, tops
from tamarin_dagster.analytics.report.evidence import measure_completeness
from tamarin_dagster.analytics.report.figures import Report, TopConsumers
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.analytics.report.pseudonyms import NameOfAddress, as_it_is
from tamarin_dagster.recordstore.bucket_names import find_foreign_records

# The sums of 25,000 object keys take 25 MB. Sums that do not fit are sorted on disk, which takes twice as long.
WORK_MEM = "64MB"


def ask_all(
    engine: sa.Engine, bucket: str, month: Month, *, now: datetime, name_of: NameOfAddress = as_it_is
) -> Report:
    """Read all values of the report in one snapshot. `name_of` names addresses. Nothing is written."""
    with (
        engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection,
        connection.begin(),
    ):
        connection.execute(sa.select(sa.func.set_config("work_mem", WORK_MEM, True)))
        prices = tops.read_month_prices(connection, bucket, month)
        foreign = find_foreign_records(connection, bucket)
        folds = find_folds(connection, bucket, month.first, month.last)
        return Report(
            bucket=bucket,
            month=month,
            made_at=now,
            anonymous=name_of is not as_it_is,
            before=over_time.traffic_before(connection, bucket, month, now),
            days=over_time.traffic_by_day(connection, bucket, month),
            hours=over_time.traffic_by_hour(connection, bucket, month),
            latencies=over_time.latencies(connection, bucket, month),
            files=tops.files(connection, bucket, month, prices),
            addresses=_remove_median(
                tops.addresses(connection, bucket, month, prices, name_of), folds.get("remote_ip")
            ),
            requesters=_remove_median(tops.requesters(connection, bucket, month, prices), folds.get("requester")),
            referrers=tops.referrers(connection, bucket, month),
            agents=tops.agents(connection, bucket, month),
            cost=tops.cost(connection, bucket, month, prices),
            completeness=measure_completeness(connection, bucket, month, now),
            foreign=f"{foreign}: {foreign.remedy}" if foreign else None,
            folds=folds,
        )


def _remove_median(consumers: TopConsumers, fold: Fold | None) -> TopConsumers:
    """Remove the median if small consumers are folded: the bytes of each of them are not known then."""
    return consumers if fold is None else replace(consumers, median_bytes=None)
