"""One batch of keys becomes rows and ledger, in one transaction: all of it is there, or none.

The ids of the ledger rows are taken from their sequence before the transaction, so that what COPY sends can be made
ready while an earlier batch is still being loaded. A key that is too large to be held comes as a batch of its own in
parts, and is one transaction too.

Any number of loads may run at once, also of the same keys: unique indexes of the ledger decide who has a generation,
and that a name has one live generation at most. So the ledger rows are written first, in the order of the names.
"""

import random
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import cast

import numpy as np
import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.failpoints import FailPoint, reached
from tamarin_dagster.logformat import LogCounts, ParsedLogs, RejectedLine, parse_logs
from tamarin_dagster.logkey import LogKey
from tamarin_dagster.recordstore import pending_days
from tamarin_dagster.recordstore.copying import HEADER, TRAILER, render
from tamarin_dagster.recordstore.partitions import ensure_partitions
from tamarin_dagster.recordstore.tables import RECORD_COLUMNS, s3_log_key, s3_log_record, s3_rejected_line

_COPY_RECORDS = f"COPY {s3_log_record.name} ({', '.join(RECORD_COLUMNS)}) FROM STDIN (FORMAT binary)"
_COPY_REJECTED = (
    f"COPY {s3_rejected_line.name} ({', '.join(c.name for c in s3_rejected_line.columns)}) FROM STDIN (FORMAT binary)"
)
# A record that must be escaped and redacted: all that is compiled has a part in it.
_SAMPLE_LINE = (
    b'o b [06/Feb/2019:00:00:38 +0000] 192.0.2.1 - 1 REST.GET.OBJECT k "GET /k?Signature=s HTTP/1.1" 200 - 1 1 1 1'
    b' "\0" - -'
)
_REJECTED_TYPES = ("int8", "int4", "text", "bytea", "int8", "bytea")
# psycopg hands larger pieces to libpq in one go; 1 MiB keeps the copy of it in the processor's cache.
_COPY_PIECE_BYTES = 1024 * 1024
# Loads that are at the same names at once: the one that Postgres sends back looks again. It is rare, and soon over.
_ATTEMPTS = 6
_PAUSE_SECONDS = 0.05
_RACES = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)


