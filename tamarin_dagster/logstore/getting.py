"""Read the bytes of one generation from S3: single requests, and which of their failures are transient."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import obstore
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from obstore.exceptions import BaseError as ObstoreError
from obstore.exceptions import PreconditionError
from obstore.store import S3Store

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore.errors import RESTORE, get_code, get_status, summarize_error
from tamarin_dagster.logstore.pacing import Pacer
from tamarin_dagster.logstore.retries import TransientError
from tamarin_dagster.logstore.store import CHANGED_SINCE_LISTED, FetchError, LogStoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef
    from obstore import GetOptions

CONNECT_TIMEOUT_SECONDS = 5
# The maximum silence of a connection.
STALL_TIMEOUT_SECONDS = 20
# The maximum for a whole request, so a chunk of a large object needs at least 140 KB/s.
REQUEST_TIMEOUT_SECONDS = 60
# How long frozen credentials are used before they are requested again; the session renews those of a role by itself.
_CREDENTIALS_TTL = timedelta(minutes=10)

# object_store's error text: "… non-2xx status code: 503 Service Unavailable: <?xml …><Error><Code>SlowDown</Code>…".
_STATUS = re.compile(r"non-2xx status code: (\d{3})([^:\n]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
# "HTTP error: error sending request", or "… response body error"; later "HttpError { kind: Timeout, …".
_BROKEN = re.compile(r"HTTP error: ([^\n]*)")
_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")
_BUSY_STATUSES = (408, 429)
_BUSY_CODES = ("SlowDown", "RequestTimeout")
_ARCHIVED = "InvalidObjectState"
# The segments of a name that obstore refuses or rewrites: empty ones, `.` and `..`.
_ODD_SEGMENTS = ("", ".", "..")


class Getter:
    """Send GETs of a bucket's objects, with If-Match on the generation, pacing and retries.

    obstore is fifteen times as fast as boto3. Names that obstore cannot address go through the client.
    """

    def __init__(self, client: "S3Client", bucket: str, pacer: Pacer, timeout: timedelta) -> None:
        self._client = client
        self._bucket = bucket
        self._pacer = pacer
        self._objects = _make_obstore(client, bucket, timeout)

    def get(self, item: LogObject, first: int = 0, end: int | None = None) -> tuple[bytes, str | None]:
        """Return the object's bytes from `first` up to but excluding `end` (default: all), and its version ID.

        Raises FetchError.
        """
        once = self._by_obstore if _is_plain(item.key) else self._by_client
        try:
            return self._pacer.send(lambda: once(item, first, end))
        except TransientError as error:
            raise FetchError(str(error)) from error

    def _by_obstore(self, item: LogObject, first: int, end: int | None) -> tuple[bytes, str | None]:
        options: GetOptions = {"if_match": f'"{item.etag}"'}
        if end is not None:
            options["range"] = (first, end)
        try:
            answer = obstore.get(self._objects, item.key, options=options)
            return bytes(answer.bytes()), _clean_version(answer.meta["version"])
        except (ObstoreError, OSError, ValueError) as error:
            raise _convert_error(error) from error

    def _by_client(self, item: LogObject, first: int, end: int | None) -> tuple[bytes, str | None]:
        wanted: GetObjectRequestTypeDef = {"Bucket": self._bucket, "Key": item.key, "IfMatch": f'"{item.etag}"'}
        if end is not None:
            wanted["Range"] = f"bytes={first}-{end - 1}"
        try:
            answer = self._client.get_object(**wanted)
            return answer["Body"].read(), _clean_version(answer.get("VersionId"))
        except ClientError as error:
            gone = get_status(error) in (404, 412) and get_code(error) != "NoSuchBucket"
            said = f"GET failed: {summarize_error(error)}" + f" - {RESTORE}" * (get_code(error) == _ARCHIVED)
            raise FetchError(CHANGED_SINCE_LISTED if gone else said) from error
        except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError) as error:
            # The client retries until a response begins, but not when its body breaks off.
            raise TransientError(f"GET failed: {summarize_error(error)}") from error
        except (BotoCoreError, ValueError) as error:
            raise FetchError(f"GET failed: {summarize_error(error)}") from error


def _convert_error(error: Exception) -> FetchError | TransientError:
    """Convert an error of obstore into one of ours. Only its text has the status and says that a connection broke."""
    text = str(error)
    code = found[1] if (found := _CODE.search(text)) else ""
    if isinstance(error, PreconditionError) or (isinstance(error, FileNotFoundError) and code != "NoSuchBucket"):
        return FetchError(CHANGED_SINCE_LISTED)
    if found := _STATUS.search(text):
        status = int(found[1])
        busy = status >= 500 or status in _BUSY_STATUSES or code in _BUSY_CODES
        said = f"GET failed: {status}{found[2]}" + f" ({code})" * bool(code)
        said += f" - {RESTORE}" * (code == _ARCHIVED)
        return TransientError(said) if busy else FetchError(said)
    if found := _BROKEN.search(text):
        kind = f" ({found[1]})" if (found := _KIND.search(text)) else ""
        return TransientError(f"GET failed: {summarize_error(error)}{kind}")
    return FetchError(f"GET failed: {summarize_error(error)}")


def _clean_version(version: str | None) -> str | None:
    """Return the version ID. An object from before versioning, or from while it was suspended, has "null"."""
    return version or None


def _is_plain(key: str) -> bool:
    """Return whether obstore addresses the key unchanged: it refuses or rewrites odd segments and characters."""
    if "//" in key or "/." in key or key[0] in "./" or key[-1] == "/":
        return key.isprintable() and not any(segment in _ODD_SEGMENTS for segment in key.split("/"))
    return key.isprintable()


def _make_obstore(client: "S3Client", bucket: str, timeout: timedelta) -> S3Store:
    endpoint = client.meta.endpoint_url
    return S3Store(
        bucket,
        endpoint=endpoint,
        region=client.meta.region_name or "us-east-1",
        virtual_hosted_style_request=False,
        credential_provider=_make_credentials(client, bucket),  # type: ignore[arg-type]
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_SECONDS),
            "read_timeout": timedelta(seconds=STALL_TIMEOUT_SECONDS),
            "timeout": timeout,
        },
        # Without retries here, the pacer sees that the store is busy.
        retry_config={"max_retries": 0},
    )


def _make_credentials(client: "S3Client", bucket: str) -> Callable[[], dict[str, object]]:
    def credentials() -> dict[str, object]:
        # Botocore has no public name for a client's own credentials; its presigning reads the same attribute.
        source = client._request_signer._credentials  # type: ignore[attr-defined]
        if source is None:
            raise LogStoreError(f"log bucket {bucket}: no AWS credentials found; set a profile or AWS_ACCESS_KEY_ID")
        frozen = source.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_TTL,
        }

    return credentials
