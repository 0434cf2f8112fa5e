"""Whether an endpoint speaks the protocol that its URL says: http, https, S3."""

import contextlib
import socket
import ssl
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError, SSLError
from botocore.parsers import ResponseParserError

from tamarin_dagster.logstore.errors import status_of
from tamarin_dagster.urls import describe_url

# Seconds that a handshake may take; the endpoint has answered just before.
_HANDSHAKE_SECONDS = 3
# What OpenSSL says of an answer that is no TLS, in its versions.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def wrong_protocol(error: Exception, endpoint_url: str) -> tuple[str, str] | None:
    """Return what is wrong with the endpoint's URL and what to do, if that explains the error; otherwise None."""
    parts = urlsplit(endpoint_url)
    if isinstance(error, ResponseParserError):
        return f"{describe_url(endpoint_url)} does not answer as S3 does", "check endpoint_url: is it the S3 endpoint?"
    if isinstance(error, SSLError) and parts.scheme == "https":
        if any(word in str(error).upper() for word in _NO_TLS):
            return f"{describe_url(endpoint_url)} speaks http, not https", "write endpoint_url with http://"
        return None
    if parts.scheme == "http" and _may_be_refused(error) and _speaks_tls(parts.hostname or "", parts.port or 80):
        return f"{describe_url(endpoint_url)} speaks https, not http", "write endpoint_url with https://"
    return None


def _may_be_refused(error: Exception) -> bool:
    """Whether a server that expects TLS answers so: with a plain 400, or with an alert, or not at all."""
    if isinstance(error, ClientError):
        return status_of(error) == 400
    return isinstance(error, ConnectionClosedError | HTTPClientError) and not isinstance(error, SSLError)


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only whether it is TLS is asked; nothing is sent
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), _HANDSHAKE_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=host),
    ):
        return True
    return False
