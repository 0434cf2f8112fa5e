"""A launcher that runs each Dagster run as a task of a Celery worker, and that notices when the worker is gone.

Name it in dagster.yaml:

    run_launcher:
      module: tamarin_dagster.orchestration.patches.celery_run_launcher
      class: WatchedCeleryRunLauncher
      config:
        broker: {env: TAMARIN_BROKER_URL}
        backend: {env: TAMARIN_BROKER_URL}

It needs the extra `celery`. Start a worker with `python -m tamarin_dagster.orchestration.patches.celery_worker`.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._serdes import ConfigurableClassData

from tamarin_dagster.extras import needing
from tamarin_dagster.orchestration.patches.run_health import PATIENCE_SECONDS, Patience

with needing("celery", "WatchedCeleryRunLauncher"):
    from celery import states
    from celery.canvas import Signature
    from celery.exceptions import CeleryError
    from dagster_celery.launcher import CeleryRunLauncher
    from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
    from kombu.exceptions import KombuError
    from redis.exceptions import RedisError

_log = logging.getLogger(__name__)

# The errors of a broker that does not answer.
BROKER_ERRORS = (OSError, KombuError, CeleryError, RedisError)
# Workers answer within milliseconds, whatever their runs do. This leaves time for a slow network.
ANSWER_SECONDS = 3.0
# If a worker takes a run and dies before it starts it, another worker gets the run after this time. A run that takes
# longer is given out a second time too, and Dagster ignores that, since the run has started already.
REDELIVERY_SECONDS = 900

CELERY_CONFIG: Mapping[str, Any] = {
    # A worker takes a run only when it can start it. A prefetched run would wait for it while other workers are idle.
    "worker_prefetch_multiplier": 1,
    "task_acks_late": True,
    # Run monitoring decides which runs are retried, not the broker.
    "task_reject_on_worker_lost": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_transport_options": {"visibility_timeout": REDELIVERY_SECONDS, "socket_connect_timeout": 10},
    "broker_connection_retry_on_startup": True,
    "redis_socket_connect_timeout": 10,
    # A worker executes one run at a time. Its process is used for many runs, since starting one takes longer than a
    # small run. It is replaced after this many runs, which limits leaks.
    "worker_concurrency": 1,
    "worker_max_tasks_per_child": 100,
    "worker_max_memory_per_child": 1_500_000,  # KiB
    # The output of a run goes to Dagster's own log.
    "worker_redirect_stdouts": False,
}


class WatchedCeleryRunLauncher(CeleryRunLauncher):  # type: ignore[misc]  # untyped
    """A CeleryRunLauncher that notices when the worker of a run is gone, and whose runs can be cancelled.

    Dagster's own class relies on the state that Celery stored. If a worker is killed, that state says STARTED forever,
    and the run keeps its days and its slots in pools. If the store loses its state, healthy runs are ended. So this
    class asks the workers themselves. If it mistakes a run for dead, the run and the next attempt both load, and the
    ledger makes sure that each log key is loaded once.
    """

    def __init__(
        self,
        *,
        patience_seconds: int = PATIENCE_SECONDS,
        config_source: dict[str, Any] | None = None,
        inst_data: ConfigurableClassData | None = None,
        **config: Any,
    ) -> None:
        super().__init__(config_source={**CELERY_CONFIG, **(config_source or {})}, inst_data=inst_data, **config)
        self._patience = Patience(patience_seconds)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return the configuration of CeleryRunLauncher, plus how long a run may be missing."""
        return {
            **super().config_type(),
            "patience_seconds": dg.Field(
                int,
                default_value=PATIENCE_SECONDS,
                description="Seconds after which a run counts as dead if no worker has it.",
            ),
        }

    @property
    def supports_resume_run(self) -> bool:
        """Return False: a run is not resumed. The next attempt loads what the ledger does not have."""
        return False

    def _launch_celery_task_run(self, run: dg.DagsterRun, task_signature: Signature, routing_key: str) -> None:
        """Tag the run with its task before a worker can see it, since a retry inherits the tag of the failed run."""
        task_id = str(uuid4())
        self._instance.add_run_tags(run.run_id, {DAGSTER_CELERY_TASK_ID_TAG: task_id})
        try:
            super()._launch_celery_task_run(run, task_signature.set(task_id=task_id), routing_key)
        except BROKER_ERRORS as error:
            # Only for this error does Dagster keep a run in its queue (max_user_code_failure_retries).
            raise DagsterUserCodeUnreachableError(f"the broker refused the run: {type(error).__name__}") from None

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run, so that it ends as CANCELED. A run that still waits for a worker is cancelled at once."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or not (task_id := run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)):
            return False
        self._instance.report_run_canceling(run)
        try:
            # Ask before revoking: a worker reports an interrupted run as done while it is still ending.
            _, holders = self._look_for(task_id)
            self.celery.control.revoke(task_id, terminate=True, signal="SIGINT")
        except BROKER_ERRORS as error:
            _log.warning("the run %s could not be asked to end: %s", run_id, type(error).__name__)
            return False
        if not holders:
            self._instance.report_run_canceled(run, "No worker has the run.")
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return RUNNING while a worker has the run, for some time after that, and while no worker can be asked."""
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG, "")
        try:
            state, holders = self._look_for(task_id) if task_id else (states.PENDING, [])
        except BROKER_ERRORS as error:
            # No worker can be asked, but a run does not need the broker to continue.
            self._patience.mark_seen(run.run_id)
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"the broker does not answer: {type(error).__name__}")
        if holders:
            self._patience.mark_seen(run.run_id)
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=holders[0])
        if state == states.FAILURE:
            self._patience.mark_seen(run.run_id)
            return CheckRunHealthResult(WorkerStatus.FAILED, "its worker reports that its process died")
        return self._patience.mark_missing(run.run_id, "no worker has it")

    def _look_for(self, task_id: str) -> tuple[str, list[str]]:
        """Return the stored state of the task, and the workers that execute it. Raises one of BROKER_ERRORS."""
        stored = self.celery.AsyncResult(task_id)
        state, info = stored.state, stored.info
        worker = info.get("hostname") if state == states.STARTED and isinstance(info, dict) else None
        # The worker that took the task answers at once. Asking all workers takes ANSWER_SECONDS, so it comes last.
        return state, (self._holders(task_id, [worker]) if worker else []) or self._holders(task_id)

    def _holders(self, task_id: str, workers: list[str] | None = None) -> list[str]:
        """Return the workers that execute this task now; by default all are asked. Raises one of BROKER_ERRORS."""
        answers: Mapping[str, Iterable[Mapping[str, Any]]] | None
        answers = self.celery.control.inspect(destination=workers, timeout=ANSWER_SECONDS).active()
        return [name for name, tasks in (answers or {}).items() if any(task["id"] == task_id for task in tasks)]
