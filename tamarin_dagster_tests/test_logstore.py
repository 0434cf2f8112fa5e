"""Both stores: a folder of log keys, and a bucket in S3 over HTTP."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tamarin_dagster.defs.resources import open_log_store
from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import FolderLogStore, LogStore, LogStoreError, S3LogStore, first_object
from tamarin_dagster.settings import LoggedBucket
from tamarin_dagster_tests.folders import write_object

# What S3 and a file system both take as a name, in the order of the bytes.
NAMES = sorted(
    [
        "a b",
        "a!b",
        "a#b",
        "a%20b",
        "a%b",
        "a&b",
        "a'b",
        "a*b",
        "a+b",
        "a,b",
        "a-",
        "a-b",
        "a.b",
        "a/b-c",
        "a/b.c",
        "a/b/c",
        "a0",
        "a:b",
        "a=b",
        "a?b",
        "a@b",
        "a[b]",
        'a"b',
        "a<b>",
        "a^b",
        "a`b",
        "a{b}",
        "a|b",
        "a~b",
        "ab",
        "aé",
        "a漢字",
        "a\ufffd",
        "a😀",
        "B",
        "b/\u00a0",
        "trailing ",
        " leading",
    ],
    key=str.encode,
)


@dataclass
class World:
    """A log bucket of either kind, and how a test writes to it."""

    store: LogStore
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]

    def names(self, prefix: str = "", start_after: str = "") -> list[str]:
        return [item.key for page in self.store.pages(prefix, start_after) for item in page]

    def listed(self, prefix: str = "") -> list[LogObject]:
        return [item for page in self.store.pages(prefix) for item in page]


@pytest.fixture
def folder(log_folder) -> World:
    def put(key: str, body: bytes) -> None:
        write_object(log_folder / key, body)

    bucket = LoggedBucket(name="media", log_bucket_name=log_folder.as_uri())
    return World(open_log_store(bucket), put, lambda key: (log_folder / key).unlink())


@pytest.fixture
def in_s3(s3, s3_logged_bucket) -> World:
    name = s3_logged_bucket.log_bucket_name
    return World(
        S3LogStore(s3, name),
        lambda key, body: s3.put_object(Bucket=name, Key=key, Body=body),
        lambda key: s3.delete_object(Bucket=name, Key=key),
    )


@pytest.fixture(params=["folder", "in_s3"])
def world(request) -> World:
    return request.getfixturevalue(request.param)


def test_each_bucket_gets_the_store_of_its_kind(folder_bucket, s3_logged_bucket):
    assert isinstance(open_log_store(folder_bucket), FolderLogStore)
    assert isinstance(open_log_store(s3_logged_bucket), S3LogStore)
    assert open_log_store(folder_bucket).name == folder_bucket.log_bucket_name
    assert open_log_store(s3_logged_bucket).name == s3_logged_bucket.log_bucket_name


# ------------------------------------------------------------------------------------------------ listing


def test_an_empty_log_bucket_has_no_page(world):
    assert list(world.store.pages("")) == []
    assert first_object(world.store, "") is None


def test_names_come_in_the_order_of_their_bytes(world):
    for name in reversed(NAMES):
        world.put(name, b"x")
    assert world.names() == NAMES


def test_a_listing_shows_size_time_and_etag(world):
    before = datetime.now(UTC) - timedelta(seconds=2)
    world.put("k", b"12345")
    (item,) = world.listed()
    assert (item.key, item.size, item.version_id) == ("k", 5, None)
    assert before < item.last_modified < datetime.now(UTC) + timedelta(seconds=2)
    assert item.last_modified.utcoffset() == timedelta(0)
    assert item.etag
    assert '"' not in item.etag


def test_another_generation_has_another_etag(world):
    world.put("k", b"12345")
    (first,) = world.listed()
    assert world.listed() == [first]
    world.put("k", b"54321")
    (second,) = world.listed()
    assert second.etag != first.etag
    assert second.size == first.size


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("", ["log/1", "logs", "logs-old/1", "logs/2026-03-05-a", "logs/2026-03-06-b", "logs/2026/x", "logs0"]),
        ("log", ["log/1", "logs", "logs-old/1", "logs/2026-03-05-a", "logs/2026-03-06-b", "logs/2026/x", "logs0"]),
        ("logs/", ["logs/2026-03-05-a", "logs/2026-03-06-b", "logs/2026/x"]),
        ("logs/2026-03-0", ["logs/2026-03-05-a", "logs/2026-03-06-b"]),
        ("logs/2026-03-05-a", ["logs/2026-03-05-a"]),
        ("logs/2026-03-05-a/", []),
        ("ogs", []),
    ],
)
def test_a_prefix_is_a_string_not_a_folder(in_s3, folder, prefix, names):
    present = ["log/1", "logs-old/1", "logs/2026-03-05-a", "logs/2026-03-06-b", "logs/2026/x", "logs0"]
    for world in (in_s3, folder):
        for name in present:
            world.put(name, b"x")
        assert world.names(prefix) == [name for name in names if name in present]


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "aé"])
def test_a_listing_starts_behind_any_name(world, prefix):
    for name in NAMES:
        world.put(name, b"x")
    matching = [name for name in NAMES if name.startswith(prefix)]
    for start_after in [*NAMES[::8], "", "a", "a/", "a/b", "a\U0010ffff", "zzz", prefix + "\U0010ffff"]:
        expected = [name for name in matching if name.encode() > start_after.encode()]
        assert world.names(prefix, start_after) == expected, start_after
        found = first_object(world.store, prefix, start_after)
        assert (found.key if found else None) == (expected[0] if expected else None)


@pytest.mark.parametrize(("size", "pages"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (1000, [7])])
def test_pages_are_as_large_as_asked_for(world, size, pages):
    for number in range(7):
        world.put(f"logs/{number}", b"x")
    listed = list(world.store.pages("logs/", page_keys=size))
    assert [len(page) for page in listed] == pages
    assert [item.key for page in listed for item in page] == [f"logs/{number}" for number in range(7)]


def test_more_keys_than_a_page_holds_are_all_listed(folder):
    for number in range(1003):
        folder.put(f"{number:04}", b"")
    listed = list(folder.store.pages(""))
    assert [len(page) for page in listed] == [1000, 3]
    assert [item.key for page in listed for item in page] == [f"{number:04}" for number in range(1003)]


# ------------------------------------------------------------------------------------------------ fetching


def test_bodies_come_in_the_order_asked_for(world):
    for name in NAMES:
        world.put(name, name.encode() * 3)
    wanted = list(reversed(world.listed()))
    fetched = world.store.fetch(wanted)
    assert [(f.object, f.body, f.error) for f in fetched] == [(item, item.key.encode() * 3, None) for item in wanted]
    assert world.store.fetch([]) == []


def test_any_bytes_come_back_as_they_are(world):
    bodies = [b"", b"\0", bytes(range(256)) * 5000, b"\r\n\x1a", b"\x1f\x8b no gzip"]
    for number, body in enumerate(bodies):
        world.put(f"{number}", body)
    assert [fetched.body for fetched in world.store.fetch(world.listed())] == bodies


def test_what_changed_since_the_listing_fails_alone(world):
    for name in "abcde":
        world.put(name, b"before")
    wanted = world.listed()
    world.put("b", b"after!")
    world.remove("d")
    fetched = world.store.fetch(wanted)
    assert [f.body for f in fetched] == [b"before", b"", b"before", b"", b"before"]
    assert [f.error is None for f in fetched] == [True, False, True, False, True]
    assert "overwritten since it was listed" in fetched[1].error
    assert [f.object for f in fetched] == wanted


def test_what_was_deleted_since_the_listing_from_s3_is_said_in_our_words(in_s3):
    in_s3.put("logs/k", b"x")
    wanted = in_s3.listed()
    in_s3.remove("logs/k")
    (fetched,) = in_s3.store.fetch(wanted)
    assert fetched.error == "it was deleted or overwritten since it was listed; the next run takes what is there"


def test_a_body_of_another_size_than_listed_is_an_error(world):
    world.put("a", b"123")
    world.put("b", b"123")
    right, other = world.listed()
    fetched = world.store.fetch([right, replace(other, size=4)])
    assert fetched[0].body == b"123"
    assert (fetched[1].body, fetched[1].error) == (b"", "3 bytes were read where 4 are listed")


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
    changed = "it was deleted or overwritten since it was listed; the next run takes what is there"
    assert failed == dict.fromkeys(["a//b", "a/./b"], changed)


def test_a_control_character_in_a_name_stops_no_other_key(in_s3):
    in_s3.put("a\tb", b"1")
    in_s3.put("c", b"2")
    fetched = in_s3.store.fetch(in_s3.listed())
    assert [f.body for f in fetched] == [b"1", b"2"]


def test_a_nul_in_a_name_is_an_error_of_that_key_only(folder):
    folder.put("c", b"2")
    (present,) = folder.listed()
    odd = replace(present, key="a\0b")
    assert [f.error is None for f in folder.store.fetch([odd, present])] == [False, True]
    assert folder.store.delete([odd])[0].error is not None


# ------------------------------------------------------------------------------------------------ deleting


def test_exactly_the_listed_objects_are_deleted(world):
    for name in NAMES:
        world.put(name, b"x")
    kept = {"a-b", "aé", "a/b/c"}
    doomed = [item for item in world.listed() if item.key not in kept]
    deleted = world.store.delete(doomed)
    assert [(d.object, d.error) for d in deleted] == [(item, None) for item in doomed]
    assert set(world.names()) == kept
    assert world.store.delete([]) == []


def test_an_overwritten_object_is_not_deleted(world):
    world.put("a", b"before")
    world.put("b", b"before")
    old = world.listed()
    world.put("a", b"after!")
    refused, gone = world.store.delete(old)
    assert refused.error == "it was overwritten since it was loaded; the next pull loads the new generation"
    assert gone.error is None
    (left,) = world.listed()
    assert world.store.fetch([left])[0].body == b"after!"


def test_an_object_that_is_gone_counts_as_deleted(world):
    world.put("a", b"x")
    old = world.listed()
    world.remove("a")
    assert [deleted.error for deleted in world.store.delete(old)] == [None]
    assert [deleted.error for deleted in world.store.delete(old)] == [None]


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


# ------------------------------------------------------------------------------------------------ versions


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
    overwritten = "it was overwritten since it was loaded; the next pull loads the new generation"
    for _ in range(2):
        assert [deleted.error for deleted in versioned.store.delete(read)] == [overwritten, None]
        assert versions(s3, s3_bucket) == newer


def test_objects_written_before_versioning_have_no_version(s3, s3_bucket, in_s3):
    in_s3.put("a", b"1")
    s3.put_bucket_versioning(Bucket=s3_bucket, VersioningConfiguration={"Status": "Enabled"})
    (fetched,) = in_s3.store.fetch(in_s3.listed())
    assert (fetched.body, fetched.object.version_id) == (b"1", None)


# ------------------------------------------------------------------------------------------------ what cannot be listed


def refusal(store: LogStore) -> str:
    with pytest.raises(LogStoreError) as caught:
        list(store.pages("logs/"))
    with pytest.raises(LogStoreError):
        first_object(store, "logs/")
    return str(caught.value)


def test_a_missing_bucket_is_named_with_its_remedy(s3):
    said = refusal(S3LogStore(s3, "no-such-bucket"))
    assert said == (
        "log bucket no-such-bucket (prefix 'logs/'): there is no such bucket; check log_bucket_name, region and "
        "endpoint_url (NoSuchBucket)"
    )


def test_a_missing_folder_is_named(tmp_path):
    url = (tmp_path / "nowhere").as_uri()
    store = open_log_store(LoggedBucket(name="media", log_bucket_name=url))
    assert refusal(store) == f"log bucket {url}: there is no such folder"
    (tmp_path / "nowhere").write_text("a file")
    assert refusal(store) == f"log bucket {url}: there is no such folder"


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


# ------------------------------------------------------------------------------------------------ folders


def test_links_and_hidden_files_are_not_there(folder, log_folder, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "k").write_text("outside")
    folder.put("logs/k", b"inside")
    folder.put("logs/.incoming/k", b"half")
    folder.put(".DS_Store", b"x")
    folder.put("logs/.k", b"x")
    (log_folder / "logs" / "link").symlink_to(secret / "k")
    (log_folder / "logs" / "near").symlink_to(log_folder / "logs" / "k")
    (log_folder / "linked").symlink_to(secret)
    (log_folder / "loop").symlink_to(log_folder)
    os.mkfifo(log_folder / "pipe")
    assert folder.names() == ["logs/k"]


@pytest.mark.parametrize("key", ["../secret", "logs/../../secret", "linked/secret", "link", "{absolute}"])
def test_no_key_leads_out_of_the_folder(folder, log_folder, tmp_path, key):
    outside = tmp_path / "secret"
    outside.write_text("outside")
    (log_folder / "linked").symlink_to(tmp_path)
    (log_folder / "link").symlink_to(outside)
    (log_folder / "logs").mkdir()
    stat = outside.stat()
    etag = f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
    item = LogObject(key.format(absolute=outside), etag, stat.st_size, datetime.now(UTC))
    (fetched,) = folder.store.fetch([item])
    (deleted,) = folder.store.delete([item])
    assert (fetched.body, "leads out of the folder" in fetched.error) == (b"", True)
    assert "leads out of the folder" in deleted.error
    assert outside.read_text() == "outside"


def test_a_file_that_goes_while_it_is_listed_is_left_out(folder):
    """A purge beside a sensor's tick deletes what the tick is listing."""
    for name in "abc":
        folder.put(name, b"x")
    pages = folder.store.pages("", page_keys=1)
    assert [item.key for item in next(pages)] == ["a"]
    folder.remove("c")
    assert [item.key for page in pages for item in page] == ["b"]


def test_a_folder_that_goes_while_it_is_listed_is_left_out(folder, log_folder):
    folder.put("a", b"x")
    folder.put("b/c", b"x")
    pages = folder.store.pages("", page_keys=1)
    assert [item.key for item in next(pages)] == ["a"]
    folder.remove("b/c")
    (log_folder / "b").rmdir()
    assert list(pages) == []


def test_a_name_that_is_no_utf8_is_listed_and_read(folder, log_folder):
    (log_folder / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    listed = folder.listed()
    assert [os.fsencode(item.key) for item in listed] == [b"caf\xe9"]
    assert [fetched.body for fetched in folder.store.fetch(listed)] == [b"x"]
