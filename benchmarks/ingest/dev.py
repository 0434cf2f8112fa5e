"""Dagster as `make dev` starts it, for measurements of it."""

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
    """A running `tamarin-dagster dev`, and when it was started, as time.monotonic() has it."""

    process: "subprocess.Popen[bytes]"
    log: Path
    started: float

    def told(self) -> str:
        """All that it has said."""
        return self.log.read_text("utf-8", "replace")

    def wait_for(self, what: str, probe: Callable[[], Found], seconds: float) -> Found:
        """What the probe finds in the end. If that takes too long the measurement ends, with what Dagster says."""
        deadline = time.monotonic() + seconds
        while not (found := probe()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{what}: not within {seconds} s. Dagster says:\n{self.told()[-_TOLD_BYTES:]}")
            time.sleep(_POLL_SECONDS)
        return found

    def address(self) -> str:
        """That of its page, once it says it."""
        found = self.wait_for("the page", lambda: _ADDRESS.search(self.told()), _START_SECONDS)
        return found[1] if found else ""


@contextlib.contextmanager
def dev(log: Path, port: int) -> Iterator[Dev]:
    """It, in the present environment; what it says is in the file."""
    started = time.monotonic()
    with log.open("wb") as out:
        # a session of its own: a ctrl-C in the terminal is for us, and it would take a second one for an end in haste
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
    """What Dagster knows in this home, once its page is there."""
    running.address()
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        yield instance
