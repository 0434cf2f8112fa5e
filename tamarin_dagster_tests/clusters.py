"""Copies of a cluster of the embedded Postgres: initdb takes a second of a processor, a copy of its files a tenth."""

import atexit
import functools
import shutil
import subprocess
from pathlib import Path

from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster_tests.folders import make_short_folder


def give_cluster(home: Path) -> None:
    """Put a cluster into the home, as after a start and a stop of its server: for tests that are not about initdb."""
    used = _used_home()
    if not home.exists():
        home.mkdir(parents=True)
        home.chmod(used.stat().st_mode)
    # With owners and modes: under root the files belong to the server's account.
    subprocess.run(["cp", "-a", str(used / "postgres"), str(home)], check=True)


def copy_data(folder: Path) -> None:
    """Put the data of such a cluster into the folder of a server."""
    subprocess.run(["cp", "-a", str(_used_home() / "postgres/data"), str(folder)], check=True)


@functools.cache
def _used_home() -> Path:
    folder = make_short_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with EmbeddedPostgres(folder / "home"):
        pass
    (folder / "home/postgres/server.log").unlink()
    return folder / "home"
