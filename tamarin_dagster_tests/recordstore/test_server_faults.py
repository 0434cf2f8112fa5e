"""A server that loses a process, is stopped by a signal, or floods its log. Nobody waits for it in silence."""

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tamarin_dagster.operations.doctor.database_findings import examine_database
from tamarin_dagster.operations.doctor.finding import Status
from tamarin_dagster.recordstore import database, waiting
from tamarin_dagster.recordstore.database import DatabaseError, open_database
from tamarin_dagster.recordstore.server import log as server_log
from tamarin_dagster.recordstore.server import processes as server_processes
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres, EmbeddedPostgresNotReadyError
from tamarin_dagster.recordstore.server.processes import Process, ServerState, Vigil, read_state
from tamarin_dagster.settings import Settings
from tamarin_dagster_tests.clusters import give_cluster
from tamarin_dagster_tests.folders import make_short_folder

PROJECT = Path(__file__).parents[2]
ROWS = 1000
SERVERS: dict[Path, EmbeddedPostgres] = {}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds its processes in /proc")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Return one home for all: creating a cluster takes longer than most of these tests."""
    folder = make_short_folder()
    give_cluster(folder / "home")
    yield folder / "home"
    SERVERS.pop(folder / "home").release()
    server_processes.kill_processes(folder / "home/postgres")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    """Return a server that this process uses, with ROWS committed rows in `kept`."""
    server = SERVERS.setdefault(home, EmbeddedPostgres(home))
    server.ensure_running()
    query(server, f"CREATE TABLE IF NOT EXISTS kept AS SELECT g FROM generate_series(1, {ROWS}) g")
    yield server
    if not server.is_running():
        server_processes.kill_processes(home / "postgres")


