"""Use one core for everything that is compared: this process, the processes that it starts, and one thread in each.

The benchmark measures CPU time, user and system. On one core this is the elapsed time if nothing else runs, and nearly
the same if something does.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

_ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
_BYTES = {"LC_ALL": "C"}
"""With this locale gawk and GoAccess work on bytes: this is their fastest mode, and it accepts any line."""


def pin() -> None:
    """Pin this process and its future children to one core, if the system supports that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def python(module: str, *arguments: str) -> str:
    """Return the standard output of `python -m module`, run as a separate process."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=os.environ | _ONE_THREAD, stdout=subprocess.PIPE, check=True, text=True).stdout


def program_seconds(command: Sequence[str], *, stdout: IO[bytes] | int = subprocess.DEVNULL) -> float:
    """Return the CPU seconds of a program from start to end."""
    process = start_program(command, stdout=stdout)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime


def start_program(
    command: Sequence[str], *, stdin: int | None = None, stdout: IO[bytes] | int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a program whose input or output is a pipe."""
    return subprocess.Popen(command, env=os.environ | _BYTES, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL)
