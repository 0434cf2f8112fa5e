"""Features of S3 alone: names that are not paths, versions, and refusals."""

from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.s3.models import FakeKey

from tamarin_dagster.logstore.s3 import S3LogStore
from tamarin_dagster_tests.logstore.worlds import World


def test_what_was_deleted_since_the_listing_from_s3_is_said_in_our_words(in_s3):
    in_s3.put("logs/k", b"x")
    wanted = in_s3.listed()
    in_s3.remove("logs/k")
    (fetched,) = in_s3.store.fetch(wanted)
    assert fetched.error == "it was deleted or overwritten after it was listed; the next run takes what is there then"


ODD = ["//x", "/leading", "a//b", "a/./b", "a/../b", "./x", "..", "a/..", "trailing/", "...", "a/.hidden", "%2e%2e/x"]


def test_odd_names_are_listed_fetched_and_deleted_in_s3(in_s3):
    for name in ODD:
        in_s3.put(name, name.encode())
    listed = in_s3.listed()
    assert [item.key for item in listed] == sorted(ODD)
    assert [(f.body, f.error) for f in in_s3.store.fetch(listed)] == [(name.encode(), None) for name in sorted(ODD)]
    assert [deleted.error for deleted in in_s3.store.delete(listed)] == [None] * len(ODD)
    assert in_s3.names() == []


def test_odd_names_that_changed_or_went_in_s3_fail_alone(in_s3):
    for name in ODD:
        in_s3.put(name, b"before")
    listed = in_s3.listed()
    in_s3.put("a//b", b"after!")
    in_s3.remove("a/./b")
    failed = {f.object.key: f.error for f in in_s3.store.fetch(listed) if f.error}
    changed = "it was deleted or overwritten after it was listed; the next run takes what is there then"
    assert failed == dict.fromkeys(["a//b", "a/./b"], changed)


def test_a_control_character_in_a_name_stops_no_other_key(in_s3):
    in_s3.put("a\tb", b"1")
    in_s3.put("c", b"2")
    fetched = in_s3.store.fetch(in_s3.listed())
    assert [f.body for f in fetched] == [b"1", b"2"]


def test_a_bucket_that_is_gone_is_no_deleted_object(s3, s3_endpoint, in_s3):
    in_s3.put("a", b"x")
    (item,) = in_s3.listed()
    elsewhere = S3LogStore(s3, "no-such-bucket")
    assert elsewhere.delete([item])[0].error is not None


class Refusing:
    """An S3 client that is not allowed to delete; its error text holds a signed URL."""

    def __init__(self, client: Any, code: str = "AccessDenied", status: int = 403) -> None:
        self._client = client
        self._code, self._status = code, status

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def delete_object(self, **_: Any) -> None:
        message = "not allowed: https://x/k?X-Amz-Signature=s3cret\n<Second>line</Second>"
        raise ClientError(
            {"Error": {"Code": self._code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": self._status}},
            "DeleteObject",
        )


def test_a_refused_deletion_is_told_per_object_in_one_line_without_signature(s3, s3_bucket, in_s3):
    in_s3.put("a", b"x")
    in_s3.put("b", b"x")
    deleted = S3LogStore(Refusing(s3), s3_bucket).delete(in_s3.listed())
    for outcome in deleted:
        assert outcome.error.startswith("DELETE failed: ")
        assert "AccessDenied" in outcome.error
        assert "s3cret" not in outcome.error
        assert "\n" not in outcome.error
    assert in_s3.names() == ["a", "b"]


@pytest.fixture
def versioned(s3, s3_bucket, in_s3) -> World:
    s3.put_bucket_versioning(Bucket=s3_bucket, VersioningConfiguration={"Status": "Enabled"})
    return in_s3


def versions(s3: Any, bucket: str) -> list[tuple[str, str]]:
    listing = s3.list_object_versions(Bucket=bucket)
    assert "DeleteMarkers" not in listing
    return [(version["Key"], version["VersionId"]) for version in listing.get("Versions", [])]


@pytest.mark.parametrize("name", ["logs/plain", "logs//odd"])
def test_the_version_that_was_read_is_noted(s3, s3_bucket, versioned, name):
    versioned.put(name, b"1")
    (fetched,) = versioned.store.fetch(versioned.listed())
    assert (fetched.body, [(name, fetched.object.version_id)]) == (b"1", versions(s3, s3_bucket))


def test_only_the_version_that_was_read_is_deleted(s3, s3_bucket, versioned):
    versioned.put("a", b"1")
    versioned.put("b", b"1")
    read = [fetched.object for fetched in versioned.store.fetch(versioned.listed())]
    versioned.put("a", b"2")
    newer = [v for v in versions(s3, s3_bucket) if v[0] == "a" and v[1] != read[0].version_id]
    overwritten = "it was overwritten after it was loaded; the next pull loads the new generation"
    for _ in range(2):
        assert [deleted.error for deleted in versioned.store.delete(read)] == [overwritten, None]
        assert versions(s3, s3_bucket) == newer


@pytest.mark.parametrize("name", ["logs/plain", "logs//odd"])
def test_objects_written_before_versioning_have_the_version_null(s3, s3_bucket, in_s3, name, monkeypatch):
    """S3 names this version; moto does not, so the test makes it do so."""
    in_s3.put(name, b"1")
    assert [fetched.object.version_id for fetched in in_s3.store.fetch(in_s3.listed())] == [None]
    s3.put_bucket_versioning(Bucket=s3_bucket, VersioningConfiguration={"Status": "Enabled"})
    monkeypatch.setattr(FakeKey, "_is_versioned", property(lambda _: 1, lambda *_: None), raising=False)
    (fetched,) = in_s3.store.fetch(in_s3.listed())
    assert (fetched.body, fetched.object.version_id) == (b"1", "null")
    assert [deleted.error for deleted in in_s3.store.delete([fetched.object])] == [None]
    assert versions(s3, s3_bucket) == []
