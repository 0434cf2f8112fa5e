"""Folders of log keys: files that are not log keys, and names that lead elsewhere."""

import contextlib
import os
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import FetchError, FolderLogStore, LogStoreError, find_first_object
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.settings import LoggedBucket
from tamarin_dagster_tests.examples import at_least
from tamarin_dagster_tests.folders import write_object


def test_more_keys_than_a_page_holds_are_all_listed(folder):
    for number in range(1003):
        folder.put(f"{number:04}", b"")
    listed = list(folder.store.pages(""))
    assert [len(page) for page in listed] == [1000, 3]
    assert [item.key for page in listed for item in page] == [f"{number:04}" for number in range(1003)]


def test_a_nul_in_a_name_is_an_error_of_that_key_only(folder):
    folder.put("c", b"2")
    (present,) = folder.listed()
    odd = replace(present, key="a\0b")
    assert [f.error is None for f in folder.store.fetch([odd, present])] == [False, True]
    assert folder.store.delete([odd])[0].error is not None


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
    """A purge deletes what a sensor's tick is listing at the same time."""
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


def test_a_missing_folder_is_named(tmp_path):
    url = (tmp_path / "nowhere").as_uri()
    store = open_log_store(LoggedBucket(name="media", log_bucket_name=url))
    for make in (lambda: None, lambda: (tmp_path / "nowhere").write_text("a file")):
        make()
        with pytest.raises(LogStoreError) as caught:
            list(store.pages("logs/"))
        assert str(caught.value) == f"log bucket {url}: the folder does not exist; check log_bucket_name, or mount it"
        with pytest.raises(LogStoreError):
            find_first_object(store, "logs/")


def test_a_prefix_or_a_start_leads_through_no_link_and_no_hidden_folder(folder, log_folder, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "k").write_text("outside")
    (log_folder / "linked").symlink_to(tmp_path / "secret")
    folder.put(".hidden/k", b"x")
    folder.put("a/k", b"x")
    for prefix in (
        "linked/",
        "linked/k",
        ".hidden/",
        "../",
        "../secret/",
        "a/../a/",
        "a/./",
        "/",
        "a//",
        "a/k/",
        "a\0/",
    ):
        assert folder.names(prefix) == []
        assert folder.names("", prefix) == [name for name in ["a/k"] if name > prefix]


NAMES = st.lists(st.sampled_from(["a", "b", "-", ".h", "a.", "é", "\uffff", "😀"]), min_size=1, max_size=4).map(
    "/".join
)


@given(st.sets(NAMES, max_size=12), st.text("ab-/.é\uffff😀", max_size=5), st.text("ab-/.é\uffff😀", max_size=5))
@at_least(300)
def test_any_listing_is_what_a_filter_of_all_names_gives(tmp_path_factory, names, prefix, start_after):
    root = tmp_path_factory.mktemp("tree")
    written = set()
    for name in sorted(names):
        with contextlib.suppress(OSError):  # one name is another's folder
            write_object(root / name, b"x")
            written.add(name)
    shown = [name for name in written if not any(part.startswith(".") for part in name.split("/"))]
    expected = sorted((name for name in shown if name.startswith(prefix) and name > start_after), key=str.encode)

    store = FolderLogStore(root, "x")

    assert [item.key for page in store.pages(prefix, start_after) for item in page] == expected
    shutil.rmtree(root)


def test_a_folder_that_has_not_changed_is_not_read_again(folder, log_folder, monkeypatch):
    """One folder may hold years of log keys, and each of their days is looked for separately."""
    scans = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scans.append(path) or scandir(path))
    for day in range(1, 10):
        folder.put(f"2026-03-0{day}", b"x")
    long_ago = time.time() - 3600
    os.utime(log_folder, (long_ago, long_ago))

    for day in range(1, 10):
        assert folder.names(f"2026-03-0{day}") == [f"2026-03-0{day}"]
    assert len(scans) == 1

    folder.put("2026-03-05-late", b"x")
    assert folder.names("2026-03-05") == ["2026-03-05", "2026-03-05-late"]
    folder.put("2026-03-06-late", b"x")
    assert folder.names("2026-03-06") == ["2026-03-06", "2026-03-06-late"]
    assert len(scans) == 3


def test_a_folder_that_has_just_changed_is_read_again(folder, log_folder):
    """Two changes within one tick of the file system's clock have the same modification time."""
    folder.put("a", b"x")
    modified = log_folder.stat().st_mtime_ns
    assert folder.names() == ["a"]
    folder.put("b", b"x")
    os.utime(log_folder, ns=(modified, modified))
    assert folder.names() == ["a", "b"]


