"""A backup: one file that is complete or missing, and a restore that destroys nothing."""

import os
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from tamarin_dagster.cli import app
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline import backup as backups
from tamarin_dagster.pipeline.backup import BackupError, back_up, connection_arguments, note_backup, restore
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.recordstore.database import migrate, schema_revision
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster_tests.contents import digests
from tamarin_dagster_tests.lines import lines

DEBIAN_BIN = Path("/usr/lib/postgresql/15/bin")
NEEDS_15 = pytest.mark.skipif(not (DEBIAN_BIN / "postgres").exists(), reason="Debian's Postgres 15 is not installed")


@pytest.fixture
def loaded(engine, folder_bucket, put_key):
    """Load seven records and a rejected line into the test's database."""
    put_key(lines(3))
    put_key(lines(4) + b"no record\n")
    pull_bucket(folder_bucket, open_log_store(folder_bucket), engine)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "tamarin.dump"


@pytest.fixture
def backup(loaded, database_url, file) -> Path:
    """A backup of the test's database."""
    return back_up(database_url, file).path


@pytest.fixture
def empty_engine(empty_url):
    engine = sa.create_engine(empty_url.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


def all_of(engine: sa.Engine) -> dict[str, tuple[int, str]]:
    with engine.connect() as connection:
        return dict(digests(connection, less=()))


def objects_of(engine: sa.Engine) -> list[tuple]:
    """Return all tables, views, functions and indexes, without the tables' statistics."""
    query = """
        SELECT c.relkind::text, c.relname, pg_get_userbyid(c.relowner), obj_description(c.oid)
        FROM pg_class c WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'f', oid::regprocedure::text, '', obj_description(oid) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace ORDER BY 1, 2
    """
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def in_folder(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def test_what_was_backed_up_comes_back_row_for_row_with_views_comments_and_identity(
    backup, engine, empty_url, empty_engine, rows
) -> None:
    done = restore(empty_url, backup)

    assert (done.keys, done.records) == (2, 7)
    assert all_of(empty_engine) == all_of(engine)
    assert objects_of(empty_engine) == objects_of(engine)
    with empty_engine.connect() as connection:
        there = connection.execute(sa.text("SELECT id FROM tamarin_database")).all()
    assert there == rows("SELECT id FROM tamarin_database")
    assert schema_revision(empty_engine) == SCHEMA_REVISION


def test_a_backup_is_one_file_that_only_its_owner_may_read(backup) -> None:
    assert in_folder(backup.parent) == ["tamarin.dump"]
    assert (mode_of(backup), mode_of(backup.parent)) == (0o600, 0o700)


def test_a_backup_replaces_no_file(loaded, database_url, file) -> None:
    file.parent.mkdir()
    file.write_text("the only copy")
    with pytest.raises(BackupError, match="exists, and a backup never replaces a file"):
        back_up(database_url, file)
    assert file.read_text() == "the only copy"
    assert in_folder(file.parent) == ["tamarin.dump"]


def test_a_file_that_came_meanwhile_is_not_replaced_either(loaded, database_url, file) -> None:
    def somebody_else(_: int) -> None:
        file.write_text("the only copy")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backups, "_POLL_SECONDS", 0.001)
        with pytest.raises(BackupError, match="exists, and"):
            back_up(database_url, file, progress=somebody_else)
    assert file.read_text() == "the only copy"
    assert in_folder(file.parent) == ["tamarin.dump"]


def test_a_database_with_records_is_not_restored_into(backup, database_url, engine, rows) -> None:
    rows("DELETE FROM s3_rejected_line")
    before = all_of(engine)
    with pytest.raises(BackupError, match="the table s3_log_key has rows, and a restore never replaces rows"):
        restore(database_url, backup)
    assert all_of(engine) == before


def test_a_single_ledger_row_that_came_after_the_look_stops_a_restore(backup, empty_url, empty_engine) -> None:
    """A pull under way may load between our check and the restore's first lock."""
    migrate(empty_engine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backups, "_refuse_if_used", lambda _: _load_one(empty_url))
        with pytest.raises(BackupError, match="the table s3_log_key has rows"):
            restore(empty_url, backup)
    with empty_engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT key FROM s3_log_key")) == "logs/a"


def _load_one(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO s3_log_key (bucket, log_bucket_name, key, etag, size, last_modified, delivery_date,"
            " line_count, record_count, rejected_count, blank_count)"
            " VALUES ('media', 'logs', 'logs/a', 'e', 1, now(), '2026-03-05', 0, 0, 0, 0)"
        )


def test_a_migrated_database_without_records_is_restored_into(backup, engine, empty_url, empty_engine) -> None:
    """Every command migrates what it opens, so an empty database rarely lacks tables."""
    migrate(empty_engine)

    restore(empty_url, backup)

    assert all_of(empty_engine) == all_of(engine)
    assert objects_of(empty_engine) == objects_of(engine)


def test_a_view_of_somebody_else_is_not_dropped_by_a_restore(backup, empty_url, empty_engine) -> None:
    migrate(empty_engine)
    with empty_engine.begin() as connection:
        connection.execute(sa.text("CREATE VIEW mine AS SELECT key FROM s3_log_key"))
    before = objects_of(empty_engine)

    with pytest.raises(BackupError, match=r"other objects depend on it.*is unchanged; if it holds tables or views"):
        restore(empty_url, backup)

    assert objects_of(empty_engine) == before


@pytest.mark.parametrize("part", [0.999, 0.9, 0.5, 0.1, 0.001])
def test_a_truncated_backup_leaves_the_database_as_it_was(backup, empty_url, empty_engine, part) -> None:
    migrate(empty_engine)
    before = objects_of(empty_engine)
    short = backup.with_name("short.dump")
    short.write_bytes(backup.read_bytes()[: int(backup.stat().st_size * part)])

    with pytest.raises(BackupError, match=r"short\.dump: is (no backup, or is )?damaged"):
        restore(empty_url, short)

    assert objects_of(empty_engine) == before
    assert all_of(empty_engine)["keys"][0] == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is damaged or not a backup"),
        (b"PGDMP but no more", "is damaged or not a backup"),
        (b"CREATE TABLE x ();\n" * 400, "is damaged or not a backup"),
    ],
)
def test_a_file_that_is_no_backup_is_refused(tmp_path, empty_url, empty_engine, content, said) -> None:
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(BackupError, match=said):
        restore(empty_url, tmp_path / "foreign")
    assert objects_of(empty_engine) == []


