"""Read and write what an archive says about itself: which database a bucket belongs to, and what each day holds.

Both are small JSON files under `_archived/BUCKET/`, which readers of Parquet folders skip.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from datetime import date
from typing import IO, Any

from tamarin_dagster.logstore.archiving import ArchiveError, ArchivePlace

FORMAT = 2
# A Parquet file ends with its metadata; longer metadata takes a second request.
_FOOTER_BYTES = 64 * 1024
# A record is short, because the requests of a delivery day fall on one or two days.
_RECORD_BYTES = 16 * 1024 * 1024


class UnreadableRecordError(ArchiveError):
    """A file under `_archived/` is not one that this project writes. It affects only its own day or bucket."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A Parquet file of the archive.

    Attributes:
        rows: its number of records, by its own metadata.
        size: its bytes; None in a day record of an earlier version.
        end_sha256: SHA-256 of its last 64 KiB, which hold its metadata; None in a day record of an earlier version.
    """

    rows: int
    size: int | None = None
    end_sha256: str | None = None

    def is_as(self, listed: "FileState") -> bool:
        """Return whether the file agrees with the day record, as far as an earlier version's record goes."""
        return self == listed or (listed.size is None and self.rows == listed.rows)


@dataclass(frozen=True, slots=True)
class DayRecord:
    """What the archive says about a delivery day.

    Attributes:
        database: the identity of the database that wrote it; None if an earlier version did.
        keys: the number of log keys whose records the files hold.
        digest: the digest of these log keys; in a record of an earlier version their counts.
        is_complete: false from before the first file is written until the last one is durable.
        files: the state of each file, by name.
    """

    database: str | None
    keys: int
    digest: str
    is_complete: bool
    files: dict[str, FileState]

    @property
    def rows(self) -> int:
        """The number of records in all files."""
        return sum(each.rows for each in self.files.values())


def record_name(bucket: str, day: date) -> str:
    """Return the name of the file with a day's record."""
    return f"{record_folder(bucket)}/{day.isoformat()}.json"


def record_folder(bucket: str) -> str:
    """Return the folder of a bucket's day records."""
    return f"_archived/{bucket}"


def owner_name(bucket: str) -> str:
    """Return the name of the file that says which database the bucket's records in the archive belong to."""
    return f"{record_folder(bucket)}/owner.json"


def read_owner(place: ArchivePlace, bucket: str) -> str | None:
    """Return the identity of the database that archives the bucket there, or None. Raises ArchiveError."""
    found = _read(place, owner_name(bucket))
    if found is None:
        return None
    try:
        return str(found["database"])
    except (TypeError, KeyError) as error:
        raise _unreadable(place, owner_name(bucket), error) from error


def write_owner(place: ArchivePlace, bucket: str, database: str) -> None:
    """Mark the place as that database's archive of the bucket. Raises ArchiveError."""
    _write(place, owner_name(bucket), {"format": FORMAT, "database": database, "bucket": bucket})


def read_day(place: ArchivePlace, bucket: str, day: date) -> DayRecord | None:
    """Return what the archive says about that delivery day; None if there is no record. Raises ArchiveError."""
    name = record_name(bucket, day)
    found = _read(place, name)
    if found is None:
        return None
    try:
        if "format" not in found:
            files = {str(file): FileState(int(rows)) for file, rows in found["files"].items()}
            keys, rows = int(found["keys"]), sum(each.rows for each in files.values())
            return DayRecord(None, keys, f"counts:{keys}:{rows}", True, files)
        files = {
            str(file): FileState(int(each["rows"]), int(each["bytes"]), str(each["end_sha256"]))
            for file, each in found["files"].items()
        }
        return DayRecord(
            str(found["database"]), int(found["keys"]), str(found["digest"]), bool(found["complete"]), files
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unreadable(place, name, error) from error


def write_day(place: ArchivePlace, bucket: str, day: date, written: DayRecord) -> None:
    """Write a day's record. Raises ArchiveError."""
    files = {
        name: {"rows": each.rows, "bytes": each.size or 0, "end_sha256": each.end_sha256 or ""}
        for name, each in written.files.items()
    }
    value = {
        "format": FORMAT,
        "database": written.database,
        "bucket": bucket,
        "delivered": day.isoformat(),
        "keys": written.keys,
        "digest": written.digest,
        "complete": written.is_complete,
        "files": files,
    }
    _write(place, record_name(bucket, day), value)


def read_written_state(file: IO[bytes], rows: int) -> FileState:
    """Return the state of a file that was just written; the file must be readable."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _FOOTER_BYTES))
    return FileState(rows, size, hashlib.sha256(file.read()).hexdigest())


def read_file_state(place: ArchivePlace, name: str) -> FileState | None:
    """Return the current state of a Parquet file, from its end; None if it is missing or not a Parquet file.

    Raises ArchiveError.
    """
    # 0.2 s, which a pull that archives nothing does not spend.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    end = place.end_of(name, _FOOTER_BYTES)
    if end is None:
        return None
    digest, data = hashlib.sha256(end.data).hexdigest(), end.data
    # The last eight bytes are the metadata's length and `PAR1`.
    length = int.from_bytes(data[-8:-4], "little") + 8
    if len(data) < length <= end.size:
        longer = place.end_of(name, length)
        data = longer.data if longer else b""
    try:
        rows: int = pq.read_metadata(io.BytesIO(data)).num_rows
    except (pa.ArrowInvalid, OSError):
        return None
    return FileState(rows, end.size, digest)


def _read(place: ArchivePlace, name: str) -> Any:
    end = place.end_of(name, _RECORD_BYTES)
    if end is None:
        return None
    try:
        return json.loads(end.data)
    except ValueError as error:
        raise _unreadable(place, name, error) from error


def _write(place: ArchivePlace, name: str, value: dict[str, Any]) -> None:
    with place.writing(name) as file:
        file.write(json.dumps(value).encode())


def _unreadable(place: ArchivePlace, name: str, error: Exception) -> UnreadableRecordError:
    return UnreadableRecordError(
        f"archive {place.url}: {name} is damaged, or was written by a newer version ({type(error).__name__}:"
        f" {error}); restore it from a copy, or name another archive"
    )
