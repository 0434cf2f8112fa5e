"""The documents that `--json` prints. Scripts rely on their names, so these are independent of the result types.

Times are ISO 8601 in UTC, days are delivery days, sizes are bytes, durations seconds.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, AliasPath, BaseModel, ConfigDict, Field

from tamarin_dagster.cli.terminal import show_json
from tamarin_dagster.operations.doctor.finding import Status

if TYPE_CHECKING:  # each command has imported the types that it shows
    from tamarin_dagster.analytics.consumers import Consumers
    from tamarin_dagster.pipeline.retain import Expirable, Expired

ErrorText = Annotated[str | None, Field(description="why its log bucket could not be read; null if it could")]


class Document(BaseModel):
    """A part of what is printed."""

    # A command shows one or two of them, so the others are never built.
    model_config = ConfigDict(frozen=True, from_attributes=True, defer_build=True)


class FailedKey(Document):
    """A log key that was skipped."""

    key: str = Field(description="its name")
    delivery_date: date = Field(description="the day in its name")
    error: str = Field(description="why, and what to do if there is a remedy")


class PulledDay(Document):
    """The result of a pull for a delivery day."""

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
    blank: int = Field(description="blank lines")
    bytes: int = Field(description="their size, as stored")
    first_request: datetime | None = Field(description="time of the earliest record")
    last_request: datetime | None = Field(description="time of the latest record")
    outdated: int = Field(description="those that were skipped: a newer generation of their name is loaded and purged")
    outdated_names: tuple[str, ...] = Field(description="the names of these; at most 50")
    waiting: int = Field(
        description="files of a folder, not listed, that changed within quiet_seconds: for a later pull"
    )
    strays: tuple[str, ...] = Field(description="names under the day's prefix that no log key has")
    failures: tuple[FailedKey, ...] = Field(description="keys that were skipped")


class PurgedKeys(Document):
    """The result of a purge, or of a dry run."""

    keys: int = Field(description="log keys that were deleted")
    bytes: int = Field(description="their size, as stored")
    rows: int = Field(description="records and rejected lines that were counted to prove them")
    by_day: Annotated[dict[date, int], AfterValidator(lambda days: dict(sorted(days.items())))] = Field(
        description="keys deleted, by delivery day"
    )
    kept_keys: int = Field(
        validation_alias=AliasPath("kept", "keys"), description="keys that stay because of their rejected lines"
    )
    failures: tuple[FailedKey, ...] = Field(description="keys that stay because the proof or the deletion failed")
    archive_problems: dict[date, str] = Field(
        description="days of which nothing was deleted: the archive lacks what was written there, each with the reason"
    )
    waiting_keys: int = Field(description="keys that stay until their records are in the archive")
    seconds: float = Field(description="how long it took")


class ArchivedDays(Document):
    """The delivery days that were written to the archive before a purge."""

    days: tuple[date, ...] = Field(description="delivery days that were written")
    files: int = Field(description="Parquet files of these days")
    rows: int = Field(description="records in these files")
    bytes: int = Field(description="their size")
    keys: int = Field(description="log keys whose records were not in the archive before")
    waiting_keys: int = Field(description="log keys whose records are not in the archive, and that are not purged")
    problems: dict[date, str] = Field(description="days that were not changed, each with the reason")
    seconds: float = Field(description="how long it took")


class PulledBucket(Document):
    """`pull --json`: a list with one for each bucket."""

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
    """`purge --json`: a list with one for each bucket."""

    bucket: str = Field(description="the logged bucket")
    error: ErrorText = None
    dry_run: bool = Field(description="whether nothing was deleted")
    archived: ArchivedDays | None = Field(default=None, description="null if archive is not set for it, or a dry run")
    archive_error: str | None = Field(
        default=None, description="why its archive could not be written; null if it could"
    )
    purged: PurgedKeys | None = Field(default=None, description="null if purge_parsed_keys is off for it")


class MirroredBucket(Document):
    """`mirror --json`: a list with one for each bucket."""

    bucket: str = Field(description="the logged bucket")
    error: ErrorText = None
    log_bucket_name: str | None = Field(default=None, description="URL of the folder; null after an error")
    log_prefix: str = Field(description="the beginning of the keys' names, in either place")
    present: int = Field(default=0, description="keys that had a copy already")
    keys: int = Field(default=0, description="keys fetched")
    bytes: int = Field(default=0, description="their size, as stored")
    waiting: int = Field(
        default=0, description="files of a folder that changed within quiet_seconds: for a later mirror"
    )
    strays: tuple[str, ...] = Field(
        default=(), description="names that no log key has; at most 50 of those that belong to no day"
    )
    failures: tuple[FailedKey, ...] = Field(default=(), description="keys that have no current copy")
    seconds: float = Field(default=0.0, description="how long it took")


class ReparsedBucket(Document):
    """`reparse --json`: a list with one for each bucket. lines = moved + rejected + oversized."""

    bucket: str = Field(description="the logged bucket")
    error: ErrorText = None
    keys: int = Field(default=0, description="log keys with rejected lines")
    changed: int = Field(default=0, description="those of them with lines that moved, or that have a new reason")
    lines: int = Field(default=0, description="their rejected lines")
    moved: int = Field(default=0, description="lines that are records now")
    rejected: int = Field(default=0, description="lines that are still rejected")
    reasons_changed: int = Field(default=0, description="those of them with a new reason")
    oversized: int = Field(default=0, description="lines of which only the start is stored")
    failures: tuple[FailedKey, ...] = Field(default=(), description="keys that were not changed")
    seconds: float = Field(default=0.0, description="how long it took")


class StoredSample(Document):
    """A value of a column that violates its shape."""

    value: str = Field(
        description="the value: control characters escaped, secrets of presigned URLs redacted, a long one cut"
    )
    log_key: str | None = Field(description="name of the log key that has the line; null if the ledger lacks it")
    log_key_id: int = Field(description="the id of its ledger row")
    line_number: int = Field(description="number of the line, from 1")


class RecheckedColumn(Document):
    """A column with values that violate its shape."""

    column: str = Field(description="its name in s3_log_record")
    records: int = Field(description="records with such a value")
    samples: tuple[StoredSample, ...] = Field(description="different values; at most 3")


class RecheckedKey(Document):
    """A log key with records that would not be loaded today."""

    id: int = Field(description="the id of its ledger row")
    bucket: str | None = Field(description="the configured bucket that loaded it; null if the ledger lacks it")
    key: str | None = Field(description="its name; null if the ledger lacks it")
    is_purged: bool = Field(description="whether it was deleted from the log bucket, as far as the ledger knows")
    records: int = Field(description="the number of these records")


class RecheckedRecords(Document):
    """`recheck --json`. Days are request days."""

    first_day: date | None = Field(description="the first day that was read; null if there is none")
    last_day: date | None = Field(description="the last day that was read")
    days: int = Field(description="the number of days that were read")
    records: int = Field(description="records that would not be loaded today")
    columns: tuple[RecheckedColumn, ...] = Field(
        description="the columns whose shapes they violate; a record may violate several"
    )
    keys: tuple[RecheckedKey, ...] = Field(description="log keys with such records; at most 20")
    key_count: int = Field(description="the number of all of them")
    has_more_keys: bool = Field(description="whether there are more; at most 100,000 are counted")
    seconds: float = Field(description="how long it took")


class LoadedLake(Document):
    """`lake-load --json`: a bucket's days that were loaded into the lake."""

    bucket: str = Field(description="the configured bucket")
    days: tuple[date, ...] = Field(description="delivery days that were replaced")
    skipped_days: int = Field(description="days that the lake held already")
    keys: int = Field(description="log keys of the replaced days")
    lines: int = Field(description="their lines: records, rejected and blank")
    records: int = Field(description="lines that are rows of s3_log_record")
    rejected: int = Field(description="lines that are rows of s3_rejected_line")
    blank: int = Field(description="lines with nothing in them")
    bytes: int = Field(description="their size, as stored")
    waiting: int = Field(description="files of a folder that changed within quiet_seconds: for a later load")
    failures: tuple[FailedKey, ...] = Field(description="log keys that could not be read")
    problems: dict[date, str] = Field(description="days that were not replaced, with the reason")
    seconds: float = Field(description="how long it took")


