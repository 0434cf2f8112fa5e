"""Listing, fetching and deleting log keys. The only module that talks to S3, or to a local folder of log keys.

Two stores behind one small interface: `S3LogStore` and `FolderLogStore`. Both list in the order of the names' bytes,
page by page, so that no listing is ever held whole.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError as ObstoreError
from obstore.exceptions import NotFoundError, PreconditionError
from obstore.store import S3Store

from tamarin_dagster.logkey import LogObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

# S3's own limit for a page of a listing.
LIST_PAGE_KEYS = 1000
# GETs of 5 KB objects on loopback: 16 threads 14,500/s, more gained nothing.
FETCH_THREADS = 16
# A conditional DELETE is a request per key; boto3 does about 1,000/s from 16 threads.
DELETE_THREADS = 16
REQUEST_TIMEOUT_SECONDS = 60
# How long frozen credentials are used before the session is asked again; it renews those of a role by itself.
_CREDENTIALS_TTL = timedelta(minutes=10)


_CHANGED_SINCE_LISTED = "it was deleted or overwritten since it was listed; the next run takes what is there"
_CHANGED_SINCE_LOADED = "it was overwritten since it was loaded; the next pull loads the new generation"


class LogStoreError(Exception):
    """The log bucket cannot be listed. Its text names bucket, cause and remedy.

    `transient` says whether it may go away by itself.
    """

    def __init__(self, text: str, *, transient: bool = False) -> None:
        super().__init__(text)
        self.transient = transient


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object's bytes, or why they could not be had. `object` has the version id once it was read."""

    object: LogObject
    body: bytes
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """Outcome of one deletion: `error` is None when the generation is gone, by us or by somebody before."""

    object: LogObject
    error: str | None = None


class LogStore(Protocol):
    """What the project needs of a log bucket."""

    @property
    def name(self) -> str:
        """The log bucket's name as in the settings."""
        ...

    def pages(self, prefix: str, start_after: str = "", page_keys: int = LIST_PAGE_KEYS) -> Iterator[list[LogObject]]:
        """The objects whose names begin with `prefix` and lie behind `start_after`, in the names' byte order.

        Raises LogStoreError.
        """
        ...

    def fetch(self, objects: Sequence[LogObject]) -> list[Fetched]:
        """The bodies of exactly these generations, in this order. What fails is told per object, nothing is raised."""
        ...

    def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
        """Deletes exactly these generations. What fails is told per object, nothing is raised."""
        ...


def first_object(store: LogStore, prefix: str, start_after: str = "") -> LogObject | None:
    """The first object with that prefix behind `start_after`: one cheap request."""
    for page in store.pages(prefix, start_after, page_keys=1):
        return page[0]
    return None


