"""Folders of tests: log keys in them, as a store would write them; and where an embedded Postgres may live."""

import os
import shutil
import tempfile
from pathlib import Path

# A cluster has a thousand files, and each database of a test 300 more. On a disk they cost more than what is tested.
MEMORY_FOLDER = Path("/dev/shm")
_MIN_FREE_MEMORY_BYTES = 3 * 2**30


def write_object(path: Path, body: bytes) -> None:
    """Write or overwrite a file so that its modification time changes.

    A file system's clock ticks every few milliseconds; an object overwritten within one would look untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_bytes(body)
    if path.stat().st_mtime_ns <= before:
        os.utime(path, ns=(before + 1, before + 1))


def memory_folder() -> Path | None:
    """Return the folder whose files are in memory, or None where there is none or it is small (64 MB in Docker)."""
    folder = MEMORY_FOLDER
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return None
    return folder if shutil.disk_usage(folder).free >= _MIN_FREE_MEMORY_BYTES else None


def make_short_folder() -> Path:
    """A folder for an embedded Postgres, in memory where there is enough.

    Not tmp_path: pytest closes its parent to other accounts at each start, and under root the server has one of its
    own.
    """
    folder = Path(tempfile.mkdtemp(prefix="tamarin-test-", dir=memory_folder())).resolve()
    folder.chmod(0o711)
    return folder