class DifferingKey(Document):
    """A log key on which the lake and Postgres differ."""

    bucket: str = Field(description="the configured bucket")
    delivery_day: date = Field(description="the day in its name")
    log_key: str = Field(description="its name")
    what: str = Field(description="the difference")


class ComparedLake(Document):
    """`lake-compare --json`."""

    days: int = Field(description="delivery days that were compared")
    keys: int = Field(description="log keys on which the lake and Postgres agree")
    records: int = Field(description="their records")
    differing_keys: int = Field(description="log keys on which they differ")
    differences: tuple[DifferingKey, ...] = Field(description="these log keys; at most 1000")


class DroppedMonth(Document):
    """A month of records."""

    name: str = Field(description="its partition")
    rows: int = Field(description="records, by Postgres' estimate")
    bytes: int = Field(description="its size on disk, with its indexes")


class ExpiredMonths(Document):
    """`expire --json`."""

    dry_run: bool = Field(description="whether nothing was dropped")
    first_kept: date = Field(description="the first day (UTC) whose requests are kept")
    partitions: tuple[DroppedMonth, ...] = Field(description="the months dropped, oldest first")
    keys: int = Field(description="ledger rows marked as expired")
    rejected_lines: int = Field(description="rejected lines deleted")
    kept_back: tuple[str, ...] = Field(
        default=(),
        description="months that were not dropped because a day is not rolled up, each with the reason",
    )
    unpurged: dict[str, int] | None = Field(
        default=None, description="by bucket, expired keys that are still in the log bucket; null for a dry run"
    )
    waiting_keys: dict[str, int] = Field(
        description="by bucket, keys that wait for the archive; months with their records are kept"
    )


