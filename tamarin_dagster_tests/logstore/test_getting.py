"""GETs over HTTP from an endpoint that fails: transient faults are retried, others are reported at once."""

import itertools
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import CHUNK_BYTES, FetchError
from tamarin_dagster.logstore.pacing import MIN_CEILING, Pacer
from tamarin_dagster.logstore.retries import Retries, TransientError
from tamarin_dagster.logstore.s3 import S3LogStore
from tamarin_dagster_tests.logstore.faulty import (
    CUT,
    INTERNAL_ERROR,
    RESET,
    RESET_IN_BODY,
    SLOW_DOWN,
    TOO_MANY,
    Fault,
    Faulty,
)

# Short waits for tests; whatever takes longer than the timeout has stalled.
QUICK = Retries(attempts=6, deadline_seconds=20, first_backoff_seconds=0.01, max_backoff_seconds=0.05)
TIMEOUT = timedelta(seconds=0.5)
STALL = Fault(stall=1.0, after=2)
PASSING = [SLOW_DOWN, INTERNAL_ERROR, TOO_MANY, RESET, RESET_IN_BODY, CUT, STALL, Fault(400, "RequestTimeout")]
CHANGED = "it was deleted or overwritten after it was listed; the next run takes what is there then"
# One that obstore reads, and one that only boto3 can address.
NAMES = ["logs/plain", "logs//odd"]


class World:
    """A bucket, read through an endpoint that fails."""

    def __init__(self, s3: Any, bucket: str, faulty: Faulty, client: Any) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.faulty = faulty
        self.client = client
        self.use(QUICK)

    def use(self, retries: Retries, timeout: timedelta = TIMEOUT) -> None:
        self.pacer = Pacer(retries)
        self.store = S3LogStore(self.client, self.bucket, pacer=self.pacer, timeout=timeout)

    def put(self, key: str, body: bytes) -> LogObject:
        etag = self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)["ETag"].strip('"')
        modified = self.s3.head_object(Bucket=self.bucket, Key=key)["LastModified"]
        return LogObject(key, etag, len(body), modified)


@pytest.fixture
def world(s3, s3_bucket, faulty, faulty_client) -> World:
    return World(s3, s3_bucket, faulty, faulty_client)


def test_all_objects_arrive_through_any_faults(world):
    items = [world.put(f"logs/{number:03}", f"body {number}".encode()) for number in range(40)]
    world.faulty.any_fault = iter(PASSING * 3)

    fetched = world.store.fetch(items)

    assert [(f.object, f.body, f.error) for f in fetched] == [
        (item, f"body {number}".encode(), None) for number, item in enumerate(items)
    ]
    assert world.faulty.requests.total() == 40 + 3 * len(PASSING)
    assert world.pacer._halvings >= 1


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.status or 'broken'}")
def test_what_passes_is_tried_again(world, fault):
    item = world.put("logs/k", b"12345")
    world.faulty.fail("logs/k", [fault, fault])
    (fetched,) = world.store.fetch([item])
    assert (fetched.body, fetched.error) == (b"12345", None)
    assert world.faulty.requests["logs/k"] == 3
    assert world.pacer.window == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (SLOW_DOWN, "GET failed: 503 Service Unavailable (SlowDown)"),
        (INTERNAL_ERROR, "GET failed: 500 Internal Server Error (InternalError)"),
        (RESET, "GET failed: Generic S3 error: Error performing GET"),
        (CUT, "GET failed: Generic S3 error: HTTP error: request or response body error (Interrupted)"),
        (STALL, "GET failed: Generic S3 error: HTTP error: request or response body error (Timeout)"),
    ],
)
def test_what_does_not_pass_ends_with_an_error_on_that_object_alone(world, fault, said):
    world.use(Retries(attempts=3, first_backoff_seconds=0.01))
    items = [world.put(f"logs/{name}", b"12345") for name in "abcdef"]
    world.faulty.fail("logs/c", itertools.repeat(fault))

    fetched = world.store.fetch(items)

    assert [f.body for f in fetched] == [b"12345"] * 2 + [b""] + [b"12345"] * 3
    assert fetched[2].error.startswith(said)
    assert world.faulty.requests == {f"logs/{name}": 3 if name == "c" else 1 for name in "abcdef"}


