"""Writing log keys to a folder as a store would."""

import os
from pathlib import Path


def write_object(path: Path, body: bytes) -> None:
    """Writes or overwrites a file so that its modification time changes.

    A file system's clock ticks every few milliseconds; an object overwritten within one would look untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_bytes(body)
    if path.stat().st_mtime_ns <= before:
        os.utime(path, ns=(before + 1, before + 1))