@dataclass(frozen=True, slots=True)
class Batch:
    """Parsed keys of one bucket, ready to load. `ids[i]` will be the ledger id of `keys[i]`.

    Attributes:
        bodies: what the keys held, unpacked: kept so that a refused batch can be divided.
        copy_data: its records as COPY is sent them, in pieces.
        request_days: the buckets and UTC days of its records.
    """

    bucket: str
    log_bucket_name: str
    keys: tuple[LogKey, ...]
    ids: tuple[int, ...]
    bodies: tuple[bytes, ...]
    parsed: ParsedLogs
    copy_data: tuple[memoryview, ...]
    request_days: frozenset[tuple[str, date]] = frozenset()


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines of a large key, parsed and ready to load."""

    parsed: ParsedLogs
    copy_data: tuple[memoryview, ...]


@dataclass(frozen=True, slots=True)
class LoadedBatch:
    """What became of a batch: the keys loaded, with their counts, and those that another run had loaded before."""

    loaded: tuple[tuple[LogKey, LogCounts], ...]
    already_loaded: tuple[LogKey, ...]
    superseded: int


def compile_ahead() -> None:
    """Makes the machine code of what parses and renders, where it is not on disk yet; that takes some seconds."""
    for records in parse_logs([_SAMPLE_LINE]).redacted().pieces:
        render(records, [1])
        records.table()


def prepare(
    engine: sa.Engine,
    bucket: str,
    log_bucket_name: str,
    keys: Sequence[LogKey],
    bodies: Sequence[bytes],
    *,
    redacts: bool = True,
) -> Batch:
    """Makes a batch of keys and their bodies (in the same order).

    Parses, redacts query secrets, sees to the partitions, takes ids, renders what COPY will send: all that need not
    wait for a transaction.
    """
    reached(FailPoint.PARSE_BEFORE)
    parsed = parse_logs(bodies)
    if redacts:
        parsed = parsed.redacted()
    reached(FailPoint.PARSE_AFTER)
    ensure_partitions(engine, parsed.months())
    ids = _take_ids(engine, len(keys))
    days = frozenset(parsed.request_days())
    return Batch(bucket, log_bucket_name, tuple(keys), ids, tuple(bodies), parsed, _rendered(parsed, ids), days)


def prepare_large(engine: sa.Engine, bucket: str, log_bucket_name: str, key: LogKey) -> Batch:
    """A batch of one key, whose lines come in parts."""
    nothing = ParsedLogs((), (), (LogCounts(),))
    return Batch(bucket, log_bucket_name, (key,), _take_ids(engine, 1), (), nothing, ())


def prepare_parts(
    engine: sa.Engine, batch: Batch, parsed: Iterable[ParsedLogs], *, redacts: bool = True
) -> Iterator[Part]:
    """The parts of a batch of `prepare_large`, each made ready when it is asked for."""
    reached(FailPoint.PARSE_BEFORE)
    for part in parsed:
        reached(FailPoint.PARSE_AFTER)
        ensure_partitions(engine, part.months())
        wanted = part.redacted() if redacts else part
        yield Part(wanted, _rendered(wanted, batch.ids))


def _rendered(parsed: ParsedLogs, ids: Sequence[int]) -> tuple[memoryview, ...]:
    return tuple(render(records, ids) for records in parsed.pieces)


def _take_ids(engine: sa.Engine, count: int) -> tuple[int, ...]:
    with engine.connect() as connection:
        sequence = sa.func.pg_get_serial_sequence(s3_log_key.name, "id")
        statement = sa.select(sa.func.nextval(sequence)).select_from(sa.func.generate_series(1, count))
        return tuple(connection.scalars(statement))


def load(engine: sa.Engine, batch: Batch, run_id: str | None = None) -> LoadedBatch:
    """Loads a batch: ledger, rejected lines and records commit together.

    Of keys that another run has loaded meanwhile nothing is loaded again. A key whose older generation is loaded and
    not purged takes that one's place. Raises sqlalchemy.exc.DBAPIError or psycopg.Error; then nothing of the batch is
    loaded.
    """
    with engine.connect() as connection:
        won, superseded = _enter(connection, batch, run_id)
        copy_data = batch.copy_data
        if len(won) < len(batch.keys):
            ours = np.isin(np.arange(len(batch.keys)), list(won))
            copy_data = tuple(render(part.chosen(ours[part.log_index]), batch.ids) for part in batch.parsed.pieces)
        cursor = cast("psycopg.Cursor", connection.connection.cursor())
        _copy_records(cursor, copy_data)
        _copy_rejected(cursor, batch, [line for line in batch.parsed.rejected if line.log_index in won])
        if won:
            pending_days.note(connection, batch.request_days)
        _commit(connection)
    return _outcome(batch, won, superseded)


def load_large(
    engine: sa.Engine, batch: Batch, parts: Iterable[Part], run_id: str | None = None
) -> Generator[LogCounts, None, LoadedBatch]:
    """Loads a batch of `prepare_large`, in one transaction for all its parts; see `load`.

    Yields the counts of each part once it is sent, and returns what became of the key. An error of `parts` undoes the
    load, as closing the generator does.
    """
    with engine.connect() as connection:
        won, superseded = _enter(connection, batch, run_id)
        if won:
            counts, days = LogCounts(), set()
            for part in parts:
                cursor = cast("psycopg.Cursor", connection.connection.cursor())
                _copy_records(cursor, part.copy_data)
                _copy_rejected(cursor, batch, part.parsed.rejected)
                counts += part.parsed.counts[0]
                days |= part.parsed.request_days()
                yield part.parsed.counts[0]
            batch = replace(batch, parsed=replace(batch.parsed, counts=(counts,)))
            statement = sa.update(s3_log_key).where(s3_log_key.c.id == batch.ids[0])
            connection.execute(statement.values(_ledger_row(batch, 0, run_id)))
            pending_days.note(connection, days)
        _commit(connection)
    return _outcome(batch, won, superseded)


def _commit(connection: sa.Connection) -> None:
    reached(FailPoint.COMMIT_BEFORE)
    connection.commit()
    reached(FailPoint.COMMIT_AFTER)


def _outcome(batch: Batch, won: set[int], superseded: int) -> LoadedBatch:
    return LoadedBatch(
        loaded=tuple((batch.keys[i], batch.parsed.counts[i]) for i in sorted(won)),
        already_loaded=tuple(key for i, key in enumerate(batch.keys) if i not in won),
        superseded=superseded,
    )


def _enter(connection: sa.Connection, batch: Batch, run_id: str | None) -> tuple[set[int], int]:
    """Begins the transaction of a load: its keys are in the ledger, older generations of them are out.

    Returns the indexes of the keys that are ours to load, and how many generations were superseded. If another load has
    just done something to the same names, a unique index tells; then all is looked at once more.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            stale, superseded = _supersede(connection, batch)
            fresh = [i for i, key in enumerate(batch.keys) if key.object.key not in stale]
            return _insert(connection, batch, fresh, run_id), superseded
        except sa.exc.DBAPIError as error:
            connection.rollback()
            if not isinstance(error.orig, _RACES) or attempt == _ATTEMPTS:
                raise
        time.sleep(random.uniform(0, _PAUSE_SECONDS * 2**attempt))  # noqa: S311 - a pause, not a secret
    raise AssertionError("the last attempt returns or raises")


