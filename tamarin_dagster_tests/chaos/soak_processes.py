"""The processes of a home that Dagster runs in, also those that have lost their parents.

They are found by the path of the settings in their environment, which all inherit from the first process. Postgres
overwrites its environment with its title, so its processes are found by their working directory.
"""

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tamarin_dagster.homes import CONFIG_VARIABLE
from tamarin_dagster.recordstore.server.place import find_folder

# By what their command lines say; the first that fits.
_KINDS = {
    "postgres: ": "backend",
    "/bin/postgres -D": "postmaster",
    "tamarin_dagster.cli dev": "dev",
    "-m dagster dev": "dagster dev",
    "dagster._daemon": "daemon",
    "dagster_webserver": "web",
    "multiprocessing.spawn": "run",
    "-m dagster code-server": "code",
    "-m dagster api": "code",
    "resource_tracker": "code",
}
SUMS = {
    "dev": ("dev", "dagster dev"),
    "daemon": ("daemon",),
    "web": ("web",),
    "code": ("code",),
    "runs": ("run",),
    "postgres": ("postmaster", "backend"),
}
"""Which kinds are summed up, and what the sum is called."""
LARGEST_RUN = "largest run"
_KIB_PER_MIB = 1024


@dataclass(frozen=True)
class Process:
    """A process, and what it is there for."""

    pid: int
    kind: str
    title: str

    def memory_mib(self) -> float:
        """Resident memory. Of Postgres' processes the proportional share: each maps the same shared buffers."""
        wanted = "Pss:" if self.kind in SUMS["postgres"] else "Rss:"
        with contextlib.suppress(OSError):
            for text in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
                if text.startswith(wanted):
                    return int(text.split()[1]) / _KIB_PER_MIB
        return 0.0

    def kill(self) -> None:
        """kill -9."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def processes_of(config: Path, home: Path) -> list[Process]:
    """All that were started with these settings, and the embedded Postgres of this home."""
    mark = f"{CONFIG_VARIABLE}={config}".encode()
    cluster = find_folder(home) / "data"
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is somebody else's
            if (folder / "cwd").readlink() == cluster or mark in (folder / "environ").read_bytes().split(b"\0"):
                title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
                kind = next((kind for text, kind in _KINDS.items() if text in title), "other")
                found.append(Process(int(folder.name), kind, title))
    return found


def victim(draws: random.Random, processes: Sequence[Process]) -> Process | None:
    """One of them: a random one of a random kind, since most are Postgres' backends."""
    kinds = sorted({process.kind for process in processes} - {"other"})
    if not kinds:
        return None
    kind = draws.choice(kinds)
    return draws.choice([process for process in processes if process.kind == kind])


def memory_sums(processes: Sequence[Process]) -> Counter[str]:
    """MiB by the names of SUMS, and of the largest run's worker."""
    sums: Counter[str] = Counter()
    for name, kinds in SUMS.items():
        sizes = [process.memory_mib() for process in processes if process.kind in kinds]
        sums[name] = round(sum(sizes))
        if name == "runs":
            sums[LARGEST_RUN] = round(max(sizes, default=0))
    return sums
