"""Run all services of deploy/celery as processes of this machine: Redis, code location, daemon, UI, workers.

The settings and the database are those of $TAMARIN_CONFIG. The caller keeps the database running.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml

from benchmarks.dagster_page import Page

REDIS = shutil.which("redis-server")
"""The program of Debian's package of the same name; None if it is not installed."""
DAGSTER_YAML = Path(__file__).parents[2] / "deploy" / "celery" / "dagster.yaml"
LOCATION = "tamarin_dagster"

_START_SECONDS = 120
_STOP_SECONDS = 30
_POLL_SECONDS = 0.2
_TOLD_BYTES = 2_000
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
# Each cluster has its own password, which must not appear in any output.
_PASSWORD_BYTES = 12

Found = TypeVar("Found")


class ClusterError(Exception):
    """A service did not start, or something did not happen in time. The text has the output of the services."""


@dataclass
class Service:
    """A program in its own process group, like on its own machine."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def kill(self) -> None:
        """Kill the whole group with -9, like a machine that goes down."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Send SIGTERM. Kill the processes that do not end in time."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_SECONDS)
        self.kill()

    def reported(self) -> str:
        """Return the end of its output."""
        return self.log.read_text("utf-8", "replace")[-_TOLD_BYTES:]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds so far of the program and its children, including those that have ended."""
        found = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            whole = psutil.Process(self.process.pid)
            for process in [whole, *whole.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += sum(process.cpu_times()[:4])
        return found


@dataclass
class Cluster:
    """Starts services, and talks to the UI. Make one with `with cluster(…)`."""

    folder: Path
    environment: dict[str, str]
    services: dict[str, Service] = field(default_factory=dict)
    page_port: int = 0
    redis_port: int = 0
    redis_password: str = field(default_factory=lambda: secrets.token_hex(_PASSWORD_BYTES))

    def start(self, name: str, *command: str, **environment: str) -> Service:
        """Start a program, with `python -m` unless it is a path."""
        whole = command if command[0].startswith("/") else (sys.executable, "-W", "ignore", "-m", *command)
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                whole,
                cwd=self.folder,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.services[name] = Service(name, process, log)
        return self.services[name]

    def start_redis(self) -> Service:
        """Start the broker, which keeps its data on disk."""
        where = ["--bind", "127.0.0.1", "--port", str(self.redis_port), "--dir", str(self.folder), "--save", ""]
        broker = self.start("redis", str(REDIS), *where, "--appendonly", "yes", "--requirepass", self.redis_password)
        self.wait_for("Redis listens", lambda: _listens(self.redis_port))
        return broker

    def start_worker(self, name: str, **environment: str) -> Service:
        """Start a worker, and wait until it is ready."""
        worker = self.start(
            name, "tamarin_dagster.orchestration.patches.celery_worker", "-n", f"{name}@%h", **environment
        )
        self.wait_for(f"{name} is ready", lambda: f"{name}@" in worker.reported() and " ready." in worker.reported())
        return worker

    def wait_for(
        self, what: str, probe: Callable[[], Found | None], seconds: float = _START_SECONDS, poll: float = _POLL_SECONDS
    ) -> Found:
        """Wait until the probe finds something, and return it. Raises ClusterError."""
        deadline = time.monotonic() + seconds
        while not (found := probe()):
            if time.monotonic() > deadline:
                said = "\n".join(f"--- {service.name}: {service.reported()}" for service in self.services.values())
                raise ClusterError(f"not within {seconds:.0f} s: {what}. The output of the services:\n{said}")
            time.sleep(poll)
        return found

    @property
    def page(self) -> Page:
        """Return a client of the Dagster UI."""
        return Page(f"http://127.0.0.1:{self.page_port}")

    def all_ended(self, at_least: int) -> list[dict[str, Any]] | None:
        """Return all runs if there are this many and all have ended; otherwise None."""
        runs = self.page.runs()
        return runs if len(runs) >= at_least and all(run["status"] in _ENDED for run in runs) else None


@contextlib.contextmanager
def cluster(folder: Path, *, change: Callable[[dict[str, Any]], None] | None = None) -> Iterator[Cluster]:
    """Start Redis, code location, daemon and UI in this folder, without a worker. End all of them at the end.

    `change` may change the content of deploy/celery/dagster.yaml.
    """
    if REDIS is None:
        raise ClusterError("redis-server is not installed")
    home = folder / "dagster-home"
    home.mkdir()
    config = yaml.safe_load(DAGSTER_YAML.read_text("utf-8"))
    del config["compute_logs"]  # it names a folder of the image
    if change:
        change(config)
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), "utf-8")
    code_port = _free_port()
    server = {"host": "127.0.0.1", "port": code_port, "location_name": LOCATION}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}), "utf-8")
    environment = {
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }
    made = Cluster(folder, dict(os.environ) | environment, page_port=_free_port(), redis_port=_free_port())
    made.environment["TAMARIN_BROKER_URL"] = f"redis://:{made.redis_password}@127.0.0.1:{made.redis_port}/0"
    page_port = made.page_port
    try:
        made.start_redis()
        arguments = ["-m", "tamarin_dagster.code_location", "--host", "127.0.0.1", "--port", str(code_port)]
        made.start("code", "dagster", "api", "grpc", *arguments)
        made.wait_for("the code location listens", lambda: _listens(code_port))
        made.start("daemon", "dagster._daemon", "run", "-w", str(folder / "workspace.yaml"))
        where = ["-h", "127.0.0.1", "-p", str(page_port), "-w", str(folder / "workspace.yaml")]
        made.start("page", "dagster_webserver", *where)
        made.wait_for("the page answers", lambda: _answers(page_port))
        yield made
    finally:
        # Redis is the last to end, because its clients end faster while it runs.
        for service in sorted(made.services.values(), key=lambda service: service.name == "redis"):
            service.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _answers(port: int) -> bool:
    url = f"http://127.0.0.1:{port}/server_info"
    with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False