def test_a_file_that_is_written_while_it_is_read_is_no_body(folder, log_folder, monkeypatch):
    folder.put("k", b"before")
    (item,) = folder.listed()
    read = os.read

    def read_late(file: int, size: int) -> bytes:
        folder.put("k", b"after!")
        return read(file, size)

    monkeypatch.setattr(os, "read", read_late)
    (fetched,) = folder.store.fetch([item])
    assert (fetched.body, fetched.error) == (
        b"",
        "it was deleted or overwritten after it was listed; the next run takes what is there then",
    )


@pytest.mark.parametrize("change", [b"after!", b"much longer than before", b""])
def test_a_file_that_changes_between_two_chunks_is_an_error(folder, monkeypatch, change):
    monkeypatch.setattr("tamarin_dagster.logstore.folder.CHUNK_BYTES", 2)
    folder.put("k", b"before")
    (item,) = folder.listed()
    opened = folder.store.open(item)
    assert next(opened.chunks) == b"be"
    folder.put("k", change)
    with pytest.raises(FetchError, match=r"^it was deleted or overwritten after it was listed"):
        list(opened.chunks)


def test_a_file_that_grows_as_fast_as_it_is_read_has_an_end(folder, log_folder, monkeypatch):
    monkeypatch.setattr("tamarin_dagster.logstore.folder.CHUNK_BYTES", 2)
    folder.put("k", b"before")
    (item,) = folder.listed()
    chunks = folder.store.open(item).chunks
    with (log_folder / "k").open("ab", buffering=0) as file:
        for _ in range(4):
            file.write(next(chunks))
    with pytest.raises(FetchError, match="deleted or overwritten"):
        next(chunks)


def test_a_folder_replaced_by_a_link_since_the_listing_is_not_followed(folder, log_folder, tmp_path):
    folder.put("logs/k", b"x")
    (item,) = folder.listed()
    (log_folder / "logs").rename(tmp_path / "moved")
    (log_folder / "logs").symlink_to(tmp_path / "moved")
    (fetched,) = folder.store.fetch([item])
    (deleted,) = folder.store.delete([item])
    assert fetched.error == "cannot be read: 'logs/k' leads out of the folder"
    assert deleted.error == "cannot be deleted: 'logs/k' leads out of the folder"
    with pytest.raises(FetchError, match="leads out of the folder"):
        folder.store.open(item)
    assert (tmp_path / "moved" / "k").read_bytes() == b"x"


def test_a_pipe_or_a_folder_in_place_of_a_file_does_not_stop_the_others(folder, log_folder):
    for name in ("a", "b", "c"):
        folder.put(name, b"x")
    listed = folder.listed()
    (log_folder / "a").unlink()
    os.mkfifo(log_folder / "a")
    (log_folder / "b").unlink()
    (log_folder / "b").mkdir()
    assert [fetched.body for fetched in folder.store.fetch(listed)] == [b"", b"", b"x"]
    assert [deleted.error is None for deleted in folder.store.delete(listed)] == [False, False, True]


def test_a_folder_that_is_gone_is_no_deleted_object(folder, log_folder, tmp_path):
    folder.put("k", b"x")
    (item,) = folder.listed()
    log_folder.rename(tmp_path / "not mounted")
    (deleted,) = folder.store.delete([item])
    (fetched,) = folder.store.fetch([item])
    assert deleted.error == f"cannot be deleted: the folder {log_folder} does not exist"
    assert fetched.error == f"cannot be read: the folder {log_folder} does not exist"


def test_no_file_stays_open(folder, log_folder, tmp_path):
    for name in ("a/b/k", "a/c/k", "k"):
        folder.put(name, b"x")
    (log_folder / "link").symlink_to(tmp_path)
    listed = folder.listed()
    odd = [
        replace(listed[0], key=key) for key in ("../x", "/x", "link/x", "a/none/k", "a/b/none", "a\0", "a/b", "a/../x")
    ]
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(3):
        folder.store.fetch(listed + odd)
        folder.store.delete(odd)
        for item in listed:
            assert list(folder.store.open(item).chunks) == [b"x"]
        for item in odd:
            with pytest.raises(FetchError):
                folder.store.open(item)
    assert len(list(Path("/dev/fd").iterdir())) == before
