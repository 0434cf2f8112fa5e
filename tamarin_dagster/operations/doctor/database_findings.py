"""Findings on the records' database: it answers, is migrated, has space, and its clock agrees with ours."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import sqlalchemy as sa

from tamarin_dagster.logstore.errors import summarize_error
from tamarin_dagster.operations.doctor.backup_findings import backup_findings
from tamarin_dagster.operations.doctor.encoding_findings import encoding_findings
from tamarin_dagster.operations.doctor.finding import Finding, fail, ok, warn
from tamarin_dagster.recordstore.connections import RECORDS_DATABASE, connect_arguments, records_url
from tamarin_dagster.recordstore.database import DatabaseError, create_engine, schema_revision
from tamarin_dagster.recordstore.rights import Rights, get_rights
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION
from tamarin_dagster.recordstore.server.embedded import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    EmbeddedPostgresNotReadyError,
    why_embedded_missing,
)
from tamarin_dagster.recordstore.server.place import find_folder, has_cluster
from tamarin_dagster.settings import Settings

# Clocks that differ by more make it hard to compare delivery days and request times.
MAX_CLOCK_SECONDS = 60
OLDEST_SERVER = (14,)
# Free bytes on the disk of the embedded server. Below the lower limit the server is about to stop.
LITTLE_SPACE_FRACTION = 0.10
LITTLE_SPACE_BYTES = 2 * 1024**3
NO_SPACE_BYTES = 200 * 1000**2

# Seconds that the doctor waits for an embedded server that is not ready.
PATIENCE_SECONDS = 5.0

_SUBJECT = "database"


def examine_database(settings: Settings, clock: Callable[[], float], stack: ExitStack) -> Iterator[Finding]:
    """Yield findings on the database, without migrating it or creating an embedded one.

    An embedded server that exists is used until the stack is closed.
    """
    try:
        yield from _examine(settings, clock, stack)
    except EmbeddedPostgresNotReadyError as error:
        remedy = "a recovery continues by itself, and may take minutes; to end and restart it: tamarin-dagster stop"
        yield fail(_SUBJECT, summarize_error(error), remedy)
    except (EmbeddedPostgresError, OSError) as error:
        remedy = "see its server.log, or set TAMARIN_DATABASE_URL"
        with suppress(OSError):
            remedy = f"see {find_folder(settings.home) / 'server.log'}, or set TAMARIN_DATABASE_URL"
        yield fail(_SUBJECT, summarize_error(error), remedy)
    except DatabaseError as error:
        yield fail(_SUBJECT, summarize_error(error), "check TAMARIN_DATABASE_URL")
    except sa.exc.DBAPIError as error:
        text = summarize_error(error.orig if isinstance(error.orig, Exception) else error)
        yield fail(_SUBJECT, text, "check that the server is running and that TAMARIN_DATABASE_URL is right")


def _examine(settings: Settings, clock: Callable[[], float], stack: ExitStack) -> Iterator[Finding]:
    if not settings.database_url:
        yield space_finding(settings.home, *_space(settings.home))
        if missing := why_embedded_missing():
            yield fail(_SUBJECT, missing, "or set TAMARIN_DATABASE_URL to the URL of a Postgres of your own")
            return
    engine = _engine(settings, stack)
    if engine is None:
        yield ok(_SUBJECT, "the embedded Postgres is created at its first use")
        return
    stack.callback(engine.dispose)
    with engine.connect() as connection:
        server = str(connection.scalar(sa.select(sa.func.current_setting("server_version")))).split(" ")[0]
        theirs = float(connection.scalar(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))) or 0)
        ours = clock()
        version = connection.dialect.server_version_info
        yield from encoding_findings(_SUBJECT, connection)
        rights = get_rights(connection)
    if version and version < OLDEST_SERVER:
        yield fail(_SUBJECT, f"Postgres {server} is too old", f"use Postgres {OLDEST_SERVER[0]} or newer")
    else:
        yield ok(_SUBJECT, f"Postgres {server} answers")
    yield _rights_finding(rights)
    if rights.has_schema and not rights.owners:  # otherwise we may not be allowed to read the revision
        yield _schema_finding(revision := schema_revision(engine))
        if revision == SCHEMA_REVISION:
            yield from backup_findings(settings, engine)
    yield clock_finding(_SUBJECT, ours - theirs)


def open_migrated(settings: Settings, stack: ExitStack) -> sa.Engine | None:
    """Return an engine on the records' database until the stack closes, or None if it fails or is not migrated."""
    try:
        engine = _engine(settings, stack)
        if engine is None:
            return None
        stack.callback(engine.dispose)
        return engine if schema_revision(engine) == SCHEMA_REVISION else None
    except (sa.exc.SQLAlchemyError, DatabaseError, EmbeddedPostgresError, OSError):
        return None  # the cause is a finding of its own


