"""What `--json` prints: names that scripts may rely on, made of what the core returns.

Times are ISO 8601 in UTC, days are delivery days, sizes are bytes, durations seconds.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from tamarin_dagster.cli.terminal import show_json
from tamarin_dagster.operations.doctor.finding import Status

if TYPE_CHECKING:  # each command has imported what it shows
    from tamarin_dagster.analytics.consumers import Consumers
    from tamarin_dagster.operations.doctor import Finding
    from tamarin_dagster.pipeline.archive import Archived
    from tamarin_dagster.pipeline.mirror import Mirrored
    from tamarin_dagster.pipeline.pull import Pulled, PulledPeriod
    from tamarin_dagster.pipeline.purge import Purged
    from tamarin_dagster.pipeline.recheck import Rechecked
    from tamarin_dagster.pipeline.reparse import Reparsed
    from tamarin_dagster.pipeline.retain import Expirable, Expired
    from tamarin_dagster.settings import LoggedBucket

ErrorText = Annotated[str | None, Field(description="why its log bucket could not be read; null if it could")]


class Document(BaseModel):
    """A part of what is printed."""

    # A command shows one or two of them: the others are never built.
    model_config = ConfigDict(frozen=True, from_attributes=True, defer_build=True)


class FailedKey(Document):
    """A log key that was left alone."""

    key: str = Field(description="its name")
    delivery_date: date = Field(description="the day in its name")
    error: str = Field(description="why, and what to do where there is something")


class PulledDay(Document):
    """What a pull did for a delivery day."""

    day: date = Field(validation_alias="period", description="the delivery day")
    listed: int = Field(description="log keys that are there")
    seen: int = Field(description="those of them that were loaded before")
    returned: int = Field(
        description="those that were loaded and purged before, and are there again with the same bytes"
    )
    keys: int = Field(description="those that this pull has loaded")
    lines: int = Field(description="their lines: records, rejected and blank")
    records: int = Field(description="lines that are rows of s3_log_record")
    rejected: int = Field(description="lines that are rows of s3_rejected_line")
    blank: int = Field(description="lines with nothing in them")
    bytes: int = Field(description="their size, as stored")
    first_request: datetime | None = Field(description="time of the earliest record")
    last_request: datetime | None = Field(description="time of the latest record")
    outdated: int = Field(description="those that were skipped: a newer generation of their name is loaded and purged")
    outdated_names: tuple[str, ...] = Field(description="names of these; at most 50")
    waiting: int = Field(
        description="files of a folder, not listed, that changed within quiet_seconds: for a later pull"
    )
    strays: tuple[str, ...] = Field(description="names under the day's prefix that are no log key's")
    failures: tuple[FailedKey, ...] = Field(description="keys that were left alone")


class PurgedKeys(Document):
    """What a purge did; of a dry run, what it would do."""

    keys: int = Field(description="log keys that were deleted")
    bytes: int = Field(description="their size, as stored")
    rows: int = Field(description="records and rejected lines that were counted in proof of them")
    by_day: dict[date, int] = Field(description="keys deleted, by delivery day")
    kept_keys: int = Field(description="keys that stay for their rejected lines")
    failures: tuple[FailedKey, ...] = Field(description="keys that stay since the proof or the deletion failed")
    archive_problems: dict[date, str] = Field(
        description="days of which nothing was deleted: the archive does not hold what was written there, each with why"
    )
    waiting_keys: int = Field(description="keys that stay until their records are in the archive")
    seconds: float = Field(description="how long it took")


class ArchivedDays(Document):
    """What was written to the archive, before a purge."""

    days: tuple[date, ...] = Field(description="delivery days that were written")
    files: int = Field(description="Parquet files that they have")
    rows: int = Field(description="records in these")
    bytes: int = Field(description="their size")
    keys: int = Field(description="log keys whose records were not in the archive before")
    waiting_keys: int = Field(description="log keys whose records are not in the archive, and that are not purged")
    problems: dict[date, str] = Field(description="days that were left as they are, each with the reason")
    seconds: float = Field(description="how long it took")


class PulledBucket(Document):
    """`pull --json`: one of each bucket, in a list."""

    bucket: str = Field(description="the logged bucket")
    error: ErrorText = None
    days: tuple[PulledDay, ...] = Field(default=(), description="each day that has keys")
    strays: tuple[str, ...] = Field(default=(), description="names that belong to no day; at most 50")
    seconds: float = Field(default=0.0, description="how long loading took")
    archived: ArchivedDays | None = Field(default=None, description="null if archive is not set for it, or failed")
    archive_error: str | None = Field(
        default=None, description="why its archive could not be written; null if it could"
    )
    purged: PurgedKeys | None = Field(default=None, description="null if nothing was to be purged, or the purge failed")
    purge_error: str | None = Field(default=None, description="why nothing could be purged; null if it could")


class PurgedBucket(Document):
    """`purge --json`: one of each bucket, in a list."""

    bucket: str = Field(description="the logged bucket")
    error: ErrorText = None
    dry_run: bool = Field(description="whether nothing was deleted")
    archived: ArchivedDays | None = Field(default=None, description="null if archive is not set for it, or a dry run")
    archive_error: str | None = Field(
        default=None, description="why its archive could not be written; null if it could"
    )
    purged: PurgedKeys | None = Field(default=None, description="null if purge_parsed_keys is off for it")


class MirroredBucket(Document):
    """`mirror --json`: one of each bucket, in a list."""

    bucket: str = Field(description="the logged bucket")
    error: ErrorText = None
    log_bucket_name: str | None = Field(default=None, description="URL of the folder; null after an error")
    log_prefix: str = Field(description="what the keys' names begin with, in either place")
    present: int = Field(default=0, description="keys whose copy was there already")
    keys: int = Field(default=0, description="keys fetched")
    bytes: int = Field(default=0, description="their size, as stored")
    waiting: int = Field(
        default=0, description="files of a folder that changed within quiet_seconds: for a later mirror"
    )
    strays: tuple[str, ...] = Field(
        default=(), description="names that are no log key's, of those that belong to no day at most 50"
    )
    failures: tuple[FailedKey, ...] = Field(default=(), description="keys that have no copy now")
    seconds: float = Field(default=0.0, description="how long it took")


class ReparsedBucket(Document):
    """`reparse --json`: one of each bucket, in a list. lines = moved + rejected + oversized."""

    bucket: str = Field(description="the logged bucket")
    error: ErrorText = None
    keys: int = Field(default=0, description="log keys with rejected lines")
    changed: int = Field(default=0, description="those of them with lines that moved, or have another reason now")
    lines: int = Field(default=0, description="their rejected lines")
    moved: int = Field(default=0, description="lines that are records now")
    rejected: int = Field(default=0, description="lines that are no records still")
    reasons_changed: int = Field(default=0, description="those of them whose reason is another now")
    oversized: int = Field(default=0, description="lines of which only the start is stored")
    failures: tuple[FailedKey, ...] = Field(default=(), description="keys that were left as they are")
    seconds: float = Field(default=0.0, description="how long it took")


class StoredSample(Document):
    """A value of a column that violates its shape."""

    value: str = Field(
        description="the value: control characters escaped, secrets of presigned URLs redacted, a long one cut"
    )
    log_key: str | None = Field(description="name of the log key that its line stood in; null if the ledger lacks it")
    log_key_id: int = Field(description="its ledger row")
    line_number: int = Field(description="number of the line, from 1")


class RecheckedColumn(Document):
    """A column with values that violate its shape."""

    column: str = Field(description="its name in s3_log_record")
    records: int = Field(description="records with such a value")
    samples: tuple[StoredSample, ...] = Field(description="different values; at most 3")


class RecheckedKey(Document):
    """A log key with records that would not be loaded today."""

    id: int = Field(description="its ledger row")
    bucket: str | None = Field(description="the configured bucket that loaded it; null if the ledger lacks it")
    key: str | None = Field(description="its name; null if the ledger lacks it")
    is_purged: bool = Field(description="whether it was deleted from the log bucket, as far as the ledger knows")
    records: int = Field(description="the number of these records")


class RecheckedRecords(Document):
    """`recheck --json`. Days are of the requests."""

    first_day: date | None = Field(description="the first day that was looked at; null if there is none")
    last_day: date | None = Field(description="the last one")
    days: int = Field(description="days that were looked at")
    records: int = Field(description="records that would not be loaded today")
    columns: tuple[RecheckedColumn, ...] = Field(
        description="the columns whose shapes they violate; a record may violate several"
    )
    keys: tuple[RecheckedKey, ...] = Field(description="log keys with such records; at most 20")
    key_count: int = Field(description="the number of all of them")
    has_more_keys: bool = Field(description="whether there are more than that; at most 100,000 are counted")
    seconds: float = Field(description="how long it took")


class DroppedMonth(Document):
    """A month of records."""

    name: str = Field(description="its partition")
    rows: int = Field(description="records, by Postgres' estimate")
    bytes: int = Field(description="what it takes on disk, with its indexes")


class ExpiredMonths(Document):
    """`expire --json`."""

    dry_run: bool = Field(description="whether nothing was dropped")
    first_kept: date = Field(description="the first day (UTC) whose requests stay")
    partitions: tuple[DroppedMonth, ...] = Field(description="the months dropped, oldest first")
    keys: int = Field(description="ledger rows marked as expired")
    rejected_lines: int = Field(description="rejected lines deleted")
    kept_back: tuple[str, ...] = Field(
        default=(),
        description="months that were not dropped since a day of them is not rolled up, each with the reason",
    )
    unpurged: dict[str, int] | None = Field(
        description="by bucket, expired keys that still lie in the log bucket; null for a dry run"
    )
    waiting_keys: dict[str, int] = Field(
        description="by bucket, keys that wait for the archive; months with their records stay"
    )


class FoundThing(Document):
    """`doctor --json`: one of each finding, in a list."""

    subject: str = Field(description="what was looked at")
    status: Status = Field(description="ok, warn or fail")
    text: str = Field(description="what was found")
    remedy: str = Field(description="what to do; empty if it is ok")


class LastKey(Document):
    """The log key that was delivered last of those that are loaded."""

    key: str = Field(description="its name")
    delivered_at: datetime | None = Field(description="the time in its name; midnight if S3 delivers by event date")
    loaded_at: datetime = Field(description="when its rows were committed")


class Unloaded(Document):
    """What a listing of the log bucket found that is not loaded."""

    keys: int = Field(description="log keys that are not loaded; at least so many if not complete")
    listed_keys: int = Field(description="log keys that were looked at")
    outdated_keys: int = Field(
        description="those of them that are skipped: a newer generation of their name is loaded and purged"
    )
    waiting_files: int = Field(description="other files of the folder, which changed within quiet_seconds")
    is_complete: bool = Field(description="whether all days were looked at; if not, the time was up")
    first_day: date = Field(description="the first day that a pull would look at")
    last_day: date = Field(description="the last one")


class BucketState(Document):
    """`buckets --json`: one of each bucket and log bucket, in a list."""

    bucket: str = Field(description="the logged bucket")
    is_configured: bool = Field(description="false if the ledger alone knows it, in that log bucket")
    log_bucket_name: str = Field(description="where its log keys are delivered")
    log_prefix: str | None = Field(description="what their names begin with; null if not configured")
    monitored: bool = Field(description="whether its sensor is on from the start")
    purges: bool = Field(description="whether log keys are deleted once proved loaded")
    error: ErrorText = None
    last_key: LastKey | None = Field(description="null if none is loaded")
    loaded_keys: int = Field(description="log keys that are loaded, purged ones too")
    purged_keys: int = Field(description="those of them that were deleted")
    returned_keys: int = Field(
        description="those of them whose bytes were found in the log bucket again after they were purged"
    )
    expired_keys: int = Field(description="those of them whose records retention dropped, or the older of them")
    records: int = Field(description="rows in s3_log_record that they were loaded with, expired ones too")
    rejected_lines: int = Field(description="lines that are no record")
    unloaded: Unloaded | None = Field(description="null with --no-list, after an error, and if not configured")
    to_purge_keys: int = Field(description="loaded keys that the next purge would take; 0 if purges is false")
    waiting_keys: int = Field(
        description="loaded keys in the log bucket that wait for the archive before a purge; 0 without an archive"
    )
    failing_purge_keys: int = Field(description="keys whose deletion failed at the last try")


class Hog(Document):
    """A consumer of many bytes."""

    name: str = Field(description="IP address; with --by requester a canonical user id, ARN or service")
    requests: int = Field(description="requests, of whatever kind and answer")
    bytes: int = Field(validation_alias="bytes_sent", description="bytes of the responses")
    share: float = Field(description="of the bucket's bytes, 0 to 1")
    times_median: float | None = Field(
        description="how many times the median consumer's bytes; null if those are 0, or not known"
    )
    own: str | None = Field(description="why it is in no ban list without --include-own; null for a stranger")


class HogsOfBucket(Document):
    """`hogs --format json`: one of each bucket, in a list. Days are of the requests."""

    bucket: str = Field(description="the logged bucket")
    by: str = Field(description="ip or requester")
    first_day: date = Field(validation_alias="first", description="the first day that was looked at")
    last_day: date = Field(validation_alias="last", description="the last one, today")
    consumers: int = Field(
        validation_alias="count", description="how many there were, hogs or not; at least, if folded"
    )
    bytes: int = Field(validation_alias="bytes_sent", description="bytes of all responses, anonymous ones too")
    median_bytes: float | None = Field(
        description="the median of what each consumer took; null if some have no rows of their own"
    )
    folded_bytes: int = Field(default=0, description="bytes of consumers that have no rows of their own")
    missing_bytes: int = Field(default=0, description="how many bytes the figures of a consumer may lack, at most")
    pending_days: tuple[date, ...] = Field(
        default=(), description="days with records that these figures lack, since they are not rolled up yet"
    )
    hogs: tuple[Hog, ...] = Field(validation_alias="largest", description="who is above, the largest first")


COMMANDS_WITH_JSON: dict[str, type[Document]] = {
    "pull": PulledBucket,
    "purge": PurgedBucket,
    "mirror": MirroredBucket,
    "reparse": ReparsedBucket,
    "recheck": RecheckedRecords,
    "expire": ExpiredMonths,
    "buckets": BucketState,
    "doctor": FoundThing,
    "hogs": HogsOfBucket,
}


def pulled_bucket(bucket: str, pulled: "Pulled") -> PulledBucket:
    """What a pull of a bucket has loaded."""
    return PulledBucket(bucket=bucket, days=pulled_days(pulled.periods), strays=pulled.strays, seconds=pulled.seconds)


def pulled_days(periods: "Sequence[PulledPeriod]") -> tuple[PulledDay, ...]:
    """What a pull did for each of its days."""
    return tuple(PulledDay.model_validate(day) for day in periods)


def archived_days(archived: "Archived | None") -> ArchivedDays | None:
    """What an archiving did, if there was one."""
    return ArchivedDays.model_validate(archived) if archived else None


def purged_keys(purged: "Purged") -> PurgedKeys:
    """What a purge did."""
    return PurgedKeys(
        keys=purged.keys,
        bytes=purged.bytes,
        rows=purged.rows,
        by_day=dict(sorted(purged.by_day.items())),
        kept_keys=purged.kept.keys,
        failures=tuple(FailedKey.model_validate(failure) for failure in purged.failures),
        archive_problems=purged.archive_problems,
        waiting_keys=purged.waiting_keys,
        seconds=purged.seconds,
    )


def mirrored_bucket(bucket: "LoggedBucket", mirrored: "Mirrored") -> MirroredBucket:
    """What a mirror of a bucket did."""
    return MirroredBucket(
        bucket=bucket.name,
        log_bucket_name=mirrored.folder.as_uri(),
        log_prefix=bucket.log_prefix,
        present=mirrored.present,
        keys=mirrored.keys,
        bytes=mirrored.bytes,
        waiting=mirrored.waiting,
        strays=(*mirrored.outside, *mirrored.strays),
        failures=tuple(FailedKey.model_validate(failure) for failure in mirrored.failures),
        seconds=mirrored.seconds,
    )


def reparsed_bucket(bucket: str, done: "Reparsed") -> ReparsedBucket:
    """What a reparse of a bucket did."""
    return ReparsedBucket.model_validate({"bucket": bucket, **asdict(done)})


def rechecked_records(done: "Rechecked") -> RecheckedRecords:
    """What a recheck found."""
    return RecheckedRecords.model_validate(done)


def expired_months(found: "Expirable | Expired") -> ExpiredMonths:
    """What an expire did, or would do."""
    from tamarin_dagster.pipeline.retain import Expired  # noqa: PLC0415 - no other command needs it

    expired = found if isinstance(found, Expired) else None
    return ExpiredMonths(
        dry_run=expired is None,
        first_kept=found.first_kept,
        partitions=tuple(DroppedMonth.model_validate(partition) for partition in found.partitions),
        keys=found.keys,
        rejected_lines=found.rejected_lines,
        kept_back=tuple(map(str, expired.kept_back)) if expired else (),
        unpurged=expired.unpurged if expired else None,
        waiting_keys={owed.bucket: owed.keys for owed in found.owed},
    )


def found_thing(finding: "Finding") -> FoundThing:
    """A finding of the doctor."""
    return FoundThing.model_validate(finding)


def hogs_of_bucket(found: "Consumers", pending_days: tuple[date, ...]) -> HogsOfBucket:
    """The hogs among a bucket's consumers; `pending_days` are those that the rollups lack records of."""
    fold = found.fold
    folded = {"folded_bytes": fold.bytes_sent, "missing_bytes": fold.missing_bytes} if fold else {}
    return HogsOfBucket.model_validate(found).model_copy(update={"pending_days": pending_days, **folded})


def show_documents(found: Document | Sequence[Document]) -> None:
    """The document on standard output; a list of them as one."""

    def plain(document: Document) -> Any:
        return document.model_dump(mode="json")

    show_json(plain(found) if isinstance(found, Document) else [plain(each) for each in found])
