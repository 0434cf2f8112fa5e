"""Runs as processes of this machine, and whether a run's process is still there. Named in dagster.yaml."""

import os
from pathlib import Path

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

# What Dagster says in the process of a run that begins; the event has its pid.
_STARTED = "Started process for run"
# A process that was born so many seconds later than that was told is another one with the same pid.
_PATIENCE_SECONDS = 60


class LocalRunLauncher(DefaultRunLauncher):
    """DefaultRunLauncher that run monitoring can ask.

    The code server tells when a run's process has died. But if it has died too, with the machine perhaps, the run would
    stay STARTED for ever, and its day would wait for it. Only where daemon and runs share a machine (and a container):
    elsewhere a pid says nothing.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks then."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the run's process lives; what has not yet told of its process is taken to."""
        for entry in self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            event = entry.dagster_event
            if event and (event.message or "").startswith(_STARTED):
                pid = int(str(event.engine_event_data.metadata["pid"].value))
                if not lives(pid, since=entry.timestamp):
                    return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process {pid} is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def lives(pid: int, since: float) -> bool:
    """Whether there is a process of that pid that has been there `since` (seconds since 1970)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's: not one of ours
        return False
    try:
        # Behind the name, which may hold anything: state, and as the 20th field the birth in clock ticks since boot.
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, StopIteration):
        return not Path("/proc/self/stat").exists()  # no Linux: the pid is all that is known
    born = int(boot.split()[1]) + int(told[19]) / os.sysconf("SC_CLK_TCK")
    return told[0] != "Z" and born <= since + _PATIENCE_SECONDS
