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
from tamarin_dagster.operations.doctor.keys import a_log_key, stray_finding
from tamarin_dagster.operations.doctor.names import Known, name_findings, nothing_to_read
from tamarin_dagster.pipeline.discover import Listing, days_with_keys, describe_waiting, survey
from tamarin_dagster.settings import LoggedBucket

# So many folders are looked at; those of a tree mostly have the same owner and mode.
MAX_FOLDERS = 1000
# Files of older days are seldom written now, and to list years of them takes minutes.
QUIET_LOOKBACK = timedelta(days=7)


def examine_folder(
    bucket: LoggedBucket, folder: Path, store: LogStore, known: Known, *, purges: bool
) -> Iterator[Finding]:
    """Is it there, can it be read, and written to if log keys are purged. Raises LogStoreError."""
    name = bucket.name
    if not folder.is_dir():
        yield fail(f"{name}: log bucket", f"there is no folder {str(folder)!r}", "check log_bucket_name, or mount it")
        return
    yield ok(f"{name}: log bucket", "the folder is there")
    folders = list(islice(_folders(folder / bucket.log_prefix.rpartition("/")[0]), MAX_FOLDERS))
    listing = _access(f"{name}: list", folders, os.R_OK | os.X_OK, "read")
    yield listing
    if listing.status is Status.fail:
        return
    seen = survey(store, bucket)
    item = a_log_key(store, bucket, seen.roots)
    yield _reading(f"{name}: get", bucket, store, item, known)
    yield from name_findings(f"{name}: name", bucket, store, seen.roots, known, has_keys=item is not None)
    yield stray_finding(f"{name}: strays", seen)
    yield _waiting(f"{name}: quiet files", bucket, store, seen.roots)
    if purges:
        yield _access(f"{name}: delete", folders, os.W_OK | os.X_OK, "written to")


def _reading(subject: str, bucket: LoggedBucket, store: LogStore, item: LogObject | None, known: Known) -> Finding:
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


def _waiting(subject: str, bucket: LoggedBucket, store: LogStore, roots: tuple[str, ...]) -> Finding:
    """Whether files of the last days may still be written: a pull leaves those out."""
    last = datetime.now(UTC).date() + timedelta(days=1)
    waiting = 0
    for day in days_with_keys(store, bucket, roots, max(bucket.start_date, last - QUIET_LOOKBACK), last):
        listing = Listing(store, bucket, roots, day)
        for _ in listing:
            pass
        waiting += listing.waiting
    if not waiting:
        return ok(subject, "no file of the last days may still be written")
    return warn(
        subject,
        describe_waiting(bucket, waiting),
        "let whatever writes them write under a name that begins with a dot, and rename the file when it is complete",
    )


def _folders(top: Path) -> Iterator[str]:
    """The folder and all below it that the store looks into; those too that may not be read."""
    if top.is_dir():
        yield str(top)
    for above, names, _ in os.walk(top):
        names[:] = [name for name in names if not name.startswith(".")]
        yield from (path for name in names if not os.path.islink(path := f"{above}/{name}"))  # noqa: PTH114


def _access(subject: str, folders: Sequence[str], mode: int, what: str) -> Finding:
    """Whether we may do that to the folders; to delete a file is to write to its folder."""
    for folder in folders:
        if not os.access(folder, mode):
            return fail(subject, f"the folder {folder!r} cannot be {what}", "give this account the right to")
    return ok(subject, f"the folders can be {what}")
