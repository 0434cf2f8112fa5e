"""An archive knows its owner and its content: no database overwrites another's, and a purge checks it first."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from tamarin_dagster.logstore.archiving import ArchiveError, ArchivePlace, FolderArchive, S3Archive
from tamarin_dagster.pipeline import archive as archiving
from tamarin_dagster.pipeline.archive import Archived, archive_bucket, read_place_state, verify
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.pipeline.purge import Purged, purge_bucket
from tamarin_dagster.pipeline.reparse import reparse_bucket
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.older_parser import reject
from tamarin_dagster_tests.places import Place

DAY, NEXT = date(2026, 3, 5), date(2026, 3, 6)
RECORD, OWNER = "_archived/media/2026-03-05.json", "_archived/media/owner.json"
FILE = "logged_bucket=media/delivery_day=2026-03-05/records.parquet"


def name(day: date = DAY, number: int = 0) -> str:
    return f"logs/{day}-10-00-00-{number:016X}"


@dataclass
class Database:
    """A database with a log bucket: it loads, archives and purges."""

    engine: sa.Engine
    logs: Place

    def load(self, keys: Mapping[str, bytes]) -> None:
        for key, body in keys.items():
            self.logs.put(key, body)
        assert pull_bucket(self.logs.bucket, self.logs.store, self.engine).failures == []

    def archive(self, place: ArchivePlace, **options: Any) -> Archived:
        return archive_bucket(self.logs.bucket, place, self.engine, **options)

    def purge(self, place: ArchivePlace, **options: Any) -> Purged:
        return purge_bucket(self.logs.bucket, self.logs.store, self.engine, archive=place, **options)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.engine.begin() as connection:
            result = connection.execute(sa.text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    @property
    def id(self) -> str:
        return str(self.rows("SELECT id FROM tamarin_database")[0][0])


@pytest.fixture
def ours(engine: sa.Engine, folder_place: Place) -> Database:
    return Database(engine, folder_place)


@pytest.fixture
def copied(engine: sa.Engine, ours: Database) -> Iterator[Callable[[], Database]]:
    """copied() makes a copy of our database as it is now, like a backup, with the same log bucket."""
    made: list[sa.Engine] = []
    administration = sa.create_engine(engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    def copy() -> Database:
        engine.dispose()
        copy_name = f"tamarin_test_{uuid4().hex[:8]}"
        with administration.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {copy_name} TEMPLATE {engine.url.database}")
        made.append(sa.create_engine(engine.url.set(database=copy_name)))
        return Database(made[-1], ours.logs)

    yield copy
    for each in made:
        each.dispose()
        with administration.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {each.url.database} WITH (FORCE)")
    administration.dispose()


@pytest.fixture
def theirs(copied: Callable[[], Database]) -> Database:
    """A second database, with an identity of its own, and the same log bucket and bucket name."""
    other = copied()
    other.rows("UPDATE tamarin_database SET id = gen_random_uuid()")
    return other


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, folder: Path) -> ArchivePlace:
    if request.param == "folder":
        return FolderArchive(str(folder))
    return S3Archive(request.getfixturevalue("s3"), f"s3://{request.getfixturevalue('s3_bucket')}/some/where")


def read(place: ArchivePlace, name: str) -> Any:
    end = place.end_of(name, 1_000_000)
    return end and json.loads(end.data)


def write(place: ArchivePlace, name: str, data: bytes) -> None:
    with place.writing(name) as file:
        file.write(data)


def content(place: ArchivePlace, name: str) -> bytes | None:
    end = place.end_of(name, 1_000_000)
    return end.data if end else None


def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=archiving.LATE_KEYS_WAIT_HOURS, minutes=1)


def as_of_an_earlier_version(database: Database, place: ArchivePlace, *days: date) -> None:
    """Put the archive and the ledger into the state that the previous version left, after the migration."""
    for day in days:
        record = read(place, f"_archived/media/{day}.json")
        old = {
            "bucket": "media",
            "delivered": str(day),
            "keys": record["keys"],
            "files": {file: each["rows"] for file, each in record["files"].items()},
        }
        write(place, f"_archived/media/{day}.json", json.dumps(old).encode())
    place.remove(OWNER)
    database.rows("UPDATE s3_log_key SET archive_place = NULL")
    database.rows("TRUNCATE s3_archived_day")
    database.rows(
        "INSERT INTO s3_archived_day (bucket, delivery_date, place, key_digest, written_at)"
        " SELECT bucket, delivery_date, '', format('counts:%s:%s', count(*), sum(record_count)), max(archived_at)"
        " FROM s3_log_key WHERE archived_at IS NOT NULL GROUP BY bucket, delivery_date"
    )


def test_a_day_record_says_which_database_wrote_it_and_what_it_holds(ours: Database, place: ArchivePlace) -> None:
    ours.load({name(): lines(3), name(number=1): lines(2)})

    assert ours.archive(place).keys == 2

    record = read(place, RECORD)
    file = content(place, FILE) or b""
    assert (record["database"], record["keys"], record["complete"]) == (ours.id, 2, True)
    assert record["files"][FILE]["rows"] == 5
    assert record["files"][FILE]["bytes"] == len(file)
    assert read(place, OWNER)["database"] == ours.id
    assert ours.rows("SELECT place, key_digest, writing_digest FROM s3_archived_day") == [
        (place.name, record["digest"], None)
    ]
    assert ours.rows("SELECT DISTINCT archive_place, archived_at IS NOT NULL FROM s3_log_key") == [(place.name, True)]
    assert ours.purge(place).keys == 2


def test_a_second_database_with_the_same_bucket_name_overwrites_nothing(
    ours: Database, theirs: Database, place: ArchivePlace
) -> None:
    ours.load({name(): lines(3), name(number=1): lines(2)})
    assert (ours.archive(place).rows, ours.purge(place).keys) == (5, 2)
    before = content(place, FILE)
    theirs.load({name(number=2): lines(1), name(NEXT): lines(1), name(number=3): lines(1), name(number=4): lines(1)})

    with pytest.raises(
        ArchiveError, match=f"database {ours.id} archives media there, but this is database {theirs.id}"
    ):
        theirs.archive(place)

    assert content(place, FILE) == before
    assert theirs.purge(place).keys == 0
    assert len(theirs.logs.names()) == 4
    assert ours.archive(place, days=[DAY]).problems == {}


def test_two_databases_that_begin_at_the_same_moment_do_not_purge_what_the_other_wrote_over(
    ours: Database, theirs: Database, place: ArchivePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the place empty, and the other one writes its files and marks last."""
    ours.load({name(): lines(3)})
    theirs.load({name(number=1): lines(2)})
    write_day = archiving.write_day

    def after_the_other(*arguments: Any) -> None:
        if arguments[3].is_complete and arguments[3].database == ours.id:
            place.remove(OWNER)
            place.remove(RECORD)
            place.remove(FILE)
            theirs.archive(place)
        write_day(*arguments)

    monkeypatch.setattr(archiving, "write_day", after_the_other)
    done = ours.archive(place)
    monkeypatch.undo()

    assert "another database writes there too" in done.problems[DAY]
    assert (ours.purge(place).keys, theirs.purge(place).keys) == (0, 0)


