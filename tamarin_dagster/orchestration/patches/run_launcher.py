"""Runs as processes of the code server, and whether a run's process is still there. Named in dagster.yaml.

LocalRunLauncher looks for the process: where daemon and runs share a machine. ServedRunLauncher asks the code server:
where that is a container of its own.
"""

import os
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

from tamarin_dagster.orchestration.patches.run_health import PATIENCE_SECONDS, Patience

# What Dagster says in the process of a run that begins; the event has its pid.
_STARTED = "Started process for run"
# A process that was born so many seconds after the run reported its own is another one with the same pid.
_BIRTH_TOLERANCE_SECONDS = 60
# A code server answers within milliseconds.
ANSWER_SECONDS = 10


class LocalRunLauncher(DefaultRunLauncher):
    """DefaultRunLauncher that run monitoring can ask.

    The code server reports when a run's process has died. If it has died too, for example with the machine, the run
    would stay STARTED forever, and its day would wait for it. Only where daemon and runs share a machine (and a
    container): elsewhere a pid says nothing.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks then."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the run's process lives; a run that has not reported its process yet counts as alive."""
        for entry in self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            event = entry.dagster_event
            if event and (event.message or "").startswith(_STARTED):
                pid = int(str(event.engine_event_data.metadata["pid"].value))
                if not lives(pid, since=entry.timestamp):
                    return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process {pid} is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


class ServedRunLauncher(DefaultRunLauncher):
    """DefaultRunLauncher that run monitoring can ask, over the network.

    A code server that is started again, with its container perhaps, has none of the runs that it had: without this
    they would stay STARTED forever.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience = Patience(PATIENCE_SECONDS)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks then."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the code server has the run; one that does not answer has PATIENCE_SECONDS to come back."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:  # it has ended meanwhile
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=ANSWER_SECONDS)
        except DagsterUserCodeUnreachableError:
            return self._patience.missing(run.run_id, "its code server does not answer")
        self._patience.seen(run.run_id)
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server does not have it")


def lives(pid: int, since: float) -> bool:
    """Whether there is a process of that pid that has been there `since` (seconds since 1970)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's: not one of ours
        return False
    try:
        # After the name, which may hold anything: the state, and as the 20th field the birth in clock ticks since boot.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, StopIteration):
        return not Path("/proc/self/stat").exists()  # no Linux: the pid is all that is known
    born = int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return fields[0] != "Z" and born <= since + _BIRTH_TOLERANCE_SECONDS