def test_a_dump_of_another_database_is_refused(empty_url, database_url, tmp_path) -> None:
    with psycopg.connect(empty_url) as connection:
        connection.execute("CREATE TABLE runs (id int)")
    with pytest.raises(BackupError, match="has no tables of tamarin_dagster, so there is nothing to back up"):
        back_up(empty_url, tmp_path / "a.dump")
    program = EmbeddedPostgres(tmp_path).bin_dir / "pg_dump"
    subprocess.run([program, "--format=custom", f"--file={tmp_path / 'b.dump'}", empty_url], check=True)
    with pytest.raises(BackupError, match="is a dump of another database: it has no table s3_log_key"):
        restore(database_url, tmp_path / "b.dump")
    assert in_folder(tmp_path) == ["b.dump"]


def test_a_backup_of_a_newer_version_is_refused_before_anything_is_touched(
    loaded, rows, database_url, file, empty_url, empty_engine
) -> None:
    rows("UPDATE alembic_version SET version_num = '9999'")
    back_up(database_url, file)
    with pytest.raises(
        BackupError, match=f"has schema revision 9999, but this version only knows revisions up to {SCHEMA_REVISION}"
    ):
        restore(empty_url, file)
    assert objects_of(empty_engine) == []


def test_a_backup_is_noted_in_the_database_it_is_of(backup, rows, empty_engine) -> None:
    ((noted,),) = rows("SELECT backed_up_at FROM tamarin_database")
    assert timedelta(0) < datetime.now(UTC) - noted < timedelta(minutes=2)
    migrate(empty_engine)
    with empty_engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT backed_up_at FROM tamarin_database")) is None


def test_an_older_schema_is_backed_up_without_a_note_and_without_migrating_it(loaded, rows, database_url, file) -> None:
    """For example before an upgrade."""
    rows("ALTER TABLE tamarin_database DROP COLUMN backed_up_at")
    rows("UPDATE alembic_version SET version_num = '0008'")
    assert not back_up(database_url, file).noted
    assert not note_backup(database_url)
    assert rows("SELECT version_num FROM alembic_version") == [("0008",)]


