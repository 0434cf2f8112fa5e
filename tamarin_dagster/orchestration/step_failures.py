"""Helpers for steps that continue after a bucket or a day has failed, and that report all failures at their end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.orchestration.asset_checks import SAMPLE
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS, DayFailure, describe_cause, is_connection_lost
from tamarin_dagster.settings import LoggedBucket


@contextmanager
def hold_back(failures: list[dg.Failure], bucket: LoggedBucket) -> Iterator[None]:
    """Keep the failure of one bucket for `raise_held_back`, so that the other buckets go on.

    A lost database connection is raised at once: it would fail every other bucket too.
    """
    try:
        yield
    except LogStoreError as error:
        # The message is complete. A stack trace below it would only fill the page.
        failures.append(dg.Failure(f"bucket {bucket.name}: {error}", allow_retries=error.transient))
    except DATABASE_ERRORS as error:
        if is_connection_lost(error):
            raise
        failures.append(dg.Failure(f"bucket {bucket.name}: database: {describe_cause(error)}"))


def raise_held_back(failures: Sequence[dg.Failure]) -> None:
    """Fail the step if any bucket failed. Dagster retries it if any of the failures is transient."""
    if failures:
        text = "; ".join(str(failure.description) for failure in failures)
        raise dg.Failure(text, allow_retries=any(failure.allow_retries for failure in failures))


def fail_for(log: dg.DagsterLogManager, failures: Sequence[DayFailure], *, own: str | None = None) -> None:
    """Log each failed day, then fail the step if any day failed.

    With `own`, fail only if a day of that bucket failed: each other bucket has a step that fails for it, and the hourly
    roll-up fails for bucket names that are not configured.
    """
    for failure in failures:
        log.error(str(failure))
    chosen = [failure for failure in failures if own is None or failure.bucket == own]
    if chosen:
        more = f" (and {len(chosen) - 1:,} more, see the log)" if len(chosen) > 1 else ""
        raise dg.Failure(f"{chosen[0]}{more}", metadata={"failed days": failure_rows(chosen)}, allow_retries=False)


def failure_rows(failures: Sequence[DayFailure]) -> dg.TableMetadataValue:
    """Return a table of the first failures, for metadata."""
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {"bucket": each.bucket or "", "day": str(each.day), "cause": each.cause, "remedy": each.remedy}
            )
            for each in failures[:SAMPLE]
        ]
    )
