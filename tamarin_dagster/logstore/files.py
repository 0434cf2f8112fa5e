"""Files that are there whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tamarin_dagster.private_files import make_private_folder


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, that takes its name once all is on the disk; an older one of that name is replaced.

    Until then its name begins with a dot, which readers of folders pass over. Only its owner may read it, and enter the
    folders that are made for it. Raises OSError.
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
    """Puts the names in a folder on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
