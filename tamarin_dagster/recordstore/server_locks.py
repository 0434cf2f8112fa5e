"""The lock files of the embedded Postgres. The locks are flocks: the kernel drops them with their holder."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_descriptors: set[int] = set()


class LockFiles:
    """The lock files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str) -> int:
        """A descriptor of a lock file. It is not inherited by programs we start, and a fork closes its copy."""
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        _descriptors.add(descriptor)
        if os.geteuid() == 0:
            owner = self._folder.stat()  # a user who owns the home must be able to lock it after root did
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor

    @contextlib.contextmanager
    def held_open(self, name: str) -> Iterator[int]:
        """A descriptor of a lock file for a while; a program that inherited it goes on holding its lock."""
        descriptor = self.open(name)
        try:
            yield descriptor
        finally:
            close(descriptor)

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        """One holder at a time starts, stops, or makes a database."""
        with self.held_open("start.lock") as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                unlock(descriptor)


def share(descriptor: int) -> None:
    """Takes the lock together with others."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def try_exclusive(descriptor: int) -> bool:
    """Takes the lock alone, if nobody else has it; whether it was had."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Drops the lock now. By closing alone it would last while a child just forked holds a copy."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def close(descriptor: int) -> None:
    """Closes a lock file. Its lock lasts while any other process has inherited the descriptor."""
    _descriptors.discard(descriptor)
    os.close(descriptor)


def close_all() -> None:
    """In a forked child: closes the copies of its parent's lock files; to unlock them would unlock the parent's."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
