"""The processes of the embedded Postgres and what they do, read from /proc, or from `ps` if there is none."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Postgres kills what is left of a crash after 5 s (SIGKILL_CHILDREN_AFTER_SECS), and a startup process must exist only
# after that. A process of ours that is stopped (SIGSTOP) for so long was not stopped by chance.
LOST_SECONDS = 6.0
# If its socket file was deleted, a server never answers again.
NO_SOCKET_SECONDS = 5.0
# A swapping machine may take long to answer.
SILENT_SECONDS = 30.0
# Without a CPU tick, a wait for the disk or a new WAL segment for so long, the server will not become ready.
STUCK_SECONDS = 60.0

_PROGRAMS = ("postgres", "initdb", "pg_ctl")
# Processes that a recovery, a start and a stop depend on. Others wake up now and then without progress.
_WORKERS = ("startup", "checkpointer", "io worker")
_LOG_TAIL_BYTES = 4_000
_PS_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Process:
    """A process. `state` is the letter of ps: T is stopped, D waits for the disk. `cpu` is the time used so far."""

    pid: int
    parent: int
    name: str
    state: str
    cpu: str
    title: str

    def is_worker(self, *kinds: str) -> bool:
        """Return whether it is one of these processes of a server: `startup`, `checkpointer`."""
        _, _, title = self.title.partition("postgres: ")
        return any(kind in title for kind in kinds)


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the processes of a server are doing.

    Attributes:
        status: the last line of postmaster.pid: starting, ready, stopping; empty if there is no such file.
        main: the postmaster.
        processes: all of them, including the postmaster.
    """

    status: str
    main: Process | None
    processes: tuple[Process, ...]

    @property
    def startup(self) -> Process | None:
        """The process that recovers. A server without one cannot become ready."""
        return next((each for each in self.processes if each.is_worker("startup")), None)

    @property
    def work(self) -> frozenset[object]:
        """The work of the processes that a start or a stop depends on; while it changes, there is progress."""
        workers = [each for each in self.processes if each.is_worker(*_WORKERS)]
        disk = {time.monotonic()} if any(each.state == "D" for each in workers) else set()
        return frozenset((each.pid, each.cpu, each.title) for each in workers) | disk

    @property
    def is_made(self) -> bool:
        """Whether initdb is creating the cluster, or pg_ctl has not started a server yet."""
        return any(each.name != "postgres" for each in self.processes)

    def describe(self) -> str:
        """Return a clause that says what the server is doing."""
        if self.is_made:
            return "it is being created"
        if not self.processes:
            return "its processes cannot be seen"
        if self.main is None:
            return f"its main process is gone, and {_pids(self.processes)} of it remained"
        if self.main.state == "T":
            return f"its main process ({self.main.pid}) is stopped (SIGSTOP)"
        return "it is stopping" if self.status == "stopping" else self._describe_startup()

    def _describe_startup(self) -> str:
        if self.startup is None:
            return "it accepts no connections, and has no startup process"
        if self.startup.state == "T":
            return f"its startup process ({self.startup.pid}), which recovers it, is stopped (SIGSTOP)"
        if "recovering" in self.startup.title or any("end-of-recovery" in each.title for each in self.processes):
            return "it is recovering after a crash"
        return "it is starting"


def read_status(data: Path) -> str:
    """Return what the server last wrote to postmaster.pid. It costs the server nothing, and may be out of date."""
    with contextlib.suppress(OSError, IndexError):
        return (data / "postmaster.pid").read_text(errors="replace").splitlines()[7].strip()
    return ""


def read_state(folder: Path) -> ServerState:
    """Return the processes of the server in that folder, and its status."""
    data = folder / "data"
    main = 0
    with contextlib.suppress(OSError, ValueError):
        main = int((data / "postmaster.pid").read_text(errors="replace").partition("\n")[0])
    ours = {_identity(each) for each in (folder, data, folder / "data.new")} - {None}
    found = tuple(each for each in _all_processes() if _belongs(each, main, ours))
    return ServerState(read_status(data), next((each for each in found if each.pid == main), None), found)