class S3LogStore:
    """A log bucket in S3 or a compatible store.

    Listing and deleting go through the boto3 client; bulk GETs through obstore (fifteen times as fast), which takes
    endpoint, region and credentials from that very client.
    """

    def __init__(self, client: "S3Client", log_bucket_name: str) -> None:
        self.name = log_bucket_name
        self._client = client
        self._objects = _obstore_of(client, log_bucket_name)

    def pages(self, prefix: str, start_after: str = "", page_keys: int = LIST_PAGE_KEYS) -> Iterator[list[LogObject]]:
        """See LogStore. `Prefix` takes any string; obstore's would match whole path segments only."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix, StartAfter=start_after, PaginationConfig={"PageSize": page_keys}
        )
        try:
            for page in pages:
                if contents := page.get("Contents"):
                    yield [LogObject(o["Key"], o["ETag"].strip('"'), o["Size"], o["LastModified"]) for o in contents]
        except (ClientError, BotoCoreError) as error:
            raise _listing_error(self.name, prefix, error) from error

    def fetch(self, objects: Sequence[LogObject]) -> list[Fetched]:
        """See LogStore. The generation is pinned by If-Match, the length compared with the listed one."""
        return _in_threads(self._fetch_one, objects, FETCH_THREADS)

    def _fetch_one(self, item: LogObject) -> Fetched:
        try:
            if _plain_path(item.key):
                result = obstore.get(self._objects, item.key, options={"if_match": f'"{item.etag}"'})
                body, version = bytes(result.bytes()), result.meta.get("version")
            else:
                answer = self._client.get_object(Bucket=self.name, Key=item.key, IfMatch=f'"{item.etag}"')
                body, version = answer["Body"].read(), answer.get("VersionId")
        except (NotFoundError, FileNotFoundError, PreconditionError):
            return Fetched(item, b"", _CHANGED_SINCE_LISTED)
        except ClientError as error:
            gone = _status(error) in (404, 412) and _code(error) != "NoSuchBucket"
            return Fetched(item, b"", _CHANGED_SINCE_LISTED if gone else f"GET failed: {_brief(error)}")
        except (ObstoreError, BotoCoreError, OSError, ValueError) as error:
            return Fetched(item, b"", f"GET failed: {_brief(error)}")
        return _checked(replace(item, version_id=version if version not in ("null", "") else None), body)

    def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
        """See LogStore. One conditional request per key: some stores ignore the pins of a DeleteObjects batch."""
        return _in_threads(self._delete_one, objects, DELETE_THREADS)

    def _delete_one(self, item: LogObject) -> Deleted:
        try:
            if item.version_id is None:
                self._client.delete_object(Bucket=self.name, Key=item.key, IfMatch=f'"{item.etag}"')
            else:
                # An overwritten version goes too, else it would come to light again when the newer one is deleted;
                # but the ledger must keep it as unpurged, for the newer one to take its place.
                overwritten = self._current_version(item.key) not in (item.version_id, None)
                self._client.delete_object(Bucket=self.name, Key=item.key, VersionId=item.version_id)
                if overwritten:
                    return Deleted(item, _CHANGED_SINCE_LOADED)
        except ClientError as error:
            if _status(error) in (409, 412):
                return Deleted(item, _CHANGED_SINCE_LOADED)
            # A bucket that is not there answers 404 too, and says nothing of the key.
            if _status(error) != 404 or _code(error) == "NoSuchBucket":
                return Deleted(item, f"DELETE failed: {_brief(error)}")
        except (BotoCoreError, ValueError) as error:
            return Deleted(item, f"DELETE failed: {_brief(error)}")
        return Deleted(item)

    def _current_version(self, key: str) -> str | None:
        """The version that the key's name means now; None if it was deleted."""
        try:
            return self._client.head_object(Bucket=self.name, Key=key).get("VersionId")
        except ClientError as error:
            if _status(error) == 404 and _code(error) != "NoSuchBucket":
                return None
            raise


class FolderLogStore:
    """A folder tree of log keys; an object's key is its path below the folder.

    Links are not followed, hidden files and folders (`.incoming`, `.DS_Store`) are not there.
    """

    def __init__(self, folder: Path, log_bucket_name: str) -> None:
        self.name = log_bucket_name
        self._folder = folder

    def pages(self, prefix: str, start_after: str = "", page_keys: int = LIST_PAGE_KEYS) -> Iterator[list[LogObject]]:
        """See LogStore."""
        if not self._folder.is_dir():
            raise LogStoreError(f"log bucket {self.name}: there is no such folder")
        page: list[LogObject] = []
        try:
            for item in self._walk("", prefix, start_after):
                page.append(item)
                if len(page) == page_keys:
                    yield page
                    page = []
        except OSError as error:
            raise LogStoreError(f"log bucket {self.name}: cannot be listed: {error}") from error
        if page:
            yield page

    def _walk(self, base: str, prefix: str, start_after: str) -> Iterator[LogObject]:
        # A folder sorts as S3 sorts its keys: by its name with the slash.
        with os.scandir(self._folder / base) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
        children = sorted((entry.name + "/" * entry.is_dir(follow_symlinks=False), entry) for entry in shown)
        for name, entry in children:
            key = base + name
            if name.endswith("/"):
                shares = key.startswith(prefix) or prefix.startswith(key)
                if shares and (key > start_after or start_after.startswith(key)):
                    with contextlib.suppress(FileNotFoundError):  # it went while we looked
                        yield from self._walk(key, prefix, start_after)
            elif key.startswith(prefix) and key > start_after and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    yield _from_stat(key, entry.stat(follow_symlinks=False))

    def fetch(self, objects: Sequence[LogObject]) -> list[Fetched]:
        """See LogStore."""
        return _in_threads(self._fetch_one, objects, FETCH_THREADS)

    def _fetch_one(self, item: LogObject) -> Fetched:
        try:
            with self._path(item.key).open("rb") as file:
                if _from_stat(item.key, os.fstat(file.fileno())).etag != item.etag:
                    return Fetched(item, b"", _CHANGED_SINCE_LISTED)
                return _checked(item, file.read())
        except FileNotFoundError:
            return Fetched(item, b"", _CHANGED_SINCE_LISTED)
        except (OSError, ValueError) as error:
            return Fetched(item, b"", f"cannot be read: {error}")

    def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
        """See LogStore."""
        return [self._delete_one(item) for item in objects]

    def _delete_one(self, item: LogObject) -> Deleted:
        try:
            path = self._path(item.key)
            if _from_stat(item.key, path.stat()).etag != item.etag:
                return Deleted(item, _CHANGED_SINCE_LOADED)
            path.unlink()
        except FileNotFoundError:
            return Deleted(item)
        except (OSError, ValueError) as error:
            return Deleted(item, f"cannot be deleted: {error}")
        return Deleted(item)

    def _path(self, key: str) -> Path:
        path = (self._folder / key).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            raise PermissionError(f"{key!r} leads out of the folder")
        return path