def _supersede(connection: sa.Connection, batch: Batch) -> tuple[set[str], int]:
    """Takes out the rows of older, unpurged generations of the batch's keys.

    Returns the keys of which a newer generation is loaded already (what we hold is stale), and how many were taken out.
    A purged generation stays: its object is gone, so what has the name now is another one. The rows are locked, in the
    order of the names: whoever reparses or supersedes them too comes before us or after.
    """
    key = s3_log_key.c
    names = {item.object.key: item.object for item in batch.keys}
    others = connection.execute(
        sa.select(key.id, key.key, key.etag, key.last_modified, key.first_request_dtime, key.last_request_dtime)
        .where(
            key.log_bucket_name == batch.log_bucket_name,
            key.key == sa.any_(sa.bindparam("names", type_=sa.ARRAY(sa.Text))),
            key.superseded_at.is_(None),
            key.purged_at.is_(None),
        )
        .order_by(key.key)
        .with_for_update(),
        {"names": list(names)},
    ).all()
    others = [row for row in others if row.etag != names[row.key].etag]
    stale = {row.key for row in others if row.last_modified > names[row.key].last_modified}
    outdated = [row for row in others if row.key not in stale]
    for row in outdated:
        record = s3_log_record.c
        if row.first_request_dtime is not None:
            times = record.request_dtime.between(row.first_request_dtime, row.last_request_dtime)
            pending_days.delete_records(connection, sa.and_(times, record.log_key_id == row.id))
        connection.execute(sa.delete(s3_rejected_line).where(s3_rejected_line.c.log_key_id == row.id))
    if outdated:
        connection.execute(
            sa.update(s3_log_key)
            .where(key.id.in_([row.id for row in outdated]))
            .values(superseded_at=sa.func.now(), line_count=0, record_count=0, rejected_count=0, blank_count=0)
        )
    return stale, len(outdated)


