"""One core for everything that is compared: this process and those that it starts, and one thread in each.

What is measured is CPU time, user and system: on one core that is the time that passes if nothing else runs, and it is
still about that if something does.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

_ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
_BYTES = {"LC_ALL": "C"}
"""gawk and GoAccess work on bytes, which is what they are fastest at and takes any line."""


def pin() -> None:
    """Keep this process, and so what it starts from now on, to one core, where the system knows such a thing."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def python(module: str, *arguments: str) -> str:
    """The standard output of `python -m module`, in a process of its own."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=os.environ | _ONE_THREAD, stdout=subprocess.PIPE, check=True, text=True).stdout


def program_seconds(command: Sequence[str], *, stdout: IO[bytes] | int = subprocess.DEVNULL) -> float:
    """CPU seconds that a program takes from start to end."""
    process = start_program(command, stdout=stdout)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime


def start_program(
    command: Sequence[str], *, stdin: int | None = None, stdout: IO[bytes] | int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """A program whose input or output is a pipe."""
    return subprocess.Popen(command, env=os.environ | _BYTES, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL)
