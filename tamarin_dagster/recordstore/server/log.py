"""The bound of the embedded server's log: a disk that it has filled would stop the database."""

import contextlib
import os
import shutil
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

# Of server.log and of server.log.old each.
LOG_BYTES = 10_000_000


def bound_log(log: Path) -> None:
    """Move what is in the log to `….old` if it is longer than LOG_BYTES; the server may be writing to it. Never raises.

    Postgres appends to the file that it has open, so that it is cut, not renamed. A line that comes in between is lost.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size <= LOG_BYTES:
            return
        descriptor = os.open(log, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "r+b") as file:  # noqa: PTH123 - a descriptor
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # another process is at it: let it
            size = os.fstat(descriptor).st_size
            if size <= LOG_BYTES:
                return
            file.seek(size - LOG_BYTES)
            old = log.with_suffix(".log.old")
            old.unlink(missing_ok=True)
            with open(os.open(old, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as kept:  # noqa: PTH123
                shutil.copyfileobj(file, kept)
            file.truncate(0)
