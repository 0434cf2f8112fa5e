"""How long a run may be missing until it is taken for dead; for launchers that have to ask others."""

import time

from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

# The process that answers for a run may restart or be cut off for a while, while the run continues.
PATIENCE_SECONDS = 60


class Patience:
    """Since when nobody has had which run. The daemon keeps it, so a restart begins again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._missing_since: dict[str, float] = {}

    def seen(self, run_id: str) -> None:
        """The run is there, or nobody can tell."""
        self._missing_since.pop(run_id, None)

    def missing(self, run_id: str, story: str) -> CheckRunHealthResult:
        """Return the state of a run that nobody has, for run monitoring: it takes all but RUNNING for dead."""
        now = time.monotonic()
        seconds = now - self._missing_since.setdefault(run_id, now)
        if seconds < self._seconds:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"{story}, for {seconds:.0f} s")
        self.seen(run_id)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"{story}, for {seconds:.0f} s")