def test_no_object_is_waited_for_longer_than_the_deadline(world):
    world.use(Retries(attempts=10_000, deadline_seconds=1, first_backoff_seconds=0.05, max_backoff_seconds=0.1))
    items = [world.put(f"logs/{name}", b"12345") for name in "abc"]
    world.faulty.fail("logs/b", itertools.repeat(SLOW_DOWN))
    started = time.monotonic()
    fetched = world.store.fetch(items)
    assert time.monotonic() - started < 3
    assert [f.error is None for f in fetched] == [True, False, True]
    assert world.faulty.requests["logs/b"] > 5


def test_many_objects_that_fail_wait_at_the_same_time(world):
    """They occupied the few threads of a window that their own failures had narrowed."""
    world.use(Retries(attempts=3, first_backoff_seconds=1, max_backoff_seconds=1))
    items = [world.put(f"logs/{number:02}", b"12345") for number in range(60)]
    for item in items[20:]:
        world.faulty.fail(item.key, itertools.repeat(INTERNAL_ERROR))
    waiting: list[int] = []
    sleep = world.pacer._sleep

    def noted(seconds: float) -> None:
        waiting.append(world.pacer._waiting)
        sleep(seconds)

    world.pacer._sleep = noted
    fetched = world.store.fetch(items)
    assert [f.error is None for f in fetched] == [True] * 20 + [False] * 40
    assert len(waiting) == 40 * 2
    assert max(waiting) > MIN_CEILING


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(404, "NoSuchKey"), CHANGED),
        (Fault(412, "PreconditionFailed"), CHANGED),
        (Fault(404, "NoSuchBucket"), "NoSuchBucket"),
        (Fault(403, "AccessDenied"), "AccessDenied"),
        (Fault(403, "SignatureDoesNotMatch"), "SignatureDoesNotMatch"),
        (Fault(400, "ExpiredToken"), "ExpiredToken"),
        (Fault(416, "InvalidRange"), "InvalidRange"),
    ],
    ids=lambda value: value.code if isinstance(value, Fault) else "",
)
def test_what_no_retry_mends_is_asked_for_once(world, name, fault, said):
    item = world.put(name, b"12345")
    world.faulty.fail(name, itertools.repeat(fault))
    (fetched,) = world.store.fetch([item])
    assert fetched.body == b""
    assert said in fetched.error
    assert (fetched.error == CHANGED) == (said == CHANGED)
    assert world.faulty.requests[name] == 1
    assert world.pacer.window == 16


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", [SLOW_DOWN, Fault(403, "AccessDenied"), RESET])
def test_no_error_tells_a_signature(world, name, fault):
    world.use(Retries(attempts=1))
    item = world.put(name, b"12345")
    world.faulty.fail(name, itertools.repeat(fault))
    (fetched,) = world.store.fetch([item])
    assert fetched.error.startswith("GET failed: ")
    assert "s3cret" not in fetched.error
    assert "\n" not in fetched.error


def test_no_more_than_the_window_is_in_flight(world):
    items = [world.put(f"logs/{number:02}", b"12345") for number in range(48)]
    world.faulty.delay = 0.03
    at_first = world.pacer.window
    world.store.fetch(items)
    # It may have narrowed in between, on a busy machine.
    assert 8 < world.faulty.most_in_flight <= max(at_first, world.pacer.window)
    for _ in range(3):
        world.pacer._note_failure(world.pacer._halvings, 0, TransientError("busy"))
    world.faulty.most_in_flight = 0
    world.store.fetch(items)
    assert 2 < world.faulty.most_in_flight <= world.pacer.window < 16


