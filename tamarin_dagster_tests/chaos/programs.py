"""The command line in processes that can be killed, forked from one that has imported everything: a pull takes half a
second that way instead of four.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from tamarin_dagster import cli, failpoints
from tamarin_dagster.cli.app import load_commands
from tamarin_dagster.logstore import client, folder, s3  # noqa: F401 - boto3 is imported before the fork
from tamarin_dagster.pipeline import pull as pulling
from tamarin_dagster.pipeline import purge
from tamarin_dagster.recordstore.loading import compile_all

# So that a history of some thirty keys makes several batches, pages and parts.
_SMALL = {
    (pulling, "BATCH_KEYS"): 5,
    (pulling, "BATCH_BYTES"): 20_000,
    (folder, "CHUNK_BYTES"): 30_000,
    (s3, "CHUNK_BYTES"): 30_000,
    (purge, "PURGE_PAGE_KEYS"): 8,
}
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_KILLED = -signal.SIGKILL

if multiprocessing.parent_process() is None and __name__ != "__mp_main__":
    # In the process that forks: once for all.
    load_commands()
    compile_all()


@dataclass(frozen=True)
class Ended:
    """The end of a program: its exit status (negative: the signal that killed it) and its output."""

    status: int
    said: str

    @property
    def how(self) -> str:
        """In words."""
        return "killed" if self.status == _KILLED else f"exit {self.status}"


class Program:
    """A command line under way."""

    def __init__(self, process: BaseProcess, log: Path) -> None:
        self._process = process
        self._log = log

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()

    def interrupt(self) -> None:
        """As ctrl-C does."""
        if self._process.pid and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGINT)

    def is_alive(self) -> bool:
        """Return whether it is running."""
        return self._process.is_alive()

    def ended(self, seconds: float = 120) -> Ended:
        """Wait for its end."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"a program did not end within {seconds} s; it says: {self._said()}")
        return Ended(self._process.exitcode, self._said())

    def _said(self) -> str:
        # It may have been killed before it said anything.
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""


class Programs:
    """Starts programs. `with` it: the process that forks ends with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(
        self, config: Path, *arguments: str, failpoint: str = "", clock_hours: float = 0, **environment: str
    ) -> Program:
        """`tamarin-dagster --config … arguments`, with a fail point armed, or with a clock that is wrong."""
        self._count += 1
        log = self._folder / f"program-{self._count}.log"
        given = (["--config", str(config), *arguments], environment, failpoint, clock_hours, log)
        process = self._context.Process(target=_run, args=given, daemon=True)
        process.start()
        return Program(process, log)


def _run(arguments: list[str], environment: Mapping[str, str], failpoint: str, clock_hours: float, log: Path) -> None:
    with log.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ |= {"COLUMNS": "300", **_CREDENTIALS, **environment}
    for (module, name), value in _SMALL.items():
        setattr(module, name, value)
    if clock_hours:
        _set_clock(timedelta(hours=clock_hours))
    failpoints.arm(failpoint)
    sys.argv = ["tamarin-dagster", *arguments]
    cli.main()


def _set_clock(off: timedelta) -> None:
    """Every module of the project sees a clock that is so far off."""
    right = time.time

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + off

    time.time = lambda: right() + off.total_seconds()
    for name, module in list(sys.modules.items()):
        if name.startswith("tamarin_dagster.") and vars(module).get("datetime") is datetime:
            vars(module)["datetime"] = Wrong
