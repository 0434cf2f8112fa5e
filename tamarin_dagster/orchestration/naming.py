"""The names that Dagster knows a bucket by. A bucket name may contain dots and dashes; names in Dagster may not.

A slug is a bucket's part of these names: `media_example_org`, or `acme/media_example_org` with the prefix `acme`. A
prefix alone is also a slug: it names what all buckets share.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice

import dagster as dg

from tamarin_dagster.settings import LoggedBucket

# The tag that shows which bucket a run works for. A run that somebody launches in the UI does not have it.
BUCKET_TAG = "tamarin/bucket"
# The purpose of a run: `load`, `reconcile` or `report`. Runs of assets share one job, so filter them by this tag.
KIND_TAG = "tamarin/kind"
# Identifies the set of keys that a run was requested for, so that attempts at the same keys can be counted.
DIGEST_TAG = "tamarin/keys_digest"
# The priority of the runs that sensors and schedules request. They go before the queued runs of a backfill, which have
# no priority.
FIRST = "1"
# Dagster's own tags. A test compares them with Dagster's constants, which are private.
PRIORITY_TAG = "dagster/priority"
RUN_KEY_TAG = "dagster/run_key"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
REPOSITORY_TAG = ".dagster/repository"
PARENT_RUN_TAG = "dagster/parent_run_id"
ROOT_RUN_TAG = "dagster/root_run_id"
FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
UNFINISHED = tuple(status for status in dg.DagsterRunStatus if status not in (*FINISHED, dg.DagsterRunStatus.MANAGED))
# Dagster's own job, which materializes any of the assets. With a job for each bucket, a thousand buckets would take
# minutes to load, and Dagster refuses one job for all buckets if their partitions begin on different days.
ASSET_JOB = "__ASSET_JOB"
# The number of buckets that share a step for their checks, and one for their reports. With a step for each bucket, a
# thousand buckets take some seconds longer to load in each process. One step for all buckets is slow too, because
# Dagster searches all checks of a step for each asset.
BUCKETS_PER_STEP = 25
# The keys of the resources that users can override.
DATABASE = "tamarin_database"
LOG_BUCKETS = "tamarin_log_buckets"
S3 = "tamarin_s3"

_PREFIX = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*")


def make_slugs(buckets: Sequence[LoggedBucket], prefix: str = "") -> dict[str, str]:
    """Return a distinct slug for each bucket name, such as `media_example_org` for `media.example.org`.

    Raises ValueError if Dagster does not allow the prefix.
    """
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ValueError(f"prefix {prefix!r}: use letters, digits and underscores, with / between parts")
    taken: dict[str, str] = {}
    for bucket in buckets:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", bucket.name)
        slug, number = plain, 2
        while slug in taken.values():
            slug, number = f"{plain}_{number}", number + 1
        taken[bucket.name] = slug
    return {name: f"{prefix}/{slug}" if prefix else slug for name, slug in taken.items()}


def split_into_groups(buckets: Mapping[str, LoggedBucket]) -> Iterator[dict[str, LoggedBucket]]:
    """Yield the buckets by slug in groups of BUCKETS_PER_STEP."""
    left = iter(buckets.items())
    while group := dict(islice(left, BUCKETS_PER_STEP)):
        yield group


def make_name(slug: str, name: str) -> str:
    """Return the name of a job, schedule, sensor or op: `media__new_log_keys`, or the name itself without a slug."""
    return f"{get_group(slug)}__{name}" if slug else name


def get_group(slug: str) -> str:
    """Return the bucket's asset group."""
    return slug.replace("/", "__")


def get_pool(slug: str) -> str:
    """Return the pool of the steps that work for the bucket."""
    return f"tamarin_{get_group(slug)}"


def get_bucket_tag(bucket: LoggedBucket, slug: str) -> str:
    """Return the value of BUCKET_TAG: the bucket's name, after the prefix if there is one."""
    prefix = slug.rpartition("/")[0]
    return f"{prefix}/{bucket.name}" if prefix else bucket.name


def delivered_key(slug: str) -> dg.AssetKey:
    """Return the key of the external asset for the log keys that S3 delivers."""
    return _key(slug, "delivered_log_keys")


def records_key(slug: str) -> dg.AssetKey:
    """Return the key of the asset that loads a bucket's log keys."""
    return _key(slug, "log_records")


def archived_key(slug: str) -> dg.AssetKey:
    """Return the key of the asset for the bucket's records in the archive."""
    return _key(slug, "archived_log_records")


def lake_key(slug: str) -> dg.AssetKey:
    """Return the key of the asset that loads the bucket's records into the lake with Spark."""
    return _key(slug, "lake_records")


def rollups_key(slug: str) -> dg.AssetKey:
    """Return the key of the asset that rolls up a bucket's traffic by day."""
    return _key(slug, "traffic_rollups")


def purged_key(slug: str) -> dg.AssetKey:
    """Return the key of the asset for the bucket's deleted log keys."""
    return _key(slug, "purged_log_keys")


def traffic_key(slug: str) -> dg.AssetKey:
    """Return the key of the external asset for the requests that are made to the bucket."""
    return _key(slug, "traffic")


def report_key(slug: str) -> dg.AssetKey:
    """Return the key of the asset that writes a bucket's monthly reports."""
    return _key(slug, "traffic_report")


def get_slug(key: dg.AssetKey) -> str:
    """Return the slug of the bucket that an asset belongs to."""
    return "/".join(key.path[:-1])


@cache
def _key(slug: str, name: str) -> dg.AssetKey:
    return dg.AssetKey([*slug.split("/"), name])
