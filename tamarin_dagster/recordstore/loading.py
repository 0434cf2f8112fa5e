"""Load a batch of log keys, their rows and their ledger rows, in one transaction: all of it is committed, or nothing.

The ids of the ledger rows are taken from their sequence before the transaction. So the data for COPY can be prepared
while an earlier batch is still being loaded. A log key that does not fit into memory is a batch of its own, which comes
in parts, and is one transaction too.

A batch is a DataFrame of records (`logformat.RECORDS_SCHEMA`) from any source, with the counts of each log key.

Any number of loads may run at once, even of the same log keys. Unique indexes of the ledger decide which load gets a
generation, and keep a name from having two live generations. So the ledger rows are written first, in the order of the
names.
"""

import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import psycopg
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tamarin_dagster.failpoints import FailPoint, hit
from tamarin_dagster.logformat import RECORDS_SCHEMA, REJECTED_SCHEMA, FrameError, LogCounts, ParsedLogs, parse_logs
from tamarin_dagster.logformat.engine import load_engine
from tamarin_dagster.logformat.frames import list_months, select_rows, to_frame, to_table
from tamarin_dagster.logkey import LogKey
from tamarin_dagster.recordstore import generations, pending_days, stored_parts
from tamarin_dagster.recordstore.copy_binary import HEADER, TRAILER, render
from tamarin_dagster.recordstore.generations import Verdict
from tamarin_dagster.recordstore.partitions import ensure_partitions
from tamarin_dagster.recordstore.schema.tables import RECORD_COLUMNS, s3_log_key, s3_log_record, s3_rejected_line

_COPY_RECORDS = f"COPY {s3_log_record.name} ({', '.join(RECORD_COLUMNS)}) FROM STDIN (FORMAT binary)"
_COPY_REJECTED = (
    f"COPY {s3_rejected_line.name} ({', '.join(c.name for c in s3_rejected_line.columns)}) FROM STDIN (FORMAT binary)"
)
# A record that must be escaped and redacted, so that reading it uses all compiled code.
_SAMPLE_LINE = (
    b'o b [06/Feb/2019:00:00:38 +0000] 192.0.2.1 - 1 REST.GET.OBJECT k "GET /k?Signature=s HTTP/1.1" 200 - 1 1 1 1'
    b' "\0" - -'
)
_REJECTED_TYPES = ("int8", "int4", "text", "bytea", "int8", "bytea")
# psycopg copies a piece as a whole for libpq. With 1 MiB, the copy stays in the processor's cache.
_COPY_PIECE_BYTES = 1024 * 1024
# The number of rejected lines that are converted to Python objects at a time: each may have 1 MiB.
_REJECTED_ROWS = 256
# If loads of the same names meet, Postgres rejects one of them, which then tries again. This is rare, and short.
_ATTEMPTS = 6
_PAUSE_SECONDS = 0.05
_RACES = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)


