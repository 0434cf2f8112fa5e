"""Warnings that a bucket's name or prefix in the settings matches nothing."""

import sqlalchemy as sa

from tamarin_dagster.cli.terminal import complain
from tamarin_dagster.logstore import LogStore, LogStoreError
from tamarin_dagster.operations.misplaced import find_prefixes_elsewhere, find_sources_elsewhere
from tamarin_dagster.recordstore.bucket_names import find_foreign_records, find_former_name
from tamarin_dagster.recordstore.holdings import find_newest_key
from tamarin_dagster.settings import LoggedBucket, Settings


def complain_of_foreign_records(engine: sa.Engine, bucket: str) -> None:
    """Warn if all records that were loaded for the bucket name other buckets: answers about it lack them."""
    with engine.connect() as connection:
        found = find_foreign_records(connection, bucket)
    if found:
        complain(f"{bucket}: {found} - {found.remedy}")


def complain_of_former_name(settings: Settings, bucket: LoggedBucket, engine: sa.Engine) -> None:
    """Warn if nothing was loaded for the bucket because its log keys were loaded under another name."""
    names = [each.name for each in settings.buckets]
    with engine.connect() as connection:
        former = find_former_name(connection, bucket.name, bucket.log_bucket_name, bucket.log_prefix, names)
    if former:
        complain(f"{bucket.name}: {former} - {former.remedy}")


def complain_of_misplaced_keys(settings: Settings, bucket: LoggedBucket, store: LogStore, engine: sa.Engine) -> None:
    """Warn if nothing was ever loaded for the bucket, but its log bucket has log keys elsewhere."""
    with engine.connect() as connection:
        if find_newest_key(connection, bucket.name, bucket.log_bucket_name):
            return
    others = frozenset(
        each.log_prefix
        for each in settings.buckets
        if each.name != bucket.name and each.log_bucket_name == bucket.log_bucket_name
    )
    try:
        if sources := find_sources_elsewhere(store, bucket).names:
            names = ", ".join(sources)
            complain(
                f"{bucket.name}: there is no folder of it under '{bucket.log_prefix}', but there are folders of"
                f" {names} - check the bucket's name in the settings"
            )
        elif (places := find_prefixes_elsewhere(store, bucket, others)).names:
            complain(
                f"{bucket.name}: there are no log keys under '{bucket.log_prefix}'; in {bucket.log_bucket_name} there"
                f" are log keys under {places} - check log_prefix"
            )
    except LogStoreError:  # the permission to list may be limited to the prefix
        return
