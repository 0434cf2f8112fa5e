"""One job per bucket: records, their checks, then the purge; in one process. And one that purges what is pending."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from tamarin_dagster.defs.naming import BUCKET_TAG, purged_key, records_key
from tamarin_dagster.settings import LoggedBucket


def build_load_job(bucket: LoggedBucket, slug: str) -> UnresolvedAssetJobDefinition:
    """What the sensor, the schedule and a backfill of the bucket run."""
    return dg.define_asset_job(
        f"{slug}__load",
        selection=dg.AssetSelection.assets(records_key(slug), purged_key(slug)),
        description=f"Loads the unseen log keys of {bucket.name}, checks the row counts, purges what is proved loaded.",
        executor_def=dg.in_process_executor,
        tags={BUCKET_TAG: bucket.name},
    )


def build_purge_job(purge_log_keys: dg.OpDefinition) -> dg.JobDefinition:
    """Purges whatever is loaded and still there, of all buckets and days: what an earlier purge could not delete."""

    @dg.job(
        name="purge_pending_log_keys",
        description="Deletes all log keys that are proved loaded and still there, of every bucket that purges.",
        executor_def=dg.in_process_executor,
    )
    def purge_pending_log_keys() -> None:
        purge_log_keys()

    return purge_pending_log_keys
