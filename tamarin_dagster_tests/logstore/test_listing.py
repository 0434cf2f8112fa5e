"""S3's listings: parsed fast, page by page, retried; and the error for one that fails."""

import time
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import LogStore, LogStoreError, find_first_object
from tamarin_dagster.logstore.listing import _take_contents, read_listings_fast
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.logstore.s3 import S3LogStore
from tamarin_dagster_tests.logstore.faulty import INTERNAL_ERROR, SLOW_DOWN, Fault, Faulty


def refusal(store: LogStore) -> str:
    with pytest.raises(LogStoreError) as caught:
        list(store.pages("logs/"))
    with pytest.raises(LogStoreError):
        find_first_object(store, "logs/")
    return str(caught.value)


def test_a_missing_bucket_is_named_with_its_remedy(s3):
    said = refusal(S3LogStore(s3, "no-such-bucket"))
    assert said == (
        "log bucket no-such-bucket (prefix 'logs/'): there is no such bucket; check log_bucket_name, region and "
        "endpoint_url (NoSuchBucket)"
    )


def test_an_endpoint_that_does_not_answer_is_said_so(s3_endpoint):
    once = Config(retries={"total_max_attempts": 1})
    client = boto3.client("s3", endpoint_url="http://127.0.0.1:9", config=once)
    assert "the endpoint does not answer; check endpoint_url" in refusal(S3LogStore(client, "logs"))


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("AccessDenied", "s3:ListBucket"),
        ("InvalidAccessKeyId", "profile or AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("ExpiredToken", "renew"),
        ("PermanentRedirect", "set its region"),
        ("SlowDown", "https://x/k"),
    ],
)
def test_a_refused_listing_names_bucket_cause_and_remedy_and_no_signature(s3, s3_bucket, code, remedy):
    class Client:
        meta = s3.meta

        def get_paginator(self, _: str) -> Any:
            return self

        def paginate(self, **_: Any) -> Any:
            message = "no: https://x/k?X-Amz-Signature=s3cret"
            answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(answer, "ListObjectsV2")
            yield

    store = S3LogStore(s3, s3_bucket)
    store._client = Client()
    said = refusal(store)
    assert said.startswith(f"log bucket {s3_bucket} (prefix 'logs/'): ")
    assert remedy in said
    assert said.endswith(f"({code})")
    assert "s3cret" not in said


