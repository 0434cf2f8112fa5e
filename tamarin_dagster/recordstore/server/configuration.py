"""The configuration of the embedded Postgres, and the folder of its socket."""

import hashlib
import os
import re
import stat
import sys
from pathlib import Path

from tamarin_dagster.recordstore.server.account import ServerAccount

PORT = 5432
# sun_path is 108 bytes on Linux and 104 on macOS, with the final NUL; Postgres appends its socket's name.
_SOCKET_DIR_BYTES = 103 - len(f"/.s.PGSQL.{PORT}")
# Characters that libpq, SQLAlchemy and postgresql.conf all take unchanged. A comma separates hosts and has no escape.
_SAFE_PATH = re.compile(r"[\w /.+@=~()-]+")

_CONFIGURATION = """\
# Written at each start of the embedded server. Own settings: ALTER SYSTEM, or postgresql.conf below the include.
listen_addresses = ''                # the socket only: nothing for a port scan to find, no port to clash over
port = {port}                        # part of the socket's name; explicit because PGPORT would change it
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700       # local trust: who may open the socket is the authentication
fsync = on                           # these three: log keys are deleted after their commit, so a commit must be final
synchronous_commit = on
full_page_writes = on
wal_level = minimal                  # nobody replicates this server
max_wal_senders = 0
wal_compression = off                # only pglz is built in: no gain in a load, and CREATE DATABASE took 200 ms, not 30
max_wal_size = 4GB                   # a backfill writes WAL by the GB: fewer checkpoints, fewer full-page images
checkpoint_timeout = 15min
shared_buffers = 256MB               # holds the ledger and the rollups' working set, and still fits a small machine
max_connections = 200                # web server, daemon, code server and 31 backfill runs, each with a small pool
{shared_memory}
autovacuum = on                      # also freezes and analyzes: the planner needs it on freshly loaded months
timezone = 'UTC'                     # request times and days are UTC
log_timezone = 'UTC'
lc_messages = 'C'
log_min_error_statement = fatal      # the statement of an error may be of any length, and may hold secrets
cluster_name = 'tamarin'             # what `ps` shows
"""
# Docker gives a container 64 MB of /dev/shm, and a parallel hash join over a month of records does not fit in it.
# System V segments are not subject to that limit on Linux; on macOS they have a smaller one.
_SHARED_MEMORY = "dynamic_shared_memory_type = sysv" if sys.platform == "linux" else ""


def configuration(socket_dir: Path) -> str:
    """Return the text of server.conf. It needs no quoting: `socket_directory` returns only safe paths."""
    return _CONFIGURATION.format(port=PORT, socket_dir=socket_dir, shared_memory=_SHARED_MEMORY)


def socket_directory(folder: Path) -> Path:
    """Return `run` in the server's folder, or a folder named after it in /tmp if that is no possible socket path.

    In /tmp and not TMPDIR, because all processes must use the same path.
    """
    inside = folder / "run"
    if len(os.fsencode(inside)) <= _SOCKET_DIR_BYTES and _SAFE_PATH.fullmatch(str(inside)):
        return inside
    return Path("/tmp") / f"tamarin-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:20]}"  # noqa: S108  # check_private


def check_private(folder: Path, account: ServerAccount | None) -> None:
    """Refuse a socket directory that somebody else could have placed in /tmp: data would go to their server.

    Raises PermissionError.
    """
    status = folder.lstat()
    owners = {os.geteuid(), account.uid if account else os.geteuid()}
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"{folder} belongs to another user or is open to others; run as its owner, or remove it")
