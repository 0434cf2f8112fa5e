"""The assets and checks that a run of a bucket selects.

Runs of assets share Dagster's own job (naming.ASSET_JOB), so each request names its assets and checks. Checks that take
too long for each load are left out.
"""

from dataclasses import dataclass

import dagster as dg

from tamarin_dagster.orchestration.asset_checks import ARCHIVE_MATCHES_THE_LEDGER, LOAD_CHECKS, check_keys
from tamarin_dagster.orchestration.naming import (
    BUCKET_TAG,
    KIND_TAG,
    archived_key,
    get_bucket_tag,
    purged_key,
    records_key,
    report_key,
    rollups_key,
)
from tamarin_dagster.settings import LoggedBucket, Settings


@dataclass(frozen=True)
class Selection:
    """The assets and checks of a bucket for a RunRequest, and the tags of the run."""

    kind: str
    bucket_tag: str
    assets: tuple[dg.AssetKey, ...]
    checks: tuple[dg.AssetCheckKey, ...]

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags that say what the run is for, and for which bucket."""
        return {BUCKET_TAG: self.bucket_tag, KIND_TAG: self.kind}

    @property
    def asset_selection(self) -> dg.AssetSelection:
        """Return the assets and checks as a Dagster selection."""
        return dg.AssetSelection.assets(*self.assets).without_checks() | dg.AssetSelection.checks(*self.checks)


def load_selection(bucket: LoggedBucket, slug: str, settings: Settings) -> Selection:
    """Return the selection of the bucket's sensor: load, check the row counts, purge proved log keys, roll up."""
    return _selection("load", bucket, slug, settings)


def reconcile_selection(bucket: LoggedBucket, slug: str, settings: Settings) -> Selection:
    """Return the selection of the nightly runs, which load late log keys of the last days."""
    return _selection("reconcile", bucket, slug, settings)


def report_selection(bucket: LoggedBucket, slug: str) -> Selection:
    """Return the selection of the daily runs that write reports."""
    return Selection("report", get_bucket_tag(bucket, slug), (report_key(slug),), ())


def _selection(kind: str, bucket: LoggedBucket, slug: str, settings: Settings) -> Selection:
    archives = settings.archive_of(bucket) is not None
    assets = (records_key(slug), *([archived_key(slug)] if archives else []), purged_key(slug), rollups_key(slug))
    wanted = (*LOAD_CHECKS, *([ARCHIVE_MATCHES_THE_LEDGER] if archives else []))
    return Selection(kind, get_bucket_tag(bucket, slug), assets, tuple(check_keys(slug, *wanted)))