@dataclass(frozen=True, slots=True)
class Batch:
    """Parsed log keys of one bucket, ready to load. `ids[i]` will be the ledger id of `keys[i]`.

    Attributes:
        records: columns of RECORDS_SCHEMA; `log_index` is the position in `keys`.
        copy_data: the records in the form of COPY, in pieces.
        digests: the SHA-256 of each log key's bytes as stored; None if it is not known.
        region: the bucket's region; None if it is not known.
    """

    bucket: str
    log_bucket_name: str
    keys: tuple[LogKey, ...]
    ids: tuple[int, ...]
    parsed: ParsedLogs
    records: pa.Table
    copy_data: tuple[memoryview, ...]
    digests: tuple[bytes | None, ...]
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines of a large log key, parsed and ready to load, and their sums."""

    parsed: ParsedLogs
    copy_data: tuple[memoryview, ...]
    sums: stored_parts.Parts


@dataclass(frozen=True, slots=True)
class LoadedBatch:
    """The result of loading a batch.

    Attributes:
        loaded: the log keys loaded, with their counts.
        already_loaded: log keys that another run had loaded before.
        superseded: number of older generations that were replaced.
        returned: log keys whose bytes were loaded and purged before; their rows are live again.
        outdated: log keys that are skipped, because a newer generation of their name was loaded and purged.
    """

    loaded: tuple[tuple[LogKey, LogCounts], ...]
    already_loaded: tuple[LogKey, ...]
    superseded: int
    returned: tuple[LogKey, ...] = ()
    outdated: tuple[LogKey, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entered:
    """The result of entering a batch in the ledger: indexes of its log keys, and how many rows were superseded."""

    won: set[int]
    superseded: int = 0
    returned: tuple[int, ...] = ()
    outdated: tuple[int, ...] = ()


def compile_all() -> None:
    """Compile the code that parses and renders, unless its machine code is on disk; compiling takes some seconds."""
    load_engine()
    render(_check(parse_logs([_SAMPLE_LINE]).redact()), [1])


def prepare(
    engine: sa.Engine,
    bucket: str,
    log_bucket_name: str,
    keys: Sequence[LogKey],
    parsed: ParsedLogs,
    *,
    digests: Sequence[bytes | None] | None = None,
    region: str | None = None,
) -> Batch:
    """Make a batch of log keys from their parsed lines and the digests of their stored bytes (in the same order).

    `region` is the bucket's region: it separates transfer within the region from transfer to another one.

    This does everything that need not wait for a transaction: validate the DataFrame, create missing partitions, take
    ids, and render the data for COPY.

    Raises:
        FrameError: the DataFrame of records is not of RECORDS_SCHEMA, or does not match the counts.
    """
    records = _check(parsed)
    ensure_partitions(engine, list_months(records))
    ids = _take_ids(engine, len(keys))
    known = tuple(digests) if digests is not None else (None,) * len(keys)
    copy_data = render(records, ids)
    return Batch(bucket, log_bucket_name, tuple(keys), ids, parsed, records, copy_data, known, region)


def prepare_large(
    engine: sa.Engine,
    bucket: str,
    log_bucket_name: str,
    key: LogKey,
    digest: bytes | None = None,
    *,
    region: str | None = None,
) -> Batch:
    """Make a batch of one log key whose lines come in parts."""
    records = RECORDS_SCHEMA.empty_table()
    nothing = ParsedLogs(to_frame(records), to_frame(REJECTED_SCHEMA.empty_table()), (LogCounts(),))
    return Batch(bucket, log_bucket_name, (key,), _take_ids(engine, 1), nothing, records, (), (digest,), region)


def prepare_parts(engine: sa.Engine, batch: Batch, parsed: Iterable[ParsedLogs]) -> Iterator[Part]:
    """Yield the parts of a batch of `prepare_large`. Raises FrameError, see `prepare`."""
    for part in parsed:
        records = _check(part)
        ensure_partitions(engine, list_months(records))
        yield Part(part, render(records, batch.ids), stored_parts.make_parts(records, batch.bucket, batch.region))


def _check(parsed: ParsedLogs) -> pa.Table:
    """Return the records as a table, after comparing it with the counts.

    Raises:
        FrameError: the DataFrame is not of RECORDS_SCHEMA, or its numbers of records differ from the counts.
    """
    records = to_table(parsed.records, RECORDS_SCHEMA)
    indexes, logs = np.asarray(records["log_index"]), len(parsed.counts)
    if len(indexes) and not 0 <= indexes.min() <= indexes.max() < logs:
        raise FrameError(f"column log_index of the DataFrame must be from 0 to {logs - 1}")
    for log, (found, counts) in enumerate(zip(np.bincount(indexes, minlength=logs), parsed.counts, strict=True)):
        if found != counts.record_count:
            raise FrameError(
                f"the DataFrame has {found} records of log key {log}, but its counts say {counts.record_count}"
            )
    return records


def _take_ids(engine: sa.Engine, count: int) -> tuple[int, ...]:
    with engine.connect() as connection:
        sequence = sa.func.pg_get_serial_sequence(s3_log_key.name, "id")
        statement = sa.select(sa.func.nextval(sequence)).select_from(sa.func.generate_series(1, count))
        return tuple(connection.scalars(statement))


def load(engine: sa.Engine, batch: Batch, run_id: str | None = None) -> LoadedBatch:
    """Load a batch: ledger, rejected lines, records and their partial sums are committed together.

    A log key is not loaded again if another run has loaded it in the meantime, or if its bytes were loaded before. If
    an older generation of a log key is loaded and not purged, the new one replaces it. Raises sqlalchemy.exc.DBAPIError
    or psycopg.Error; then nothing of the batch is loaded.
    """
    sums = stored_parts.make_parts(batch.records, batch.bucket, batch.region)
    with engine.connect() as connection:
        entered = _enter(connection, batch, run_id)
        won = entered.won
        copy_data = batch.copy_data
        if len(won) < len(batch.keys):
            records = select_rows(batch.records, sorted(won))
            copy_data = render(records, batch.ids)
            sums = stored_parts.make_parts(records, batch.bucket, batch.region)
        cursor = cast("psycopg.Cursor", connection.connection.cursor())
        _copy_records(cursor, copy_data)
        _copy_rejected(cursor, batch, select_rows(to_table(batch.parsed.rejected, REJECTED_SCHEMA), sorted(won)))
        if won:
            stored_parts.store(connection, sums)
        _commit(connection)
    return _outcome(batch, entered)


def load_large(
    engine: sa.Engine, batch: Batch, pieces: Iterable[Part], run_id: str | None = None, *, digest: Callable[[], bytes]
) -> Generator[LogCounts, None, LoadedBatch]:
    """Load a batch of `prepare_large`, in one transaction for all its pieces; see `load`.

    Yield the counts of each part once it is sent, and return the result. An error of `pieces` undoes the load, and so
    does closing the generator. `digest` returns the SHA-256 of the stored bytes; it is called after the last part.
    Raises DigestNeededError if the batch has no digest, and it must be known earlier.
    """
    with engine.connect() as connection:
        entered = _enter(connection, batch, run_id, asks_digest=True)
        if entered.won:
            counts = LogCounts()
            for part in pieces:
                cursor = cast("psycopg.Cursor", connection.connection.cursor())
                _copy_records(cursor, part.copy_data)
                _copy_rejected(cursor, batch, to_table(part.parsed.rejected, REJECTED_SCHEMA))
                counts += part.parsed.counts[0]
                stored_parts.store(connection, part.sums)
                yield part.parsed.counts[0]
            batch = replace(batch, parsed=replace(batch.parsed, counts=(counts,)), digests=(digest(),))
            statement = sa.update(s3_log_key).where(s3_log_key.c.id == batch.ids[0])
            connection.execute(statement.values(_ledger_row(batch, 0, run_id)))
        _commit(connection)
    return _outcome(batch, entered)


def _commit(connection: sa.Connection) -> None:
    hit(FailPoint.COMMIT_BEFORE)
    connection.commit()
    hit(FailPoint.COMMIT_AFTER)


def _outcome(batch: Batch, entered: _Entered) -> LoadedBatch:
    others = {*entered.won, *entered.returned, *entered.outdated}
    return LoadedBatch(
        loaded=tuple((batch.keys[i], batch.parsed.counts[i]) for i in sorted(entered.won)),
        already_loaded=tuple(key for i, key in enumerate(batch.keys) if i not in others),
        superseded=entered.superseded,
        returned=tuple(batch.keys[i] for i in entered.returned),
        outdated=tuple(batch.keys[i] for i in entered.outdated),
    )


class _OvertakenError(Exception):
    """Another load and its purge happened after we read the ledger and before we entered our rows."""


def _enter(connection: sa.Connection, batch: Batch, run_id: str | None, *, asks_digest: bool = False) -> _Entered:
    """Begin the transaction of a load: enter its log keys in the ledger, and remove their older generations.

    If another load has just changed the same names, a unique index or a last query detects it, and everything is tried
    again. Raises DigestNeededError if `asks_digest`, see `judge`.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _enter_once(connection, batch, run_id, asks_digest=asks_digest)
        except (sa.exc.DBAPIError, _OvertakenError) as error:
            connection.rollback()
            is_race = isinstance(error, _OvertakenError) or isinstance(error.orig, _RACES)
            if not is_race or attempt == _ATTEMPTS:
                raise
        time.sleep(random.uniform(0, _PAUSE_SECONDS * 2**attempt))  # noqa: S311 - a pause, not a secret
    raise AssertionError("the last attempt returns or raises")


