"""The sensor of each bucket: it looks for unseen log keys and requests one run per delivery day (or hour) with some.

The sensor loads nothing. The ledger is the only truth of what is loaded: the cursor says from which day on to look, and
never proves that anything was loaded.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.logformat import DeliveryPeriod, delivery_day
from tamarin_dagster.logkey import LogKey
from tamarin_dagster.logstore import LogStore
from tamarin_dagster.orchestration.batching import minutes_to_wait
from tamarin_dagster.orchestration.delivery_partitions import first_partition_date, get_period, has_begun, partition_key
from tamarin_dagster.orchestration.naming import (
    BUCKET_TAG,
    DIGEST_TAG,
    FIRST,
    PRIORITY_TAG,
    RUN_KEY_TAG,
    UNFINISHED,
    make_name,
)
from tamarin_dagster.orchestration.resources import LogBuckets, RecordDatabase
from tamarin_dagster.orchestration.selections import Selection, load_selection
from tamarin_dagster.pipeline.discover import (
    DAYS_AHEAD,
    Look,
    describe_strays,
    describe_unsearched,
    list_days_with_keys,
    survey,
)
from tamarin_dagster.pipeline.retain import find_first_kept_day
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.settings import LoggedBucket, Settings

# Dagster ends a tick after 60 s and forgets what it found. The remaining 20 s are for the last page and for Dagster.
TICK_BUDGET_SECONDS = 40
# Log keys sometimes arrive hours late. The nightly schedule finds those that arrive even later.
LOOKBACK_DAYS = 3
# The maximum number of queued and running runs of a bucket. Later ticks request the rest as runs end.
MAX_RUNS_UNDER_WAY = 31
# How often the same keys are tried, and how long the second attempt waits. Each further attempt waits twice as long.
MAX_ATTEMPTS = 5
RETRY_DELAY_SECONDS = 60
MAX_RETRY_DELAY_SECONDS = 3600
# Runs that failed before their start do not count as attempts. There may be many, so only the newest are read.
MAX_RUNS_OF_THE_SAME_KEYS = 100


@dataclass(frozen=True)
class Unseen:
    """A partition with unseen keys: their number, and a digest of their generations."""

    period: DeliveryPeriod
    keys: int
    digest: str

    @property
    def day(self) -> date:
        """Return the delivery day of the period."""
        return delivery_day(self.period)


@dataclass
class Tick:
    """What a tick saw, for its message, and how far it got."""

    days: int = 0
    listed: int = 0
    seen: int = 0
    outdated: int = 0
    strays: int = 0
    unseen: int = 0
    looked_at: date | None = None
    held_at: date | None = None
    cut_short: bool = False
    waiting: list[str] = field(default_factory=list)
    waiting_files: int = 0
    strays_elsewhere: list[str] = field(default_factory=list)
    not_searched: str = ""

    def hold(self, day: date) -> None:
        """Keep the position at this day or an earlier one until its keys are loaded."""
        self.held_at = min(self.held_at or day, day)

    def position(self, today: date) -> date | None:
        """Return the day at which the next tick continues (it starts LOOKBACK_DAYS earlier)."""
        return self.held_at or (self.looked_at if self.cut_short else today)

    def describe(self, seconds: float) -> str:
        """Return one sentence that describes the tick."""
        looked = f"{count_noun(self.listed, 'log key')} in {count_noun(self.days, 'day')}"
        parts = [f"{looked}: {self.seen:,} loaded, {self.unseen:,} new"]
        if self.strays or self.strays_elsewhere:
            parts.append(describe_strays(self.strays_elsewhere, self.strays))
        if self.not_searched:
            parts.append(self.not_searched)
        if self.outdated:
            parts.append(f"{self.outdated:,} skipped as outdated")
        if self.waiting_files:
            parts.append(f"{count_noun(self.waiting_files, 'file')} may still be written; a later tick looks again")
        parts += self.waiting
        if self.cut_short:
            parts.append(f"stopped at {self.looked_at or 'the start'} to save time; the next tick continues there")
        return "; ".join(parts) + f" ({seconds:.1f} s)"


def build_sensor(bucket: LoggedBucket, slug: str, settings: Settings) -> dg.SensorDefinition:
    """Build the bucket's sensor. It is on by default if the bucket is monitored."""
    selection = load_selection(bucket, slug, settings)

    @dg.sensor(
        name=make_name(slug, "new_log_keys"),
        asset_selection=selection.asset_selection,
        minimum_interval_seconds=max(1, round(settings.pull_parse_interval * 60)),
        default_status=dg.DefaultSensorStatus.RUNNING if bucket.monitor_bucket else dg.DefaultSensorStatus.STOPPED,
        description=(
            f"Looks for log keys of {bucket.name} that are not loaded, and requests one run for each partition that has"
            " some."
        ),
        owners=list(bucket.owners),
    )
    def new_log_keys(
        context: dg.SensorEvaluationContext, tamarin_database: RecordDatabase, tamarin_log_buckets: LogBuckets
    ) -> dg.SensorResult:
        started = time.monotonic()
        tick = Tick()
        position = json.loads(context.cursor)["position"] if context.cursor else None
        first = find_first_day(
            bucket,
            date.fromisoformat(position) if position else None,
            find_first_kept_day(settings.retention_months, datetime.now(UTC).date())
            if settings.retention_months
            else None,
        )
        in_flight = _partitions_in_flight(context.instance, selection)
        requests: list[dg.RunRequest] = []
        store, engine = tamarin_log_buckets.store(bucket), tamarin_database.open(settings)
        for unseen in find_unseen_periods(bucket, store, engine, first, started, tick):
            if len(in_flight) + len(requests) >= MAX_RUNS_UNDER_WAY:
                tick.hold(unseen.day)
                tick.cut_short = True
                break
            if partition_key(unseen.period) in in_flight:
                tick.hold(unseen.day)
                tick.waiting.append(f"{unseen.period} is being loaded")
            elif (attempt := _next_attempt(context.instance, selection, unseen, tick)) is not None:
                tick.hold(unseen.day)
                # A second attempt already has its own delay.
                if attempt == 1 and (
                    minutes := _minutes_to_wait(context.instance, selection, unseen, bucket, settings)
                ):
                    tick.waiting.append(
                        f"{unseen.period}: {unseen.keys:,} new keys wait for more, at most {minutes:.0f} min"
                        " (minutes_between_runs)"
                    )
                else:
                    requests.append(_request(selection, unseen, attempt))
        story = tick.describe(time.monotonic() - started)
        context.log.info(f"{bucket.name}: {story}")
        reached = tick.position(datetime.now(UTC).date())
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else story,
            cursor=json.dumps({"position": reached.isoformat()}) if reached else context.cursor,
        )

    return new_log_keys


