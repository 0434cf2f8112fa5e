"""What several commands share: which buckets and days they work on, and the report of a bucket that failed."""

from datetime import UTC, date, datetime

from tamarin_dagster.cli.terminal import complain, printable
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, describe_cause, raise_if_lost
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError


def select_buckets(settings: Settings, name: str | None) -> list[LoggedBucket]:
    """Return the bucket of that name, or all buckets. Raises SettingsError if there is none."""
    if name is not None:
        return [settings.bucket(name)]
    if not settings.buckets:
        raise SettingsError("no buckets are configured; list one in tamarin.yaml, under buckets:")
    return list(settings.buckets)


def check_days(first: date | None, last: date | None) -> tuple[date | None, date | None]:
    """Return the days of --from and --to, if given. Raises SettingsError if the first is after the last."""
    if first and last and first > last:
        raise SettingsError(f"--from {first} is after --to {last}: there is no day between them")
    return first, last


def first_pulled_day(settings: Settings, bucket: LoggedBucket) -> date:
    """Return the first day of a pull without --from. Rows of days before retention_months would be dropped at once."""
    if settings.retention_months is None:
        return bucket.start_date
    from tamarin_dagster.pipeline.retain import find_first_kept_day  # noqa: PLC0415 - few settings need it

    return max(bucket.start_date, find_first_kept_day(settings.retention_months, datetime.now(UTC).date()))


def describe_strays(example: str, number: str) -> str:
    """Return the line about strays; `number` is from `count_strays`."""
    were = "1 stray was" if number == "1" else f"{number} strays were"
    return f"  {were} skipped, for example '{printable(example)}'"


def report_bucket_failure(bucket: str, error: Exception, consequence: str = "") -> str:
    """Report what failed for one bucket, and the consequence, so that the others go on. Returns what failed.

    Raises the error again if the server is gone.
    """
    raise_if_lost(error)
    text = f"database: {describe_cause(error)}" if isinstance(error, DATABASE_ERRORS) else str(error)
    complain(f"bucket {bucket}: {text}" + (f"; {consequence}" if consequence else ""))
    return text
