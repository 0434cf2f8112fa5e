"""Log buckets of both kinds, and an S3 endpoint that fails."""

from pathlib import Path
from typing import Any

import boto3
import pytest

from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.logstore.s3 import S3LogStore
from tamarin_dagster.settings import LoggedBucket
from tamarin_dagster_tests.folders import write_object
from tamarin_dagster_tests.logstore.faulty import Faulty
from tamarin_dagster_tests.logstore.worlds import World


@pytest.fixture
def folder(log_folder: Path) -> World:
    def put(key: str, body: bytes) -> None:
        write_object(log_folder / key, body)

    bucket = LoggedBucket(name="media", log_bucket_name=log_folder.as_uri())
    return World(open_log_store(bucket), put, lambda key: (log_folder / key).unlink())


@pytest.fixture
def in_s3(s3: Any, s3_logged_bucket: LoggedBucket) -> World:
    name = s3_logged_bucket.log_bucket_name
    return World(
        S3LogStore(s3, name),
        lambda key, body: s3.put_object(Bucket=name, Key=key, Body=body),
        lambda key: s3.delete_object(Bucket=name, Key=key),
    )


@pytest.fixture(params=["folder", "in_s3"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def faulty_client(faulty_server: Faulty) -> Any:
    """Return a boto3 client of that endpoint; one for all tests, because making it takes longer than most of them."""
    return boto3.client("s3", endpoint_url=faulty_server.url)
