"""What a run makes of a bucket: its assets, and of their checks only those that are worth their time.

Runs of assets share one job of Dagster's own (naming.ASSET_JOB). So each request names assets and checks.
"""

from dataclasses import dataclass

import dagster as dg

from tamarin_dagster.orchestration.asset_checks import ARCHIVE_MATCHES_THE_LEDGER, LOAD_CHECKS, check_keys
from tamarin_dagster.orchestration.naming import (
    BUCKET_TAG,
    KIND_TAG,
    archived_key,
    purged_key,
    records_key,
    report_key,
    rollups_key,
    tag_of,
)
from tamarin_dagster.settings import LoggedBucket, Settings


@dataclass(frozen=True)
class Selection:
    """Assets and checks of a bucket, for a RunRequest; with the tags that the run gets."""

    kind: str
    bucket_tag: str
    assets: tuple[dg.AssetKey, ...]
    checks: tuple[dg.AssetCheckKey, ...]

    @property
    def tags(self) -> dict[str, str]:
        """The tags that say what the run is for, and of which bucket."""
        return {BUCKET_TAG: self.bucket_tag, KIND_TAG: self.kind}

    @property
    def asset_selection(self) -> dg.AssetSelection:
        """The same for Dagster, where it asks for a selection."""
        return dg.AssetSelection.assets(*self.assets).without_checks() | dg.AssetSelection.checks(*self.checks)


def load_selection(bucket: LoggedBucket, slug: str, settings: Settings) -> Selection:
    """Return what the bucket's sensor runs: load, check the row counts, purge what is proved loaded, roll up."""
    return _selection("load", bucket, slug, settings)


def reconcile_selection(bucket: LoggedBucket, slug: str, settings: Settings) -> Selection:
    """Return what is run nightly: a load of the last days, for log keys that came late."""
    return _selection("reconcile", bucket, slug, settings)


def report_selection(bucket: LoggedBucket, slug: str) -> Selection:
    """Return what the schedule of the reports runs."""
    return Selection("report", tag_of(bucket, slug), (report_key(slug),), ())


def _selection(kind: str, bucket: LoggedBucket, slug: str, settings: Settings) -> Selection:
    archives = settings.archive_of(bucket) is not None
    assets = (records_key(slug), *([archived_key(slug)] if archives else []), purged_key(slug), rollups_key(slug))
    wanted = (*LOAD_CHECKS, *([ARCHIVE_MATCHES_THE_LEDGER] if archives else []))
    return Selection(kind, tag_of(bucket, slug), assets, tuple(check_keys(slug, *wanted)))
