"""A log bucket in S3 or a compatible store."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore.deleting import Deleter
from tamarin_dagster.logstore.getting import REQUEST_TIMEOUT_SECONDS, Getter
from tamarin_dagster.logstore.listing import explain_listing_error, read_listings_fast
from tamarin_dagster.logstore.pacing import MAX_CEILING, Pacer
from tamarin_dagster.logstore.store import (
    CHUNK_BYTES,
    LIST_PAGE_KEYS,
    Deleted,
    Fetched,
    FetchError,
    Opened,
    explain_wrong_size,
)
from tamarin_dagster.logstore.threads import Threads

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3LogStore:
    """A log bucket in S3 or a compatible store.

    Listing and deleting go through the boto3 client (use one from `client`). GETs go through obstore, with the
    endpoint, region and credentials of the same client. `pacer` and `timeout` apply to GETs.
    """

    def __init__(
        self,
        client: "S3Client",
        log_bucket_name: str,
        *,
        pacer: Pacer | None = None,
        timeout: timedelta = timedelta(seconds=REQUEST_TIMEOUT_SECONDS),
    ) -> None:
        self.name = log_bucket_name
        self._client = client
        self._pacer = pacer or Pacer()
        self._getter = Getter(client, log_bucket_name, self._pacer, timeout)
        self._threads = Threads(MAX_CEILING)
        self._deleter = Deleter(client, log_bucket_name, self._threads)
        read_listings_fast(client)

    def pages(self, prefix: str, start_after: str = "", page_keys: int = LIST_PAGE_KEYS) -> Iterator[list[LogObject]]:
        """See LogStore. `Prefix` takes any string; obstore's would only match whole path segments."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix, StartAfter=start_after, PaginationConfig={"PageSize": page_keys}
        )
        try:
            for page in pages:
                if contents := page.get("Contents"):
                    yield [LogObject(o["Key"], o["ETag"].strip('"'), o["Size"], o["LastModified"]) for o in contents]
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            raise explain_listing_error(self.name, prefix, error, self._client.meta.endpoint_url) from error

    def fetch(self, objects: Sequence[LogObject]) -> list[Fetched]:
        """See LogStore."""
        return self._threads.map(self._fetch_one, objects, lambda: self._pacer.threads)

    def _fetch_one(self, item: LogObject) -> Fetched:
        try:
            body, version = self._getter.get(item)
        except FetchError as error:
            return Fetched(item, b"", str(error))
        if len(body) != item.size:
            return Fetched(item, b"", explain_wrong_size(len(body), item.size))
        return Fetched(_read(item, version), body)

    def open(self, item: LogObject) -> Opened:
        """See LogStore. Each chunk is a request of its own, pinned to the generation, with its own retries."""
        if item.size <= CHUNK_BYTES:
            body, version = self._getter.get(item)
            if len(body) != item.size:
                raise FetchError(explain_wrong_size(len(body), item.size))
            return Opened(_read(item, version), iter([body] if body else []))
        chunk, version = self._chunk(item, 0)
        return Opened(_read(item, version), self._chunks(item, chunk))

    def _chunks(self, item: LogObject, first: bytes) -> Iterator[bytes]:
        yield first
        del first
        for start in range(CHUNK_BYTES, item.size, CHUNK_BYTES):
            yield self._chunk(item, start)[0]

    def _chunk(self, item: LogObject, start: int) -> tuple[bytes, str | None]:
        end = min(start + CHUNK_BYTES, item.size)
        body, version = self._getter.get(item, start, end)
        if len(body) != end - start:
            raise FetchError(explain_wrong_size(start + len(body), item.size))
        return body, version

    def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
        """See LogStore."""
        return self._deleter.delete(objects)


def _read(item: LogObject, version: str | None) -> LogObject:
    """Return the object with the version that was read."""
    return item if version == item.version_id else replace(item, version_id=version)
