"""A folder tree of copies of log keys, which FolderLogStore reads. A copy is always complete, and its generation is
known.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from uuid import uuid4

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore.tree import Tree
from tamarin_dagster.private_files import PRIVATE_FILE, PRIVATE_FOLDER, make_private_folder

# A hidden folder, which no listing shows, for the index and unfinished files.
ASIDE = ".tamarin-mirror"
# After these errors no further log key can be written.
_ENDS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class CopiesError(Exception):
    """The folder cannot hold copies. The text names the folder, the cause and the remedy."""


class NotCopiedError(Exception):
    """A log key cannot be copied into the folder; the text says why."""


class Copies:
    """Copies of a log bucket's keys in a folder tree; a log key's path below the folder is its name.

    A file has no place for the ETag that its log key has in the log bucket, and the ETag of a multipart or encrypted
    upload is no digest of the content. So an index next to the files holds the ETags. A log key that is not in the
    index is copied again. Only one process at a time may write.

    `with Copies(folder) as copies` raises CopiesError, and OSError if the folder cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / ASIDE / "incoming"
        self._lock = -1
        self._using = threading.Lock()
        self._index: sqlite3.Connection

    def __enter__(self) -> Self:
        make_private_folder(self._incoming.parent)
        self._lock = os.open(self._incoming.parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            self._begin()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def _begin(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CopiesError(f"{self.folder}: another mirror is writing to it; wait until it ends") from None
        if self._incoming.exists():  # left over from a killed mirror
            shutil.rmtree(self._incoming)
        self._incoming.mkdir(PRIVATE_FOLDER)
        index = self._incoming.parent / "index.sqlite"
        index.touch(PRIVATE_FILE)  # SQLite would let others read it; its journal gets the same mode
        self._index = sqlite3.connect(index, check_same_thread=False)
        with self._asking():
            self._index.execute("CREATE TABLE IF NOT EXISTS copy (key text PRIMARY KEY, etag text NOT NULL)")

    def __exit__(self, *_: object) -> None:
        self._index.close()
        os.close(self._lock)

    def etags(self, objects: Sequence[LogObject]) -> list[str | None]:
        """Return the ETag of each object's copy; None if there is no copy of the listed size. Raises CopiesError."""
        keys = json.dumps([item.key for item in objects])
        with self._asking() as index:
            query = "SELECT key, etag FROM copy WHERE key IN (SELECT value FROM json_each(?))"
            known = dict(index.execute(query, [keys]).fetchall())
        with Tree(self.folder) as tree:
            return [known.get(item.key) if _has_copy(tree, item) else None for item in objects]

    def note(self, objects: Sequence[LogObject]) -> None:
        """Note the generations of the copies, after making the copies durable. Raises CopiesError."""
        with Tree(self.folder) as tree:
            for _, item in sorted({item.key.rpartition("/")[0]: item for item in objects}.items()):
                tree.settle(item.key)
        with self._asking() as index:
            index.executemany("REPLACE INTO copy VALUES (?, ?)", [(item.key, item.etag) for item in objects])

    def write(self, item: LogObject, chunks: Iterable[bytes]) -> None:
        """Write a log key's copy. It appears as a whole, with the time at which the log key was modified.

        Thread-safe. Raises NotCopiedError, CopiesError, and whatever iterating the chunks raises.
        """
        if any(not part or part.startswith(".") for part in item.key.split("/")):
            raise NotCopiedError("it cannot be copied into a folder: a part of its name is empty, or begins with a dot")
        part = self._incoming / uuid4().hex
        try:
            with Tree(self.folder) as tree:
                _write(part, chunks, self._choose_time(tree, item))
                tree.place(part, item.key)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _ENDS:
                raise CopiesError(f"{self.folder}: cannot be written to: {error.strerror}") from error
            raise NotCopiedError(f"cannot be written: {error}") from error
        finally:
            part.unlink(missing_ok=True)

    def _choose_time(self, tree: Tree, item: LogObject) -> int:
        """Return the copy's modification time in nanoseconds.

        FolderLogStore distinguishes generations by it and the size. S3 counts in seconds, so if a log key was
        overwritten within a second, the new copy is dated one nanosecond later.
        """
        modified = (item.last_modified - _EPOCH) // _MICROSECOND * 1000
        present = tree.stat(item.key)
        if present is None or (present.st_size, present.st_mtime_ns // 1000) != (item.size, modified // 1000):
            return modified
        (known,) = self.etags([item])
        return modified if known in {None, item.etag} else present.st_mtime_ns + 1

    @contextlib.contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._using, self._index:
                yield self._index
        except sqlite3.Error as error:
            raise CopiesError(
                f"{self.folder / ASIDE / 'index.sqlite'}: {error}; if it is damaged, delete it, and the log keys are"
                " fetched again"
            ) from error


def _has_copy(tree: Tree, item: LogObject) -> bool:
    try:
        found = tree.stat(item.key)
    except (OSError, ValueError):
        return False
    return found is not None and stat.S_ISREG(found.st_mode) and found.st_size == item.size


def _write(path: Path, chunks: Iterable[bytes], modified_ns: int) -> None:
    new = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(new, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.utime(file.fileno(), ns=(modified_ns, modified_ns))
        os.fsync(file.fileno())
