"""A folder tree of log keys on this machine."""

import contextlib
import os
import stat
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore.store import (
    CHANGED_SINCE_LISTED,
    CHUNK_BYTES,
    LIST_PAGE_KEYS,
    Deleted,
    Fetched,
    FetchError,
    LogStoreError,
    Opened,
    explain_wrong_size,
)
from tamarin_dagster.logstore.tree import Tree, generation, is_quiet

# A folder that was changed this recently may change again with the same modification time, because some network file
# systems count whole seconds.
_SETTLED_NANOSECONDS = 2 * 10**9
# The maximum number of names that are cached between listings; about 50 MB.
_MAX_KEPT_NAMES = 500_000


@dataclass(frozen=True, slots=True)
class _Names:
    """The content of a folder at its last modification, sorted like S3's keys; names of folders end with a slash."""

    base: str
    modified: int
    names: list[str]


class FolderLogStore:
    """A folder tree of log keys; an object's key is its path below the folder.

    Links are not followed; hidden files and folders (`.incoming`, `.DS_Store`) are ignored. A file that was changed
    less than `quiet_seconds` ago may still be written: it is listed as not quiet, and never deleted.
    """

    def __init__(self, folder: Path, log_bucket_name: str, *, quiet_seconds: float = 0) -> None:
        self.name = log_bucket_name
        self._folder = folder
        self._quiet_seconds = quiet_seconds
        # One folder may hold years of log keys, and each of their days is a listing of its own.
        self._last = _Names("", -1, [])

    def pages(self, prefix: str, start_after: str = "", page_keys: int = LIST_PAGE_KEYS) -> Iterator[list[LogObject]]:
        """See LogStore."""
        if not self._folder.is_dir():
            raise LogStoreError(
                f"log bucket {self.name}: the folder does not exist; check log_bucket_name, or mount it"
            )
        page: list[LogObject] = []
        try:
            for item in self._walk("", prefix, start_after):
                page.append(item)
                if len(page) == page_keys:
                    yield page
                    page = []
        except OSError as error:
            raise LogStoreError(f"log bucket {self.name}: cannot be listed: {error}") from error
        if page:
            yield page

    def _walk(self, base: str, prefix: str, start_after: str) -> Iterator[LogObject]:
        """Yield the files below `base`, which is empty or a path with a slash at its end."""
        wanted = _cut_base(base, prefix)
        rest = _cut_base(base, start_after)
        step = _first_step(wanted)
        # Above the folder of the prefix, list only the folders that lead to it.
        names = self._names_if_folder(base, step) if step.endswith("/") else self._names(base)
        for number in range(max(bisect_left(names, step), bisect_left(names, _first_step(rest))), len(names)):
            name = names[number]
            if not name.startswith(step):
                return
            if name.endswith("/"):
                with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                    yield from self._walk(base + name, prefix, start_after)
            elif name != rest:
                try:
                    found = os.lstat(f"{self._folder}/{base}{name}")
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(found.st_mode):
                    modified = datetime.fromtimestamp(found.st_mtime, UTC)
                    quiet = self._quiet_seconds <= 0 or is_quiet(found, self._quiet_seconds, time.time())
                    yield LogObject(base + name, generation(found), found.st_size, modified, is_quiet=quiet)

    def _names_if_folder(self, base: str, name: str) -> list[str]:
        path = self._folder / base / name
        return [name] if name != "/" and name[0] != "." and path.is_dir() and not path.is_symlink() else []

    def _names(self, base: str) -> list[str]:
        """Return the sorted names of files and folders; read them again only if the folder has changed."""
        folder = self._folder / base
        modified = folder.stat().st_mtime_ns
        if (self._last.base, self._last.modified) == (base, modified):
            return self._last.names
        with os.scandir(folder) as entries:
            names = [
                entry.name + "/" * entry.is_dir(follow_symlinks=False)
                for entry in entries
                if not entry.name.startswith(".") and not entry.is_symlink()
            ]
        names.sort()
        if time.time_ns() - modified > _SETTLED_NANOSECONDS and len(names) <= _MAX_KEPT_NAMES:
            self._last = _Names(base, modified, names)
        return names

    def fetch(self, objects: Sequence[LogObject]) -> list[Fetched]:
        """See LogStore. One by one: threads took five times the processor time on cached files."""
        with Tree(self._folder) as tree:
            return [_fetch(tree, item) for item in objects]

    def open(self, item: LogObject) -> Opened:
        """See LogStore."""
        with _as_fetch_errors(), Tree(self._folder) as tree:
            file = FileIO(_open_generation(tree, item))
            return Opened(item, _chunks(file, item), file.close)

    def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
        """See LogStore."""
        with Tree(self._folder) as tree:
            return [_delete(tree, item, self._quiet_seconds) for item in objects]


def _fetch(tree: Tree, item: LogObject) -> Fetched:
    try:
        with _as_fetch_errors():
            file = _open_generation(tree, item)
            try:
                return Fetched(item, _read(file, item))
            finally:
                os.close(file)
    except FetchError as error:
        return Fetched(item, b"", str(error))


def _open_generation(tree: Tree, item: LogObject) -> int:
    file = tree.open(item.key)
    try:
        _check_generation(file, item)
    except BaseException:
        os.close(file)
        raise
    return file


def _read(file: int, item: LogObject) -> bytes:
    body = os.read(file, item.size + 1)
    while len(body) < item.size and (more := os.read(file, item.size + 1 - len(body))):  # a read returns at most 2 GiB
        body += more
    _check_generation(file, item)
    if len(body) != item.size:
        raise FetchError(explain_wrong_size(len(body), item.size))
    return body


def _chunks(file: FileIO, item: LogObject) -> Iterator[bytes]:
    read = 0
    with file, _as_fetch_errors():
        while read <= item.size and (chunk := file.read(CHUNK_BYTES)):
            read += len(chunk)
            yield chunk
        _check_generation(file.fileno(), item)
    if read != item.size:
        raise FetchError(explain_wrong_size(read, item.size))


def _check_generation(file: int, item: LogObject) -> None:
    if generation(os.fstat(file)) != item.etag:
        raise FetchError(CHANGED_SINCE_LISTED)


@contextlib.contextmanager
def _as_fetch_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FetchError(CHANGED_SINCE_LISTED) from None
    except (OSError, ValueError) as error:
        raise FetchError(f"cannot be read: {error}") from error


def _delete(tree: Tree, item: LogObject, quiet_seconds: float) -> Deleted:
    try:
        return Deleted(item, tree.remove(item, quiet_seconds))
    except FileNotFoundError:
        return Deleted(item)
    except (OSError, ValueError) as error:
        return Deleted(item, f"cannot be deleted: {error}")


def _cut_base(base: str, name: str) -> str:
    """Return the part of the name below `base`; empty if `base` lies below it or sorts after it."""
    return name[len(base) :] if name.startswith(base) else ""


def _first_step(name: str) -> str:
    """Return the name up to its first slash, including the slash."""
    return name[: name.find("/") + 1] or name
