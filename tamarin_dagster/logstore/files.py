"""Write files that appear only when they are complete."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tamarin_dagster.private_files import make_private_folder


@contextmanager
def write_whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name, replacing an older file, when it is complete and durable.

    Until then its name begins with a dot, and readers of folders skip it. Only the owner can read the file, and enter
    folders that are created for it. Raises OSError.
    """
    make_private_folder(path.parent)
    # tempfile creates it with mode 600.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".writing", delete=False) as file:
        try:
            yield file.file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
