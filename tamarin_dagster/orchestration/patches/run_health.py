"""The time after which a missing run counts as dead, for launchers that ask another process about their runs."""

import time

from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

# The process that answers for a run may restart or be cut off for a while, while the run continues.
PATIENCE_SECONDS = 60


class Patience:
    """Remembers since when each run is missing. It lives in the daemon, so the time starts again after a restart."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._missing_since: dict[str, float] = {}

    def mark_seen(self, run_id: str) -> None:
        """Note that the run is alive, or that nobody knows."""
        self._missing_since.pop(run_id, None)

    def mark_missing(self, run_id: str, story: str) -> CheckRunHealthResult:
        """Return the state of a run that nobody has. Run monitoring treats every state except RUNNING as dead."""
        now = time.monotonic()
        seconds = now - self._missing_since.setdefault(run_id, now)
        if seconds < self._seconds:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"{story}, for {seconds:.0f} s")
        self.mark_seen(run_id)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"{story}, for {seconds:.0f} s")
