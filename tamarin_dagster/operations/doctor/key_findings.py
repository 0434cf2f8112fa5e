"""Findings that both kinds of log bucket share: a log key to read, and strays."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

from tamarin_dagster.logformat import parse_key_name, partitioned_prefix, simple_prefix
from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.operations.doctor.finding import Finding, ok, warn
from tamarin_dagster.pipeline.discover import Survey, count_strays, describe_unsearched, list_days_with_keys
from tamarin_dagster.settings import LoggedBucket

NOTHING_TO_READ = "there is no log key yet, so nothing to read"


def find_log_key(store: LogStore, bucket: LoggedBucket, roots: tuple[str, ...]) -> LogObject | None:
    """Return the first log key of the first day that has any, or None. Raises LogStoreError."""
    for day in list_days_with_keys(store, bucket, roots, bucket.start_date, datetime.now(UTC).date()):
        for item in _first_pages(store, bucket, roots, day):
            if parse_key_name(item.key, bucket.log_prefix):
                return item
    return None


def _first_pages(store: LogStore, bucket: LoggedBucket, roots: tuple[str, ...], day: date) -> Iterator[LogObject]:
    """Yield the first page of the day in each layout; more pages could be strays alone."""
    prefixes = [simple_prefix(bucket.log_prefix, day), *(partitioned_prefix(root, day) for root in roots)]
    for prefix in prefixes:
        yield from next(store.pages(prefix), [])


def stray_finding(subject: str, seen: Survey) -> Finding:
    """Return the finding on names that no log key has, and on folders that were not searched to their end."""
    if not seen.strays and not seen.unsearched:
        return ok(subject, "none")
    parts = []
    if seen.strays:
        parts.append(f"names that are not log keys: {count_strays(seen.strays)}, for example '{seen.strays[0]}'")
    if seen.unsearched:
        parts.append(describe_unsearched(seen))
    return warn(
        subject, "; ".join(parts), "they are never read nor deleted; if they should be log keys, check log_prefix"
    )