def _from_stat(key: str, stat: os.stat_result) -> LogObject:
    """A file's generation is its modification time and size."""
    modified = datetime.fromtimestamp(stat.st_mtime_ns / 1e9, UTC)
    return LogObject(key, f"{stat.st_mtime_ns:x}-{stat.st_size:x}", stat.st_size, modified)


def _checked(item: LogObject, body: bytes) -> Fetched:
    if len(body) != item.size:
        return Fetched(item, b"", f"{len(body):,} bytes were read where {item.size:,} are listed")
    return Fetched(item, body)


def _in_threads(work: Callable[[LogObject], T], objects: Sequence[LogObject], threads: int) -> list[T]:
    if len(objects) < 2:
        return [work(item) for item in objects]
    with ThreadPoolExecutor(min(threads, len(objects)), thread_name_prefix="logstore") as pool:
        return list(pool.map(work, objects))


def _obstore_of(client: "S3Client", bucket: str) -> S3Store:
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

    endpoint = client.meta.endpoint_url
    return S3Store(
        bucket,
        endpoint=endpoint,
        region=client.meta.region_name or "us-east-1",
        virtual_hosted_style_request=False,
        credential_provider=credentials,  # type: ignore[arg-type]
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "timeout": timedelta(seconds=REQUEST_TIMEOUT_SECONDS),
        },
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=2 * REQUEST_TIMEOUT_SECONDS)},
    )


def _plain_path(key: str) -> bool:
    """Whether obstore addresses the key as it is: it refuses or rewrites empty and dotted segments, odd characters."""
    return key.isprintable() and all(segment not in ("", ".", "..") for segment in key.split("/"))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _brief(error: Exception) -> str:
    """The first line of an error, without what stands behind a question mark: URLs may carry signatures."""
    return str(error).strip().split("\n", 1)[0].split("?", 1)[0][:300]


# By S3's error code or the client's error class: what a person has to mend. Anything else may pass.
_REMEDIES = {
    "NoSuchBucket": "there is no such bucket; check log_bucket_name, region and endpoint_url",
    "AccessDenied": "access denied; the credentials need s3:ListBucket on the bucket and s3:GetObject on its keys",
    "InvalidAccessKeyId": "the access key is not known there; check profile or AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not fit; check profile or AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; renew them",
    "PermanentRedirect": "the bucket is in another region; set its region",
    "NoCredentialsError": "no AWS credentials found; set a profile or AWS_ACCESS_KEY_ID",
}
_NO_ANSWER = "EndpointConnectionError"


def _listing_error(bucket: str, prefix: str, error: ClientError | BotoCoreError) -> LogStoreError:
    code = _code(error) if isinstance(error, ClientError) else type(error).__name__
    remedy = _REMEDIES.get(code)
    if code == _NO_ANSWER:
        what = "the endpoint does not answer; check endpoint_url and the network"
    else:
        what = remedy or _brief(error)
    return LogStoreError(f"log bucket {bucket} (prefix '{prefix}'): {what} ({code})", transient=remedy is None)
