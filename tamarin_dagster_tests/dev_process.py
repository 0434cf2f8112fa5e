"""`tamarin-dagster dev` in a process of its own, as a person starts it; it is ended whatever happens."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# The first free port from here on is taken.
_PORT = 3400
_FOREIGN = ("TAMARIN_", "DAGSTER_", "AWS_")
_START_SECONDS = 180
_STOP_SECONDS = 60
_TOLD_BYTES = 3000


class DevError(AssertionError):
    """Dagster did not start; the message has what it said."""


@dataclass(frozen=True)
class DevProcess:
    """A running `dev`, which may be starting still."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def reported(self) -> str:
        """The end of what it says."""
        return self.log.read_text("utf-8", "replace")[-_TOLD_BYTES:]

    def page(self) -> str:
        """The page's address, once it answers. Raises DevError."""
        deadline = time.monotonic() + _START_SECONDS
        while not (page := re.search(r"^(http://\S+)\s*$", self.log.read_text("utf-8", "replace"), re.MULTILINE)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise DevError(f"Dagster did not start; it says: {self.reported()}")
            time.sleep(0.2)
        return page[1]


@contextlib.contextmanager
def dev_process(config: Path, log: Path, environment: Mapping[str, str]) -> Iterator[DevProcess]:
    """`dev` with these settings, in this environment, which takes nothing of ours that the shell may have set."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    clean |= {"COLUMNS": "300", **environment}
    command = [sys.executable, "-m", "tamarin_dagster.cli", "--config", str(config)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "dev", "--port", str(_PORT)], env=clean, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield DevProcess(process, log)
    finally:
        _end(process, [*command, "stop"], clean)


def descendants(pid: int) -> list[int]:
    """A process' children, and theirs."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def _end(process: "subprocess.Popen[bytes]", stop: list[str], environment: Mapping[str, str]) -> None:
    """SIGTERM, which ends all it has started; if that does not help, kill -9 to each of them."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in [process.pid, *descendants(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        subprocess.run(stop, env=environment, capture_output=True, check=False)  # its embedded server
