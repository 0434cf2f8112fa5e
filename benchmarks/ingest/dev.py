"""Run Dagster like `make dev`, for benchmarks."""

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import dagster as dg

from benchmarks.ingest.stage import COMMAND

_ADDRESS = re.compile(r"^(http://\S+)\s*$", re.MULTILINE)
_START_SECONDS = 300
_STOP_SECONDS = 120
_POLL_SECONDS = 0.1
_TOLD_BYTES = 3_000

Found = TypeVar("Found")


@dataclass(frozen=True)
class Dev:
    """A running `tamarin-dagster dev`, and its start by time.monotonic()."""

    process: "subprocess.Popen[bytes]"
    log: Path
    started: float

    def reported(self) -> str:
        """Return all of its output."""
        return self.log.read_text("utf-8", "replace")

    def wait_for(self, what: str, probe: Callable[[], Found], seconds: float) -> Found:
        """Wait until the probe finds something, and return it. After the limit, exit with Dagster's output."""
        deadline = time.monotonic() + seconds
        while not (found := probe()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{what}: not within {seconds} s. Dagster says:\n{self.reported()[-_TOLD_BYTES:]}")
            time.sleep(_POLL_SECONDS)
        return found

    def address(self) -> str:
        """Wait for the address of the UI, and return it."""
        found = self.wait_for("the page", lambda: _ADDRESS.search(self.reported()), _START_SECONDS)
        return found[1] if found else ""


@contextlib.contextmanager
def dev(log: Path, port: int) -> Iterator[Dev]:
    """Run it in the current environment, with its output in the file."""
    started = time.monotonic()
    with log.open("wb") as out:
        # in a separate session: ctrl-C in the terminal is for us, and a second one would make it end in haste
        process = subprocess.Popen(
            [*COMMAND, "dev", "--port", str(port)], stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield Dev(process, log, started)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def instance_of(running: Dev, home: Path) -> Iterator[dg.DagsterInstance]:
    """Return the Dagster instance of this home. Call it when the UI answers."""
    running.address()
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        yield instance