def _engine(settings: Settings, stack: ExitStack) -> sa.Engine | None:
    """Return an engine on the records' database, or None if the embedded server has none yet."""
    if settings.database_url:
        return _engine_of(settings, records_url(settings))
    if not has_cluster(settings.home):
        return None
    server = EmbeddedPostgres(settings.home)
    server.ensure_running(patience=PATIENCE_SECONDS)
    stack.callback(server.release)
    there = sa.text("SELECT EXISTS (SELECT FROM pg_database WHERE datname = :name)")
    administration = _engine_of(settings, server.url("postgres"))
    with administration.connect() as connection:
        exists = connection.scalar(there, {"name": RECORDS_DATABASE})
    administration.dispose()
    return _engine_of(settings, server.url(RECORDS_DATABASE)) if exists else None


def _engine_of(settings: Settings, url: str) -> sa.Engine:
    return create_engine(url, connect_args=connect_arguments(settings, "tamarin doctor"), hide_parameters=True)


def _rights_finding(rights: Rights) -> Finding:
    subject = f"{_SUBJECT} rights"
    if rights.problem:
        return fail(subject, rights.problem, rights.remedy)
    return ok(subject, "the user may create tables, and owns the existing ones")


def _schema_finding(revision: str | None) -> Finding:
    subject = f"{_SUBJECT} schema"
    if revision == SCHEMA_REVISION:
        return ok(subject, f"at revision {revision}")
    if revision is not None and revision > SCHEMA_REVISION:
        return fail(
            subject,
            f"at revision {revision}, which this version does not know (its own is {SCHEMA_REVISION})",
            "a newer version of tamarin_dagster has migrated it; upgrade this one",
        )
    text = "has no tables yet" if revision is None else f"at revision {revision}, the current one is {SCHEMA_REVISION}"
    return warn(subject, text, "run tamarin-dagster migrate, or any command that uses the database")


def clock_finding(subject: str, seconds: float) -> Finding:
    """Return the finding on a clock that ours is ahead of by so many seconds."""
    if abs(seconds) <= MAX_CLOCK_SECONDS:
        return ok(f"{subject} clock", f"differs from ours by {abs(seconds):.0f} s")
    ahead = "ahead of" if seconds > 0 else "behind"  # codespell:ignore behind - of a clock, it is right
    return warn(
        f"{subject} clock", f"ours is {abs(seconds):,.0f} s {ahead} it", "set the clock of this machine or of that one"
    )


def _space(home: Path) -> tuple[int, int]:
    """Return the size and the free bytes of the disk that has the home, or will have it."""
    usage = shutil.disk_usage(next(folder for folder in (home, *home.parents) if folder.exists()))
    return usage.total, usage.free


def space_finding(home: Path, total: int, free: int) -> Finding:
    """Return the finding on the disk of the embedded server; sizes in bytes."""
    subject = f"{_SUBJECT} disk"
    text = f"{free / 1e9:.1f} GB of {total / 1e9:.1f} GB are free for {home}"
    remedy = f"free space, or move home; {home / 'postgres'} takes the space, and retention_months limits it"
    if free < NO_SPACE_BYTES:
        return fail(subject, text, remedy)
    if free < LITTLE_SPACE_BYTES or free < total * LITTLE_SPACE_FRACTION:
        return warn(subject, text, remedy)
    return ok(subject, text)