def kill_processes(folder: Path) -> None:
    """SIGKILL all processes of the server, also stopped ones. Its next start recovers what was committed."""
    for each in read_state(folder).processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each.pid, signal.SIGKILL)


def last_progress(log: Path) -> str:
    """Return what the server last said of itself in its log; empty if that cannot be read."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        for line in reversed(file.read().decode(errors="replace").splitlines()):
            _, is_of_server, text = line.partition(" LOG:  ")
            if is_of_server:
                return text.strip()
    return ""


@dataclass(slots=True)
class Vigil:
    """Watches a server that is not ready, and reports when it will not become ready; never during a recovery."""

    _since: dict[str, float] = field(default_factory=dict)
    _work: frozenset[object] = frozenset()

    def hopeless(self, state: ServerState, *, answers: bool, has_socket: bool) -> str:
        """Return why to stop waiting; empty while there is hope.

        Args:
            state: what the processes are doing now.
            answers: whether the server answered, even if only that it is not ready, or was not asked.
            has_socket: whether its socket file exists.
        """
        now = time.monotonic()
        signs = {} if state.is_made else self._signs(state, answers=answers, has_socket=has_socket)
        self._since = {sign: self._since.get(sign, now) for sign in signs}
        return next((sign for sign, patience in signs.items() if now - self._since[sign] >= patience), "")

    def _signs(self, state: ServerState, *, answers: bool, has_socket: bool) -> dict[str, float]:
        """Return the faults at present, each with the seconds that it must last."""
        signs: dict[str, float] = {}
        work = state.work
        if work == self._work:
            signs["it makes no progress"] = STUCK_SECONDS
        self._work = work
        if not state.processes:
            signs["its processes cannot be seen"] = NO_SOCKET_SECONDS
        elif state.main is None:
            signs["its main process is gone, and others live on"] = LOST_SECONDS
        elif state.main.state == "T":
            signs["its main process is stopped (SIGSTOP)"] = LOST_SECONDS
        elif not answers:
            signs["it does not answer"] = SILENT_SECONDS
            if not has_socket:
                signs["its socket is gone"] = NO_SOCKET_SECONDS
        elif state.startup is None and state.status != "stopping":
            signs["it has lost its startup process"] = LOST_SECONDS
        return signs


def _all_processes() -> Iterator[Process]:
    """Yield all processes on this machine that run one of Postgres' programs."""
    if Path("/proc/self/stat").exists():
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError, ValueError):  # it has ended
                    yield from _from_proc(entry)
        return
    command = ["ps", "-axo", "pid=,ppid=,stat=,time=,ucomm=,command="]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PS_SECONDS, check=True)
        for line in done.stdout.splitlines():
            pid, parent, state, cpu, name, title = line.split(maxsplit=5)
            if name in _PROGRAMS:
                yield Process(int(pid), int(parent), name, state[0], cpu, title)


def _from_proc(entry: Path) -> Iterator[Process]:
    before, _, after = (entry / "stat").read_text(errors="replace").rpartition(")")
    name, rest = before.partition("(")[2], after.split()
    if name in _PROGRAMS and rest[0] not in {"Z", "X"}:
        title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        yield Process(int(entry.name), int(rest[1]), name, rest[0], f"{rest[11]} {rest[12]}", title)


def _belongs(process: Process, main: int, ours: set[tuple[int, int] | None]) -> bool:
    """Return whether it works in the server's folder. If that cannot be seen, the pid file decides."""
    try:
        status = Path(f"/proc/{process.pid}/cwd").stat()
    except OSError:
        return process.name == "postgres" and main in (process.pid, process.parent)
    return (status.st_dev, status.st_ino) in ours


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _pids(processes: tuple[Process, ...]) -> str:
    numbers = ", ".join(str(each.pid) for each in processes)
    return f"process {numbers}" if len(processes) == 1 else f"processes {numbers}"
