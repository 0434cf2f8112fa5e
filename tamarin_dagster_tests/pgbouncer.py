"""PgBouncer in transaction mode before a Postgres: each transaction may come to another connection of the server."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
NOT_INSTALLED = "pgbouncer is not installed (Debian: apt-get install pgbouncer)"
_START_SECONDS = 20
# A client that waits longer gets an error: where all wait for each other, the test ends with it.
_WAIT_SECONDS = 60


@contextmanager
def pgbouncer(server: sa.URL, folder: Path, *, pool_size: int, user: str = "postgres") -> Iterator[sa.URL]:
    """The URL of a pooler before that server, with so many connections of the server for each database.

    The server is reached by its socket, so that the pooler runs as the user who owns that.
    """
    if PROGRAM is None:
        raise RuntimeError(NOT_INSTALLED)
    sockets = Path(str(server.query.get("host") or server.host))
    account = pwd.getpwuid(sockets.stat().st_uid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    config = folder / "pgbouncer.ini"
    config.write_text(
        "[databases]\n"
        f"* = host={sockets} port={server.query.get('port') or server.port or 5432} user={user}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\n"
        f"default_pool_size = {pool_size}\nmax_client_conn = 200\nquery_wait_timeout = {_WAIT_SECONDS}\n"
    )
    command = [PROGRAM, *(["-u", account.pw_name] if os.geteuid() == 0 else []), str(config)]
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = server.set(host="127.0.0.1", port=port, username=user, drivername="postgresql").set(query={})
    try:
        _wait(url, process, folder)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _wait(url: sa.URL, process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(url.set(database="postgres").render_as_string(hide_password=False)).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((folder / "pgbouncer.log").read_text("utf-8", "replace")) from None
            time.sleep(0.05)
        else:
            return