def test_the_password_is_in_the_environment_and_on_no_command_line() -> None:
    for url in (
        "postgresql://tamarin:S3CRET@db.example.org:5432/tamarin?sslmode=require",
        "postgresql://tamarin@db.example.org:5432/tamarin?password=S3CRET&sslmode=require",
    ):
        place, environment = connection_arguments(url)
        assert "S3CRET" not in place
        assert "sslmode=require" in place
        assert environment["PGPASSWORD"] == "S3CRET"


def test_a_dump_that_fails_leaves_no_file(loaded, database_url, file) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE locked (a int)")
        connection.commit()
        connection.execute("LOCK TABLE locked")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backups, "LOCK_SECONDS", 0.2)
            with pytest.raises(BackupError, match=r"pg_dump failed: .*(timeout|could not obtain lock)"):
                back_up(database_url, file)
    assert in_folder(file.parent) == []


def test_a_backup_that_is_interrupted_leaves_neither_a_file_nor_a_pg_dump(loaded, database_url, file, tmp_path) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE locked (a int)")
        connection.commit()
        connection.execute("LOCK TABLE locked")
        command = [sys.executable, "-m", "tamarin_dagster.cli", "backup", str(file)]
        environment = os.environ | {"TAMARIN_DATABASE_URL": database_url}
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not (file.parent.exists() and in_folder(file.parent)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Interrupted. No backup was written." in said
    assert in_folder(file.parent) == []
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(file.parent) not in running


@pytest.fixture
def only_debians(monkeypatch):
    """Pretend that the wheel has no programs, and that Debian's of Postgres 15 are on the PATH."""
    monkeypatch.setattr(backups, "_find_programs", lambda name: iter([DEBIAN_BIN / name]))


@NEEDS_15
def test_a_pg_dump_older_than_the_server_is_named_with_the_remedy(loaded, only_debians, database_url, file) -> None:
    said = (
        r"the server is Postgres 18, but the newest pg_dump here has version 15; install the client programs of"
        r" Postgres 18 \(Debian: postgresql-client-18\), so that pg_dump is on the PATH"
    )
    with pytest.raises(BackupError, match=said):
        back_up(database_url, file)
    assert not file.parent.exists()


@NEEDS_15
def test_a_backup_of_a_newer_pg_dump_than_the_pg_restore_here_is_told(backup, only_debians, empty_url) -> None:
    with pytest.raises(BackupError, match=r"unsupported version \(1\.\d+\) in file header"):
        restore(empty_url, backup)


def test_no_pg_dump_at_all_is_told(loaded, database_url, file, monkeypatch) -> None:
    monkeypatch.setattr(backups, "_find_programs", lambda _: iter(()))
    with pytest.raises(BackupError, match=r"but there is no pg_dump here; install the client programs of Postgres 18"):
        back_up(database_url, file)


@pytest.fixture
def debians_url(tmp_path_factory, short_folder):
    """A database on a Postgres 15, with a password."""
    account = {} if os.geteuid() else {"user": "postgres", "group": "postgres", "extra_groups": []}
    folder = short_folder / "15"
    folder.mkdir()
    if account:
        os.chown(folder, *_ids("postgres"))
    secret = folder / "password"
    secret.write_text("S3CRET")
    secret.chmod(0o644)

    def program(name: str, *arguments: str) -> None:
        subprocess.run([DEBIAN_BIN / name, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL, **account)

    program("initdb", "--pgdata=data", "--username=tamarin", f"--pwfile={secret}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C")  # fmt: skip
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -p 5433"
    program("pg_ctl", "start", "-D", "data", "-w", "-l", "log", "-o", options)
    url = f"postgresql://tamarin:S3CRET@/postgres?host={folder}&port=5433"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE tamarin")
    yield url.replace("/postgres", "/tamarin")
    program("pg_ctl", "stop", "-D", "data", "-m", "immediate")


def _ids(name: str) -> tuple[int, int]:
    import pwd  # noqa: PLC0415

    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid


@pytest.mark.slow
@NEEDS_15
def test_a_backup_of_the_embedded_server_is_restored_into_an_older_server_and_back(
    backup, engine, debians_url, empty_url, empty_engine, file
) -> None:
    """A dump of a current pg_dump begins with a setting that Postgres 15 does not know."""
    assert restore(debians_url, backup).records == 7
    theirs = sa.create_engine(debians_url.replace("postgresql:", "postgresql+psycopg:"))
    assert all_of(theirs) == all_of(engine)
    theirs.dispose()

    back_up(debians_url, file.with_name("15.dump"))
    assert restore(empty_url, file.with_name("15.dump")).records == 7
    assert all_of(empty_engine) == all_of(engine)


@pytest.fixture
def command(tmp_path):
    """command("backup", …): run a process in `tmp_path`, on the embedded server."""

    def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TAMARIN_")}
        return subprocess.run(
            [sys.executable, "-m", "tamarin_dagster.cli", *arguments],
            env=clean | {"COLUMNS": "200"} | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return command


@pytest.mark.slow
def test_the_commands_on_an_embedded_server_say_what_they_did(
    command, tmp_path, short_folder, put_key, log_folder
) -> None:
    old, new = {"TAMARIN_HOME": str(short_folder / "old")}, {"TAMARIN_HOME": str(short_folder / "new")}
    (tmp_path / "tamarin.yaml").write_text(
        f"buckets: [{{name: media, log_bucket_name: '{log_folder.as_uri()}', log_prefix: logs/, quiet_seconds: 0}}]"
    )
    nothing = command("backup", "a.dump", **old)
    assert (nothing.returncode, nothing.stderr) == (
        2,
        f"home: there is no database in {short_folder / 'old'} yet, so there is nothing to back up\n",
    )
    assert not (short_folder / "old").exists()
    with EmbeddedPostgres(short_folder / "old"):  # so that the commands share one server
        put_key(lines(7))
        assert command("pull", **old).returncode == 0
        assert list(log_folder.glob("*/*")) == [], "the database has the only copy now"
        warned = command("doctor", **old)
        assert (
            "warn  backup: no backup is known, and there is no archive: records of media, whose log keys were"
            in warned.stdout
        )

        done = command("backup", "a.dump", **old)
        assert done.returncode == 0, done.stderr
        size = (tmp_path / "a.dump").stat().st_size
        assert done.stderr.startswith(f"a.dump: {size:,} bytes in ")
        assert done.stderr.endswith(f" s, a backup of the embedded Postgres in {short_folder / 'old'}\n")
        assert "ok    backup: the last backup is from" in command("doctor", **old).stdout

        refused = command("restore", "a.dump", **old)
        assert refused.returncode == 1
        assert "the table s3_log_key has rows, and a restore never replaces rows" in refused.stderr
        damaged = command("restore", "tamarin.yaml", **new)
        assert (damaged.returncode, "is damaged or not a backup" in damaged.stderr) == (1, True)
        assert not (short_folder / "new").exists(), "no server is made for a file that is none"
        restored = command("restore", "a.dump", **new)
        assert restored.returncode == 0, restored.stderr
        assert f"Restored into the embedded Postgres in {short_folder / 'new'} in " in restored.stderr
        assert ": 1 log key with 7 records, loaded until 20" in restored.stderr
        counted = command("sql", "SELECT count(*) FROM s3_log_record", "--format", "csv", **new)
        assert counted.stdout == "count\n7\n"
        assert (mode_of(short_folder / "new") & 0o066, mode_of(tmp_path / "a.dump")) == (0, 0o600)


def test_a_backup_of_another_program_can_be_noted(tmp_path, database_url, rows, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMARIN_CONFIG", "")
    monkeypatch.setenv("TAMARIN_DATABASE_URL", database_url)

    def backup(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["backup", *arguments])

    done = backup("--elsewhere")
    assert (done.exit_code, done.stderr) == (0, "The database now has a note that a backup of it was made.\n")
    ((noted,),) = rows("SELECT backed_up_at FROM tamarin_database")
    assert datetime.now(UTC) - noted < timedelta(minutes=2)
    both = backup("a.dump", "--elsewhere")
    assert (both.exit_code, both.stderr) == (2, "give either the FILE to write or --elsewhere\n")
    assert backup().exit_code == 2