def test_a_database_restored_from_an_old_backup_does_not_write_over_what_was_archived_since(
    ours: Database, copied: Callable[[], Database], place: ArchivePlace
) -> None:
    ours.load({name(): lines(3)})
    ours.archive(place)
    restored = copied()
    ours.load({name(number=1): lines(2)})
    assert (ours.archive(place, now=later()).rows, ours.purge(place).keys) == (5, 2)
    before = content(place, FILE)
    restored.load({name(number=2): lines(1), name(number=3): lines(1)})

    done = restored.archive(place, now=later())

    assert (
        f"holds 2 log keys of that day that this database ({restored.id}, 3 log keys) does not know"
        in done.problems[DAY]
    )
    assert content(place, FILE) == before
    purged = restored.purge(place)
    assert purged.keys == 0
    assert "is not the one that this database wrote last" in purged.archive_problems[DAY]


def test_a_file_that_no_record_explains_is_not_written_over(ours: Database, place: ArchivePlace) -> None:
    """It may come from an export, or from a copy of another archive without its records."""
    write(place, FILE, b"somebody's")
    ours.load({name(): lines(3)})

    done = ours.archive(place)

    assert f"{FILE} exists, but not {RECORD}" in done.problems[DAY]
    assert (content(place, FILE), ours.purge(place).keys) == (b"somebody's", 0)


