"""An S3 endpoint that fails on demand: it forwards requests to another one, unless a test wants a fault."""

import http.client
import socket
import struct
import threading
import time
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape

SIGNATURE = "X-Amz-Signature=s3cret"
# Response headers that belong to the connection with the other endpoint.
_NOT_PASSED_ON = ("connection", "content-length", "transfer-encoding", "date", "server")


@dataclass(frozen=True)
class Request:
    """A request, as a rule sees it: its path within the bucket ("" for a listing) and its query string."""

    method: str
    path: str
    query: str

    @property
    def subresource(self) -> str:
        """The subresource: `lifecycle`, `list-type`; empty for an object or a bucket itself."""
        return next((part.partition("=")[0] for part in self.query.split("&") if part), "")


@dataclass(frozen=True)
class Fault:
    """A fault that replaces an answer.

    Attributes:
        status, code: an error of S3's.
        reset: the connection is reset, after `after` bytes of the body (None: before any answer).
        cut: the connection is closed in order, but `after` bytes of the body have come only.
        stall: seconds of silence in the middle of the body.
        drip: the body comes in ten parts, with so many seconds between them.
        shorter: this number of bytes is missing from the body, without any sign of it.
        lost: the request is passed on, but not its answer: the connection is reset.
    """

    status: int = 0
    code: str = ""
    reset: bool = False
    cut: bool = False
    stall: float = 0
    after: int | None = None
    drip: float = 0
    shorter: int = 0
    lost: bool = False


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
        rule: asked first, of each request: what befalls it. It may do other things meanwhile.
        answers: XML to answer, by method and subresource, for requests that the real endpoint does not support.
        honours_batches: whether conditions (ETag) of DeleteObjects count, as on S3; the endpoint itself ignores them.
        honours_conditions: whether conditions of a single DELETE count; otherwise they are removed.
        delay: seconds that each request of an object takes longer.
        requests: how often each path was requested.
        methods: how often each method was.
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
        """Start again without a fault, with all counts at 0."""
        self.faults: defaultdict[str, Iterator[Fault]] = defaultdict(lambda: iter(()))
        self.any_fault: Iterator[Fault] = iter(())
        self.rule: Callable[[Request], Fault | None] = lambda _: None
        self.answers: dict[tuple[str, str], bytes] = {}
        self.honours_batches = False
        self.honours_conditions = True
        self.delay = 0.0
        self.requests: Counter[str] = Counter()
        self.methods: Counter[str] = Counter()
        self._denied: dict[tuple[str, str], Fault] = {}
        self.ranges: list[str | None] = []
        self.most_in_flight = 0

    def fail(self, path: str, faults: Iterable[Fault]) -> None:
        """Fail the next requests of this path in this way."""
        self.faults[path] = iter(faults)

    def deny(self, method: str, subresource: str = "", *, code: str = "AccessDenied", status: int = 403) -> None:
        """From now on, answer such requests with this error."""
        self._denied[method, subresource] = Fault(status, code)

    def begin(self, request: Request, wanted: str | None) -> Fault | None:
        """Count a request; return its fault."""
        path = request.path
        ruled = self._denied.get((request.method, request.subresource)) or self.rule(request)
        with self._lock:
            self.requests[path] += 1
            self.methods[request.method] += 1
            if path:
                self._in_flight += 1
            if request.method != "GET":
                return ruled
            if not path:
                return ruled or next(self.faults[path], None)
            self.ranges.append(wanted)
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            return ruled or next(self.faults[path], None) or next(self.any_fault, None)

    def end(self, path: str) -> None:
        """Count a request that was answered."""
        if path:
            with self._lock:
                self._in_flight -= 1


