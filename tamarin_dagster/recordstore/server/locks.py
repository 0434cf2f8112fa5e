"""The lock files of the embedded Postgres. The locks are flocks: the kernel drops them when their holder ends."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

# Seconds between two attempts to take a lock that another process has.
_FIRST_PAUSE_SECONDS = 0.005
_LAST_PAUSE_SECONDS = 0.25

_descriptors: set[int] = set()


class LockFiles:
    """The lock files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str) -> int:
        """Open a lock file, and return a descriptor that programs we start do not inherit. A fork closes its copy."""
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        _descriptors.add(descriptor)
        if os.geteuid() == 0:
            owner = self._folder.stat()  # the user who owns the home must be able to lock the file after root did
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor

    @contextlib.contextmanager
    def held_open(self, name: str) -> Iterator[int]:
        """Open a lock file for a while; a program that inherits the descriptor keeps holding its lock."""
        descriptor = self.open(name)
        try:
            yield descriptor
        finally:
            close(descriptor)

    @contextlib.contextmanager
    def mutex(self, patience: float = math.inf) -> Iterator[bool]:
        """Let one holder at a time start, stop, or create a database. Yields whether we got it within these seconds."""
        with self.held_open("start.lock") as descriptor:
            deadline = time.monotonic() + patience
            pause = _FIRST_PAUSE_SECONDS
            while not (has_it := try_exclusive(descriptor)) and time.monotonic() < deadline:
                time.sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE_SECONDS)
            try:
                yield has_it
            finally:
                if has_it:
                    unlock(descriptor)

    def holder(self, name: str) -> str:
        """Describe the processes that hold a lock, for a message; Linux shows them to users who may see them."""
        with contextlib.suppress(OSError):
            number = (self._folder / name).stat().st_ino
            locks = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
            pids = [row[4] for row in locks if row[1] == "FLOCK" and row[5].endswith(f":{number}")]
            others = sorted({pid for pid in pids if pid != str(os.getpid()) and int(pid) > 0}, key=int)
            if others:
                return ("process " if len(others) == 1 else "processes ") + ", ".join(map(_describe, others))
        return "another process"


def _describe(pid: str) -> str:
    """Describe a process for a message: its number and the start of its command."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        names = [Path(word).name for word in words if word][:3]
        return f"{pid} ({' '.join(names)})"
    return pid


def share(descriptor: int) -> None:
    """Take the lock together with others."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def try_exclusive(descriptor: int) -> bool:
    """Take the lock alone, if no other process has it; return whether we got it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Drop the lock now. Closing alone would keep it while a child that was just forked holds a copy."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def close(descriptor: int) -> None:
    """Close a lock file. Its lock lasts while any other process has inherited the descriptor."""
    _descriptors.discard(descriptor)
    os.close(descriptor)


def close_all() -> None:
    """In a forked child: close the copies of its parent's lock files. Unlocking them would unlock the parent's."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
