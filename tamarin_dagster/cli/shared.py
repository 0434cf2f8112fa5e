"""What several commands share: which buckets and days are asked for, and what is said of a bucket that failed."""

from datetime import UTC, date, datetime

from tamarin_dagster.cli.terminal import complain
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, cause_of, raise_if_lost
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError


def chosen_buckets(settings: Settings, name: str | None) -> list[LoggedBucket]:
    """The bucket of that name, or all. Raises SettingsError if there is none."""
    if name is not None:
        return [settings.bucket(name)]
    if not settings.buckets:
        raise SettingsError("no buckets are configured; list one in tamarin.yaml, under buckets:")
    return list(settings.buckets)


def asked_days(first: date | None, last: date | None) -> tuple[date | None, date | None]:
    """The first and the last day that were given as options, if any were. Raises SettingsError if they are swapped."""
    if first and last and first > last:
        raise SettingsError(f"--from {first} is after --to {last}: no day lies between them")
    return first, last


def first_pulled_day(settings: Settings, bucket: LoggedBucket) -> date:
    """Where a pull begins that is not told: rows of days that retention_months leaves out would be dropped at once."""
    if settings.retention_months is None:
        return bucket.start_date
    from tamarin_dagster.pipeline.retain import first_kept_day  # noqa: PLC0415 - few settings need it

    return max(bucket.start_date, first_kept_day(settings.retention_months, datetime.now(UTC).date()))


def tell_bucket_failure(bucket: str, error: Exception, consequence: str = "") -> str:
    """Say what failed for one bucket, so that the others go on, and the consequence; returns what failed.

    Raises the error again if it means that the server is gone.
    """
    raise_if_lost(error)
    text = f"database: {cause_of(error)}" if isinstance(error, DATABASE_ERRORS) else str(error)
    complain(f"bucket {bucket}: {text}" + (f"; {consequence}" if consequence else ""))
    return text