def find_first_day(bucket: LoggedBucket, position: date | None, first_kept: date | None) -> date:
    """Return the first day of a tick: LOOKBACK_DAYS before its position, but not before the monitored days begin.

    It is also not before the first day that retention keeps, since rows of earlier days would be dropped at once.
    """
    first = max(bucket.first_monitored_date, first_partition_date(bucket), first_kept or bucket.first_monitored_date)
    return first if position is None else max(first, position - timedelta(days=LOOKBACK_DAYS))


def find_unseen_periods(
    bucket: LoggedBucket, store: LogStore, engine: sa.Engine, first: date, started: float, tick: Tick
) -> Iterator[Unseen]:
    """Yield the partitions from the day `first` on that have unseen keys, oldest first.

    Stop when TICK_BUDGET_SECONDS have passed since `started`. Raises LogStoreError: a failed listing is not an empty
    one, so the tick fails.
    """
    today = datetime.now(UTC).date()
    seen = survey(store, bucket)
    tick.strays_elsewhere = list(seen.strays)
    tick.not_searched = describe_unsearched(seen)
    last = today + timedelta(days=DAYS_AHEAD)
    for day in list_days_with_keys(store, bucket, seen.roots, first, last, tick.strays_elsewhere):
        if tick.cut_short or time.monotonic() - started > TICK_BUDGET_SECONDS:
            tick.cut_short = True
            return
        look = Look(store, engine, bucket, seen.roots, day)
        found: dict[DeliveryPeriod, list[LogKey]] = {}
        for page in look:
            for key in page:
                found.setdefault(get_period(bucket, key), []).append(key)
            if time.monotonic() - started > TICK_BUDGET_SECONDS:
                # Runs are requested for what was found of this day. If nothing was found, the next tick looks again.
                tick.cut_short = True
                break
        tick.days += 1
        tick.listed += look.listed
        tick.seen += look.seen
        tick.strays += len(look.strays)
        tick.outdated += look.outdated
        if look.waiting:
            tick.waiting_files += look.waiting
            tick.hold(day)
        tick.unseen += sum(map(len, found.values()))
        tick.looked_at = min(day, today)
        # The current partition is the last one. A log key with a later date waits until its partition begins.
        for period, keys in sorted(found.items(), key=lambda item: str(item[0])):
            if has_begun(period):
                yield Unseen(period, len(keys), _digest(keys))


