"""Dagster's names for a bucket: a bucket name may hold dots and dashes, Dagster's names may not."""

import re
from collections.abc import Sequence

import dagster as dg

from tamarin_dagster.settings import LoggedBucket

# The tag that shows which bucket a run works for; a range run made in the UI does not have it.
BUCKET_TAG = "tamarin/bucket"
# Names the set of keys a run was asked for, so that attempts at the same keys can be counted.
DIGEST_TAG = "tamarin/keys_digest"
# The priority of what sensors and schedules ask for: it goes before the queued runs of a backfill, which have none.
FIRST = "1"


def slugs(buckets: Sequence[LoggedBucket]) -> dict[str, str]:
    """A distinct Dagster name for each bucket name: `media.example.org` is `media_example_org`."""
    taken: dict[str, str] = {}
    for bucket in buckets:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", bucket.name)
        slug, number = plain, 2
        while slug in taken.values():
            slug, number = f"{plain}_{number}", number + 1
        taken[bucket.name] = slug
    return taken


def delivered_key(slug: str) -> dg.AssetKey:
    """The asset that stands for the log keys that S3 delivers."""
    return dg.AssetKey([slug, "delivered_log_keys"])


def records_key(slug: str) -> dg.AssetKey:
    """The asset that loads a bucket's log keys."""
    return dg.AssetKey([slug, "log_records"])


def archived_key(slug: str) -> dg.AssetKey:
    """The asset that stands for the bucket's records in the archive."""
    return dg.AssetKey([slug, "archived_log_records"])


def rollups_key(slug: str) -> dg.AssetKey:
    """The asset that sums up a bucket's traffic by day."""
    return dg.AssetKey([slug, "traffic_rollups"])


def purged_key(slug: str) -> dg.AssetKey:
    """The asset that stands for the bucket's deleted log keys."""
    return dg.AssetKey([slug, "purged_log_keys"])


def traffic_key(slug: str) -> dg.AssetKey:
    """The asset that stands for the requests that are made to the bucket."""
    return dg.AssetKey([slug, "traffic"])


def report_key(slug: str) -> dg.AssetKey:
    """The asset that writes a bucket's monthly reports."""
    return dg.AssetKey([slug, "traffic_report"])
