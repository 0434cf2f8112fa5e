"""Findings that both kinds of log bucket share: a log key to try, and strays."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

from tamarin_dagster.logformat import parse_key_name, partitioned_prefix, simple_prefix
from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.operations.doctor.finding import Finding, ok, warn
from tamarin_dagster.pipeline.discover import Survey, count_strays, days_with_keys, describe_unsearched
from tamarin_dagster.settings import LoggedBucket

NOTHING_TO_READ = "no log key is there yet: nothing to read"


def a_log_key(store: LogStore, bucket: LoggedBucket, roots: tuple[str, ...]) -> LogObject | None:
    """The first log key of the first day that has any; None if there is none. Raises LogStoreError."""
    for day in days_with_keys(store, bucket, roots, bucket.start_date, datetime.now(UTC).date()):
        for item in _first_pages(store, bucket, roots, day):
            if parse_key_name(item.key, bucket.log_prefix):
                return item
    return None


def _first_pages(store: LogStore, bucket: LoggedBucket, roots: tuple[str, ...], day: date) -> Iterator[LogObject]:
    """The first page of the day in each layout: a day of strays alone is not walked to its end."""
    prefixes = [simple_prefix(bucket.log_prefix, day), *(partitioned_prefix(root, day) for root in roots)]
    for prefix in prefixes:
        yield from next(store.pages(prefix), [])


def stray_finding(subject: str, seen: Survey) -> Finding:
    """Return what to say of names that are no log key's, and of folders that were not searched for log keys."""
    if not seen.strays and not seen.unsearched:
        return ok(subject, "none")
    said = []
    if seen.strays:
        said.append(f"{count_strays(seen.strays)} names are no log key's, for example '{seen.strays[0]}'")
    if seen.unsearched:
        said.append(describe_unsearched(seen))
    return warn(
        subject, "; ".join(said), "they are never read nor deleted; if they should be log keys, check log_prefix"
    )
