"""Runs whose process is gone, and with it the code server that would have reported it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.types import CanCancelExecutionResult
from dagster._serdes import serialize_value

from tamarin_dagster.orchestration.patches import run_health
from tamarin_dagster.orchestration.patches.run_launcher import LocalRunLauncher, ServedRunLauncher, is_alive


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
    """A run that has reported its process, as Dagster does it."""
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
    """After a restart of the machine pids begin again."""
    assert is_alive(os.getpid(), since=time.time())
    assert is_alive(process.pid, since=time.time())
    assert not is_alive(process.pid, since=time.time() - 3600)


@pytest.fixture
def code_port(tmp_path) -> int:
    """Return a port on which nobody listens yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def served_run(instance, code_port) -> dg.DagsterRun:
    """A run that a code server at that port was given."""
    where = json.dumps({"host": "127.0.0.1", "port": code_port})
    return instance.create_run_for_job(dg.GraphDefinition(name="nothing").to_job(), tags={GRPC_INFO_TAG: where})


@pytest.fixture
def served(instance) -> ServedRunLauncher:
    launcher = ServedRunLauncher()
    launcher._patience = run_health.Patience(0.2)
    launcher.register_instance(instance)
    return launcher


@pytest.mark.slow
def test_a_run_whose_code_server_was_started_again_is_gone(served, served_run, code_port, tmp_path):
    """It went with its container; until now it stayed STARTED forever. A real code server is asked."""
    (tmp_path / "code.py").write_text("import dagster as dg\n\ndefs = dg.Definitions()\n")
    command = [sys.executable, "-m", "dagster", "api", "grpc", "-f", str(tmp_path / "code.py"), "-p", str(code_port)]
    server = subprocess.Popen([*command, "-h", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    served._patience = run_health.Patience(60)
    try:
        deadline = time.monotonic() + 60
        while (found := served.check_run_worker_health(served_run)).status is WorkerStatus.RUNNING:
            assert time.monotonic() < deadline
            assert "does not answer" in found.msg
            time.sleep(0.2)
    finally:
        server.kill()
        server.wait()
    assert (found.status, found.msg) == (WorkerStatus.NOT_FOUND, "its code server does not have it")


def test_a_code_server_that_does_not_answer_has_a_while_to_come_back(served, served_run):
    assert served.check_run_worker_health(served_run).status is WorkerStatus.RUNNING
    time.sleep(0.3)
    found = served.check_run_worker_health(served_run)
    assert found.status is WorkerStatus.NOT_FOUND
    assert "does not answer" in found.msg


def test_a_run_that_its_code_server_has_lives(served, served_run, monkeypatch):
    monkeypatch.setattr(
        "dagster._grpc.client.DagsterGrpcClient.can_cancel_execution",
        lambda *_arguments, **_named: serialize_value(CanCancelExecutionResult(can_cancel=True)),
    )
    assert served.check_run_worker_health(served_run).status is WorkerStatus.RUNNING


def test_a_run_that_was_missing_and_is_back_has_all_its_time_again():
    patience = run_health.Patience(0.3)
    assert patience.mark_missing("run", "gone").status is WorkerStatus.RUNNING
    time.sleep(0.2)
    patience.mark_seen("run")
    assert patience.mark_missing("run", "gone").status is WorkerStatus.RUNNING
    time.sleep(0.2)
    assert patience.mark_missing("run", "gone").status is WorkerStatus.RUNNING
    time.sleep(0.2)
    assert patience.mark_missing("run", "gone").status is WorkerStatus.NOT_FOUND
