"""`make dev` for real: the demo, the page, the daemon, and a sensor-launched run that loads rows."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

PROJECT = Path(__file__).parents[2]
PAGE_SECONDS = 120
ROWS_SECONDS = 60


@pytest.fixture
def home(short_folder: Path) -> Path:
    return short_folder / "a home"


def environment(home: Path) -> dict[str, str]:
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("TAMARIN_", "DAGSTER_", "AWS_"))}
    return clean | {"TAMARIN_HOME": str(home), "COLUMNS": "200"}


@pytest.fixture
def dev(home: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = tmp_path / "dev.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tamarin_dagster.cli", "dev", "--port", "3300"],
            cwd=PROJECT,
            env=environment(home),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    yield process, log
    if process.poll() is None:
        process.kill()


def wait_for(seconds: float, probe, log: Path):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := probe():
            return found
        time.sleep(0.3)
    raise AssertionError(f"nothing within {seconds} s; the log says:\n{log.read_text()[-5000:]}")


def command(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tamarin_dagster.cli", *arguments],
        cwd=PROJECT,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.server
def test_make_dev_brings_a_page_and_the_first_rows_by_sensor_and_ends_all_at_ctrl_c(home, dev) -> None:
    process, log = dev
    page = wait_for(
        PAGE_SECONDS, lambda: re.search(r"^(http://127\.0\.0\.1:\d+)\s*$", log.read_text(), re.MULTILINE), log
    )[1]
    with urllib.request.urlopen(page, timeout=10) as answer:
        assert answer.status == 200
    assert "Watched buckets: media-example-org" in log.read_text()

    url = command(home, "sql", "--url")
    with psycopg.connect(url, autocommit=True) as connection:

        def rows() -> int:
            return connection.execute("SELECT count(*) FROM s3_log_record").fetchone()[0]

        wait_for(ROWS_SECONDS, rows, log)
        by_run = "SELECT count(*) FROM s3_log_key WHERE run_id IS NOT NULL"
        assert connection.execute(by_run).fetchone()[0] > 0
        sums = "SELECT sum(record_count) - (SELECT count(*) FROM s3_log_record) FROM s3_log_key"
        assert connection.execute(sums).fetchone()[0] == 0
        with psycopg.connect(url.replace("/tamarin?", "/dagster?")) as dagster:
            runs = dagster.execute("SELECT count(*) FROM run_tags WHERE key = 'dagster/sensor_name'").fetchone()[0]
            assert runs > 0

    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 0, log.read_text()[-3000:]
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(home) not in processes
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux'")
def test_what_dev_started_ends_when_dev_is_killed(tmp_path) -> None:
    """Else its daemon runs on, beside that of the next `make dev` on the same home."""
    started = tmp_path / "started"
    child = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import sys, time; from tamarin_dagster.operations import dev\n"
        f"with dev._process([sys.executable, '-c', {child!r}], {{}}): time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=PROJECT)
    wait_for(20, lambda: started.exists() and started.read_text(), tmp_path / "started")
    process.kill()
    process.wait()
    pid = int(started.read_text())
    wait_for(10, lambda: not Path(f"/proc/{pid}").exists(), tmp_path / "started")
