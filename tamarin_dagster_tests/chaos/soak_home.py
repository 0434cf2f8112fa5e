"""The stage of a soak: a folder with settings, a log bucket and a home, and `tamarin-dagster dev` on it."""

import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tamarin_dagster.homes import CONFIG_VARIABLE
from tamarin_dagster.recordstore.connections import RECORDS_DATABASE
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster_tests.chaos.soak_processes import SUMS, Process, processes_of
from tamarin_dagster_tests.chaos.soak_writer import LOG_PREFIX

_COMMAND = (sys.executable, "-m", "tamarin_dagster.cli")
_FOREIGN = ("TAMARIN_", "DAGSTER_", "AWS_")
_PORT = 3_500
_SENSOR_SECONDS = 3
_ANSWER_SECONDS = 5
# A first page takes up to three minutes (dev.PAGE_SECONDS); one that was there may be busy for a while.
_START_SECONDS, _DEAD_PAGE_SECONDS = 200, 45
_STOP_SECONDS = 120
_PAGE = re.compile(r"^(http://\S+)\s*$", re.MULTILINE)


class Soak:
    """The folder of a soak, and what is known from outside."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o711)  # under root, Postgres runs as another account, which has to pass
        self.folder = folder
        self.home = folder / "home"
        self.config = folder / "tamarin.yaml"
        self.log_folder = folder / "log-keys"
        self.account = folder / "account.tsv"
        self.log_folder.mkdir()
        bucket = {
            "name": "media",
            "log_bucket_name": self.log_folder.as_uri(),
            "log_prefix": LOG_PREFIX,
            "start_date": datetime.now(UTC).date() - timedelta(days=1),
        }
        settings = {"home": str(self.home), "pull_parse_interval": _SENSOR_SECONDS / 60, "buckets": [bucket]}
        settings["quiet_seconds"] = 0  # the writer's files appear whole
        self.config.write_text(yaml.safe_dump(settings))
        ours = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self.environment = ours | {CONFIG_VARIABLE: str(self.config)}

    def rows(self, query: str, database: str = RECORDS_DATABASE) -> list[tuple[Any, ...]]:
        """Return the rows of a query. This starts no server: it raises psycopg.Error if there is none."""
        url = EmbeddedPostgres(self.home).url(database, "postgresql")
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(query).fetchall()

    def loaded(self) -> int | None:
        """Keys in the ledger; None while the server is down."""
        with contextlib.suppress(psycopg.Error):
            return int(self.rows("SELECT count(*) FROM s3_log_key")[0][0])
        return None

    def written(self) -> dict[str, int]:
        """By key its lines, as who wrote them says."""
        entries = (text.split("\t") for text in self.account.read_text().splitlines())
        return {key: int(count) for key, count in entries}

    def in_bucket(self) -> int:
        """Keys in the log bucket."""
        folder = self.log_folder / LOG_PREFIX
        return sum(not path.name.startswith(".") for path in folder.iterdir()) if folder.is_dir() else 0

    def processes(self) -> list[Process]:
        """All of the project's."""
        return processes_of(self.config, self.home)

    def start_writer(self, keys_per_second: float, seed: int) -> subprocess.Popen[bytes]:
        """Lets keys arrive, until SIGTERM."""
        self.account.touch()
        given = [str(self.log_folder), str(self.account), str(keys_per_second), str(seed)]
        return subprocess.Popen([sys.executable, "-m", "tamarin_dagster_tests.chaos.soak_writer", *given])

    def pull(self) -> str:
        """Pulls once, without Dagster; how it ended and what it said."""
        done = subprocess.run(
            [*_COMMAND, "pull"], env=self.environment, capture_output=True, text=True, errors="replace", check=False
        )
        return f"pull: exit {done.returncode}\n{done.stderr[-2_000:]}"


class Dev:
    """`tamarin-dagster dev`, started again whenever it is gone."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._page = ""
        self._alive_at = 0.0

    @property
    def restarts(self) -> int:
        """Return how often it was restarted."""
        return self._starts - 1

    def watch(self) -> str:
        """Start it if it does not run or its UI is dead, and report that."""
        if self._process is None:
            self._start()
            return ""
        if (status := self._process.poll()) is not None:
            why = f"dev ended ({status})"
        elif self._is_dead():
            why = "page dead"
        else:
            return ""
        left = self._end_all()
        self._start()
        return f"{why}, {left} left over; started again"

    def _start(self) -> None:
        self._starts += 1
        with self._log().open("wb") as out:
            self._process = subprocess.Popen(
                [*_COMMAND, "dev", "--port", str(_PORT)],
                env=self._soak.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._page, self._alive_at = "", time.monotonic() + _START_SECONDS - _DEAD_PAGE_SECONDS

    def _log(self) -> Path:
        return self._soak.folder / f"dev-{self._starts}.log"

    def _is_dead(self) -> bool:
        if not self._page and (found := _PAGE.search(self._log().read_text("utf-8", "replace"))):
            self._page = found[1]
        if self._page:
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(f"{self._page}/server_info", timeout=_ANSWER_SECONDS),
            ):
                self._alive_at = time.monotonic()
        return time.monotonic() - self._alive_at > _DEAD_PAGE_SECONDS

    def _end_all(self) -> int:
        """Kill the remaining processes except those of Postgres, and return their number."""
        left = [process for process in self._soak.processes() if process.kind not in SUMS["postgres"]]
        for process in left:
            process.kill()
        if self._process:
            self._process.wait()
        return len(left)

    def stop(self) -> None:
        """End it like ctrl-C, then end the remaining processes."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self._end_all()