def test_days_of_an_unknown_database_keep_ours_from_the_place(ours: Database, place: ArchivePlace) -> None:
    """Records of an earlier version, which our ledger does not know."""
    write(
        place,
        "_archived/media/2025-01-01.json",
        b'{"bucket": "media", "delivered": "2025-01-01", "keys": 1, "files": {}}',
    )
    ours.load({name(): lines(3)})
    with pytest.raises(ArchiveError, match="it holds delivery days of media that this database has not archived"):
        ours.archive(place)


def test_other_buckets_of_another_database_may_be_in_the_same_place(
    ours: Database, theirs: Database, place: ArchivePlace
) -> None:
    ours.load({name(): lines(3)})
    ours.archive(place)
    theirs.logs = replace(theirs.logs, bucket=theirs.logs.bucket.model_copy(update={"name": "films"}))
    theirs.load({name(number=1): line(bucket="films")})

    assert (theirs.archive(place).keys, ours.purge(place).keys, theirs.purge(place).keys) == (2, 1, 2)


def test_nothing_is_purged_while_the_archive_is_not_mounted(ours: Database, folder: Path, tmp_path: Path) -> None:
    """An empty mount point is an existing folder: only its mark is missing."""
    place = FolderArchive(str(folder))
    ours.load({name(): lines(3), name(NEXT): lines(1)})
    ours.archive(place)
    away = folder.rename(tmp_path / "away")
    for mount_point in (False, True):
        if mount_point:
            folder.mkdir()
        purged = ours.purge(place)
        assert purged.keys == 0
        assert "owner.json is missing, but this database has archived 2 delivery days" in purged.archive_problems[DAY]
        assert list(purged.days_by_archive_problem().values()) == [[DAY, NEXT]]
        assert ours.purge(place, dry_run=True).keys == 0
        ours.load({name(number=1 + mount_point): lines(1)})
        with pytest.raises(ArchiveError, match="mount or restore the archive; if it is lost, name another archive"):
            ours.archive(place, now=later())
        assert list(folder.glob("*")) == []
    folder.rmdir()
    away.rename(folder)
    assert (ours.archive(place, now=later()).keys, ours.purge(place).keys) == (2, 4)


def test_nothing_is_purged_for_an_archive_that_the_settings_named_before(
    ours: Database, place: ArchivePlace, tmp_path: Path
) -> None:
    ours.load({name(): lines(3)})
    ours.archive(place)
    elsewhere = FolderArchive(str(tmp_path / "elsewhere"))

    purged = ours.purge(elsewhere)

    assert (purged.keys, purged.waiting_keys, purged.archive_problems) == (0, 1, {})
    assert (ours.archive(elsewhere).rows, ours.purge(elsewhere).keys) == (3, 1)
    assert ours.archive(place, days=[DAY]).days == []  # a purged key is owed to no other place
    assert verify(ours.logs.bucket, elsewhere, ours.engine, DAY).is_true


