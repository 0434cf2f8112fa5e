"""The size limit of the embedded server's log: a full disk would stop the database."""

import contextlib
import os
import shutil
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

# For each of server.log and server.log.old.
LOG_BYTES = 10_000_000


def bound_log(log: Path) -> None:
    """Move the log to `….old` if it is longer than LOG_BYTES, while the server may be writing to it. Never raises.

    Postgres appends to the file that it has open, so the log is truncated, not renamed. A line that arrives in between
    is lost.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size <= LOG_BYTES:
            return
        descriptor = os.open(log, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "r+b") as file:  # noqa: PTH123 - a descriptor
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if another process is doing this
            size = os.fstat(descriptor).st_size
            if size <= LOG_BYTES:
                return
            file.seek(size - LOG_BYTES)
            old = log.with_suffix(".log.old")
            old.unlink(missing_ok=True)
            with open(os.open(old, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as kept:  # noqa: PTH123
                shutil.copyfileobj(file, kept)
            file.truncate(0)