def test_without_credentials_the_error_says_so(s3_endpoint, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = S3LogStore(boto3.Session().client("s3", endpoint_url=s3_endpoint), "logs")
    assert "no AWS credentials found; set a profile or AWS_ACCESS_KEY_ID" in refusal(store)
    item = LogObject("k", "e", 1, datetime.now(UTC))
    (fetched,) = store.fetch([item])
    (deleted,) = store.delete([item])
    assert fetched.error.startswith("GET failed: ")
    assert deleted.error.startswith("DELETE failed: ")


PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult{namespace}>
  <IsTruncated>false</IsTruncated>
  <Contents>
    <Size>12</Size><Owner><ID>7</ID></Owner><Key>a%26b+c</Key><LastModified>{time}</LastModified>
    <ETag>&quot;e&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>
  </Contents>
  <KeyCount>1</KeyCount>
</ListBucketResult>"""
NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def taken(body: str, status: int = 200) -> tuple[Any, str]:
    """Return what is parsed fast of a page, and what is left to botocore."""
    answer = {"status_code": status, "body": body.encode()}
    customized: dict[str, Any] = {}
    _take_contents(answer, customized)
    return customized.get("Contents"), answer["body"].decode()


@pytest.mark.parametrize("namespace", [NAMESPACE, ""])
@pytest.mark.parametrize("time", ["2026-03-05T10:11:12.000Z", "2026-03-05T10:11:12Z", "2026-03-05T11:11:12+01:00"])
def test_the_objects_of_a_page_are_taken_out_of_it(namespace, time):
    contents, left = taken(PAGE.format(namespace=namespace, time=time))
    modified = datetime(2026, 3, 5, 10, 11, 12, tzinfo=UTC)
    # Botocore decodes the key, with either parser.
    assert contents == [{"Key": "a%26b+c", "LastModified": modified, "ETag": '"e"', "Size": 12}]
    assert "Contents" not in left
    assert "KeyCount>1<" in left


@pytest.mark.parametrize(
    "body",
    [
        PAGE.format(namespace=NAMESPACE, time="Thu, 05 Mar 2026 10:11:12 GMT"),
        PAGE.format(namespace=NAMESPACE, time="").replace("12</Size>", "twelve</Size>"),
        "<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>",
        "<Error><Code>InternalError</Code></Error>",
        "no XML",
        "",
    ],
)
def test_what_is_not_understood_is_left_to_botocore(body):
    assert taken(body) == (None, body)


def test_an_error_is_left_to_botocore():
    page = PAGE.format(namespace=NAMESPACE, time="2026-03-05T10:11:12Z")
    assert taken(page, status=503) == (None, page)


def test_the_fast_way_and_botocores_show_the_same(s3, s3_bucket, s3_endpoint):
    names = ["a b", "a+b", "a%20b", "a&b", "a<b>", 'a"b', "aé", "a😀", "a\tb", "a\x01b", "//x", "trailing/"]
    for size, name in enumerate(names):
        s3.put_object(Bucket=s3_bucket, Key=name, Body=b"x" * size)

    def listed(client: Any) -> list[tuple[Any, ...]]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3_bucket, PaginationConfig={"PageSize": 5})
        return [(o["Key"], o["ETag"], o["Size"], o["LastModified"]) for page in pages for o in page["Contents"]]

    fast = boto3.client("s3", endpoint_url=s3_endpoint)
    read_listings_fast(fast)
    assert listed(fast) == listed(boto3.client("s3", endpoint_url=s3_endpoint))
    assert sorted(name for name, *_ in listed(fast)) == sorted(names)


@pytest.fixture
def counted(s3_logged_bucket, s3, faulty) -> tuple[LogStore, Faulty]:
    """Return a store with five log keys, and the endpoint that it is listed through."""
    for number in range(5):
        s3.put_object(Bucket=s3_logged_bucket.log_bucket_name, Key=f"logs/{number}", Body=b"x")
    return open_log_store(s3_logged_bucket.model_copy(update={"endpoint_url": faulty.url})), faulty


def settled(faulty: Faulty) -> int:
    """Return the number of listings, once no more come."""
    time.sleep(0.3)
    return faulty.requests[""]


@pytest.mark.parametrize("page_keys", [1, 2, 1000])
def test_the_first_page_costs_one_request(counted, page_keys):
    store, faulty = counted
    pages = store.pages("logs/", page_keys=page_keys)
    assert len(next(pages)) == min(page_keys, 5)
    assert settled(faulty) == 1
    assert find_first_object(store, "logs/").key == "logs/0"
    assert settled(faulty) == 2


def test_a_listing_that_is_given_up_makes_no_more_requests(counted):
    store, faulty = counted
    pages = store.pages("logs/", page_keys=1)
    next(pages)
    next(pages)
    pages.close()
    assert settled(faulty) == 2


def test_a_listing_that_fails_at_its_second_page_is_an_error(counted, monkeypatch):
    store, faulty = counted
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    pages = store.pages("logs/", page_keys=1)
    assert next(pages)[0].key == "logs/0"
    faulty.fail("", [Fault(403, "AccessDenied")] * 9)
    with pytest.raises(LogStoreError, match="access denied"):
        next(pages)


def test_a_listing_is_tried_again_when_the_store_is_busy(counted, monkeypatch):
    store, faulty = counted
    waits: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", waits.append)
    faulty.fail("", [SLOW_DOWN, Fault(reset=True), INTERNAL_ERROR, Fault(cut=True, after=10)])
    assert [len(page) for page in store.pages("logs/")] == [5]
    assert faulty.requests[""] == 5
    assert len(waits) >= 4


def test_a_store_that_stays_busy_is_a_passing_error(counted, monkeypatch):
    store, faulty = counted
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    faulty.fail("", [SLOW_DOWN] * 99)
    with pytest.raises(LogStoreError) as caught:
        next(store.pages("logs/"))
    assert caught.value.transient
    assert str(caught.value).endswith("(SlowDown)")
    assert "s3cret" not in str(caught.value)
    assert faulty.requests[""] == 5


def test_a_listing_that_is_denied_is_not_tried_again(counted):
    store, faulty = counted
    faulty.fail("", [Fault(403, "AccessDenied")] * 99)
    with pytest.raises(LogStoreError) as caught:
        next(store.pages("logs/"))
    assert not caught.value.transient
    assert faulty.requests[""] == 1
