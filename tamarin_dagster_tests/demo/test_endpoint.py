import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.config import Config

pytest.importorskip("moto.server")

from tamarin_dagster.demo.deliveries import history, live_deliveries, stray_objects
from tamarin_dagster.demo.endpoint import (
    DEMO_SITE,
    LOG_BUCKET,
    LOG_PREFIX,
    DemoEndpoint,
    demo_environment,
    free_port,
    wait_until_ready,
)

LOG_KEY = re.compile(rf"{LOG_PREFIX}\d{{4}}(-\d{{2}}){{5}}-[0-9A-F]{{16}}")


def client(url):
    names = demo_environment()
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=names["AWS_DEFAULT_REGION"],
        aws_access_key_id=names["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=names["AWS_SECRET_ACCESS_KEY"],
        config=Config(proxies={}),
    )


def objects(url):
    pages = client(url).get_paginator("list_objects_v2").paginate(Bucket=LOG_BUCKET)
    return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", [])}


@contextmanager
def demo_process(*arguments):
    port = free_port()
    command = [sys.executable, "-m", "tamarin_dagster.demo", "--port", str(port), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, timeout_seconds=30, complete=True, alive=lambda: process.poll() is None)
        yield url, process
    finally:
        process.kill()
        process.communicate()


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def demo():
    with demo_process("--interval", "0.5", "--history-days", "3") as (url, process):
        yield url, process


def test_the_history_is_there(demo):
    url, _ = demo
    now = datetime.now(UTC)
    expected = [
        item.key
        for item in history(DEMO_SITE, now - timedelta(minutes=2), 3, LOG_PREFIX)
        if item.delivered > now - timedelta(days=2)
    ]
    found = objects(url)
    assert 45 <= len(expected) <= 60
    assert set(expected) <= found.keys()


def test_what_is_in_an_object_is_what_the_generator_says(demo):
    url, _ = demo
    item = next(item for item in history(DEMO_SITE, datetime.now(UTC) - timedelta(hours=3), 2, LOG_PREFIX))
    assert client(url).get_object(Bucket=LOG_BUCKET, Key=item.key)["Body"].read() == item.body


def test_strays_lie_between_the_log_keys(demo):
    url, _ = demo
    strays = {key for key in objects(url) if not LOG_KEY.fullmatch(key)}
    assert f"{LOG_PREFIX}README.txt" in strays
    assert strays == {item.key for item in stray_objects(datetime.now(UTC), 3, LOG_PREFIX)}


def test_new_keys_arrive_with_requests_of_now(demo):
    url, _ = demo
    before = objects(url).keys()
    deadline = time.monotonic() + 10
    while len(new := objects(url).keys() - before) < 6 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(new) >= 6
    assert all(LOG_KEY.fullmatch(key) for key in new)
    today = [key for key in new if key.startswith(f"{LOG_PREFIX}{datetime.now(UTC):%Y-%m-%d}")]
    body = client(url).get_object(Bucket=LOG_BUCKET, Key=max(new))["Body"].read()
    assert len(today) >= len(new) // 2 or datetime.now(UTC).hour == 0
    assert 1 <= body.count(b"\n") <= 40


@pytest.mark.slow
def test_a_restart_brings_the_same_history(demo):
    """The ledger knows the log keys and their ETags; what a restart writes again must not be loaded again."""
    url, _ = demo
    with demo_process("--interval", "600", "--history-days", "2") as (second_url, _):
        again = objects(second_url)
    first = objects(url)
    minutes_ago = f"{LOG_PREFIX}{datetime.now(UTC) - timedelta(minutes=5):%Y-%m-%d-%H-%M-%S}"
    old = {key: tag for key, tag in again.items() if key < minutes_ago}
    assert len(old) >= 45
    live = {key for key in old if key not in first}
    assert len(live) <= 3  # the second demo's own late keys
    assert {key: tag for key, tag in old.items() if key not in live} == {
        key: first[key] for key in old if key not in live
    }


def test_it_writes_nothing_to_stdout_and_no_line_per_request_and_ends_at_sigterm():
    with demo_process("--interval", "0.5", "--history-days", "1") as (url, process):
        objects(url)
        process.send_signal(signal.SIGTERM)
        out, log = process.communicate(timeout=10)
        assert process.returncode == 0
        assert out == b""
        assert b"listens on" in log
        assert b"HTTP/1" not in log
        assert b"Traceback" not in log


def test_it_ends_when_its_parent_is_killed():
    """`kill -9` of `make dev` must leave no endpoint running."""
    port = free_port()
    program = (
        "import os, subprocess, sys;"
        f"subprocess.run([sys.executable, '-m', 'tamarin_dagster.demo', '--port', '{port}', '--history-days', '0',"
        "'--parent-pid', str(os.getpid())])"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as parent:
        wait_until_ready(f"http://127.0.0.1:{port}", alive=lambda: parent.poll() is None)
        parent.kill()
    deadline = time.monotonic() + 8
    while answers(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not answers(port)


def test_a_taken_port_is_an_error_and_no_endless_wait():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            DemoEndpoint(port=port).start()
        command = [sys.executable, "-m", "tamarin_dagster.demo", "--port", str(port)]
        ended = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert f"port {port}".encode() in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_waiting_for_a_dead_demo_says_so():
    with pytest.raises(RuntimeError, match="ended before it was ready"):
        wait_until_ready(f"http://127.0.0.1:{free_port()}", alive=lambda: False)
    with pytest.raises(TimeoutError, match="not ready after"):
        wait_until_ready(f"http://127.0.0.1:{free_port()}", timeout_seconds=0.2)


def test_the_endpoint_serves_within_this_process_too():
    with DemoEndpoint(history_days=1, interval_seconds=600) as demo:
        wait_until_ready(demo.url, complete=True)
        assert demo.url.startswith("http://127.0.0.1:")
        assert len(objects(demo.url)) >= 20
    with pytest.raises(RuntimeError, match="not started"):
        demo.url  # noqa: B018 - the property raises


def test_history_has_late_keys_and_a_broken_line_now_and_then():
    """Every three weeks of the demo must have what it is meant to show, not only with luck."""
    now = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
    items = list(history(DEMO_SITE, now, 21, LOG_PREFIX))
    assert 500 < len(items) < 560
    assert len({item.key for item in items}) == len(items)
    torn = [item for item in items if any(line.count(b" ") < 17 for line in item.body.splitlines())]
    assert 5 <= len(torn) <= 12
    assert len({item.key[:15] for item in items}) == 22
    assert all(item.delivered <= now for item in items)
    assert items[0].key > items[-1].key
    assert 50 < sum(item.body.count(b"\n") for item in items) / len(items) < 150


def test_live_keys_are_late_and_broken_now_and_then_and_the_same_for_the_same_slot():
    slots = [live_deliveries(DEMO_SITE, 118_000_000 + slot, 15.0, LOG_PREFIX) for slot in range(600)]
    items = [item for slot in slots for item in slot]
    assert {len(slot) for slot in slots} == {1, 2, 3}
    assert slots[7] == live_deliveries(DEMO_SITE, 118_000_007, 15.0, LOG_PREFIX)
    late = [item for item in items if item.key < f"{LOG_PREFIX}{item.delivered - timedelta(hours=1):%Y-%m-%d-%H-%M-%S}"]
    torn = [item for item in items if any(line.count(b" ") < 17 for line in item.body.splitlines())]
    assert 30 < len(late) < 90
    assert 12 < len(torn) < 50
