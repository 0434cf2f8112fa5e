"""The whole examination, in order: settings, database, then each bucket separately."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tamarin_dagster.logstore import LogStore
from tamarin_dagster.logstore.errors import summarize_error
from tamarin_dagster.logstore.inspection import InspectionError
from tamarin_dagster.operations.doctor.archive_findings import examine_archives
from tamarin_dagster.operations.doctor.backup_findings import home_findings
from tamarin_dagster.operations.doctor.dagster_storage import storage_findings
from tamarin_dagster.operations.doctor.database_findings import examine_database, open_migrated
from tamarin_dagster.operations.doctor.encoding_findings import dagster_findings
from tamarin_dagster.operations.doctor.finding import Finding, fail, ok, warn
from tamarin_dagster.operations.doctor.folder_findings import examine_folder
from tamarin_dagster.operations.doctor.log_loops import configured_loops
from tamarin_dagster.operations.doctor.name_findings import Known
from tamarin_dagster.operations.doctor.s3_findings import Scene, examine_s3
from tamarin_dagster.settings import LoggedBucket, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_REACHED_BY = "check the bucket's log_bucket_name, region, endpoint_url, profile and role_arn"
_FOLDER_REACHED_BY = "check the bucket's log_bucket_name, and the folder"


def examine(
    settings: Settings,
    *,
    open_store: Callable[[LoggedBucket], LogStore],
    client_of: Callable[[LoggedBucket], "S3Client"],
    buckets: Sequence[LoggedBucket] | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Finding]:
    """Yield each finding as soon as it is found. Never raises for a fault of a database or a bucket.

    Args:
        settings: the settings to examine.
        open_store: returns the store of a bucket's log keys.
        client_of: returns a boto3 client for a bucket's log bucket in S3.
        buckets: only these (default: all configured buckets).
        clock: our time, in seconds since 1970, to compare with that of database and stores.
    """
    chosen = settings.buckets if buckets is None else buckets
    if settings.buckets:
        yield ok("settings", f"read; buckets configured: {len(settings.buckets)}")
    else:
        yield warn("settings", "read, but no bucket is configured", "list one in tamarin.yaml, under buckets:")
    yield from home_findings(settings)
    yield from configured_loops(settings.buckets)
    with ExitStack() as stack:
        yield from examine_database(settings, clock, stack)
        yield from dagster_findings(settings)
        yield from storage_findings(settings)
        yield from examine_archives(settings, chosen, client_of)
        engine = open_migrated(settings, stack)
        for bucket in chosen:
            try:
                store = open_store(bucket)
                purges = settings.should_purge(bucket)
                known = Known.of(settings, bucket, engine)
                if bucket.log_folder is not None:
                    yield from examine_folder(bucket, bucket.log_folder, store, known, purges=purges)
                else:
                    yield from examine_s3(Scene(bucket, store, client_of(bucket), purges, clock, known))
            except Exception as error:  # noqa: BLE001 - the edge of one bucket: the others must still be checked
                remedy = error.remedy if isinstance(error, InspectionError) else ""
                remedy = remedy or (_FOLDER_REACHED_BY if bucket.log_folder else _REACHED_BY)
                yield fail(f"{bucket.name}: log bucket", summarize_error(error) or type(error).__name__, remedy)
