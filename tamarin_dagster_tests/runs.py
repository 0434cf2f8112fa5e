"""Dagster's own job of all assets, cut down to what a sensor or schedule asks for of one bucket."""

import dagster as dg

from tamarin_dagster.orchestration.naming import report_key
from tamarin_dagster.orchestration.selections import Selection, load_selection, reconcile_selection
from tamarin_dagster.settings import LoggedBucket, Settings


def job_of(definitions: dg.Definitions, kind: str, slug: str = "media") -> dg.JobDefinition:
    """The job for `load`, `reconcile` or `report`."""
    assets = definitions.resolve_asset_graph().get_all_asset_keys()
    if kind == "report":
        selection = Selection(kind, slug, (report_key(slug),), ())
    else:
        archives = any(key.path[-2:] == [slug.rsplit("/", maxsplit=1)[-1], "archived_log_records"] for key in assets)
        bucket = LoggedBucket(name="any-bucket", log_bucket_name="log-bucket")
        settings = Settings(buckets=(bucket,), archive="file:///anywhere" if archives else None)
        selection = {"load": load_selection, "reconcile": reconcile_selection}[kind](bucket, slug, settings)
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.get_subset(asset_selection=set(selection.assets), asset_check_selection=set(selection.checks))