def test_an_archive_that_was_moved_is_taken_as_it_is(ours: Database, folder: Path, tmp_path: Path) -> None:
    ours.load({name(): lines(3), name(NEXT): lines(1)})
    ours.archive(FolderArchive(str(folder)))
    moved = FolderArchive((tmp_path / "moved").as_uri())
    folder.rename(tmp_path / "moved")
    (tmp_path / "moved" / "_archived/media/2026-03-06.json").unlink()  # and lacks a day
    before = (tmp_path / "moved" / FILE).stat().st_mtime_ns

    done = ours.archive(moved)

    assert (done.keys, done.days, ours.purge(moved).keys) == (2, [NEXT], 2)
    assert (tmp_path / "moved" / FILE).stat().st_mtime_ns == before


@pytest.mark.parametrize("harm", ["record", "file", "cut", "other", "record of another"])
def test_a_day_that_somebody_changed_is_not_purged_and_others_are(
    ours: Database, place: ArchivePlace, harm: str
) -> None:
    ours.load({name(): lines(3), name(NEXT): lines(1)})
    ours.archive(place)
    whole = content(place, FILE) or b""
    if harm in {"record", "file"}:
        place.remove(RECORD if harm == "record" else FILE)
    elif harm == "record of another":
        record = read(place, RECORD)
        write(place, RECORD, json.dumps(record | {"database": str(uuid4())}).encode())
    else:
        of_next = content(place, FILE.replace("2026-03-05/", "2026-03-06/")) or b""
        write(place, FILE, whole[:-1] if harm == "cut" else of_next)

    purged = ours.purge(place)

    assert (purged.keys, list(purged.archive_problems)) == (1, [DAY])
    assert ours.logs.names() == [name()]


def test_a_day_that_lost_its_files_is_written_again_when_the_message_is_followed(
    ours: Database, place: ArchivePlace
) -> None:
    ours.load({name(): lines(3)})
    ours.archive(place)
    place.remove(RECORD)
    problem = ours.purge(place).archive_problems[DAY]
    ours.rows(problem.partition("written again: ")[2])
    assert (ours.archive(place).rows, ours.purge(place).keys) == (3, 1)


