"""Findings on what the settings call things: a bucket's name, and its log prefix."""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import LogStore, LogStoreError
from tamarin_dagster.operations.doctor.finding import Finding, ok, warn
from tamarin_dagster.operations.doctor.keys import NOTHING_TO_READ
from tamarin_dagster.operations.misplaced import Places, prefixes_elsewhere, sources_elsewhere
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.bucket_names import ForeignRecords, foreign_records
from tamarin_dagster.recordstore.holdings import newest_key
from tamarin_dagster.settings import LoggedBucket, Settings


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows of a bucket; nothing if it cannot be asked.

    Attributes:
        engine: on the records' database, if it answers and is migrated.
        other_prefixes: those of other buckets that share the log bucket.
    """

    engine: sa.Engine | None
    other_prefixes: frozenset[str]

    @classmethod
    def of(cls, settings: Settings, bucket: LoggedBucket, engine: sa.Engine | None) -> "Known":
        """Take from the settings which other buckets share its log bucket."""
        others = (each for each in settings.buckets if each.name != bucket.name)
        prefixes = (each.log_prefix for each in others if each.log_bucket_name == bucket.log_bucket_name)
        return cls(engine, frozenset(prefixes))

    def has_loaded(self, bucket: LoggedBucket) -> bool:
        """Whether log keys of the bucket were loaded from its log bucket: then its prefix is right."""
        if self.engine is None:
            return False
        with self.engine.connect() as connection:
            return newest_key(connection, bucket.name, bucket.log_bucket_name) is not None

    def foreign_records(self, bucket: LoggedBucket) -> ForeignRecords | None:
        """What was loaded for the bucket and is all of others."""
        if self.engine is None:
            return None
        with self.engine.connect() as connection:
            return foreign_records(connection, bucket.name)

    def unseen(self, bucket: LoggedBucket, objects: list[LogObject]) -> list[LogObject]:
        """Those of the objects that are not loaded."""
        if self.engine is None or not objects:
            return objects
        with self.engine.connect() as connection:
            return list(ledger.unseen(connection, bucket.log_bucket_name, objects))


NOTHING_KNOWN = Known(None, frozenset())


def nothing_to_read(subject: str, bucket: LoggedBucket, store: LogStore, known: Known) -> Finding:
    """What is said where no log key lies under the log prefix: is that where they are delivered?"""
    if known.has_loaded(bucket):  # and purged since
        return ok(subject, NOTHING_TO_READ)
    try:
        places = prefixes_elsewhere(store, bucket, known.other_prefixes)
    except LogStoreError:  # the right to list may end at the prefix
        return ok(subject, NOTHING_TO_READ)
    if not places.names:
        return ok(subject, NOTHING_TO_READ)
    return warn(
        subject,
        f"no log key lies under {bucket.log_prefix!r}; in {bucket.log_bucket_name} log keys lie under {places}",
        "correct log_prefix, if one of these is the bucket's",
    )


def name_findings(
    subject: str, bucket: LoggedBucket, store: LogStore, roots: tuple[str, ...], known: Known, *, has_keys: bool
) -> Iterator[Finding]:
    """Whether the bucket's name is that of its records, and of a folder in the partitioned layout.

    Raises LogStoreError.
    """
    if foreign := known.foreign_records(bucket):
        yield warn(subject, str(foreign), foreign.remedy)
        return
    places = Places((), is_complete=True) if roots or has_keys else sources_elsewhere(store, bucket)
    if places.names:
        yield warn(
            subject,
            f"under {bucket.log_prefix!r} there is no folder of {bucket.name}, but of {places}",
            "check the bucket's name in the settings (name), if it is one of these",
        )
    else:
        yield ok(subject, "nothing speaks against it")
