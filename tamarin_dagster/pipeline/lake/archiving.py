"""Archive delivery days from Postgres into the lake, and prove for a purge that they are there.

A day is replaced in one commit (see `lake.tables`), so a kill leaves it as it was, and no note of what is about to be
written is needed. The proof reads the lake's ledger and the metadata of its tables, not the records.
"""

from collections import Counter
from contextlib import closing
from datetime import date

import sqlalchemy as sa

from tamarin_dagster.failpoints import FailPoint, hit
from tamarin_dagster.lake import schema
from tamarin_dagster.lake.place import LakeError, LakePlace
from tamarin_dagster.lake.tables import (
    RECORDS,
    REJECTED,
    DayFiles,
    LakeTables,
    write_record_file,
    write_table,
)
from tamarin_dagster.logstore.archive_records import DayRecord, FileState
from tamarin_dagster.parallel import prefetch
from tamarin_dagster.pipeline.export.columnar import count_keys
from tamarin_dagster.recordstore import archived, ledger
from tamarin_dagster.recordstore.archived import ArchivableKey
from tamarin_dagster.recordstore.delivered import list_delivered_keys, rejected_lines
from tamarin_dagster.recordstore.extracts import open_snapshot
from tamarin_dagster.recordstore.record_frames import delivered_records
from tamarin_dagster.settings import LoggedBucket

# Rejected lines that are sent and written together; one may have a mebibyte.
_REJECTED_PAGE = 1000


class WrittenDay:
    """What a call of `write_day` wrote: records, bytes and files."""

    def __init__(self, files: DayFiles) -> None:
        self.rows = sum(file.record_count for file in files.records)
        self.bytes = sum(file.file_size_in_bytes for file in files.records)
        self.files = len(files.records)


def write_day(
    bucket: LoggedBucket, tables: LakeTables, engine: sa.Engine, locked: sa.Connection, day: date, place: LakePlace
) -> WrittenDay | str:
    """Write a delivery day into the lake and note its log keys as archived; or return why it was not done.

    Runs under the lock of the day, in whose transaction the log keys are noted. Raises LakeError.
    """
    with open_snapshot(engine, keeps_partitions=True) as connection:
        keys = archived.archivable_keys(connection, bucket.name, day)
        outdated = archived.outdated_ids(connection, bucket.name, day, place.name)
        if ledger.count_differences(connection, [key.id for key in keys]):
            return "its rows differ from the ledger; the check rows_match_the_ledger names the log keys"
        loaded_by = f"postgres {archived.database_id(connection)}"
        files = DayFiles(list_delivered_keys(connection, bucket.name, day, loaded_by))
        found = _write_records(tables, connection, bucket.name, day, files)
        if found != Counter({key.id: key.record_count for key in keys if key.record_count}):
            return "its rows differ from the ledger; the check rows_match_the_ledger names the log keys"
        rejected = tables.table(REJECTED)
        for page in rejected_lines(connection, bucket.name, day, _REJECTED_PAGE):
            whole = schema.place(page, bucket.name, day, schema.REJECTED)
            files.rejected += write_table(rejected.io, rejected.metadata, bucket.name, day, whole)
    tables.replace_day(bucket.name, day, files, {"tamarin.loaded-by": loaded_by})
    hit(FailPoint.ARCHIVE_COMMIT_BEFORE)
    if not archived.mark_archived(locked, bucket.name, day, place.name, keys, outdated):
        return "some of its log keys were loaded or reparsed meanwhile; the next run writes it again"
    hit(FailPoint.ARCHIVE_COMMIT_AFTER)
    return WrittenDay(files)


def _write_records(
    tables: LakeTables, connection: sa.Connection, bucket: str, day: date, files: DayFiles
) -> Counter[int]:
    counts: Counter[int] = Counter()
    table = tables.table(RECORDS)
    rows = sum(files.ledger["record_count"].to_pylist())
    with closing(prefetch(delivered_records(connection, bucket, day))) as arriving:
        placed = (schema.place(each, bucket, day, schema.RECORDS) for each in count_keys(arriving, counts))
        if file := write_record_file(table.io, table.metadata, bucket, day, placed, rows):
            files.records.append(file)
    return counts


class LakeProof:
    """Prove, for each delivery day, that the lake holds the records of the log keys that are archived there."""

    def __init__(self, bucket: LoggedBucket, place: LakePlace, engine: sa.Engine) -> None:
        self._bucket = bucket
        self._place = place
        self._engine = engine
        self._tables: LakeTables | None = None
        self._problems: dict[date, str | None] = {}

    def problem(self, day: date) -> str | None:
        """Return why no log key of that delivery day may be purged, or None if its records are in the lake."""
        if day not in self._problems:
            hit(FailPoint.ARCHIVE_PROOF_BEFORE)
            try:
                self._problems[day] = self._find_problem(day)
            except LakeError as error:
                self._problems[day] = str(error)
            hit(FailPoint.ARCHIVE_PROOF_AFTER)
        return self._problems[day]

    def _find_problem(self, day: date) -> str | None:
        self._tables = self._tables or self._place.open(self._engine)
        with self._engine.connect() as connection:
            noted = archived.get_noted_day(connection, self._bucket.name, day, self._place.name)
        record, found = read_day(self._tables, self._bucket.name, day)
        if record is None or record.digest != noted.written:
            what = "does not hold that day" if record is None else "holds other log keys of that day than were archived"
            return (
                f"lake {self._place.url} {what}; restore it, or have the day written again: UPDATE s3_log_key"  # noqa: S608 - a text
                f" SET archived_at = NULL WHERE bucket = '{self._bucket.name}' AND delivery_date = '{day}'"
            )
        if found != record.files:
            return f"lake {self._place.url}: the tables hold other numbers of rows than its ledger: {found}"
        return None


def read_day(tables: LakeTables, bucket: str, day: date) -> tuple[DayRecord | None, dict[str, FileState | None]]:
    """Return what the lake's ledger says of a delivery day, and what the metadata of its tables says.

    Both as an archive's record, in which the tables of records and of rejected lines are the files. None if the ledger
    has no log key of the day.
    """
    held = tables.read_ledger(bucket, day, day, ("log_key", "etag", "record_count", "rejected_count", "loaded_by"))
    rows = held.to_pylist()
    if not rows:
        return None, {}
    keys = [ArchivableKey(0, row["log_key"], row["etag"], row["record_count"], True) for row in rows]
    by = rows[0]["loaded_by"].removeprefix("postgres ")
    listed = {
        RECORDS: FileState(sum(row["record_count"] for row in rows)),
        REJECTED: FileState(sum(row["rejected_count"] for row in rows)),
    }
    found: dict[str, FileState | None] = {
        name: FileState(sum(file.record_count for file in tables.data_files(name, bucket, day))) for name in listed
    }
    return DayRecord(by, len(keys), archived.key_digest(keys), True, listed), found
