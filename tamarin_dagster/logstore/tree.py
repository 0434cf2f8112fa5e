"""Reaching the files of a folder tree, which never leads out of it: not by `..`, not by a link."""

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import Self

from tamarin_dagster.logkey import CHANGED_SINCE_LOADED, LogObject
from tamarin_dagster.private_files import PRIVATE_FOLDER

# No link is followed, and a pipe is not waited for.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_ENTER = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
# How far a file server's clock may be ahead of ours.
_MAX_CLOCK_SECONDS = 3600


class Tree:
    """Opens, places and removes files below a folder. It never leads out of it: not by `..`, not by a link.

    The folder of the last key stays open, since the next key mostly lies in the same one.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._parent = ""
        self._opened: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None

    def open(self, key: str) -> int:
        """A descriptor to read the key's file with. Raises OSError, and ValueError if the name holds a NUL."""
        folder, name = self._folder_of(key)
        return _open(name, _READ, folder, key)

    def remove(self, item: LogObject, quiet_seconds: float = 0) -> str | None:
        """Removes the object's file; or says why not: it is not of this very generation, or may still be written.

        Raises as `open` does.
        """
        folder, name = self._folder_of(item.key)
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            raise _leads_out(item.key)
        if generation(found) != item.etag:
            return CHANGED_SINCE_LOADED
        if not is_quiet(found, quiet_seconds, time.time()):
            return f"it was changed less than {quiet_seconds:g} s ago; a later purge deletes it"
        os.unlink(name, dir_fd=folder)
        return None

    def stat(self, key: str) -> os.stat_result | None:
        """What the key's file is, or the link in its place; None if there is none. Raises as `open` does."""
        try:
            folder, name = self._folder_of(key)
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def place(self, file: Path, key: str) -> None:
        """Gives a file the key's name, in place of what has it, and makes the folders above. Raises as `open` does."""
        folder, name = self._folder_of(key, makes=True)
        os.rename(file, name, dst_dir_fd=folder)

    def settle(self, key: str) -> None:
        """Waits until the disk has the names in the key's folder. Raises as `open` does."""
        folder, _ = self._folder_of(key)
        os.fsync(folder)

    def _folder_of(self, key: str, *, makes: bool = False) -> tuple[int, str]:
        parent, _, name = key.rpartition("/")
        if name == ".." or key.startswith("/"):
            raise _leads_out(key)
        if self._opened is None or parent != self._parent:
            self.__exit__()
            self._opened, self._parent = self._enter(parent, key, makes=makes), parent
        return self._opened, name

    def _enter(self, parent: str, key: str, *, makes: bool) -> int:
        try:
            folder = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except FileNotFoundError:  # a disk that is not mounted, say: it tells nothing of the key
            raise NotADirectoryError(f"there is no folder {self._root}") from None
        for name in parent.split("/") if parent else ():
            above = folder
            try:
                if name == "..":
                    raise _leads_out(key)
                folder = _made(name, above, key) if makes else _open(name, _ENTER, above, key)
            finally:
                os.close(above)
        return folder


def _open(name: str, flags: int, folder: int, key: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise _leads_out(key) from None
        raise


def _made(name: str, above: int, key: str) -> int:
    """The folder, which is made if it is not there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, PRIVATE_FOLDER, dir_fd=above)
        os.fsync(above)
    return _open(name, _ENTER, above, key)


def _leads_out(key: str) -> PermissionError:
    return PermissionError(f"{key!r} leads out of the folder")


def generation(found: os.stat_result) -> str:
    """A file's entity tag: its modification time and size, its inode, and when that was changed.

    Modification times can be set, and sizes are alike; nobody can set the other two.
    """
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}-{found.st_ctime_ns:x}"


def is_quiet(found: os.stat_result, seconds: float, now: float) -> bool:
    """Whether a file was last changed at least so many seconds before `now` (seconds since 1970).

    A modification time that lies ahead was set by somebody, or by a clock that runs ahead: then the inode's counts. If
    that lies ahead as well, it is waited for, but not longer than an hour: no file waits for ever.
    """
    if seconds <= 0:
        return True
    changed = found.st_mtime if found.st_mtime <= now else found.st_ctime
    return changed - now > _MAX_CLOCK_SECONDS or now - changed >= seconds
