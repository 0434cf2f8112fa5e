"""The watchdog of `make dev`: when it asks Dagster to load our code again, and when it waits."""

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tamarin_dagster.operations import watchdog
from tamarin_dagster.operations.watchdog import LOOK_SECONDS, MAX_PATIENCE_SECONDS, Watchdog


class Page:
    """The UI's GraphQL: whether our code is loaded, and reloads that take the given time."""

    def __init__(self) -> None:
        self.is_loaded, self.reloads, self.reload_seconds = True, 0, 0.0
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
                if "reloadRepositoryLocation" in query:
                    page.reloads += 1
                    time.sleep(page.reload_seconds)
                    page.is_loaded = True
                kind = "RepositoryLocation" if page.is_loaded else "PythonError"
                entry = {
                    "name": "tamarin_dagster",
                    "loadStatus": "LOADED",
                    "locationOrLoadError": {"__typename": kind},
                }
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"data": {"workspaceOrError": {"locationEntries": [entry]}}}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    page = Page()
    yield page
    page.server.shutdown()
    page.server.server_close()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reload_that_takes_longer_than_a_look_is_asked_for_once(page, monkeypatch) -> None:
    """With 300 buckets, seven reloads started in six minutes, each before the previous one had ended."""
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.05)
    page.reload_seconds = 1.0
    looked = 0

    class Dagster:
        def wait(self, timeout: float) -> int:
            nonlocal looked
            looked += 1
            if looked == 3:
                page.is_loaded = False  # the code server is killed
            if looked >= 10 and page.is_loaded and page.reloads:
                return 7
            time.sleep(timeout)
            raise watchdog.subprocess.TimeoutExpired("dagster", timeout)

    assert watchdog.watch(Dagster(), page.url) == 7
    assert page.reloads == 1
    assert looked > 15


def test_one_look_is_not_believed() -> None:
    reloads = []
    dog = Watchdog(lambda: reloads.append(1))
    for found in (True, False, None, False, True, False):
        dog.note(found)
    assert reloads == []
    dog.note(False)
    wait_until(lambda: reloads)


def test_code_that_never_loaded_is_not_loaded_again() -> None:
    """A person must correct the error of the code, and a reload would hide it for a while."""
    reloads = []
    dog = Watchdog(lambda: reloads.append(1))
    for _ in range(10):
        dog.note(False)
    assert reloads == []
    assert not dog.is_reloading


def test_patience_grows_while_reloads_do_not_help_and_is_small_again_after_one_did() -> None:
    now, reloads = 0.0, []
    dog = Watchdog(lambda: reloads.append(now), clock=lambda: now)

    def look_for(seconds: float, found: bool) -> None:
        nonlocal now
        end = now + seconds
        while now < end:
            now += LOOK_SECONDS
            dog.note(found)
            wait_until(lambda: not dog.is_reloading)

    look_for(LOOK_SECONDS, True)
    look_for(3600, False)
    gaps = [later - earlier for earlier, later in itertools.pairwise(reloads)]
    assert gaps[:5] == [30, 60, 120, 240, 480]
    assert set(gaps[5:]) == {MAX_PATIENCE_SECONDS}
    look_for(LOOK_SECONDS, True)
    reloads.clear()
    now += MAX_PATIENCE_SECONDS
    look_for(90, False)
    assert len(reloads) == 2
