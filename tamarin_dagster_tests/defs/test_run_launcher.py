"""Runs whose process is gone, with the code server that would have told of it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from tamarin_dagster.defs.run_launcher import LocalRunLauncher, lives


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def launcher(instance) -> LocalRunLauncher:
    launcher = LocalRunLauncher()
    launcher.register_instance(instance)
    return launcher


def begun(instance: dg.DagsterInstance, pid: int) -> dg.DagsterRun:
    """A run that has told of its process, as Dagster does it."""
    run = instance.create_run_for_job(dg.GraphDefinition(name="nothing").to_job())
    message = f"Started process for run (pid: {pid})."
    instance.report_engine_event(message, run, EngineEventData.in_process(pid))
    return run


def test_a_run_lives_as_long_as_its_process(instance, launcher, process):
    run = begun(instance, process.pid)
    assert launcher.supports_check_run_worker_health
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    process.kill()
    # not waited for: a zombie has its pid still, and does nothing any more
    deadline = time.monotonic() + 10
    while (found := launcher.check_run_worker_health(run)).status is WorkerStatus.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (found.status, found.msg) == (WorkerStatus.NOT_FOUND, f"its process {process.pid} is gone")
    process.wait()
    assert launcher.check_run_worker_health(run).status is WorkerStatus.NOT_FOUND


def test_a_run_that_has_not_yet_told_of_its_process_is_left_alone(instance, launcher):
    run = instance.create_run_for_job(dg.GraphDefinition(name="nothing").to_job())
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING


@pytest.mark.skipif(sys.platform != "linux", reason="births of processes are read from /proc")
def test_another_process_with_the_same_pid_is_not_taken_for_it(process):
    """After a restart of the machine pids begin anew."""
    assert lives(os.getpid(), since=time.time())
    assert lives(process.pid, since=time.time())
    assert not lives(process.pid, since=time.time() - 3600)