class DoctorFinding(Document):
    """`doctor --json`: a list with one for each finding."""

    subject: str = Field(description="what was checked")
    status: Status = Field(description="ok, warn or fail")
    text: str = Field(description="what was found")
    remedy: str = Field(description="what to do; empty if it is ok")


class LastKey(Document):
    """The most recently delivered of the log keys that are loaded."""

    key: str = Field(description="its name")
    delivered_at: datetime | None = Field(description="the time in its name; midnight if S3 delivers by event date")
    loaded_at: datetime = Field(description="when its rows were committed")


class Unloaded(Document):
    """The log keys that are not loaded, from a listing of the log bucket."""

    keys: int = Field(description="log keys that are not loaded; a minimum if not complete")
    listed_keys: int = Field(description="log keys that were listed")
    outdated_keys: int = Field(
        description="those of them that are skipped because a newer generation of their name is loaded and purged"
    )
    waiting_files: int = Field(description="other files of the folder, which changed within quiet_seconds")
    is_complete: bool = Field(description="whether all days were listed; if not, the time was up")
    first_day: date = Field(description="the first day that a pull would list")
    last_day: date = Field(description="the last day that a pull would list")


class BucketState(Document):
    """`buckets --json`: a list with one for each bucket and log bucket."""

    bucket: str = Field(description="the logged bucket")
    is_configured: bool = Field(description="false if only the ledger has it, in that log bucket")
    log_bucket_name: str = Field(description="where its log keys are delivered")
    log_prefix: str | None = Field(description="the beginning of their names; null if not configured")
    monitored: bool = Field(description="whether its sensor is on by default")
    purges: bool = Field(description="whether log keys are deleted when proved loaded")
    error: ErrorText = None
    last_key: LastKey | None = Field(description="null if none is loaded")
    loaded_keys: int = Field(description="log keys that are loaded, also those that were purged since")
    purged_keys: int = Field(description="those of them that were deleted")
    returned_keys: int = Field(
        description="those of them whose bytes were found in the log bucket again after their purge"
    )
    expired_keys: int = Field(description="those of them whose records were dropped by retention, in part or all")
    records: int = Field(description="rows of s3_log_record that were loaded from them, also those that expired since")
    rejected_lines: int = Field(description="lines that are not records")
    unloaded: Unloaded | None = Field(description="null with --no-list, after an error, and if not configured")
    to_purge_keys: int = Field(description="loaded keys that the next purge would delete; 0 if purges is false")
    waiting_keys: int = Field(
        description="loaded keys in the log bucket that wait for the archive before a purge; 0 without an archive"
    )
    failing_purge_keys: int = Field(description="keys whose last deletion attempt failed")


