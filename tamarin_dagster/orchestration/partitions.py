"""A partition is a delivery period: the UTC day, or hour, in a log key's name. The request's own time is a column."""

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import cache

import dagster as dg

from tamarin_dagster.logformat import DeliveryHour, DeliveryPeriod, parse_key_name
from tamarin_dagster.logkey import LogKey
from tamarin_dagster.settings import LoggedBucket, PartitionUnit, Settings

_log = logging.getLogger(__name__)

# A bucket whose day is too much for a run has a quarter of it in one.
HOURS_PER_RUN = 6

# 100,000 partitions of an asset are as many as Dagster recommends; ten years of hours, and the present year.
MAX_YEARS_OF_HOURS = 10

# Dagster's own way to write an hour's key.
_HOUR_KEY = "%Y-%m-%d-%H:%M"


def first_partition_date(bucket: LoggedBucket) -> date:
    """Return the first day that has partitions: start_date, unless its hours are more than Dagster is made for.

    It moves on with each January only: partitions that differ between two looks at the clock would not fit together.
    """
    if bucket.partition == PartitionUnit.DAILY:
        return bucket.start_date
    return max(bucket.start_date, date(datetime.now(UTC).year - MAX_YEARS_OF_HOURS, 1, 1))


def warn_of_clamped(bucket: LoggedBucket) -> None:
    """Log a warning if the bucket's partitions begin later than its settings say."""
    first = first_partition_date(bucket)
    if first > bucket.start_date:
        _log.warning(
            "bucket %s: with partition: hourly its partitions begin on %s, not on its start_date %s, since Dagster is"
            " made for 100,000 partitions of an asset; load earlier days with `tamarin-dagster pull --from %s`",
            bucket.name,
            first,
            bucket.start_date,
            bucket.start_date,
        )


def delivery_partitions(bucket: LoggedBucket) -> dg.TimeWindowPartitionsDefinition:
    """The bucket's days (hours) from its start_date to the present one, which is incomplete but loaded as it fills."""
    return _partitions(bucket.partition, first_partition_date(bucket))


@cache
def _partitions(unit: PartitionUnit, start: date) -> dg.TimeWindowPartitionsDefinition:
    """Return one object for all buckets that begin on this day: a thousand buckets need it six thousand times."""
    if unit == PartitionUnit.HOURLY:
        return dg.HourlyPartitionsDefinition(
            start_date=f"{datetime.combine(start, datetime.min.time()):{_HOUR_KEY}}", fmt=_HOUR_KEY, end_offset=1
        )
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), end_offset=1)


def backfill_policy(bucket: LoggedBucket, settings: Settings) -> dg.BackfillPolicy:
    """How many partitions of a backfill go into one run; smaller runs spread over more workers."""
    hourly = bucket.partition == PartitionUnit.HOURLY
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=HOURS_PER_RUN if hourly else settings.days_per_run)


def partition_key(period: DeliveryPeriod) -> str:
    """The period as Dagster writes it: `2026-03-05`, `2026-03-05-14:00`."""
    return f"{period}:00" if isinstance(period, DeliveryHour) else period.isoformat()


def whole_days(bucket: LoggedBucket, first: date, last: date) -> tuple[str, str]:
    """The keys of the bucket's first and last partition of these days, as far as they have come."""
    if bucket.partition == PartitionUnit.DAILY:
        return partition_key(first), partition_key(last)
    return partition_key(DeliveryHour(first, 0)), partition_key(min(DeliveryHour(last, 23), _present_hour()))


def periods_of(keys: Sequence[str]) -> list[DeliveryPeriod]:
    """Partition keys as days, or as hours."""
    return [_period(key) for key in keys]


def _period(key: str) -> DeliveryPeriod:
    day, hour = key[:10], key[10:]
    return DeliveryHour(date.fromisoformat(day), int(hour[1:3])) if hour else date.fromisoformat(day)


def has_begun(period: DeliveryPeriod) -> bool:
    """Whether there is a partition of it yet."""
    present = _present_hour()
    return period <= present if isinstance(period, DeliveryHour) else period <= present.day


def _present_hour() -> DeliveryHour:
    now = datetime.now(UTC)
    return DeliveryHour(now.date(), now.hour)


def period_of(bucket: LoggedBucket, key: LogKey) -> DeliveryPeriod:
    """The partition that a log key of the bucket belongs to."""
    if bucket.partition == PartitionUnit.DAILY:
        return key.delivery_date
    name = parse_key_name(key.object.key, bucket.log_prefix)
    if name is None:
        raise ValueError(f"{key.object.key} is no log key's name")
    return name.delivery_hour
