"""Folders for their owner only. Homes, reports, exports, mirrors and backups hold IP addresses and names of people.

Files are created with mode 600 and folders with mode 700. A stricter umask applies in addition, and existing ones keep
their mode. `logstore.files.write_whole_file` writes such a file.
"""

import os
from pathlib import Path

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
