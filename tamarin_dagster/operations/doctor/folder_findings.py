"""Findings on a folder of log keys."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import FetchError, LogStore
from tamarin_dagster.logstore.errors import summarize_error
from tamarin_dagster.operations.doctor.finding import Finding, Status, fail, ok, warn
from tamarin_dagster.operations.doctor.key_findings import find_log_key, stray_finding
from tamarin_dagster.operations.doctor.name_findings import Known, name_findings, nothing_to_read
from tamarin_dagster.pipeline.discover import Listing, describe_waiting, list_days_with_keys, survey
from tamarin_dagster.settings import LoggedBucket

# The number of folders to check. Those of a tree mostly have the same owner and mode.
MAX_FOLDERS = 1000
# Files of earlier days are rarely written now, and listing years of them takes minutes.
QUIET_LOOKBACK = timedelta(days=7)


def examine_folder(
    bucket: LoggedBucket, folder: Path, store: LogStore, known: Known, *, purges: bool
) -> Iterator[Finding]:
    """Check that the folder exists and can be read, and written if log keys are purged. Raises LogStoreError."""
    name = bucket.name
    if not folder.is_dir():
        text = f"the folder {str(folder)!r} does not exist"
        yield fail(f"{name}: log bucket", text, "check log_bucket_name, or mount it")
        return
    yield ok(f"{name}: log bucket", "the folder exists")
    folders = list(islice(_folders(folder / bucket.log_prefix.rpartition("/")[0]), MAX_FOLDERS))
    listing = _access(f"{name}: list", folders, os.R_OK | os.X_OK, "read")
    yield listing
    if listing.status is Status.fail:
        return
    seen = survey(store, bucket)
    item = find_log_key(store, bucket, seen.roots)
    yield _check_reading(f"{name}: get", bucket, store, item, known)
    yield from name_findings(f"{name}: name", bucket, store, seen.roots, known, has_keys=item is not None)
    yield stray_finding(f"{name}: strays", seen)
    yield _check_waiting(f"{name}: quiet files", bucket, store, seen.roots)
    if purges:
        yield _access(f"{name}: delete", folders, os.W_OK | os.X_OK, "written to")


def _check_reading(
    subject: str, bucket: LoggedBucket, store: LogStore, item: LogObject | None, known: Known
) -> Finding:
    if item is None:
        return nothing_to_read(subject, bucket, store, known)
    try:
        opened = store.open(item)
        try:
            next(opened.chunks, b"")
        finally:
            opened.close()
    except FetchError as error:
        return fail(subject, f"{item.key!r}: {summarize_error(error)}", "let this account read the files")
    return ok(subject, "a log key was read")


def _check_waiting(subject: str, bucket: LoggedBucket, store: LogStore, roots: tuple[str, ...]) -> Finding:
    """Check whether files of the last days may still be written; a pull skips those."""
    last = datetime.now(UTC).date() + timedelta(days=1)
    waiting = 0
    for day in list_days_with_keys(store, bucket, roots, max(bucket.start_date, last - QUIET_LOOKBACK), last):
        listing = Listing(store, bucket, roots, day)
        for _ in listing:
            pass
        waiting += listing.waiting
    if not waiting:
        return ok(subject, "no file of the last days may still be written")
    return warn(
        subject,
        describe_waiting(bucket, waiting),
        "write each file under a name that begins with a dot, and rename it when it is complete",
    )


def _folders(top: Path) -> Iterator[str]:
    """Yield the folder and all folders below it that the store reads, also unreadable ones."""
    if top.is_dir():
        yield str(top)
    for above, names, _ in os.walk(top):
        names[:] = [name for name in names if not name.startswith(".")]
        yield from (path for name in names if not os.path.islink(path := f"{above}/{name}"))  # noqa: PTH114


def _access(subject: str, folders: Sequence[str], mode: int, what: str) -> Finding:
    """Check whether we may do that to the folders. Deleting a file needs write permission on its folder."""
    for folder in folders:
        if not os.access(folder, mode):
            return fail(subject, f"the folder {folder!r} cannot be {what}", "give this account the permission")
    return ok(subject, f"the folders can be {what}")
