"""Folders for the owner alone. Homes, reports, exports, mirrors and backups hold IP addresses and names of people.

Files are created with mode 600 and folders with mode 700. A stricter umask applies in addition, and what exists keeps
its mode. `logstore.files.whole_file` writes such a file.
"""

import os
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
PASSABLE_FOLDER = 0o711


def make_private_folder(folder: Path) -> list[Path]:
    """Make the folder, and each missing one above it, for the owner alone; return those made. Raises OSError.

    `Path.mkdir(mode, parents=True)` would give the mode to the last one only.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(PRIVATE_FOLDER, exist_ok=True)
    return missing


def make_home(folder: Path) -> None:
    """Make a home, or a folder in it that the embedded server runs in. Raises OSError.

    Root's has mode 711: Postgres refuses to run as root, and the account that runs it has to pass through. It cannot
    list the folder, and all that lies in it has modes of its own.
    """
    made = make_private_folder(folder)
    if os.geteuid() == 0:
        for each in made:
            each.chmod(PASSABLE_FOLDER)
