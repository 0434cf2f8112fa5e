"""A local S3 endpoint with a log bucket that fills itself: weeks of history at once, new log keys every few seconds.

It listens on the loopback interface only, keeps everything in memory, and accepts any credentials.
"""

import logging
import socket
import time
from collections.abc import Callable
from threading import Thread
from types import TracebackType
from typing import Self

from botocore.exceptions import BotoCoreError, ClientError

from tamarin_dagster.demo.logwriter import (
    COMPLETE,
    LOG_BUCKET,
    LOG_PREFIX,
    PROGRESS_TAG,
    RECENT,
    LogWriter,
    demo_client,
)
from tamarin_dagster.demo.site import DemoSite
from tamarin_dagster.extras import needing
from tamarin_dagster.homes import ACCESS_KEY_ID, DEMO_REGION, LOOPBACK, SECRET_ACCESS_KEY, demo_environment

with needing("demo", "The demo"):
    from moto.server import ThreadedMotoServer

__all__ = [
    "ACCESS_KEY_ID",
    "DEMO_SITE",
    "LOG_BUCKET",
    "LOG_PREFIX",
    "LOOPBACK",
    "SECRET_ACCESS_KEY",
    "DemoEndpoint",
    "demo_environment",
    "free_port",
    "wait_until_ready",
]

logger = logging.getLogger(__name__)

# Broken lines are placed in chosen log keys. By chance, three weeks of history might have none, or a dozen.
DEMO_SITE = DemoSite(broken_share=0.0, region=DEMO_REGION)
DEFAULT_INTERVAL_SECONDS = 15.0
DEFAULT_HISTORY_DAYS = 21


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(
    endpoint_url: str,
    *,
    timeout_seconds: float = 30.0,
    complete: bool = False,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Wait for a demo endpoint, of this or another process, until its newest log keys are there.

    Args:
        endpoint_url: for example `http://127.0.0.1:40123`.
        timeout_seconds: the maximum time to wait.
        complete: wait for all of the history.
        alive: called while waiting, for example `lambda: process.poll() is None`.

    Raises:
        TimeoutError: not ready in time.
        RuntimeError: `alive` returned false.
    """
    client = demo_client(endpoint_url, DEMO_SITE.region)
    wanted = {COMPLETE} if complete else {RECENT, COMPLETE}
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            tags = {tag["Key"]: tag["Value"] for tag in client.get_bucket_tagging(Bucket=LOG_BUCKET)["TagSet"]}
        except (BotoCoreError, ClientError):  # not listening yet, no bucket yet, no tag yet
            tags = {}
        if tags.get(PROGRESS_TAG) in wanted:
            return
        if not alive():
            raise RuntimeError(f"the demo's S3 endpoint at {endpoint_url} ended before it was ready: see its log")
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the demo's S3 endpoint at {endpoint_url} is not ready after {timeout_seconds:g} s: see its log"
            )
        time.sleep(0.1)


class DemoEndpoint:
    """The S3 endpoint and its writer in threads of this process. `with DemoEndpoint() as demo:` starts and stops it.

    moto keeps its buckets per process, not per server: a second endpoint in one process finds the first one's objects.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        site: DemoSite = DEMO_SITE,
        interval_seconds: float = DEFAULT_INTERVAL_SECONDS,
        history_days: int = DEFAULT_HISTORY_DAYS,
    ) -> None:
        """Configure the endpoint. `port` 0 chooses a free one; `history_days` may be 0."""
        if interval_seconds <= 0 or history_days < 0:
            raise ValueError(
                f"the interval ({interval_seconds:g} s) must be above 0 and the history ({history_days}"
                " days) at least 0"
            )
        self._port = port
        self._site = site
        self._interval_seconds = interval_seconds
        self._history_days = history_days
        self._server: ThreadedMotoServer | None = None
        self._writer: LogWriter | None = None
        self._thread: Thread | None = None

    @property
    def url(self) -> str:
        """The endpoint's URL, for example `http://127.0.0.1:40123`; known after the start."""
        if self._server is None:
            raise RuntimeError("the demo endpoint is not started")
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def start(self) -> None:
        """Listen and start writing; return when the port answers.

        Raises:
            OSError: the port is in use.
        """
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # otherwise a line for each request
        # On a port in use, moto's thread would die silently and its start() never return, so test the port first.
        with socket.create_server((LOOPBACK, self._port)):
            pass
        self._server = ThreadedMotoServer(LOOPBACK, self._port, verbose=False)
        self._server.start()
        self._writer = LogWriter(
            self.url, self._site, interval_seconds=self._interval_seconds, history_days=self._history_days
        )
        self._thread = Thread(target=self._writer.run, name="demo-log-writer", daemon=True)
        self._thread.start()
        logger.info("the demo's S3 endpoint listens on %s, log bucket %s", self.url, LOG_BUCKET)

    def stop(self) -> None:
        """Stop writing, then listening."""
        if self._writer is not None and self._thread is not None:
            self._writer.stop()
            self._thread.join(timeout=15)
            self._writer = self._thread = None
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
