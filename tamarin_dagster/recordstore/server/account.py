"""The account that runs the embedded Postgres. Root may not run Postgres, so an unprivileged account replaces it."""

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import pwd

_log = logging.getLogger(__name__)

_SERVER_ACCOUNT = "tamarin-postgres"
_FALLBACK_ACCOUNT = "nobody"


@dataclass(frozen=True)
class ServerAccount:
    """An unprivileged account that runs the server in place of root."""

    uid: int
    gid: int


def server_account(data: Path) -> ServerAccount | None:
    """Return the account for the server of that data directory; None if the current user can run it.

    An existing directory keeps its owner: after `sudo`, an ordinary user's home must still be usable for that user.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return ServerAccount(owner.st_uid, owner.st_gid)
    entry = _account_entry(_SERVER_ACCOUNT) or _create_account_entry() or pwd.getpwnam(_FALLBACK_ACCOUNT)
    return ServerAccount(entry.pw_uid, entry.pw_gid)


def _account_entry(name: str) -> "pwd.struct_passwd | None":
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _create_account_entry() -> "pwd.struct_passwd | None":
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        return None
    command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SERVER_ACCOUNT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Look it up even if useradd failed: another process may have created it in the meantime.
    entry = _account_entry(_SERVER_ACCOUNT)
    if entry is None:
        _log.warning("useradd %s: %s; using %s", _SERVER_ACCOUNT, done.stderr.strip(), _FALLBACK_ACCOUNT)
    return entry


def hand_over(path: Path, account: ServerAccount | None) -> None:
    """Make the account the owner of a path and all in it: files that root copied belong to root."""
    if account is None or path.lstat().st_uid == account.uid:
        return
    for folder, _, files in os.walk(path):
        for name in files:
            os.chown(Path(folder, name), account.uid, account.gid, follow_symlinks=False)
        if folder != str(path):
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)
    # The path itself last: if this is interrupted, the next start sees that root owns it and repeats this.
    os.chown(path, account.uid, account.gid, follow_symlinks=False)