class TopTalker(Document):
    """A consumer of many bytes."""

    name: str = Field(description="IP address; with --by requester a canonical user id, ARN or service")
    requests: int = Field(description="requests of any operation and status")
    bytes: int = Field(validation_alias="bytes_sent", description="bytes of the responses")
    share: float = Field(description="share of the bucket's bytes, 0 to 1")
    times_median: float | None = Field(
        description="its bytes divided by those of the median consumer; null if those are 0 or unknown"
    )
    own: str | None = Field(description="why ban lists omit it without --include-own; null if they do not")


class TopTalkersOfBucket(Document):
    """`top-talkers --format json`: a list with one for each bucket. Days are request days."""

    bucket: str = Field(description="the logged bucket")
    by: str = Field(description="ip or requester")
    first_day: date = Field(validation_alias="first", description="the first day of the figures")
    last_day: date = Field(validation_alias="last", description="the last day of the figures, today")
    consumers: int = Field(
        validation_alias="count", description="the number of all consumers; a minimum if some are folded"
    )
    bytes: int = Field(validation_alias="bytes_sent", description="bytes of all responses, also anonymous ones")
    median_bytes: float | None = Field(
        description="median of the bytes of each consumer; null if some have no rows of their own"
    )
    folded_bytes: int = Field(default=0, description="bytes of consumers that have no rows of their own")
    missing_bytes: int = Field(default=0, description="bytes that the figures of one consumer may lack, at most")
    pending_days: tuple[date, ...] = Field(
        default=(), description="days with records that are not rolled up yet, so that these figures lack them"
    )
    # The name in the JSON stays, because scripts use it.
    hogs: tuple[TopTalker, ...] = Field(  # codespell:ignore hogs
        validation_alias="largest", description="the top talkers, the largest first"
    )


COMMANDS_WITH_JSON: dict[str, type[Document]] = {
    "pull": PulledBucket,
    "purge": PurgedBucket,
    "mirror": MirroredBucket,
    "reparse": ReparsedBucket,
    "recheck": RecheckedRecords,
    "expire": ExpiredMonths,
    "buckets": BucketState,
    "doctor": DoctorFinding,
    "lake-load": LoadedLake,
    "lake-compare": ComparedLake,
    "top-talkers": TopTalkersOfBucket,
}

_Document = TypeVar("_Document", bound=Document)


def make_document(kind: type[_Document], result: object, **others: Any) -> _Document:
    """Return a document whose fields are the attributes of the same name of `result`, except for `others`."""
    named = {name: getattr(result, name) for name in kind.model_fields if hasattr(result, name)}
    return kind.model_validate(named | others)


def describe_expired(found: "Expirable | Expired") -> ExpiredMonths:
    """Return what an expire did, or would do."""
    kept_back = getattr(found, "kept_back", None)  # a dry run has none
    return make_document(
        ExpiredMonths,
        found,
        dry_run=kept_back is None,
        kept_back=tuple(map(str, kept_back or ())),
        waiting_keys={owed.bucket: owed.keys for owed in found.owed},
    )


def describe_top_talkers(found: "Consumers", pending_days: tuple[date, ...]) -> TopTalkersOfBucket:
    """Return the top talkers of a bucket. The rollups lack records of the `pending_days`."""
    fold = found.fold
    folded = {"folded_bytes": fold.bytes_sent, "missing_bytes": fold.missing_bytes} if fold else {}
    return TopTalkersOfBucket.model_validate(found).model_copy(update={"pending_days": pending_days, **folded})


def show_documents(found: Document | Sequence[Document]) -> None:
    """Print the document on standard output, or several as a list."""
    many = [each.model_dump(mode="json") for each in ([found] if isinstance(found, Document) else found)]
    show_json(many[0] if isinstance(found, Document) else many)
