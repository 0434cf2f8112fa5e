"""Access the files of a folder tree, and never leave it: neither by `..` nor by a link."""

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import Self

from tamarin_dagster.logkey import CHANGED_SINCE_LOADED, LogObject
from tamarin_dagster.private_files import PRIVATE_FOLDER

# Do not follow a link, nor wait for a pipe.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_ENTER = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
# How far a file server's clock may be ahead of ours.
_MAX_CLOCK_SECONDS = 3600


class Tree:
    """Open, place and remove files below a folder, and never leave it: neither by `..` nor by a link.

    The folder of the last log key stays open, because the next log key is mostly in the same one.
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
        """Return a descriptor for reading the file. Raises OSError, and ValueError if the name holds a NUL."""
        folder, name = self._open_folder(key)
        return _open(name, _READ, folder, key)

    def remove(self, item: LogObject, quiet_seconds: float = 0) -> str | None:
        """Remove the object's file; or return why not: it is another generation, or may still be written.

        Raises like `open`.
        """
        folder, name = self._open_folder(item.key)
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            raise _make_leads_out_error(item.key)
        if generation(found) != item.etag:
            return CHANGED_SINCE_LOADED
        if not is_quiet(found, quiet_seconds, time.time()):
            return f"it was changed less than {quiet_seconds:g} s ago; a later purge deletes it"
        os.unlink(name, dir_fd=folder)
        return None

    def stat(self, key: str) -> os.stat_result | None:
        """Return the status of the file, or of a link in its place; None if there is none. Raises like `open`."""
        try:
            folder, name = self._open_folder(key)
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def place(self, file: Path, key: str) -> None:
        """Move a file to the log key's name, replacing any other, and create the folders above. Raises like `open`."""
        folder, name = self._open_folder(key, makes=True)
        os.rename(file, name, dst_dir_fd=folder)

    def settle(self, key: str) -> None:
        """Make the names in the log key's folder durable. Raises like `open`."""
        folder, _ = self._open_folder(key)
        os.fsync(folder)

    def _open_folder(self, key: str, *, makes: bool = False) -> tuple[int, str]:
        parent, _, name = key.rpartition("/")
        if name == ".." or key.startswith("/"):
            raise _make_leads_out_error(key)
        if self._opened is None or parent != self._parent:
            self.__exit__()
            self._opened, self._parent = self._enter(parent, key, makes=makes), parent
        return self._opened, name

    def _enter(self, parent: str, key: str, *, makes: bool) -> int:
        try:
            folder = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except FileNotFoundError:  # for example a disk that is not mounted, which says nothing about the log key
            raise NotADirectoryError(f"the folder {self._root} does not exist") from None
        for name in parent.split("/") if parent else ():
            above = folder
            try:
                if name == "..":
                    raise _make_leads_out_error(key)
                folder = _make_folder(name, above, key) if makes else _open(name, _ENTER, above, key)
            finally:
                os.close(above)
        return folder


def _open(name: str, flags: int, folder: int, key: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise _make_leads_out_error(key) from None
        raise


def _make_folder(name: str, above: int, key: str) -> int:
    """Return the folder, after creating it if it is missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, PRIVATE_FOLDER, dir_fd=above)
        os.fsync(above)
    return _open(name, _ENTER, above, key)


def _make_leads_out_error(key: str) -> PermissionError:
    return PermissionError(f"{key!r} leads out of the folder")


def generation(found: os.stat_result) -> str:
    """Return a file's ETag: its modification time and size, its inode, and the inode's change time.

    Modification times can be set, and sizes can be equal; nobody can set the other two.
    """
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}-{found.st_ctime_ns:x}"


def is_quiet(found: os.stat_result, seconds: float, now: float) -> bool:
    """Return whether a file was last changed at least this many seconds before `now` (seconds since 1970).

    A modification time in the future was set by somebody, or by a clock that is ahead; then the inode's change time
    counts. If that is in the future as well, the file waits, but for at most an hour, so that none waits forever.
    """
    if seconds <= 0:
        return True
    changed = found.st_mtime if found.st_mtime <= now else found.st_ctime
    return changed - now > _MAX_CLOCK_SECONDS or now - changed >= seconds
