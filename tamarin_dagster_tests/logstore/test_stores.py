"""The common behaviour of both stores: a folder of log keys, and a bucket in S3 over HTTP."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tamarin_dagster.logstore import CHUNK_BYTES, FetchError, FolderLogStore, find_first_object
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.logstore.s3 import S3LogStore

# Names that both S3 and a file system accept, in byte order.
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


def test_each_bucket_gets_the_store_of_its_kind(folder_bucket, s3_logged_bucket):
    assert isinstance(open_log_store(folder_bucket), FolderLogStore)
    assert isinstance(open_log_store(s3_logged_bucket), S3LogStore)
    assert open_log_store(folder_bucket).name == folder_bucket.log_bucket_name
    assert open_log_store(s3_logged_bucket).name == s3_logged_bucket.log_bucket_name


def test_a_folder_needs_no_s3_client():
    """boto3 and obstore take a fifth of a second to import, which is as long as a whole pull of a folder."""
    loaded = "import sys; import tamarin_dagster.logstore; print(*{'boto3', 'botocore', 'obstore'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_an_empty_log_bucket_has_no_page(world):
    assert list(world.store.pages("")) == []
    assert find_first_object(world.store, "") is None


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
        found = find_first_object(world.store, prefix, start_after)
        assert (found.key if found else None) == (expected[0] if expected else None)


@pytest.mark.parametrize(("size", "pages"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (1000, [7])])
def test_pages_are_as_large_as_asked_for(world, size, pages):
    for number in range(7):
        world.put(f"logs/{number}", b"x")
    listed = list(world.store.pages("logs/", page_keys=size))
    assert [len(page) for page in listed] == pages
    assert [item.key for page in listed for item in page] == [f"logs/{number}" for number in range(7)]


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
    assert "overwritten after it was listed" in fetched[1].error
    assert [f.object for f in fetched] == wanted


def test_a_body_of_another_size_than_listed_is_an_error(world):
    world.put("a", b"123")
    world.put("b", b"123")
    right, other = world.listed()
    fetched = world.store.fetch([right, replace(other, size=4)])
    assert fetched[0].body == b"123"
    assert (fetched[1].body, fetched[1].error) == (b"", "read 3 bytes, but 4 are listed")


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
    assert refused.error == "it was overwritten after it was loaded; the next pull loads the new generation"
    assert gone.error is None
    (left,) = world.listed()
    assert world.store.fetch([left])[0].body == b"after!"


def test_an_object_that_is_gone_counts_as_deleted(world):
    world.put("a", b"x")
    old = world.listed()
    world.remove("a")
    assert [deleted.error for deleted in world.store.delete(old)] == [None]
    assert [deleted.error for deleted in world.store.delete(old)] == [None]


def test_a_large_object_comes_in_chunks(world):
    body = bytes(range(256)) * (2 * CHUNK_BYTES // 256) + b"the end"
    world.put("k", body)
    (item,) = world.listed()
    opened = world.store.open(item)
    chunks = list(opened.chunks)
    assert opened.object == item
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, 7]
    assert b"".join(chunks) == body


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES])
def test_what_fits_a_chunk_is_one_and_nothing_is_none(world, size):
    world.put("k", b"x" * size)
    (item,) = world.listed()
    assert [len(chunk) for chunk in world.store.open(item).chunks] == [size] * (size > 0)


def test_what_changed_since_the_listing_cannot_be_opened(world):
    for name, body in (("changed", b"1"), ("empty", b""), ("gone", b"1")):
        world.put(name, body)
    listed = world.listed()
    world.put("changed", b"2")
    world.put("empty", b"not")
    world.remove("gone")
    for item in listed:
        with pytest.raises(FetchError, match=r"^it was deleted or overwritten after it was listed"):
            world.store.open(item)


def test_an_object_that_is_shorter_than_listed_is_an_error_in_the_end(world):
    world.put("k", b"123")
    (item,) = world.listed()
    with pytest.raises(FetchError, match=r"^read 3 bytes, but 4 are listed$"):
        list(world.store.open(replace(item, size=4)).chunks)
