"""Findings on archives: the place belongs to this database, can be written, and holds what was archived."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING
from uuid import uuid4

import sqlalchemy as sa

from tamarin_dagster.extras import MissingExtraError
from tamarin_dagster.lake.place import LakePlace
from tamarin_dagster.logstore.archive_records import record_folder
from tamarin_dagster.logstore.archiving import ArchiveError, ArchivePlace
from tamarin_dagster.operations.doctor.finding import Finding, fail, ok, warn
from tamarin_dagster.pipeline.archive import make_proof, open_place, read_place_state
from tamarin_dagster.recordstore import archived
from tamarin_dagster.recordstore.connections import RECORDS_DATABASE
from tamarin_dagster.recordstore.database import schema_revision
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tamarin_dagster.recordstore.server.place import has_cluster
from tamarin_dagster.settings import LoggedBucket, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PROBE = b"written by tamarin-dagster doctor, which deletes it again\n"
# A purge checks each day. The newest days show whether it would succeed.
NEWEST_DAYS = 3


def examine_archives(
    settings: Settings, buckets: Sequence[LoggedBucket], client_of: Callable[[LoggedBucket], "S3Client"]
) -> Iterator[Finding]:
    """Yield findings on the archive of each bucket that has one; none if the database, a finding itself, fails."""
    archiving = [bucket for bucket in buckets if settings.archive_of(bucket)]
    if not archiving:
        return
    with ExitStack() as stack:
        try:
            engine = _engine(settings, stack)
            if engine is None or schema_revision(engine) != SCHEMA_REVISION:
                return
        except (sa.exc.SQLAlchemyError, EmbeddedPostgresError, OSError):
            return
        for bucket in archiving:
            subject = f"{bucket.name}: archive"
            try:
                place = open_place(settings, bucket, client_of)
                if isinstance(place, LakePlace):
                    yield from _examine_lake(subject, bucket, place, engine)
                elif place is not None:
                    yield from _examine(subject, bucket, place, engine)
            except (ArchiveError, MissingExtraError, sa.exc.SQLAlchemyError) as error:
                yield fail(subject, str(error).split("\n", 1)[0], "until then no log key of the bucket is purged")
            except Exception as error:  # noqa: BLE001 - the edge of one bucket: the others must still be checked
                yield fail(subject, type(error).__name__, "check archive, and the bucket's endpoint_url and profile")


def _engine(settings: Settings, stack: ExitStack) -> sa.Engine | None:
    """Return an engine on the records' database, or None if the embedded server has none yet."""
    if settings.database_url:
        url = "postgresql+psycopg" + settings.database_url.removeprefix("postgresql")
    elif has_cluster(settings.home):
        url = stack.enter_context(EmbeddedPostgres(settings.home)).url(RECORDS_DATABASE)
    else:
        return None
    engine = sa.create_engine(url, connect_args={"connect_timeout": 10, "application_name": "tamarin doctor"})
    stack.callback(engine.dispose)
    return engine


def _examine(subject: str, bucket: LoggedBucket, place: ArchivePlace, engine: sa.Engine) -> Iterator[Finding]:
    state = read_place_state(bucket, place, engine)
    if state.problem:
        yield fail(subject, state.problem, "until then nothing is archived, and no log key is purged")
        return
    if state.owner is None:
        yield ok(subject, f"{place.url} is created when the first day is archived")
        return
    yield ok(subject, f"{place.url} belongs to this database, {state.database}")
    yield _check_writing(subject, bucket, place)
    yield _check_days(subject, bucket, place, engine)


def _check_writing(subject: str, bucket: LoggedBucket, place: ArchivePlace) -> Finding:
    name = f"{record_folder(bucket.name)}/doctor-{uuid4().hex}"
    try:
        with place.writing(name) as file:
            file.write(_PROBE)
        found = place.end_of(name, len(_PROBE))
        place.remove(name)
    except ArchiveError as error:
        return fail(f"{subject} writing", str(error), "until then no log key of the bucket is purged")
    if found is None or found.data != _PROBE:
        return fail(f"{subject} writing", f"archive {place.url}: a written file cannot be read back", "check the store")
    return ok(f"{subject} writing", "a file was written, read and deleted")


def _examine_lake(subject: str, bucket: LoggedBucket, place: LakePlace, engine: sa.Engine) -> Iterator[Finding]:
    place.open(engine)
    yield ok(subject, f"{place.url} can be read")
    yield _check_days(subject, bucket, place, engine)


def _check_days(subject: str, bucket: LoggedBucket, place: ArchivePlace | LakePlace, engine: sa.Engine) -> Finding:
    subject = f"{subject} days"
    with engine.connect() as connection:
        days = archived.list_noted_days(connection, bucket.name, place.name)
        waiting = archived.waiting_keys(connection, bucket.name, None, place.name)
    proof = make_proof(bucket, place, engine)
    for day in days[:NEWEST_DAYS]:
        if problem := proof.problem(day):
            return warn(subject, problem, "until then no log key of that day is purged")
    looked = f"; the last {min(len(days), NEWEST_DAYS)} of them are unchanged" if days else ""
    return ok(subject, f"delivery days in the archive: {len(days):,}{looked}; log keys that wait: {waiting:,}")
