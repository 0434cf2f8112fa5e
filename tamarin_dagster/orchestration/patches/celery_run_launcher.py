"""Runs as tasks of Celery workers on other machines, and whether a run's worker is still there. Named in dagster.yaml.

    run_launcher:
      module: tamarin_dagster.orchestration.patches.celery_run_launcher
      class: WatchedCeleryRunLauncher
      config:
        broker: {env: TAMARIN_BROKER_URL}
        backend: {env: TAMARIN_BROKER_URL}

Needs the extra `celery`. The workers are `python -m tamarin_dagster.orchestration.patches.celery_worker`.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._config import UserConfigSchema
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

# What a broker raises that is not there.
BROKER_ERRORS = (OSError, KombuError, CeleryError, RedisError)
# Workers answer within milliseconds, whatever their runs do; one whose link is slow has this long.
ANSWER_SECONDS = 3.0
# A run that a worker took and did not start, because it died, is given to another one after this time. A run that goes
# on longer is given out a second time too, and Dagster ignores that: it has started already.
REDELIVERY_SECONDS = 900

CELERY_CONFIG: Mapping[str, Any] = {
    # A worker takes a run only when it is free to start it: what it took ahead would wait for it while others idle.
    "worker_prefetch_multiplier": 1,
    "task_acks_late": True,
    # Run monitoring decides what is tried again, not the broker.
    "task_reject_on_worker_lost": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_transport_options": {"visibility_timeout": REDELIVERY_SECONDS, "socket_connect_timeout": 10},
    "broker_connection_retry_on_startup": True,
    "redis_socket_connect_timeout": 10,
    # A worker executes one run at a time. Its process stays for the next ones: to start one takes some seconds, more
    # than a small run does. What they may leave in it ends with it.
    "worker_concurrency": 1,
    "worker_max_tasks_per_child": 100,
    "worker_max_memory_per_child": 1_500_000,  # KiB
    # What a run writes goes to Dagster's own log.
    "worker_redirect_stdouts": False,
}


class WatchedCeleryRunLauncher(CeleryRunLauncher):  # type: ignore[misc]  # untyped
    """CeleryRunLauncher whose runs are found out when their worker is gone, and that can be cancelled.

    Dagster's own believes the state that Celery stored, and a worker that was killed, with its machine perhaps, has
    stored that it has started: such a run goes on forever, and holds its days and its places in pools. A store that
    lost its state, on the other hand, would end runs that are well. So the workers themselves are asked. Were a run
    taken for dead that is not, both it and the next attempt would load: the ledger makes sure that each key is loaded
    once.
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
    def config_type(cls) -> UserConfigSchema:
        """CeleryRunLauncher's, and how long a run may be missing."""
        return {
            **super().config_type(),
            "patience_seconds": dg.Field(
                int,
                default_value=PATIENCE_SECONDS,
                description="How long no worker may have a run until it is taken for dead.",
            ),
        }

    @property
    def supports_resume_run(self) -> bool:
        """A run is not resumed in the middle: the next attempt loads what the ledger does not have."""
        return False

    def _launch_celery_task_run(self, run: dg.DagsterRun, task_signature: Signature, routing_key: str) -> None:
        """Tags the run with its task before a worker can see that: a retry has the tag of the run that it repeats."""
        task_id = str(uuid4())
        self._instance.add_run_tags(run.run_id, {DAGSTER_CELERY_TASK_ID_TAG: task_id})
        try:
            super()._launch_celery_task_run(run, task_signature.set(task_id=task_id), routing_key)
        except BROKER_ERRORS as error:
            # The one error for which Dagster keeps a run in its queue (max_user_code_failure_retries).
            raise DagsterUserCodeUnreachableError(f"the broker does not take the run: {type(error).__name__}") from None

    def terminate(self, run_id: str) -> bool:
        """Interrupts the run, so that it ends as CANCELED; one that still waits for a worker is cancelled at once."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or not (task_id := run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)):
            return False
        self._instance.report_run_canceling(run)
        try:
            # Ask before revoking: a worker counts an interrupted run as done, although it has yet to end.
            _, holders = self._look_for(task_id)
            self.celery.control.revoke(task_id, terminate=True, signal="SIGINT")
        except BROKER_ERRORS as error:
            _log.warning("the run %s could not be asked to end: %s", run_id, type(error).__name__)
            return False
        if not holders:
            self._instance.report_run_canceled(run, "No worker has the run.")
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """RUNNING as long as a worker says that it has the run, and for a while after; or while nobody can be asked."""
        task_id = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG, "")
        try:
            state, holders = self._look_for(task_id) if task_id else (states.PENDING, [])
        except BROKER_ERRORS as error:
            # Nobody can be asked: a run does not need the broker to go on.
            self._patience.seen(run.run_id)
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"the broker does not answer: {type(error).__name__}")
        if holders:
            self._patience.seen(run.run_id)
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=holders[0])
        if state == states.FAILURE:
            self._patience.seen(run.run_id)
            return CheckRunHealthResult(WorkerStatus.FAILED, "its worker says that its process has died")
        return self._patience.missing(run.run_id, "no worker has it")

    def _look_for(self, task_id: str) -> tuple[str, list[str]]:
        """What is stored of the task, and the workers that are at it. Raises one of BROKER_ERRORS."""
        stored = self.celery.AsyncResult(task_id)
        state, info = stored.state, stored.info
        worker = info.get("hostname") if state == states.STARTED and isinstance(info, dict) else None
        # The one that took it answers at once; to hear that nobody has it takes as long as an answer may take.
        return state, (self._holders(task_id, [worker]) if worker else []) or self._holders(task_id)

    def _holders(self, task_id: str, workers: list[str] | None = None) -> list[str]:
        """Those of the workers (default: of all) that are at this task now. Raises one of BROKER_ERRORS."""
        answers: Mapping[str, Iterable[Mapping[str, Any]]] | None
        answers = self.celery.control.inspect(destination=workers, timeout=ANSWER_SECONDS).active()
        return [name for name, tasks in (answers or {}).items() if any(task["id"] == task_id for task in tasks)]
