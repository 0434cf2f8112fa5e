"""Get all objects of a bucket in a plain loop, in a separate process: `python -m benchmarks.ingest.fetching SIDE`.

Bucket and endpoint are those of the settings. Each side lists with boto3, gets every object, and drops it. It prints
the number of objects, and the seconds from the first request to the last byte. Imports and the creation of clients are
not counted.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import boto3
import obstore
from botocore.config import Config
from obstore.store import S3Store

from benchmarks.ingest.endpoint import CREDENTIALS
from tamarin_dagster.settings import LoggedBucket, load_settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 16
LISTING = "listing alone, boto3"
OBSTORE = f"obstore, {THREADS} threads"
BOTO3 = f"boto3, {THREADS} threads"


@dataclass(frozen=True)
class LogBucket:
    """A bucket, with a client of each library."""

    name: str
    prefix: str
    client: "S3Client"
    store: S3Store

    def names(self) -> Iterator[str]:
        """Return the names of its log keys."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.prefix):
            yield from (item["Key"] for item in page.get("Contents", ()))

    def size_by_obstore(self, name: str) -> int:
        """Get an object, and return its size."""
        return len(obstore.get(self.store, name).bytes())

    def size_by_boto3(self, name: str) -> int:
        """Get an object, and return its size."""
        return len(self.client.get_object(Bucket=self.name, Key=name)["Body"].read())


def _in_threads(threads: int, size: Callable[[LogBucket, str], int], bucket: LogBucket) -> int:
    with ThreadPoolExecutor(threads) as pool:
        return sum(1 for _ in pool.map(partial(size, bucket), bucket.names()))


def _in_turn(bucket: LogBucket) -> int:
    return sum(1 for name in bucket.names() if bucket.size_by_obstore(name))


def _in_flight(requests: int, bucket: LogBucket) -> int:
    names = bucket.names()

    async def get_next() -> int:
        got = 0
        for name in names:
            answer = await obstore.get_async(bucket.store, name)
            await answer.bytes_async()
            got += 1
        return got

    async def get_all() -> int:
        return sum(await asyncio.gather(*(get_next() for _ in range(requests))))

    return asyncio.run(get_all())


def _listed(bucket: LogBucket) -> int:
    return sum(1 for _ in bucket.names())


SIDES: dict[str, Callable[[LogBucket], int]] = {
    LISTING: _listed,
    OBSTORE: partial(_in_threads, THREADS, LogBucket.size_by_obstore),
    "obstore, in turn": _in_turn,
    "obstore, async, 16 in flight": partial(_in_flight, 16),
    "obstore, async, 64 in flight": partial(_in_flight, 64),
    BOTO3: partial(_in_threads, THREADS, LogBucket.size_by_boto3),
}


def main() -> None:
    """Run one side."""
    (logged,) = load_settings().buckets
    bucket = _log_bucket(logged)
    started = time.perf_counter()
    objects = SIDES[sys.argv[1]](bucket)
    seconds = time.perf_counter() - started
    print(json.dumps({"objects": objects, "seconds": seconds}), flush=True)
    # Threads of obstore's runtime that end while the interpreter ends would abort it.
    os._exit(0)


def _log_bucket(logged: LoggedBucket) -> LogBucket:
    url, name = logged.endpoint_url, logged.log_bucket_name
    client = boto3.client("s3", endpoint_url=url, config=Config(max_pool_connections=THREADS))
    store = S3Store(
        name,
        endpoint=url,
        access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return LogBucket(name, logged.log_prefix, client, store)


if __name__ == "__main__":
    main()