def _enter_once(connection: sa.Connection, batch: Batch, run_id: str | None, *, asks_digest: bool) -> _Entered:
    """Enter the log keys in one attempt.

    Rows are locked in the order of the names, so another process changes them before this one or after it.
    """
    rows = generations.lock_rows(connection, batch.log_bucket_name, [key.object.key for key in batch.keys])
    judged = [
        generations.judge(key, digest, rows.get(key.object.key, ()), asks_digest=asks_digest)
        for key, digest in zip(batch.keys, batch.digests, strict=True)
    ]
    outgoing = [each.outgoing for each in judged if each.outgoing]
    _supersede(connection, outgoing)
    same = [(each.same, batch.keys[i].object, batch.digests[i]) for i, each in enumerate(judged) if each.same]
    generations.take_over(connection, batch.log_bucket_name, same)
    outdated = tuple(i for i, each in enumerate(judged) if each.verdict is Verdict.OUTDATED)
    _insert(connection, batch, outdated, run_id, outdated=True)
    chosen = [i for i, each in enumerate(judged) if each.verdict is Verdict.LOAD]
    won = _insert(connection, batch, chosen, run_id)
    known = [row.id for found in rows.values() for row in found]
    if won and generations.has_unknown_rows(
        connection, batch.log_bucket_name, [batch.keys[i].object.key for i in won], known
    ):
        raise _OvertakenError
    returned = tuple(i for i, each in enumerate(judged) if each.same and each.same.purged_at)
    return _Entered(won, len(outgoing), returned, outdated)


