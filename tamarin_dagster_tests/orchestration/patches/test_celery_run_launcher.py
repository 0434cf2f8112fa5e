"""Runs of Celery workers, as run monitoring sees them. The workers themselves: deploy/test_workers.py."""

import inspect
import itertools
import socket
from collections.abc import Iterator

import dagster as dg
import pytest
from celery.contrib.testing.worker import start_worker
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from tamarin_dagster.orchestration.patches.celery_run_launcher import CELERY_CONFIG, WatchedCeleryRunLauncher

# The store in memory is one for all tests.
NUMBERS = itertools.count()


def launcher_of(instance: dg.DagsterInstance, broker: str = "memory://", **config) -> WatchedCeleryRunLauncher:
    launcher = WatchedCeleryRunLauncher(
        default_queue="dagster", broker=broker, backend="cache+memory://", config_source={}, **config
    )
    launcher.register_instance(instance)
    return launcher


@pytest.fixture
def launcher(instance) -> WatchedCeleryRunLauncher:
    """With a broker and a store in memory, and no patience."""
    return launcher_of(instance, patience_seconds=0)


@pytest.fixture
def run(instance) -> dg.DagsterRun:
    """A run that has a task."""
    return instance.create_run_for_job(
        dg.GraphDefinition(name="nothing").to_job(), tags={DAGSTER_CELERY_TASK_ID_TAG: f"task-{next(NUMBERS)}"}
    )


@pytest.fixture
def holds(launcher, monkeypatch) -> Iterator[list[str]]:
    """The workers that say that they have the task."""
    holders: list[str] = []
    monkeypatch.setattr(launcher, "_holders", lambda *_: holders)
    return holders


def task_of(run: dg.DagsterRun) -> str:
    return run.tags[DAGSTER_CELERY_TASK_ID_TAG]


def stored(launcher: CeleryRunLauncher, run: dg.DagsterRun, state: str) -> None:
    launcher.celery.backend.store_result(task_of(run), Exception("killed") if state == "FAILURE" else None, state)


def test_a_run_lives_as_long_as_a_worker_says_so(launcher, run, holds):
    """Whatever the store says: it may have lost its state, and Dagster's own launcher would end the run."""
    holds.append("dagster@somewhere")
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    stored(launcher, run, "FAILURE")
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_a_run_that_no_worker_has_is_dead_after_a_while(instance, run, monkeypatch):
    """Whatever the store says: a worker that was killed has stored that it has started."""
    patient = launcher_of(instance, patience_seconds=3600)
    monkeypatch.setattr(patient, "_holders", lambda *_: [])
    assert patient.check_run_worker_health(run).status is WorkerStatus.RUNNING
    impatient = launcher_of(instance, patience_seconds=0)
    monkeypatch.setattr(impatient, "_holders", lambda *_: [])
    stored(impatient, run, "STARTED")
    found = impatient.check_run_worker_health(run)
    assert (found.status, found.msg) == (WorkerStatus.NOT_FOUND, "no worker has it, for 0 s")


