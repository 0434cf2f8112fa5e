"""Find out whether an endpoint speaks the protocol of its URL: http, https, S3."""

import contextlib
import socket
import ssl
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError, SSLError
from botocore.parsers import ResponseParserError

from tamarin_dagster.logstore.errors import get_status
from tamarin_dagster.urls import describe_url

# The timeout of a handshake in seconds; the endpoint has answered just before.
_HANDSHAKE_SECONDS = 3
# OpenSSL's names, in its different versions, for an answer that is not TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def explain_protocol(error: Exception, endpoint_url: str) -> tuple[str, str] | None:
    """Return what is wrong with the endpoint's URL and what to do; None if that does not explain the error."""
    parts = urlsplit(endpoint_url)
    if isinstance(error, ResponseParserError):
        return f"{describe_url(endpoint_url)} does not answer like S3", (
            "check whether endpoint_url is the S3 endpoint"
        )
    if isinstance(error, SSLError) and parts.scheme == "https":
        if any(word in str(error).upper() for word in _NO_TLS):
            return f"{describe_url(endpoint_url)} speaks http, not https", "begin endpoint_url with http://"
        return None
    if parts.scheme == "http" and _may_be_refused(error) and _speaks_tls(parts.hostname or "", parts.port or 80):
        return f"{describe_url(endpoint_url)} speaks https, not http", "begin endpoint_url with https://"
    return None


def _may_be_refused(error: Exception) -> bool:
    """Return whether a TLS server may have answered so to a plain request: with a plain 400, an alert, or nothing."""
    if isinstance(error, ClientError):
        return get_status(error) == 400
    return isinstance(error, ConnectionClosedError | HTTPClientError) and not isinstance(error, SSLError)


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only to find out whether it is TLS; nothing is sent
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), _HANDSHAKE_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=host),
    ):
        return True
    return False
