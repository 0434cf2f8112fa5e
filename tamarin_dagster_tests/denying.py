"""An S3 endpoint that denies: it passes requests on to another one, except those that a test's policy forbids."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SIGNATURE = "X-Amz-Signature=s3cret"
_DROPPED = ("connection", "content-length", "transfer-encoding", "date", "server")


class Denying:
    """The endpoint. `url` is where it listens.

    Attributes:
        refusals: S3's error code and status by method and sub-resource (`lifecycle`, `list-type`; "" for an object or
            a bucket itself).
        answers: XML that is answered instead, by the same: of what the other endpoint does not have.
        deaf: whether it leaves If-Match away from deletions, as some stores do.
        requests: what came: method, path and query.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.url = ""
        self.reset()

    def reset(self) -> None:
        """As new: it passes all on."""
        self.refusals: dict[tuple[str, str], tuple[str, int]] = {}
        self.answers: dict[tuple[str, str], bytes] = {}
        self.deaf = False
        self.requests: list[tuple[str, str, str]] = []

    def deny(self, method: str, subresource: str = "", *, code: str = "AccessDenied", status: int = 403) -> None:
        """From now on such requests are answered with this error."""
        self.refusals[method, subresource] = code, status

    def have_requesters_pay(self) -> None:
        """From now on every bucket's requesters pay."""
        body = b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>"
        self.answers["GET", "requestPayment"] = body


@contextmanager
def denying_endpoint(target: str) -> Iterator[Denying]:
    """A denying endpoint in front of the one at the URL `target`."""
    denying = Denying(target)

    class Handler(_Handler):
        endpoint = denying

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        denying.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield denying
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    endpoint: Denying

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.endpoint.requests.append((self.command, url.path, url.query))
        subresource = next((part.partition("=")[0] for part in url.query.split("&") if part), "")
        if refusal := self.endpoint.refusals.get((self.command, subresource)):
            self._refuse(*refusal)
        elif answer := self.endpoint.answers.get((self.command, subresource)):
            self._answer(200, [("Content-Type", "application/xml")], answer)
        else:
            self._pass_on(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle  # noqa: N815 - the server's names

    def _pass_on(self, body: bytes) -> None:
        headers = dict(self.headers)
        if self.endpoint.deaf and self.command == "DELETE":
            headers.pop("If-Match", None)
        connection = http.client.HTTPConnection(self.endpoint.target)
        connection.request(self.command, self.path, body or None, headers)
        answer = connection.getresponse()
        said = answer.read()
        self._answer(answer.status, [item for item in answer.headers.items() if item[0].lower() not in _DROPPED], said)
        connection.close()

    def _refuse(self, code: str, status: int) -> None:
        body = f"<Error><Code>{code}</Code><Message>look at https://x/k?{SIGNATURE}</Message></Error>"
        if self.command == "POST":  # as STS writes it
            body = f"<ErrorResponse>{body}</ErrorResponse>"
        self._answer(status, [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else body.encode())

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