def test_a_run_whose_process_its_worker_found_dead_is_dead_at_once(instance, run, monkeypatch):
    patient = launcher_of(instance, patience_seconds=3600)
    monkeypatch.setattr(patient, "_holders", lambda *_: [])
    stored(patient, run, "FAILURE")
    assert patient.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_while_the_broker_is_down_no_run_is_taken_for_dead(instance, run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    url = f"redis://:geheim@127.0.0.1:{port}/0"
    config = {"broker_connection_max_retries": 1, "broker_transport_options": {"max_retries": 1}}
    launcher = WatchedCeleryRunLauncher(
        default_queue="dagster", broker=url, backend=url, config_source=config, patience_seconds=0
    )
    launcher.register_instance(instance)
    found = launcher.check_run_worker_health(run)
    assert found.status is WorkerStatus.RUNNING
    assert "broker does not answer" in found.msg
    assert "geheim" not in found.msg


def test_a_run_that_the_broker_does_not_take_is_kept_in_the_queue(instance, launcher, run, monkeypatch):
    """Dagster keeps a run for this one error, and drops it for any other (queued_run_coordinator_daemon.py)."""

    def refuses(*_arguments, **_named):
        raise ConnectionRefusedError("nobody at redis://:geheim@127.0.0.1")

    monkeypatch.setattr(type(launcher.celery.tasks["celery.ping"]), "apply_async", refuses)
    monkeypatch.setattr("celery.canvas.Signature.apply_async", refuses)
    with pytest.raises(DagsterUserCodeUnreachableError, match="ConnectionRefusedError") as raised:
        launcher._launch_celery_task_run(run, launcher.celery.signature("execute_job"), "execute_job")
    assert "geheim" not in str(raised.value)


def test_a_run_has_the_tag_of_its_task_before_a_worker_can_have_it(instance, launcher, run, monkeypatch):
    """A retry begins with the tag of the run that it repeats, and would be looked for by that."""
    tags = []
    monkeypatch.setattr(
        "celery.canvas.Signature.apply_async",
        lambda signature, **_: (
            tags.append((instance.get_run_by_id(run.run_id).tags, signature.options["task_id"]))
            or launcher.celery.AsyncResult(signature.options["task_id"])
        ),
    )
    launcher._launch_celery_task_run(run, launcher.celery.signature("execute_job"), "execute_job")
    ((seen, task_id),) = tags
    assert task_id != task_of(run)
    assert seen[DAGSTER_CELERY_TASK_ID_TAG] == task_id
    assert instance.get_run_by_id(run.run_id).tags[DAGSTER_CELERY_TASK_ID_TAG] == task_id


def test_a_run_that_waits_for_a_worker_is_cancelled_at_once(instance, launcher, run, holds):
    assert launcher.terminate(run.run_id)
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELED
    assert not launcher.terminate(run.run_id)


def test_a_run_that_a_worker_has_ends_by_itself_when_it_is_cancelled(instance, launcher, run, holds):
    """Were it marked as cancelled now, it would end as a failure: it finds that nobody is cancelling it any more."""
    holds.append("dagster@somewhere")
    assert launcher.terminate(run.run_id)
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELING


def test_the_worker_that_took_a_run_is_asked_first(launcher, run, monkeypatch):
    """It answers at once; to hear that none of all has it takes three seconds, for each run."""
    asked = []
    monkeypatch.setattr(launcher, "_holders", lambda _, workers=None: asked.append(workers) or workers or [])
    launcher.celery.backend.store_result(task_of(run), {"pid": 1, "hostname": "dagster@there"}, "STARTED")
    assert launcher.check_run_worker_health(run).run_worker_id == "dagster@there"
    assert asked == [["dagster@there"]]


def test_a_worker_tells_which_tasks_it_has(launcher):
    """Over the broker, as it is asked."""
    asked = []

    @launcher.celery.task(name="asks")
    def asks() -> None:
        asked.append(None)

    with start_worker(launcher.celery, perform_ping_check=False, pool="threads"):
        assert launcher._holders("another task") == []
        asks.apply_async(task_id="a task").get(timeout=10)
    assert asked == [None]


def test_runs_are_not_resumed_and_workers_take_no_run_ahead(launcher):
    assert not launcher.supports_resume_run
    assert launcher.supports_check_run_worker_health
    assert {name: launcher.celery.conf[name] for name in CELERY_CONFIG} == dict(CELERY_CONFIG)


def test_upstream_launches_by_the_method_that_is_overridden():
    """It is private: this says when it is gone."""
    assert "self._launch_celery_task_run(" in inspect.getsource(CeleryRunLauncher.launch_run)
    assert [*inspect.signature(CeleryRunLauncher._launch_celery_task_run).parameters] == [
        *inspect.signature(WatchedCeleryRunLauncher._launch_celery_task_run).parameters
    ]


def test_upstream_believes_what_the_store_says(run):
    """Both ways: a killed worker's run goes on forever, and one whose state is lost is taken for dead."""
    upstream = CeleryRunLauncher(default_queue="dagster", broker="memory://", backend="cache+memory://")
    assert upstream.check_run_worker_health(run).status is WorkerStatus.UNKNOWN
    stored(upstream, run, "STARTED")
    assert upstream.check_run_worker_health(run).status is WorkerStatus.RUNNING
