"""Findings on names in the settings: a bucket's name, and its log prefix."""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import LogStore, LogStoreError
from tamarin_dagster.operations.doctor.finding import Finding, ok, warn
from tamarin_dagster.operations.doctor.key_findings import NOTHING_TO_READ
from tamarin_dagster.operations.misplaced import Places, find_prefixes_elsewhere, find_sources_elsewhere
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.bucket_names import ForeignRecords, FormerName, find_foreign_records, find_former_name
from tamarin_dagster.recordstore.holdings import find_newest_key
from tamarin_dagster.settings import LoggedBucket, Settings


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows of a bucket; nothing if the database is not available.

    Attributes:
        engine: on the records' database, if it answers and is migrated.
        other_prefixes: the log prefixes of other buckets in the same log bucket.
        names: all buckets in the settings.
    """

    engine: sa.Engine | None
    other_prefixes: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings, bucket: LoggedBucket, engine: sa.Engine | None) -> "Known":
        """Take the other buckets in its log bucket from the settings."""
        others = (each for each in settings.buckets if each.name != bucket.name)
        prefixes = (each.log_prefix for each in others if each.log_bucket_name == bucket.log_bucket_name)
        return cls(engine, frozenset(prefixes), frozenset(each.name for each in settings.buckets))

    def has_loaded(self, bucket: LoggedBucket) -> bool:
        """Return whether log keys of the bucket were loaded from its log bucket; if so, its prefix is right."""
        if self.engine is None:
            return False
        with self.engine.connect() as connection:
            return find_newest_key(connection, bucket.name, bucket.log_bucket_name) is not None

    def find_foreign_records(self, bucket: LoggedBucket) -> ForeignRecords | None:
        """Return the records that were loaded for the bucket, if all of them name other buckets."""
        if self.engine is None:
            return None
        with self.engine.connect() as connection:
            return find_foreign_records(connection, bucket.name)

    def find_former_name(self, bucket: LoggedBucket) -> FormerName | None:
        """Return the name under which the bucket's log keys were loaded, if it is not in the settings."""
        if self.engine is None:
            return None
        with self.engine.connect() as connection:
            return find_former_name(connection, bucket.name, bucket.log_bucket_name, bucket.log_prefix, self.names)

    def unseen(self, bucket: LoggedBucket, objects: list[LogObject]) -> list[LogObject]:
        """Return those of the objects that are not loaded."""
        if self.engine is None or not objects:
            return objects
        with self.engine.connect() as connection:
            return list(ledger.list_unseen(connection, bucket.log_bucket_name, objects))


NOTHING_KNOWN = Known(None)


def nothing_to_read(subject: str, bucket: LoggedBucket, store: LogStore, known: Known) -> Finding:
    """Return the finding if there is no log key under the log prefix: it may be wrong."""
    if known.has_loaded(bucket):  # and purged them since
        return ok(subject, NOTHING_TO_READ)
    try:
        places = find_prefixes_elsewhere(store, bucket, known.other_prefixes)
    except LogStoreError:  # the permission to list may be limited to the prefix
        return ok(subject, NOTHING_TO_READ)
    if not places.names:
        return ok(subject, NOTHING_TO_READ)
    return warn(
        subject,
        f"there are no log keys under {bucket.log_prefix!r}; in {bucket.log_bucket_name} there are log keys under"
        f" {places}",
        "correct log_prefix, if one of these belongs to the bucket",
    )


def name_findings(
    subject: str, bucket: LoggedBucket, store: LogStore, roots: tuple[str, ...], known: Known, *, has_keys: bool
) -> Iterator[Finding]:
    """Check that the bucket's name is that of its records, and of a folder in the partitioned layout.

    Raises LogStoreError.
    """
    if former := known.find_former_name(bucket):
        yield warn(subject, str(former), former.remedy)
        return
    if foreign := known.find_foreign_records(bucket):
        yield warn(subject, str(foreign), foreign.remedy)
        return
    places = Places((), is_complete=True) if roots or has_keys else find_sources_elsewhere(store, bucket)
    if places.names:
        yield warn(
            subject,
            f"there is no folder of {bucket.name} under {bucket.log_prefix!r}, but there are folders of {places}",
            "check the bucket's name in the settings (name), if it is one of these",
        )
    else:
        yield ok(subject, "no contradiction was found")