def test_batches_of_one_store_share_its_window(world):
    items = [world.put(f"logs/{number:02}", b"12345") for number in range(24)]
    for _ in range(3):
        world.pacer._note_failure(world.pacer._halvings, 0, TransientError("busy"))
    world.faulty.delay = 0.03
    batches = [threading.Thread(target=world.store.fetch, args=[items[start::3]]) for start in range(3)]
    for batch in batches:
        batch.start()
    for batch in batches:
        batch.join()
    assert world.faulty.requests.total() == 24
    assert world.faulty.most_in_flight <= world.pacer.window < 12


def test_a_body_that_breaks_off_under_an_odd_name_is_read_again(world):
    """boto3 retries until a response begins, but not when its body breaks off."""
    item = world.put("logs//odd", b"12345")
    world.faulty.fail("logs//odd", [CUT, RESET_IN_BODY, CUT])
    (fetched,) = world.store.fetch([item])
    assert (fetched.body, fetched.error) == (b"12345", None)


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    monkeypatch.setattr("tamarin_dagster.logstore.s3.CHUNK_BYTES", 1000)


def test_a_large_object_is_read_by_ranges(world):
    body = bytes(range(256)) * (2 * CHUNK_BYTES // 256) + b"the end"
    item = world.put("logs/k", body)
    world.use(QUICK, timeout=timedelta(seconds=30))
    assert b"".join(world.store.open(item).chunks) == body
    assert world.faulty.ranges == ["bytes=0-8388607", "bytes=8388608-16777215", "bytes=16777216-16777222"]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", NAMES)
def test_a_range_that_breaks_off_is_read_again_by_itself(world, name):
    body = bytes(range(256)) * 12
    item = world.put(name, body)
    opened = world.store.open(item)
    chunks = [next(opened.chunks)]
    world.faulty.fail(name, [RESET_IN_BODY, CUT, RESET_IN_BODY])
    chunks += opened.chunks
    assert [len(chunk) for chunk in chunks] == [1000, 1000, 1000, 72]
    assert b"".join(chunks) == body
    assert world.faulty.ranges == ["bytes=0-999"] + ["bytes=1000-1999"] * 4 + ["bytes=2000-2999", "bytes=3000-3071"]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", NAMES)
def test_an_object_that_is_overwritten_between_two_ranges_is_an_error(world, name):
    item = world.put(name, b"1" * 3000)
    opened = world.store.open(item)
    assert next(opened.chunks) == b"1" * 1000
    world.put(name, b"2" * 3000)
    with pytest.raises(FetchError) as caught:
        list(opened.chunks)
    assert str(caught.value) == CHANGED


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", NAMES)
def test_a_range_that_never_comes_is_an_error(world, name):
    world.use(Retries(attempts=3, first_backoff_seconds=0.01))
    item = world.put(name, b"1" * 3000)
    opened = world.store.open(item)
    next(opened.chunks)
    world.faulty.fail(name, itertools.repeat(CUT))
    with pytest.raises(FetchError, match=r"^GET failed: "):
        next(opened.chunks)
    assert len(world.faulty.ranges) == 4


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", NAMES)
def test_a_last_range_that_is_too_short_is_an_error(world, name):
    item = world.put(name, b"1" * 2500)
    opened = world.store.open(replace(item, size=2700))
    assert [len(next(opened.chunks)) for _ in range(2)] == [1000, 1000]
    with pytest.raises(FetchError, match=r"^read 2,500 bytes, but 2,700 are listed$"):
        next(opened.chunks)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0, 10, 1000, 1001])
def test_the_version_of_an_opened_object_is_noted(world, name, size):
    world.s3.put_bucket_versioning(Bucket=world.bucket, VersioningConfiguration={"Status": "Enabled"})
    item = world.put(name, b"x" * size)
    opened = world.store.open(item)
    (version,) = world.s3.list_object_versions(Bucket=world.bucket)["Versions"]
    assert opened.object.version_id == version["VersionId"]
    assert sum(len(chunk) for chunk in opened.chunks) == size
