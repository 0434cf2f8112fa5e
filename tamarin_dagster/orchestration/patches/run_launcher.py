"""Launchers that notice when the process of a run is gone. Name one of them in dagster.yaml.

LocalRunLauncher looks for the process. Use it where daemon and runs share a machine. ServedRunLauncher asks the code
server. Use it where the code server has its own container.
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

# The beginning of the message that Dagster logs when the process of a run starts. The event contains its pid.
_STARTED = "Started process for run"
# If a process started more than this time after the run reported its pid, it is a different process with the same pid.
_BIRTH_TOLERANCE_SECONDS = 60
# A code server answers within milliseconds.
ANSWER_SECONDS = 10


class LocalRunLauncher(DefaultRunLauncher):
    """A DefaultRunLauncher that run monitoring can ask about the processes of runs.

    Normally the code server reports that a run's process has died. If the code server died too, for example with the
    machine, the run would stay STARTED forever, and its day would wait for it. Use this launcher only where daemon and
    runs share a machine (and a container), since a pid means nothing elsewhere.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True, so that run monitoring asks this launcher."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the run's process is alive. A run that has not reported its process yet counts as alive."""
        for entry in self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            event = entry.dagster_event
            if event and (event.message or "").startswith(_STARTED):
                pid = int(str(event.engine_event_data.metadata["pid"].value))
                if not is_alive(pid, since=entry.timestamp):
                    return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"its process {pid} is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


class ServedRunLauncher(DefaultRunLauncher):
    """A DefaultRunLauncher that run monitoring can ask about runs, over the network.

    After a restart of the code server (or of its container) its earlier runs are gone. Without this class they would
    stay STARTED forever.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience = Patience(PATIENCE_SECONDS)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True, so that run monitoring asks this launcher."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the code server has the run. If it does not answer, it has PATIENCE_SECONDS to come back."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:  # the run has ended in the meantime
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=ANSWER_SECONDS)
        except DagsterUserCodeUnreachableError:
            return self._patience.mark_missing(run.run_id, "its code server does not answer")
        self._patience.mark_seen(run.run_id)
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server does not have it")


def is_alive(pid: int, since: float) -> bool:
    """Return whether a process with this pid has been running since the time `since` (seconds since 1970)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process belongs to another user, so it is not one of ours
        return False
    try:
        # The name may contain anything. After it come the state and, as the 20th field, the start in ticks since boot.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, StopIteration):
        return not Path("/proc/self/stat").exists()  # not Linux: only the pid is known
    born = int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return fields[0] != "Z" and born <= since + _BIRTH_TOLERANCE_SECONDS