def _insert(connection: sa.Connection, batch: Batch, chosen: Sequence[int], run_id: str | None) -> set[int]:
    """Writes the ledger rows; returns the indexes of those that are ours to load.

    A generation that was superseded and has come back is entered again. Rows are written in the order of the names, so
    that two loads never wait for each other in a circle.
    """
    if not chosen:
        return set()
    rows = [_ledger_row(batch, i, run_id) for i in sorted(chosen, key=lambda i: batch.keys[i].object.key)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    entered = set(connection.scalars(_INSERT, columns))
    return {i for i in chosen if batch.ids[i] in entered}


_LEDGER_COLUMNS = (
    "id", "bucket", "log_bucket_name", "key", "etag", "version_id", "size", "last_modified", "delivery_date", "run_id",
    "line_count", "record_count", "rejected_count", "blank_count", "first_request_dtime", "last_request_dtime",
)  # fmt: skip


def _insert_statement() -> sa.sql.dml.ReturningInsert[int]:
    """One statement for any number of rows, each column as an array: planned once, where VALUES would be each time."""
    types = {name: s3_log_key.c[name].type for name in _LEDGER_COLUMNS}
    arrays = [sa.bindparam(name, type_=sa.ARRAY(type_)) for name, type_ in types.items()]
    rows = (
        sa.func.unnest(*arrays)
        .table_valued(*(sa.column(name, type_) for name, type_ in types.items()))
        .render_derived()
    )
    insert = postgresql.insert(s3_log_key).from_select(_LEDGER_COLUMNS, sa.select(rows), include_defaults=False)
    again: dict[str, object] = {name: insert.excluded[name] for name in _LEDGER_COLUMNS}
    again |= {
        "superseded_at": None,
        "expired_at": None,
        "archived_at": None,
        "purge_error": None,
        "purge_failed_at": None,
        "loaded_at": sa.func.now(),
    }
    return insert.on_conflict_do_update(
        constraint="s3_log_key_generation", set_=again, where=s3_log_key.c.superseded_at.is_not(None)
    ).returning(s3_log_key.c.id)


_INSERT = _insert_statement()


def _ledger_row(batch: Batch, index: int, run_id: str | None) -> dict[str, object]:
    key, counts = batch.keys[index], batch.parsed.counts[index]
    return {
        "id": batch.ids[index],
        "bucket": batch.bucket,
        "log_bucket_name": batch.log_bucket_name,
        "key": key.object.key,
        "etag": key.object.etag,
        "version_id": key.object.version_id,
        "size": key.object.size,
        "last_modified": key.object.last_modified,
        "delivery_date": key.delivery_date,
        "line_count": counts.line_count,
        "record_count": counts.record_count,
        "rejected_count": counts.rejected_count,
        "blank_count": counts.blank_count,
        "first_request_dtime": counts.first_request_dtime,
        "last_request_dtime": counts.last_request_dtime,
        "run_id": run_id,
    }


def copy_parsed(cursor: psycopg.Cursor, parsed: ParsedLogs, ids: Sequence[int]) -> None:
    """Puts the records of `parsed` in; `ids[i]` is the ledger id of its log `i`."""
    _copy_records(cursor, [render(records, ids) for records in parsed.pieces])


def _copy_records(cursor: psycopg.Cursor, copy_data: Iterable[memoryview]) -> None:
    reached(FailPoint.COPY_BEFORE)
    with cursor.copy(_COPY_RECORDS) as copy:
        copy.write(HEADER)
        for part in copy_data:
            for start in range(0, len(part), _COPY_PIECE_BYTES):
                copy.write(part[start : start + _COPY_PIECE_BYTES])
        copy.write(TRAILER)
    reached(FailPoint.COPY_AFTER)


def _copy_rejected(cursor: psycopg.Cursor, batch: Batch, lines: Sequence[RejectedLine]) -> None:
    if not lines:
        return
    with cursor.copy(_COPY_REJECTED) as copy:
        copy.set_types(_REJECTED_TYPES)
        for line in lines:
            row = (
                batch.ids[line.log_index],
                line.line_number,
                str(line.reason),
                line.line,
                line.line_bytes,
                line.sha256,
            )
            copy.write_row(row)