@contextmanager
def faulty_endpoint(target: str) -> Iterator[Faulty]:
    """Return a faulty endpoint in front of the one at the URL `target`."""
    faulty = Faulty(target)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_: object) -> None:
            """Ignore it: tests are about clients that hang up."""

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

    def _do(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path).partition("/")[2].partition("/")[2]
        request = Request(self.command, path, parts.query)
        fault = self.endpoint.begin(request, self.headers["Range"])
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        try:
            if path:
                time.sleep(self.endpoint.delay)
            if answer := self.endpoint.answers.get((request.method, request.subresource)):
                self._answer(200, [("Content-Type", "application/xml")], answer)
            elif fault is None:
                self._pass_on(body, request)
            elif fault.status:
                self._refuse(fault)
            elif fault.shorter:
                status, headers, answer = self._ask(body)
                self._answer(status, headers, answer[: -fault.shorter])
            else:
                self._break_off(fault, body)
        finally:
            self.endpoint.end(path)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _do  # noqa: N815 - as http.server wants them

    def _pass_on(self, body: bytes, request: Request) -> None:
        if request.method == "POST" and request.subresource == "delete" and self.endpoint.honours_batches:
            self._delete_as_s3_does(body)
        else:
            self._answer(*self._ask(body))

    def _ask(self, body: bytes, command: str = "", path: str = "") -> tuple[int, list[tuple[str, str]], bytes]:
        headers = dict(self.headers)
        if self.command == "DELETE" and not self.endpoint.honours_conditions:
            headers = {name: value for name, value in headers.items() if name.lower() != "if-match"}
        connection = http.client.HTTPConnection(self.endpoint.target)
        connection.request(command or self.command, path or self.path, body=body or None, headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, [item for item in answer.headers.items() if item[0].lower() not in _NOT_PASSED_ON], data

    def _delete_as_s3_does(self, body: bytes) -> None:
        """Answer DeleteObjects with conditions honoured, by a conditional DELETE for each."""
        results = []
        space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
        bucket = urlsplit(self.path).path.strip("/")
        for wanted in ET.fromstring(body).iter(f"{space}Object"):
            key, etag = wanted.findtext(f"{space}Key"), wanted.findtext(f"{space}ETag")
            connection = http.client.HTTPConnection(self.endpoint.target)
            kept = {"Authorization": self.headers["Authorization"]} | ({"If-Match": etag} if etag else {})
            connection.request("DELETE", f"/{bucket}/{quote(key or '')}", headers=kept)
            answer = connection.getresponse()
            code = {404: "NoSuchKey", 412: "PreconditionFailed"}.get(answer.status)
            connection.close()
            named = f"<Key>{escape(key or '')}</Key>"
            results.append(f"<Error>{named}<Code>{code}</Code></Error>" if code else f"<Deleted>{named}</Deleted>")
        document = f"<?xml version='1.0'?>\n<DeleteResult>{''.join(results)}</DeleteResult>"
        self._answer(200, [("Content-Type", "application/xml")], document.encode())

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._head(status, headers, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: list[tuple[str, str]], size: int) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _refuse(self, fault: Fault) -> None:
        message = f"look at https://x/k?{SIGNATURE}"
        body = f"<Error><Code>{fault.code}</Code><Message>{message}</Message></Error>"
        if self.command == "POST" and urlsplit(self.path).path == "/":  # as STS writes it
            body = f"<ErrorResponse>{body}</ErrorResponse>"
        body = f"<?xml version='1.0'?>\n{body}"
        self._answer(fault.status, [("Content-Type", "application/xml")], body.encode())

    def _break_off(self, fault: Fault, sent: bytes) -> None:
        self.close_connection = True
        if fault.lost:
            self._ask(sent)
        if fault.after is not None or fault.stall or fault.drip:
            status, headers, body = self._ask(sent)
            self._head(status, headers, len(body))
            parts = 10 if fault.drip else 1
            for part in range(parts):
                self.wfile.write(body[: fault.after][part * len(body) // parts : (part + 1) * len(body) // parts])
                self.wfile.flush()
                time.sleep(fault.drip or fault.stall or 0.02)
        if fault.reset or fault.lost:
            # Closing with data unsent and no time to linger sends a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