def _supersede(connection: sa.Connection, outgoing: Sequence[generations.Row]) -> None:
    """Remove the records and rejected lines of these rows: their objects were overwritten before they were purged."""
    for row in outgoing:
        record = s3_log_record.c
        if row.first_request_dtime is not None:
            times = record.request_dtime.between(row.first_request_dtime, row.last_request_dtime)
            pending_days.delete_records(connection, sa.and_(times, record.log_key_id == row.id))
        connection.execute(sa.delete(s3_rejected_line).where(s3_rejected_line.c.log_key_id == row.id))
    if outgoing:
        connection.execute(
            sa.update(s3_log_key)
            .where(s3_log_key.c.id.in_([row.id for row in outgoing]))
            .values(superseded_at=sa.func.now(), line_count=0, record_count=0, rejected_count=0, blank_count=0)
        )


def _insert(
    connection: sa.Connection, batch: Batch, chosen: Sequence[int], run_id: str | None, *, outdated: bool = False
) -> set[int]:
    """Write the ledger rows; return the indexes of those that this load has to load.

    A superseded generation that has come back is entered again. Rows are written in the order of the names, so that two
    loads never wait for each other. Rows of `outdated` log keys are superseded from the start, and all their counts are
    0: they only say that these generations were read, and must not be read again.
    """
    if not chosen:
        return set()
    rows = [_ledger_row(batch, i, run_id) for i in sorted(chosen, key=lambda i: batch.keys[i].object.key)]
    if outdated:
        rows = [row | _NOTHING for row in rows]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    entered = set(connection.scalars(_INSERT_OUTDATED if outdated else _INSERT, columns))
    return {i for i in chosen if batch.ids[i] in entered}


