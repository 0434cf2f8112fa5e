"""Lines on standard error that say so when a bucket's name or prefix in the settings matches nothing."""

import sqlalchemy as sa

from tamarin_dagster.cli.terminal import complain
from tamarin_dagster.logstore import LogStore, LogStoreError
from tamarin_dagster.operations.misplaced import prefixes_elsewhere, sources_elsewhere
from tamarin_dagster.recordstore.bucket_names import foreign_records
from tamarin_dagster.recordstore.holdings import newest_key
from tamarin_dagster.settings import LoggedBucket, Settings


def complain_of_foreign_records(engine: sa.Engine, bucket: str) -> None:
    """Say so in a line if all that was loaded for the bucket is of others: what is said of it lacks them."""
    with engine.connect() as connection:
        found = foreign_records(connection, bucket)
    if found:
        complain(f"{bucket}: {found} - {found.remedy}")


def complain_of_misplaced_keys(settings: Settings, bucket: LoggedBucket, store: LogStore, engine: sa.Engine) -> None:
    """Say so in a line if nothing was ever loaded for the bucket, and log keys lie elsewhere in its log bucket."""
    with engine.connect() as connection:
        if newest_key(connection, bucket.name, bucket.log_bucket_name):
            return
    others = frozenset(
        each.log_prefix
        for each in settings.buckets
        if each.name != bucket.name and each.log_bucket_name == bucket.log_bucket_name
    )
    try:
        if sources := sources_elsewhere(store, bucket).names:
            names = ", ".join(sources)
            complain(
                f"{bucket.name}: under '{bucket.log_prefix}' there is no folder of it, but of {names} - check the"
                " bucket's name in the settings"
            )
        elif (places := prefixes_elsewhere(store, bucket, others)).names:
            complain(
                f"{bucket.name}: no log key lies under '{bucket.log_prefix}'; in {bucket.log_bucket_name} log keys lie"
                f" under {places} - check log_prefix"
            )
    except LogStoreError:  # the right to list may end at the prefix
        return