def query(server: EmbeddedPostgres, statement: str) -> list[tuple]:
    with psycopg.connect(server.url("postgres", "postgresql"), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def state(server: EmbeddedPostgres) -> ServerState:
    return read_state(server.home / "postgres")


def log(server: EmbeddedPostgres) -> str:
    return (server.home / "postgres/server.log").read_text()


def eventually(probe: Callable[[], int], seconds: float = 10) -> int:
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return found


def lose_startup(server: EmbeddedPostgres) -> None:
    """Kill the startup process before the recovery begins: Postgres 18 then stays in recovery mode forever."""
    for _ in range(10):
        server.ensure_running()
        with contextlib.closing(psycopg.connect(server.url("postgres", "postgresql"))) as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            os.kill(await_startup(server), signal.SIGKILL)
        time.sleep(0.5)
        found = state(server)
        if found.main and found.startup is None and not server.is_running():
            return
    raise AssertionError("the server did not lose its startup process")


def pause_recovery(server: EmbeddedPostgres, start: Callable[[], object]) -> tuple[int, object]:
    """Kill the server, start it by `start`, and stop its startup process with SIGSTOP: the recovery never ends."""
    query(server, "CREATE TABLE IF NOT EXISTS work (g int)")
    query(server, "INSERT INTO work SELECT g FROM generate_series(1, 200000) g")  # WAL to recover
    os.kill(state(server).main.pid, signal.SIGKILL)
    started = start()
    pid = await_startup(server)
    os.kill(pid, signal.SIGSTOP)
    return pid, started


def await_startup(server: EmbeddedPostgres) -> int:
    """Return the pid of the startup process, as soon as it exists; it may live for only a tenth of a second."""
    pid_file = server.home / "postgres/data/postmaster.pid"

    def find() -> int:
        with contextlib.suppress(OSError, ValueError, IndexError):
            main = int(pid_file.read_text().split()[0])
            for child in Path(f"/proc/{main}/task/{main}/children").read_text().split():
                if "startup" in Path(f"/proc/{child}/cmdline").read_text():
                    return int(child)
        return 0

    return eventually(find, 60)


def cli(home: Path, *arguments: str) -> subprocess.Popen[str]:
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("TAMARIN_", "DAGSTER_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "tamarin_dagster.cli", *arguments],
        cwd=PROJECT,
        env=clean | {"TAMARIN_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_server_that_lost_its_startup_process_is_restarted_once_and_it_is_said_why(
    server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command waited for it for 600 s, and then the next one did so too."""
    monkeypatch.setattr(server_processes, "LOST_SECONDS", 2)
    monkeypatch.setattr(waiting, "FIRST_WORD_SECONDS", 1)
    lose_startup(server)
    caplog.clear()
    before = log(server).count("\n")
    begin = time.monotonic()
    server.ensure_running()
    assert time.monotonic() - begin < 30
    assert query(server, "SELECT count(*), sum(g) FROM kept") == [(ROWS, ROWS * (ROWS + 1) // 2)]
    assert caplog.text.count("it has lost its startup process): it is stopped and started again") == 1
    assert f"Waiting for the embedded Postgres in {server.home}: it accepts no connections" in caplog.text
    # 48 lines a second came from our own connection attempts.
    assert log(server).count("\n") - before < 60


@pytest.mark.slow
def test_stop_ends_a_server_that_lost_its_startup_process(server: EmbeddedPostgres) -> None:
    lose_startup(server)
    begin = time.monotonic()
    said = server.stop(now=True)
    assert time.monotonic() - begin < 30
    assert said.startswith("Stopped (it accepts no connections, and has no startup process). It was stopped at once;")
    assert state(server).processes == ()
    server.ensure_running()
    assert query(server, "SELECT count(*) FROM kept") == [(ROWS,)]


def test_a_recovery_without_progress_is_restarted(
    server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_processes, "STUCK_SECONDS", 2)
    starting = threading.Thread(target=server.ensure_running)
    pause_recovery(server, starting.start)
    starting.join(30)
    assert not starting.is_alive()
    assert "it makes no progress): it is stopped and started again" in caplog.text
    assert query(server, "SELECT count(*) FROM kept") == [(ROWS,)]


def test_a_recovery_that_makes_progress_is_never_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is one that waits for its disk: an immediate stop would make it begin again, forever."""
    monkeypatch.setattr(server_processes, "STUCK_SECONDS", 0)
    main = Process(1, 0, "postgres", "S", "0 0", "postgres -D data")

    def recovering(state: str, cpu: str, segment: int = 1) -> ServerState:
        startup = Process(2, 1, "postgres", state, cpu, f"postgres: tamarin: startup recovering {segment:024X}")
        return ServerState("starting", main, (main, startup))

    def hopeless(*looks: ServerState) -> str:
        vigil = Vigil()
        return [vigil.hopeless(look, answers=True, has_socket=True) for look in looks][-1]

    assert hopeless(recovering("R", "1 0"), recovering("R", "2 0"), recovering("R", "3 0")) == ""
    assert hopeless(recovering("S", "1 0", 1), recovering("S", "1 0", 2)) == ""
    assert hopeless(recovering("D", "1 0"), recovering("D", "1 0")) == ""
    assert hopeless(recovering("S", "1 0"), recovering("S", "1 0")) == "it makes no progress"


def test_what_a_killed_postmaster_left_behind_is_removed(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped child does not notice that its postmaster is gone; commands waited for it for 600 s."""
    monkeypatch.setattr(server_processes, "LOST_SECONDS", 1)
    found = state(server)
    os.kill(next(each.pid for each in found.processes if each.is_worker("checkpointer")), signal.SIGSTOP)
    os.kill(found.main.pid, signal.SIGKILL)
    begin = time.monotonic()
    server.ensure_running()
    assert time.monotonic() - begin < 20
    assert query(server, "SELECT count(*) FROM kept") == [(ROWS,)]


def test_stop_ends_a_server_all_of_whose_processes_are_stopped(server: EmbeddedPostgres) -> None:
    for each in state(server).processes:
        os.kill(each.pid, signal.SIGSTOP)
    begin = time.monotonic()
    said = server.stop(now=True)
    assert time.monotonic() - begin < 30
    assert re.match(r"Stopped \(its main process \(\d+\) is stopped \(SIGSTOP\)\). Its processes were killed;", said)
    assert state(server).processes == ()


@pytest.mark.slow
def test_a_long_recovery_is_told_of_and_stop_doctor_and_an_interrupt_do_not_wait_for_it(
    server: EmbeddedPostgres,
) -> None:
    home = server.home
    startup, waiter = pause_recovery(server, lambda: server.release() or cli(home, "sql", "SELECT 1"))
    begin = time.monotonic()
    word = waiter.stderr.readline()
    assert time.monotonic() - begin < 20  # 3 s and the start of the interpreter, on an idle machine
    assert f"Waiting for the embedded Postgres in {home}: its startup process ({startup})" in word
    assert "(3 s so far, at most 10 minutes)" in word

    said = server.stop()
    assert f"({waiter.pid} (" in said.replace("process ", "(")
    assert "uses it. To stop it anyway: stop --now" in said

    # The waiting command is the one that starts the server.
    database_finding = examine(home)
    assert database_finding.status is Status.fail
    assert f"process {waiter.pid} (" in database_finding.text

    begin = time.monotonic()
    waiter.send_signal(signal.SIGINT)
    _, rest = waiter.communicate(timeout=60)
    assert time.monotonic() - begin < 20
    assert waiter.returncode == 130
    assert "is not ready yet, and continues by itself: run the command again, or `tamarin-dagster stop`" in rest
    assert "Traceback" not in rest
    assert state(server).startup.pid == startup  # the recovery was not restarted

    begin = time.monotonic()
    database_finding = examine(home)
    assert time.monotonic() - begin < 30
    assert f"its startup process ({startup}), which recovers it, is stopped (SIGSTOP)" in database_finding.text
    assert "tamarin-dagster stop" in database_finding.remedy
    # Its pid file said that it was starting, so nobody connected.
    assert log(server).count("not yet accepting connections") <= 2

    begin = time.monotonic()
    assert "which recovers it, is stopped (SIGSTOP)). It was stopped at once" in server.stop()
    assert time.monotonic() - begin < 30
    assert server.stop() == "The embedded Postgres was not running."
    server.ensure_running()
    assert query(server, "SELECT count(*) FROM kept") == [(ROWS,)]


def examine(home: Path):
    with ExitStack() as stack:
        findings = {each.subject: each for each in examine_database(Settings(home=home), time.time, stack)}
    return findings["database"]


def test_stop_starts_nothing(short_folder: Path) -> None:
    """The command created a cluster and started it, only to stop it."""
    home = short_folder / "home"
    assert EmbeddedPostgres(home).stop() == f"There is no embedded Postgres in {home}."
    assert not home.exists()


def test_who_holds_the_mutex_is_named(
    server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FIRST_WORD_SECONDS", 0.3)
    script = (
        "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(server.home / "postgres/start.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        other = EmbeddedPostgres(server.home)
        os.kill(state(server).main.pid, signal.SIGKILL)
        with pytest.raises(EmbeddedPostgresNotReadyError, match=f"process {holder.pid} .*for 1 s"):
            other.ensure_running(patience=1)
        assert f"Waiting for process {holder.pid} (" in caplog.text
        assert "was not running" in other.stop(now=True)
        holder.kill()


def test_the_log_is_bounded_while_the_server_runs(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log was truncated only at a start, so a server that is never stopped could fill the disk that it needs."""
    monkeypatch.setattr(server_log, "LOG_BYTES", 20_000)
    with psycopg.connect(server.url("postgres", "postgresql"), autocommit=True) as connection:
        for number in range(1, 1001):
            with contextlib.suppress(psycopg.Error):
                connection.execute(f'SELECT {number} / 0 AS "{"x" * 50}"')
            if number % 100 == 0:
                server.ensure_running()
    files = {path.name: path.stat().st_size for path in (server.home / "postgres").glob("server.log*")}
    assert set(files) == {"server.log", "server.log.old"}
    assert files["server.log.old"] <= 20_000
    assert files["server.log"] <= 20_000
    with contextlib.suppress(psycopg.Error):
        query(server, "SELECT 'after'::int")
    assert log(server).startswith("20")
    assert 'ERROR:  invalid input syntax for type integer: "after"' in log(server)
    assert "STATEMENT" not in log(server)


def test_a_configured_server_that_does_not_answer_is_named_while_it_is_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FIRST_WORD_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        with pytest.raises(DatabaseError, match="timeout"):
            open_database(Settings(database_url=f"postgresql://anna:S3CRET@127.0.0.1:{port}/tamarin?connect_timeout=2"))
    assert f"127.0.0.1:{port}/tamarin: it has not answered yet" in caplog.text
    assert "S3CRET" not in caplog.text


def test_a_migration_that_waits_for_another_says_so(
    empty_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FIRST_WORD_SECONDS", 0.3)
    with psycopg.connect(empty_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [database._MIGRATION_LOCK])
        threading.Timer(1, other.rollback).start()
        open_database(Settings(database_url=empty_url)).dispose()
    assert [each.levelno for each in caplog.records if "or is being migrated" in each.message][:1] == [logging.WARNING]
