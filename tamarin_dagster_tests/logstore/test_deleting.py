"""Deleting exactly the named generation, on stores that honour conditions everywhere, somewhere, nowhere."""

from collections import Counter
from typing import Any

import pytest

from tamarin_dagster.logkey import CHANGED_SINCE_LOADED, LogObject
from tamarin_dagster.logstore import deleting
from tamarin_dagster.logstore.s3 import S3LogStore
from tamarin_dagster_tests.logstore.faulty import SIGNATURE, Fault, Faulty, Request

# As many as are worth a batch here.
MANY = 8


@pytest.fixture(autouse=True)
def _batches_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "_WORTH_A_BATCH", 5)


@pytest.fixture(params=["honours all", "honours single", "honours none"])
def kind(request: pytest.FixtureRequest, faulty: Faulty) -> str:
    """Which conditions the store honours."""
    faulty.honours_batches = request.param == "honours all"
    faulty.honours_conditions = request.param != "honours none"
    return str(request.param)


@pytest.fixture
def store(faulty: Faulty, faulty_client: Any, s3_bucket: str) -> S3LogStore:
    return S3LogStore(faulty_client, s3_bucket)


@pytest.fixture
def methods(faulty: Faulty) -> Counter[str]:
    """Count the requests of each method."""
    sent: Counter[str] = Counter()

    def count(request: Request) -> None:
        sent[request.method] += 1

    faulty.rule = count
    return sent


def put(s3: Any, bucket: str, count: int) -> None:
    for number in range(count):
        s3.put_object(Bucket=bucket, Key=f"logs/{number:03}", Body=b"%d" % number)


def listed(store: S3LogStore) -> list[LogObject]:
    return [item for page in store.pages("") for item in page]


@pytest.mark.parametrize("count", [3, MANY])
def test_only_what_was_not_overwritten_goes(kind, store, s3, s3_bucket, count):
    put(s3, s3_bucket, count)
    objects = listed(store)
    s3.put_object(Bucket=s3_bucket, Key="logs/001", Body=b"another generation")
    results = store.delete(objects)
    assert [deleted.object for deleted in results] == objects
    assert {d.object.key: d.error for d in results if d.error} == {"logs/001": CHANGED_SINCE_LOADED}
    assert [item.key for item in listed(store)] == ["logs/001"]


@pytest.mark.parametrize("count", [3, MANY])
def test_what_somebody_else_deleted_is_gone(kind, store, s3, s3_bucket, count):
    put(s3, s3_bucket, count)
    objects = listed(store)
    s3.delete_object(Bucket=s3_bucket, Key="logs/002")
    assert [deleted.error for deleted in store.delete(objects)] == [None] * count
    assert listed(store) == []


@pytest.mark.parametrize(
    ("honours", "expected"),
    [
        # Two tests on names that nobody has, and a batch of two; then one batch.
        ("honours all", {"DELETE": 2, "POST": 2}),
        ("honours single", {"DELETE": 2 + MANY, "POST": 1}),
        ("honours none", {"DELETE": 2 + MANY, "HEAD": MANY}),
    ],
)
def test_batches_are_sent_only_to_a_store_that_was_seen_to_heed_their_conditions(
    honours, expected, faulty, methods, store, s3, s3_bucket
):
    faulty.honours_batches = honours == "honours all"
    faulty.honours_conditions = honours != "honours none"
    put(s3, s3_bucket, MANY)
    store.delete(listed(store))
    del methods["GET"]
    assert methods == expected
    assert listed(store) == []


def test_a_store_is_asked_once(methods, store, s3, s3_bucket):
    put(s3, s3_bucket, 2)
    for item in listed(store):
        store.delete([item])
    assert methods["DELETE"] == 2 + 2


def test_a_store_that_knows_no_missing_key_is_not_believed(faulty, store, s3, s3_bucket):
    """A 404 for whatever is missing (as in Google's XML API) says nothing about conditions."""
    faulty.honours_conditions = False
    faulty.rule = lambda request: Fault(404, "NoSuchKey") if "tamarin-probe" in request.path else None
    put(s3, s3_bucket, 2)
    objects = listed(store)
    s3.put_object(Bucket=s3_bucket, Key="logs/001", Body=b"another generation")
    assert [deleted.error for deleted in store.delete(objects)] == [None, CHANGED_SINCE_LOADED]
    assert [item.key for item in listed(store)] == ["logs/001"]


def test_on_a_bucket_that_became_versioned_the_question_leaves_nothing(store, s3, s3_bucket):
    """Deleting a name that no object has creates a delete marker there."""
    put(s3, s3_bucket, 1)
    objects = listed(store)
    s3.put_bucket_versioning(Bucket=s3_bucket, VersioningConfiguration={"Status": "Enabled"})
    assert [deleted.error for deleted in store.delete(objects)] == [None]
    found = s3.list_object_versions(Bucket=s3_bucket)
    assert {marker["Key"] for marker in found.get("DeleteMarkers", [])} <= {"logs/000"}


def test_each_refusal_of_a_batch_is_told_of_its_key(faulty, store, s3, s3_bucket):
    faulty.honours_batches = True
    put(s3, s3_bucket, MANY)
    objects = listed(store)
    store.delete(objects[:1])
    store.delete(objects[1:MANY])  # asks for batches too
    put(s3, s3_bucket, 3)
    faulty.rule = lambda request: Fault(403, "AccessDenied") if request.method == "POST" else None
    put(s3, s3_bucket, MANY)
    errors = {deleted.error for deleted in store.delete(listed(store))}
    assert len(errors) == 1
    (error,) = errors
    assert error is not None
    assert error.startswith("DeleteObjects failed: An error occurred (AccessDenied)")
    assert SIGNATURE not in error
    assert len(listed(store)) == MANY


def test_a_store_that_is_down_when_asked_is_asked_again(faulty, store, s3, s3_bucket):
    put(s3, s3_bucket, 2)
    objects = listed(store)
    faulty.rule = lambda request: Fault(403, "AccessDenied") if request.method == "DELETE" else None
    assert "AccessDenied" in (store.delete(objects[:1])[0].error or "")
    faulty.rule = lambda _: None
    assert store.delete(objects[:1])[0].error is None
    assert store._deleter._honours_single is True


def test_an_answer_that_is_lost_is_no_harm(faulty, store, s3, s3_bucket):
    """The client sends the DELETE again, and finds the log key gone."""
    put(s3, s3_bucket, 1)
    lost = iter([Fault(lost=True)])
    faulty.rule = lambda request: next(lost, None) if request.path == "logs/000" else None
    objects = listed(store)
    assert [deleted.error for deleted in store.delete(objects)] == [None]
    assert listed(store) == []


def test_a_store_whose_batches_refuse_what_was_not_overwritten_gets_no_more_of_them(
    faulty, methods, store, s3, s3_bucket
):
    """No specification says how an ETag is written in a batch: with quotes, as here, or without."""
    faulty.honours_batches = True
    put(s3, s3_bucket, MANY)
    store.delete(listed(store))
    refusals = "".join(f"<Error><Key>logs/{n:03}</Key><Code>PreconditionFailed</Code></Error>" for n in range(MANY))
    faulty.answers["POST", "delete"] = f"<?xml version='1.0'?>\n<DeleteResult>{refusals}</DeleteResult>".encode()
    for batches in (1, 0):
        put(s3, s3_bucket, MANY)
        methods.clear()
        assert {deleted.error for deleted in store.delete(listed(store))} == {None}
        assert methods["POST"] == batches
        assert listed(store) == []