def test_the_archive_is_asked_once_for_a_day_and_not_for_each_key(
    ours: Database, place: ArchivePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours.load({name(number=number): lines(1) for number in range(30)} | {name(NEXT): lines(1)})
    ours.archive(place)
    asked: list[str] = []
    end_of = type(place).end_of

    def counting(self: Any, name: str, size: int) -> Any:
        asked.append(name)
        return end_of(self, name, size)

    monkeypatch.setattr(type(place), "end_of", counting)
    monkeypatch.setattr("tamarin_dagster.pipeline.purge.PURGE_PAGE_KEYS", 5)
    assert ours.purge(place).keys == 31
    assert len(asked) == 5  # whose it is; for each day its record and its file


def test_a_writing_that_was_interrupted_is_completed_at_once_and_not_purged_before(
    ours: Database, place: ArchivePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours.load({name(): lines(3)})
    ours.archive(place)
    ours.load({name(number=1): lines(2)})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(archiving, "read_written_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ours.archive(place, now=later())
    monkeypatch.undo()

    assert "the next pull completes it" in ours.purge(place).archive_problems[DAY]
    assert (ours.archive(place).rows, ours.purge(place).keys) == (5, 2)  # without waiting for more late keys


def test_two_interrupted_writings_in_a_row_are_still_ours(
    ours: Database, place: ArchivePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place has what the first one began; the second one ends before it changes anything there."""
    ours.load({name(): lines(3)})
    for number, where in enumerate(["read_written_state", "write_day", "write_day"], start=1):

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(archiving, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            ours.archive(place)
        monkeypatch.undo()
        ours.load({name(number=number): lines(1)})
    assert (ours.archive(place).rows, ours.purge(place).keys) == (6, 4)


def test_an_archive_of_an_earlier_version_is_taken_over_as_it_is(ours: Database, place: ArchivePlace) -> None:
    ours.load({name(): lines(3), name(NEXT): lines(1)})
    ours.archive(place)
    as_of_an_earlier_version(ours, place, DAY, NEXT)
    before = content(place, FILE)
    assert ours.purge(place).keys == 0

    done = ours.archive(place)

    assert (done.days, done.keys, content(place, FILE)) == ([], 2, before)
    assert read(place, RECORD)["database"] == ours.id
    assert ours.purge(place).keys == 2


def test_a_key_that_is_reparsed_after_the_upgrade_has_its_earlier_day_written_again(
    ours: Database, place: ArchivePlace, rows: Callable[..., Any]
) -> None:
    ours.load({name(): lines(4), name(number=1): lines(1)})
    reject(rows, name(), lines(4), [1, 3])
    ours.archive(place)
    as_of_an_earlier_version(ours, place, DAY)
    assert reparse_bucket(ours.logs.bucket, ours.engine).moved == 2

    assert (ours.archive(place).rows, ours.purge(place).keys) == (5, 2)


def test_an_earlier_day_that_holds_other_keys_than_the_ledger_says_is_refused(
    ours: Database, place: ArchivePlace
) -> None:
    ours.load({name(): lines(3), name(NEXT): lines(1)})
    ours.archive(place)
    as_of_an_earlier_version(ours, place, DAY, NEXT)
    record = read(place, RECORD)
    write(place, RECORD, json.dumps(record | {"keys": 2}).encode())

    done = ours.archive(place)

    assert list(done.problems) == [DAY]
    assert "does not know" in done.problems[DAY]
    assert ours.purge(place).keys == 1


def test_an_archive_of_an_earlier_version_that_is_not_mounted_gets_no_second_one(
    ours: Database, folder: Path, tmp_path: Path
) -> None:
    place = FolderArchive(str(folder))
    ours.load({name(): lines(3)})
    ours.archive(place)
    as_of_an_earlier_version(ours, place, DAY)
    away = folder.rename(tmp_path / "away")
    folder.mkdir()

    with pytest.raises(ArchiveError, match="the last of them, 2026-03-05, is not there"):
        ours.archive(place)
    shutil.copytree(away, folder, dirs_exist_ok=True)
    assert (ours.archive(place).keys, ours.purge(place).keys) == (1, 1)


def test_a_new_archive_can_be_begun_by_hand_as_the_message_says(ours: Database, folder: Path) -> None:
    place = FolderArchive(str(folder))
    ours.load({name(): lines(3)})
    ours.archive(place)
    shutil.rmtree(folder)
    problem = read_place_state(ours.logs.bucket, place, ours.engine).problem or ""
    write(place, OWNER, problem.partition("owner.json with ")[2].encode())
    assert read_place_state(ours.logs.bucket, place, ours.engine).problem is None
    ours.load({name(NEXT): lines(1)})
    assert ours.archive(place).keys == 1
    purged = ours.purge(place)
    assert (purged.keys, list(purged.archive_problems)) == (1, [DAY])


def test_a_damaged_record_stops_only_its_own_day(ours: Database, place: ArchivePlace) -> None:
    ours.load({name(): lines(3), name(NEXT): lines(1)})
    ours.archive(place)
    write(place, RECORD, b"{")
    ours.load({name(number=1): lines(1), name(NEXT, 1): lines(1)})

    done = ours.archive(place, now=later())

    assert (done.days, list(done.problems)) == ([NEXT], [DAY])
    purged = ours.purge(place)
    assert (purged.keys, list(purged.archive_problems)) == (2, [DAY])


def test_keys_that_expired_before_the_archive_was_set_keep_no_others_from_it(
    ours: Database, place: ArchivePlace, folder: Path
) -> None:
    ours.load({name(): lines(3), name(number=1): lines(2)})
    ours.rows(f"UPDATE s3_log_key SET expired_at = now() WHERE key = '{name()}'")

    done = ours.archive(place)

    assert (done.rows, done.problems, ours.purge(place).keys) == (2, {}, 1)
    if isinstance(place, FolderArchive):
        assert pq.read_table(folder / FILE).num_rows == 2