_LEDGER_COLUMNS = (
    "id", "bucket", "log_bucket_name", "key", "etag", "version_id", "size", "last_modified", "delivery_date", "run_id",
    "line_count", "record_count", "rejected_count", "blank_count", "first_request_dtime", "last_request_dtime",
    "content_sha256",
)  # fmt: skip
_OF_THE_OBJECT = ("version_id", "size", "last_modified", "content_sha256")
_NOTHING = {
    **dict.fromkeys(("line_count", "record_count", "rejected_count", "blank_count"), 0),
    **dict.fromkeys(("first_request_dtime", "last_request_dtime")),
}


def _insert_statement(*, outdated: bool) -> sa.sql.dml.ReturningInsert[int]:
    """Return one statement for any number of rows, with an array for each column.

    It is planned once, unlike VALUES, which would be planned each time.
    """
    types = {name: s3_log_key.c[name].type for name in _LEDGER_COLUMNS}
    arrays = [sa.bindparam(name, type_=sa.ARRAY(type_)) for name, type_ in types.items()]
    rows = (
        sa.func.unnest(*arrays)
        .table_valued(*(sa.column(name, type_) for name, type_ in types.items()))
        .render_derived()
    )
    now = sa.func.now() if outdated else sa.cast(sa.null(), sa.TIMESTAMP(timezone=True))
    insert = postgresql.insert(s3_log_key).from_select(
        (*_LEDGER_COLUMNS, "superseded_at", "outdated_at"), sa.select(rows, now, now), include_defaults=False
    )
    if outdated:
        again: dict[str, object] = {name: insert.excluded[name] for name in _OF_THE_OBJECT}
        again |= {"outdated_at": now}
    else:
        again = {name: insert.excluded[name] for name in _LEDGER_COLUMNS}
        cleared = ("superseded_at", "outdated_at", "returned_at", "expired_at", "archived_at", "archive_place")
        again |= dict.fromkeys((*cleared, "purge_error", "purge_failed_at")) | {"loaded_at": sa.func.now()}
    return insert.on_conflict_do_update(
        constraint="s3_log_key_generation", set_=again, where=s3_log_key.c.superseded_at.is_not(None)
    ).returning(s3_log_key.c.id)


_INSERT = _insert_statement(outdated=False)
_INSERT_OUTDATED = _insert_statement(outdated=True)


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
        "content_sha256": batch.digests[index],
    }


def copy_parsed(cursor: psycopg.Cursor, parsed: ParsedLogs, ids: Sequence[int]) -> pa.Table:
    """Insert the records of `parsed`, and return them. `ids[i]` is the ledger id of its log `i`."""
    records = _check(parsed)
    _copy_records(cursor, render(records, ids))
    return records


def _copy_records(cursor: psycopg.Cursor, copy_data: Iterable[memoryview]) -> None:
    hit(FailPoint.COPY_BEFORE)
    with cursor.copy(_COPY_RECORDS) as copy:
        copy.write(HEADER)
        for part in copy_data:
            for start in range(0, len(part), _COPY_PIECE_BYTES):
                copy.write(part[start : start + _COPY_PIECE_BYTES])
        copy.write(TRAILER)
    hit(FailPoint.COPY_AFTER)


def _copy_rejected(cursor: psycopg.Cursor, batch: Batch, lines: pa.Table) -> None:
    if not lines.num_rows:
        return
    with cursor.copy(_COPY_REJECTED) as copy:
        copy.set_types(_REJECTED_TYPES)
        for some in lines.to_batches(max_chunksize=_REJECTED_ROWS):
            for log_index, *line in zip(*(column.to_pylist() for column in some), strict=True):
                copy.write_row((batch.ids[log_index], *line))
