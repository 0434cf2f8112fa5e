"""An S3 endpoint that fails on demand: it passes requests on to another one, except where a test wants a fault."""

import http.client
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

SIGNATURE = "X-Amz-Signature=s3cret"
# What is passed on of an answer; the rest is about the connection to the other endpoint.
_PASSED_ON = ("Content-Type", "ETag", "Last-Modified", "Content-Range", "x-amz-version-id")


@dataclass(frozen=True)
class Fault:
    """What comes instead of an answer.

    Attributes:
        status, code: an error of S3's.
        reset: the connection is reset, after `after` bytes of the body (None: before any answer).
        cut: the connection is closed in order, but `after` bytes of the body have come only.
        stall: seconds of silence in the middle of the body.
    """

    status: int = 0
    code: str = ""
    reset: bool = False
    cut: bool = False
    stall: float = 0
    after: int | None = None


SLOW_DOWN = Fault(503, "SlowDown")
INTERNAL_ERROR = Fault(500, "InternalError")
TOO_MANY = Fault(429, "TooManyRequests")
RESET = Fault(reset=True)
RESET_IN_BODY = Fault(reset=True, after=2)
CUT = Fault(cut=True, after=2)


class Faulty:
    """The endpoint. `url` is where it listens.

    Attributes:
        faults: by the path within the bucket (a listing has the path ""), what befalls its next requests.
        any_fault: what befalls the next requests of objects, whichever they are.
        delay: seconds that each request of an object takes longer.
        requests: how often each path was requested.
        ranges: the Range headers, as they came.
        most_in_flight: of objects' requests.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.url = ""
        self._lock = threading.Lock()
        self._in_flight = 0
        self.reset()

    def reset(self) -> None:
        """As new: without a fault, and nothing counted."""
        self.faults: defaultdict[str, Iterator[Fault]] = defaultdict(lambda: iter(()))
        self.any_fault: Iterator[Fault] = iter(())
        self.delay = 0.0
        self.requests: Counter[str] = Counter()
        self.ranges: list[str | None] = []
        self.most_in_flight = 0

    def fail(self, path: str, faults: Iterable[Fault]) -> None:
        """The next requests of this path fail so."""
        self.faults[path] = iter(faults)

    def begin(self, path: str, wanted: str | None) -> Fault | None:
        """Counts a request; what is to befall it."""
        with self._lock:
            self.requests[path] += 1
            if not path:
                return next(self.faults[path], None)
            self.ranges.append(wanted)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            return next(self.faults[path], None) or next(self.any_fault, None)

    def end(self, path: str) -> None:
        """Counts a request that was answered."""
        if path:
            with self._lock:
                self._in_flight -= 1


@contextmanager
def faulty_endpoint(target: str) -> Iterator[Faulty]:
    """A faulty endpoint in front of the one at the URL `target`."""
    faulty = Faulty(target)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is what tests are about."""

    class Handler(_Handler):
        endpoint = faulty

    with Server(("127.0.0.1", 0), Handler) as server:
        faulty.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield faulty
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    endpoint: Faulty

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).partition("/")[2].partition("/")[2]
        fault = self.endpoint.begin(path, self.headers["Range"])
        try:
            if path:
                time.sleep(self.endpoint.delay)
            if fault is None:
                self._answer(*self._ask())
            elif fault.status:
                self._refuse(fault)
            else:
                self._break_off(fault)
        finally:
            self.endpoint.end(path)

    def do_DELETE(self) -> None:
        self._answer(*self._ask())

    def _ask(self) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.endpoint.target)
        connection.request(self.command, self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, [(name, answer.headers[name]) for name in _PASSED_ON if name in answer.headers], body

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._head(status, headers, len(body))
        self.wfile.write(body)

    def _head(self, status: int, headers: list[tuple[str, str]], size: int) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _refuse(self, fault: Fault) -> None:
        message = f"look at https://x/k?{SIGNATURE}"
        body = f"<?xml version='1.0'?>\n<Error><Code>{fault.code}</Code><Message>{message}</Message></Error>"
        self._answer(fault.status, [("Content-Type", "application/xml")], body.encode())

    def _break_off(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.after is not None or fault.stall:
            status, headers, body = self._ask()
            self._head(status, headers, len(body))
            self.wfile.write(body[: fault.after])
            self.wfile.flush()
            time.sleep(fault.stall or 0.02)
        if fault.reset:
            # Closing with data unsent and no time to linger sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
