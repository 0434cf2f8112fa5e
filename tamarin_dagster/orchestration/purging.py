"""The asset and the op that delete log keys: an asset per bucket after its records, and an op for all pending keys."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryPeriod
from tamarin_dagster.logkey import KeyFailure, count_periods
from tamarin_dagster.orchestration import asset_checks
from tamarin_dagster.orchestration.assets import RETRY_POLICY, add_metadata, describe_place, failure_table, make_link
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.delivery_partitions import backfill_policy, delivery_partitions
from tamarin_dagster.orchestration.naming import archived_key, get_group, get_slug, make_name, purged_key, records_key
from tamarin_dagster.orchestration.resources import LogBuckets, RecordDatabase
from tamarin_dagster.orchestration.step_failures import hold_back, raise_held_back
from tamarin_dagster.orchestration.steps import SharedStep
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster.recordstore import ledger
from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_log_record
from tamarin_dagster.settings import LoggedBucket, Settings

# One purge runs at a time: the store's request rate is the limit.
PURGE_POOL = "tamarin_purge"


def _purged_log_keys_spec(bucket: LoggedBucket, slug: str, settings: Settings) -> dg.AssetSpec:
    before = archived_key(slug) if settings.archive_of(bucket) else records_key(slug)
    note = (
        "" if settings.should_purge(bucket) else "\n\n`purge_parsed_keys` is off for this bucket: nothing is deleted."
    )
    return dg.AssetSpec(
        purged_key(slug),
        deps=[before],
        description=(
            f"Log keys of {bucket.name} that were deleted from {describe_place(bucket)} after their rows were proved"
            f" complete.\n\nThe proof compares a count in `{s3_log_record.name}` with `{s3_log_key.name}` just before"
            " the deletion. Log keys with rejected lines are kept"
            f"{' only if a line is oversized' if settings.should_purge_rejected(bucket) else ''}.{note}"
        ),
        partitions_def=delivery_partitions(bucket),
        group_name=get_group(slug),
        owners=list(bucket.owners),
        kinds={"s3"},
        metadata={"log keys": make_link(bucket)},
    )


def build_purged_log_keys(buckets: Mapping[str, LoggedBucket], settings: Settings) -> list[dg.AssetsDefinition]:
    """Build the assets of deleted log keys. Their materializations document the deletions.

    `buckets` are the buckets by their slugs.
    """

    @SharedStep
    def purged_log_keys(
        context: dg.AssetExecutionContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        bucket, periods = buckets[get_slug(context.asset_key)], asset_checks.require_periods(context)
        done = _Purge(settings, tamarin_database, tamarin_log_buckets, context.log)
        done.purge([bucket], periods)
        if not done.failed:
            with done.engine.connect() as connection:
                for period in periods:
                    counts = ledger.read_period_counts(connection, bucket.name, period)
                    add_metadata(context, {"keys": counts.keys, "keys purged so far": counts.purged_keys}, period)
        raise_held_back(done.failed)
        return dg.MaterializeResult(metadata=done.metadata())  # type: ignore[arg-type]

    return [
        purged_log_keys.asset(
            _purged_log_keys_spec(bucket, slug, settings),
            name=make_name(slug, "purged_log_keys"),
            backfill_policy=backfill_policy(bucket, settings),
            retry_policy=RETRY_POLICY,
            pool=PURGE_POOL,
        )
        for slug, bucket in buckets.items()
    ]


class PurgeConfig(dg.Config):
    """Which bucket's log keys to purge. The default is all buckets that purge."""

    bucket: str | None = None


def build_purge_op(settings: Settings, prefix: str = "") -> dg.OpDefinition:
    """Build the op that purges all pending log keys of all days."""

    @dg.op(
        name=make_name(prefix, "purge_log_keys"),
        ins={"records": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        pool=PURGE_POOL,
        retry_policy=RETRY_POLICY,
        description="Deletes log keys after a query on committed rows has proved that they are loaded. It is safe to"
        " run alone.",
    )
    def purge_log_keys(
        context: dg.OpExecutionContext,
        config: PurgeConfig,
        tamarin_database: RecordDatabase,
        tamarin_log_buckets: LogBuckets,
    ) -> None:
        done = _Purge(settings, tamarin_database, tamarin_log_buckets, context.log)
        done.purge([settings.bucket(config.bucket)] if config.bucket else settings.buckets)
        context.add_output_metadata(done.metadata())
        raise_held_back(done.failed)

    return purge_log_keys


@dataclass
class _Purge:
    """The purges of one step, and their results."""

    settings: Settings
    database: RecordDatabase
    log_buckets: LogBuckets
    log: dg.DagsterLogManager
    keys: int = 0
    bytes: int = 0
    kept: int = 0
    waiting: int = 0
    failures: list[KeyFailure] = field(default_factory=list)
    failed: list[dg.Failure] = field(default_factory=list)

    @cached_property
    def engine(self) -> sa.Engine:
        """Return the engine of the records' database."""
        return self.database.open(self.settings)

    def purge(self, buckets: Iterable[LoggedBucket], periods: Sequence[DeliveryPeriod] | None = None) -> None:
        """Purge these buckets, by default all of their periods. A bucket that fails does not stop the others."""
        for bucket in buckets:
            if not self.settings.should_purge(bucket):
                self.log.info(f"{bucket.name}: purge_parsed_keys is off, so its log keys are kept")
                continue
            with cancellable(), hold_back(self.failed, bucket):
                self._purge(bucket, periods)
        for failure in self.failures[: asset_checks.SAMPLE]:
            self.log.warning(f"{failure.key} was not purged: {failure.error}")

    def _purge(self, bucket: LoggedBucket, periods: Sequence[DeliveryPeriod] | None) -> None:
        purged = purge_bucket(
            bucket,
            self.log_buckets.store(bucket),
            self.engine,
            periods=periods,
            with_rejected=self.settings.should_purge_rejected(bucket),
            archive=self.log_buckets.archive(bucket, self.settings),
        )
        self.keys, self.bytes = self.keys + purged.keys, self.bytes + purged.bytes
        self.kept, self.waiting = self.kept + purged.kept.keys, self.waiting + purged.waiting_keys
        self.failures += purged.failures
        for problem, days in purged.days_by_archive_problem().items():
            text = f"{bucket.name}: nothing was purged in {count_periods(days)} from {days[0]} on: {problem}"
            self.failed.append(dg.Failure(text, allow_retries=False))
        self.log.info(
            f"{bucket.name}: purged {purged.keys:,} keys ({purged.bytes:,} bytes) in {purged.seconds:.1f} s;"
            f" {purged.kept.keys:,} keys with rejected lines are kept"
        )

    def metadata(self) -> dict[str, object]:
        """Return the metadata of the step."""
        return {
            "purged keys": self.keys,
            "purged bytes": self.bytes,
            "keys not purged": len(self.failures),
            "keys kept for rejected lines": self.kept,
            "keys waiting for the archive": self.waiting,
        } | ({"why not": failure_table(self.failures)} if self.failures else {})