def _digest(keys: list[LogKey]) -> str:
    digest = hashlib.sha256()
    for key in keys:
        # The time is included, since the same content may be uploaded again.
        digest.update(f"{key.object.key}\0{key.object.etag}\0{key.object.last_modified}\0".encode())
    return digest.hexdigest()[:16]


def _request(selection: Selection, unseen: Unseen, attempt: int) -> dg.RunRequest:
    partition = partition_key(unseen.period)
    return dg.RunRequest(
        # Dagster never runs a run_key twice, not even after a failure, so the key contains the digest and the attempt.
        run_key=f"{selection.bucket_tag}:{partition}:{unseen.digest}:attempt{attempt}",
        partition_key=partition,
        asset_selection=list(selection.assets),
        asset_check_keys=list(selection.checks),
        tags=selection.tags | {DIGEST_TAG: unseen.digest, PRIORITY_TAG: FIRST},
    )


def _partitions_in_flight(instance: dg.DagsterInstance, selection: Selection) -> set[str]:
    """Return the partitions that a queued or running run of this bucket will load.

    No key is missed: a run lists its partition when it starts.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED, tags={BUCKET_TAG: selection.bucket_tag}))
    return {run.tags["dagster/partition"] for run in runs if "dagster/partition" in run.tags}


def _next_attempt(instance: dg.DagsterInstance, selection: Selection, unseen: Unseen, tick: Tick) -> int | None:
    """Return the number of the next attempt at these keys, or None while it has to wait or after the last attempt.

    A run that failed before it started never looked at the keys. It does not count as an attempt, but the next attempt
    waits longer.
    """
    same_keys = dg.RunsFilter(tags={BUCKET_TAG: selection.bucket_tag, DIGEST_TAG: unseen.digest})
    records = instance.get_run_records(same_keys, limit=MAX_RUNS_OF_THE_SAME_KEYS)
    if not records:
        return 1
    attempts = sum(not _has_failed_before_start(record) for record in records)
    if attempts >= MAX_ATTEMPTS:
        tick.waiting.append(
            f"{unseen.period}: {count_noun(unseen.keys, 'log key')} skipped after {MAX_ATTEMPTS} attempts; see its runs"
        )
        return None
    number = 1 + max(len(records), *map(_parse_attempt, records))
    delay = min(RETRY_DELAY_SECONDS * 2 ** (len(records) - 1), MAX_RETRY_DELAY_SECONDS)
    ended = max(record.end_time or record.update_timestamp.timestamp() for record in records)
    if time.time() - ended < delay:
        tick.hold(unseen.day)
        tick.waiting.append(f"{unseen.period}: attempt {number} waits until {delay} s after the last")
        return None
    return number


def _minutes_to_wait(
    instance: dg.DagsterInstance, selection: Selection, unseen: Unseen, bucket: LoggedBucket, settings: Settings
) -> float:
    """Return for how many minutes the keys should wait for more, rounded up so that a wait never reads as 0 minutes."""
    least = settings.get_minutes_between_runs(bucket)
    if least == 0:
        return 0
    tags = {BUCKET_TAG: selection.bucket_tag, "dagster/partition": partition_key(unseen.period)}
    ended = [
        record.end_time or record.update_timestamp.timestamp()
        for record in instance.get_run_records(dg.RunsFilter(tags=tags), limit=10)
        if not _has_failed_before_start(record)
    ]
    since = (time.time() - max(ended)) / 60 if ended else None
    return math.ceil(minutes_to_wait(unseen.keys, since, interval=settings.pull_parse_interval, least=least))


def _has_failed_before_start(record: dg.RunRecord) -> bool:
    """Return whether the run failed without being executed: its code server was gone, or its process did not start."""
    return record.dagster_run.status is dg.DagsterRunStatus.FAILURE and record.start_time is None


def _parse_attempt(record: dg.RunRecord) -> int:
    """Return the number of the attempt in the run's key, or 0 if it has none."""
    number = record.dagster_run.tags.get(RUN_KEY_TAG, "").rpartition(":attempt")[2]
    return int(number) if number.isdecimal() else 0
