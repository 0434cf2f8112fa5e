"""Files and folders for their owner only. Homes, reports, exports and backups hold addresses and names of people.

Files are created with mode 600 and folders with mode 700. A stricter umask applies in addition, and existing ones keep
their mode.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
PASSABLE_FOLDER = 0o711


def make_private_folder(folder: Path) -> list[Path]:
    """Create the folder, and each missing one above it, for its owner only; return those created. Raises OSError.

    `Path.mkdir(mode, parents=True)` would apply the mode to the last one only.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(PRIVATE_FOLDER, exist_ok=True)
    return missing


def make_home(folder: Path) -> None:
    """Create a home, or a folder in it that the embedded server runs in. Raises OSError.

    Root's has mode 711: Postgres refuses to run as root, and the account that runs it must pass through. That account
    cannot list the folder, and everything in it has its own mode.
    """
    made = make_private_folder(folder)
    if os.geteuid() == 0:
        for each in made:
            each.chmod(PASSABLE_FOLDER)


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
