"""A partition is a delivery day: the UTC day in a log key's name. The request's own time is a column."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

from tamarin_dagster.settings import LoggedBucket

# A month of days in one run: a run per day wastes two seconds each, a run for years holds one transaction log for all.
BACKFILL_POLICY = dg.BackfillPolicy.multi_run(max_partitions_per_run=31)


def delivery_days(bucket: LoggedBucket) -> dg.DailyPartitionsDefinition:
    """The bucket's days from its start_date to today, which is incomplete but loaded as it fills."""
    return dg.DailyPartitionsDefinition(start_date=bucket.start_date.isoformat(), end_offset=1)


def days_of(keys: Sequence[str]) -> list[date]:
    """Partition keys as days."""
    return [date.fromisoformat(key) for key in keys]
