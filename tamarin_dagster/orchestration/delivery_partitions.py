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

# A bucket has hourly partitions if a day is too much for one run, so a run gets a quarter of a day.
HOURS_PER_RUN = 6

# 100,000 partitions of an asset are as many as Dagster recommends; ten years of hours, and the current year.
MAX_YEARS_OF_HOURS = 10

# Dagster's default format for the key of an hour.
_HOUR_KEY = "%Y-%m-%d-%H:%M"


def first_partition_date(bucket: LoggedBucket) -> date:
    """Return the first day that has partitions: start_date, unless that makes more hours than Dagster can handle.

    It changes only at the start of a year, since Dagster needs the same partitions from one moment to the next.
    """
    if bucket.partition == PartitionUnit.DAILY:
        return bucket.start_date
    return max(bucket.start_date, date(datetime.now(UTC).year - MAX_YEARS_OF_HOURS, 1, 1))


def warn_if_clamped(bucket: LoggedBucket) -> None:
    """Log a warning if the bucket's partitions begin later than its settings say."""
    first = first_partition_date(bucket)
    if first > bucket.start_date:
        _log.warning(
            "bucket %s: with partition: hourly its partitions begin on %s, not on its start_date %s, since Dagster"
            " supports 100,000 partitions of an asset; load earlier days with `tamarin-dagster pull --from %s`",
            bucket.name,
            first,
            bucket.start_date,
            bucket.start_date,
        )


def delivery_partitions(bucket: LoggedBucket) -> dg.TimeWindowPartitionsDefinition:
    """Return the bucket's days (or hours) from its start_date to the current one, which is incomplete."""
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
    """Return the policy that limits the partitions of one backfill run. Smaller runs spread over more workers."""
    hourly = bucket.partition == PartitionUnit.HOURLY
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=HOURS_PER_RUN if hourly else settings.days_per_run)


def partition_key(period: DeliveryPeriod) -> str:
    """Return the Dagster key of a period: `2026-03-05` for a day, `2026-03-05-14:00` for an hour."""
    return f"{period}:00" if isinstance(period, DeliveryHour) else period.isoformat()


def whole_days(bucket: LoggedBucket, first: date, last: date) -> tuple[str, str]:
    """Return the keys of the bucket's first and last partition of these days, up to the current hour."""
    if bucket.partition == PartitionUnit.DAILY:
        return partition_key(first), partition_key(last)
    return partition_key(DeliveryHour(first, 0)), partition_key(min(DeliveryHour(last, 23), _present_hour()))


def parse_partition_keys(keys: Sequence[str]) -> list[DeliveryPeriod]:
    """Return the days or hours of these partition keys."""
    return [_period(key) for key in keys]


def _period(key: str) -> DeliveryPeriod:
    day, hour = key[:10], key[10:]
    return DeliveryHour(date.fromisoformat(day), int(hour[1:3])) if hour else date.fromisoformat(day)


def has_begun(period: DeliveryPeriod) -> bool:
    """Return whether the period has begun, so that it has a partition."""
    present = _present_hour()
    return period <= present if isinstance(period, DeliveryHour) else period <= present.day


def _present_hour() -> DeliveryHour:
    now = datetime.now(UTC)
    return DeliveryHour(now.date(), now.hour)


def get_period(bucket: LoggedBucket, key: LogKey) -> DeliveryPeriod:
    """Return the partition that a log key of the bucket belongs to."""
    if bucket.partition == PartitionUnit.DAILY:
        return key.delivery_date
    name = parse_key_name(key.object.key, bucket.log_prefix)
    if name is None:
        raise ValueError(f"{key.object.key} is not the name of a log key")
    return name.delivery_hour
