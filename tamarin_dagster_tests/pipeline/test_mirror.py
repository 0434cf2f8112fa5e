"""Log keys that are downloaded to a folder: unchanged, once, and so that the folder can serve as a log bucket."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tamarin_dagster.cli import app
from tamarin_dagster.failpoints import VARIABLE
from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import FetchError, copies
from tamarin_dagster.logstore.copies import ASIDE, Copies, CopiesError, NotCopiedError
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline.mirror import Mirrored, choose_folder, mirror_bucket
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.settings import LoggedBucket
from tamarin_dagster_tests.lines import lines

DAY = "2026-03-05"
ROOT = "logs/123456789012/eu-west-1/media/2026/03/06/"
MODIFIED = datetime(2026, 3, 5, 10, tzinfo=UTC)


def key_of(number: int, day: str = DAY, prefix: str = "logs/") -> str:
    return f"{prefix}{day}-10-00-00-{number:016X}"


@pytest.fixture
def source(s3_place):
    """A log bucket in S3: both layouts, a compressed copy, a stray."""
    for number in range(3):
        s3_place.put(key_of(number), lines(number + 1))
    s3_place.put(key_of(0, "2026-03-06", ROOT), lines(4))
    s3_place.put(key_of(7, "2026-03-07") + ".gz", _gzipped(lines(5)))
    s3_place.put(f"logs/{DAY}-notes.txt", b"no log key\n")
    return s3_place


def _gzipped(body: bytes) -> bytes:
    return subprocess.run(["gzip", "-nc"], input=body, capture_output=True, check=True).stdout


@pytest.fixture
def mirrored_of(tmp_path) -> Callable[..., Mirrored]:
    return lambda place, **days: mirror_bucket(place.bucket, place.store, tmp_path / "out", **days)


@pytest.fixture
def mirrored(source, mirrored_of) -> Callable[..., Mirrored]:
    return lambda **days: mirrored_of(source, **days)


def copies_of(done: Mirrored) -> dict[str, bytes]:
    store = open_log_store(_as_source(done))
    return {item.key: store.fetch([item])[0].body for page in store.pages("") for item in page}


def _as_source(done: Mirrored) -> LoggedBucket:
    return LoggedBucket(
        name="media", log_bucket_name=done.folder.as_uri(), log_prefix="logs/", start_date=date(2026, 1, 1)
    )


def test_a_mirror_has_the_log_keys_as_they_are_and_their_times_but_no_stray(source, mirrored) -> None:
    done = mirrored()

    listed = [item for page in source.store.pages("") for item in page if not item.key.endswith(".txt")]
    assert copies_of(done) == {f.object.key: f.body for f in source.store.fetch(listed)}
    assert (done.keys, done.present, done.bytes) == (5, 0, sum(item.size for item in listed))
    assert (done.failures, done.strays) == ([], [f"logs/{DAY}-notes.txt"])
    (one,) = [item for item in listed if item.key == key_of(2)]
    assert (done.folder / one.key).stat().st_mtime == one.last_modified.timestamp()


def test_a_pull_of_the_mirror_loads_what_a_pull_of_the_log_bucket_does(source, mirrored, engine, rows) -> None:
    records = """SELECT md5(string_agg((to_jsonb(r) - 'log_key_id')::text, '' ORDER BY k.key, r.line_number)), count(*)
        FROM s3_log_record r JOIN s3_log_key k ON k.id = r.log_key_id WHERE k.log_bucket_name = :name"""
    done = mirrored()
    copy = _as_source(done)

    pull_bucket(source.bucket, source.store, engine)
    pull_bucket(copy, open_log_store(copy), engine)

    in_s3, in_folder = (rows(records, name=each.log_bucket_name) for each in (source.bucket, copy))
    assert in_s3 == in_folder
    assert in_s3[0][1] == 1 + 2 + 3 + 4 + 5


def test_log_keys_of_other_stores_and_copies_with_a_suffix_are_mirrored_and_the_mirror_is_a_log_bucket(
    s3_place, mirrored_of, engine
) -> None:
    tree = "logs/zone/user/media/2026/03/06/"
    names = [key_of(0) + ".txt", key_of(1) + ".log.gz", key_of(0, "2026-03-06", tree), key_of(1, "2026-03-06", tree)]
    for name in names:
        s3_place.put(name, _gzipped(lines(2)) if name.endswith(".gz") else lines(2))
    s3_place.put("logs/zone/user/notes", b"x")
    done = mirrored_of(s3_place)
    assert (sorted(copies_of(done)), done.outside, done.failures) == (sorted(names), ["logs/zone/user/notes"], [])
    copy = _as_source(done)
    pulled = pull_bucket(copy, open_log_store(copy), engine)
    assert [(str(each.period), each.keys, each.records) for each in pulled.periods] == [
        ("2026-03-05", 2, 4),
        ("2026-03-06", 2, 4),
    ]
    assert mirrored_of(s3_place).present == 4


def test_a_second_mirror_fetches_nothing(source, mirrored) -> None:
    first = mirrored()
    source.store.fetch = source.store.open = pytest.fail

    second = mirrored()

    assert (second.keys, second.present) == (0, 5)
    assert copies_of(second) == copies_of(first)


def test_an_etag_that_is_no_digest_is_known_again(source, mirrored, s3) -> None:
    place = {"Bucket": source.bucket.log_bucket_name, "Key": key_of(8)}
    upload = place | {"UploadId": s3.create_multipart_upload(**place)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=lines(2))
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]})

    assert next(source.store.pages(key_of(8)))[0].etag.endswith("-1")
    assert (mirrored().keys, mirrored().present) == (6, 6)


def test_an_overwritten_key_is_fetched_again_and_is_another_generation_even_within_the_second(source, mirrored) -> None:
    """S3 counts whole seconds, and a folder distinguishes generations by time and size."""
    store = open_log_store(_as_source(mirrored()))
    before = next(store.pages(key_of(1)))[0]
    source.put(key_of(1), lines(2).swapcase())
    mirrored()
    after = next(store.pages(key_of(1)))[0]

    assert store.fetch([after])[0].body == lines(2).swapcase()
    assert (before.size, before.etag != after.etag) == (after.size, True)


def test_a_copy_that_was_cut_short_or_is_gone_is_fetched_again(mirrored) -> None:
    done = mirrored()
    whole = copies_of(done)
    (done.folder / key_of(2)).write_bytes(b"cut")
    (done.folder / key_of(1)).unlink()

    again = mirrored()

    assert (again.keys, again.present) == (2, 3)
    assert copies_of(again) == whole


def test_a_mirror_without_its_index_is_made_anew_and_nothing_is_loaded_again(mirrored, engine, rows) -> None:
    """The files are new files, so they are read again; their bytes are the same."""
    done = mirrored()
    source = _as_source(done)
    store = open_log_store(source)
    assert sum(day.keys for day in pull_bucket(source, store, engine, last=date(2026, 3, 8)).periods) == 5
    listed = [(item.key, item.size, item.last_modified) for page in store.pages("") for item in page]
    loaded = rows("SELECT id, loaded_at FROM s3_log_key ORDER BY id")
    (done.folder / ASIDE / "index.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(CopiesError, match="delete it, and the log keys are fetched again"):
        mirrored()
    (done.folder / ASIDE / "index.sqlite").unlink()

    assert mirrored().keys == 5
    assert [(item.key, item.size, item.last_modified) for page in store.pages("") for item in page] == listed
    again = pull_bucket(source, store, engine, last=date(2026, 3, 8)).periods
    assert [sum(getattr(day, each) for day in again) for each in ("seen", "keys", "returned")] == [5, 0, 0]
    assert rows("SELECT id, loaded_at FROM s3_log_key ORDER BY id") == loaded


def test_only_the_days_asked_for_are_mirrored(mirrored) -> None:
    done = mirrored(first=date(2026, 3, 6), last=date(2026, 3, 6))
    assert list(copies_of(done)) == [key_of(0, "2026-03-06", ROOT)]


def test_a_large_key_is_written_by_chunks(source, mirrored, monkeypatch) -> None:
    monkeypatch.setattr("tamarin_dagster.pipeline.mirror.BATCH_BYTES", 1000)
    monkeypatch.setattr("tamarin_dagster.logstore.s3.CHUNK_BYTES", 700)
    source.put(key_of(9), body := lines(50))

    assert copies_of(mirrored())[key_of(9)] == body


def test_buckets_of_one_log_bucket_share_a_folder_and_others_have_their_own(source, tmp_path) -> None:
    films = source.bucket.model_copy(update={"name": "films", "log_prefix": "films/"})
    source.put(key_of(1, prefix="films/"), lines(1))
    one, two = (mirror_bucket(each, source.store, tmp_path) for each in (source.bucket, films))
    here, there = (LoggedBucket(name="media", log_bucket_name=f"file:///{path}/logs") for path in ("a", "b"))

    assert one.folder == two.folder == tmp_path / source.bucket.log_bucket_name
    assert (one.keys, two.keys) == (5, 1)
    assert len({choose_folder(each, tmp_path) for each in (source.bucket, here, there)}) == 3


def test_a_folder_is_mirrored_too_but_not_into_itself(folder_place, tmp_path, log_folder) -> None:
    folder_place.put(key_of(1), lines(2))

    assert copies_of(mirror_bucket(folder_place.bucket, folder_place.store, tmp_path / "out")) == {key_of(1): lines(2)}
    with pytest.raises(CopiesError, match="choose another folder"):
        mirror_bucket(folder_place.bucket, folder_place.store, log_folder)


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "a//b", ".a/b", "a/.b", "a/", "a\0b", "link/out"])
def test_no_name_leads_out_of_the_folder_or_hides_in_it(tmp_path, name) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with Copies(folder) as copies, pytest.raises(NotCopiedError):
        copies.write(LogObject(name, "e", 1, MODIFIED), [b"x"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    assert sorted(path.name for path in folder.rglob("*") if path.is_file() and ASIDE not in path.parts) == []


def test_a_copy_appears_whole_or_not_at_all_and_what_was_there_stays(tmp_path) -> None:
    def torn():
        yield b"half"
        raise FetchError("the connection broke")

    item = LogObject("logs/a", "e", 8, MODIFIED)
    with Copies(tmp_path) as copies:
        copies.write(item, [b"whole"])
        with pytest.raises(FetchError):
            copies.write(item, torn())
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and ASIDE not in path.parts] == [
        b"whole"
    ]
    assert list((tmp_path / ASIDE / "incoming").iterdir()) == []


def test_a_second_mirror_into_the_same_folder_is_refused_while_the_first_is_at_it(tmp_path) -> None:
    with (
        Copies(tmp_path),
        pytest.raises(CopiesError, match="another mirror is writing to it"),
        Copies(tmp_path),
    ):
        pass
    with Copies(tmp_path):
        pass


def test_a_full_disk_ends_the_mirror_and_is_told(mirrored, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies, "_write", full)
    with pytest.raises(CopiesError, match="cannot be written to: No space left on device"):
        mirrored()


def test_a_key_that_has_no_place_is_a_failure_and_stops_no_other(mirrored) -> None:
    folder = mirrored(last=date(2026, 3, 1)).folder
    (folder / key_of(1)).mkdir(parents=True)

    done = mirrored()

    assert [(each.key, each.delivery_date) for each in done.failures] == [(key_of(1), date(2026, 3, 5))]
    assert (done.keys, key_of(0) in copies_of(done)) == (4, True)


@pytest.fixture
def configured(tmp_path, folder_place, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMARIN_CONFIG", "")
    bucket = folder_place.bucket
    (tmp_path / "tamarin.yaml").write_text(
        f"buckets:\n  - {{name: media, log_bucket_name: '{bucket.log_bucket_name}', log_prefix: logs/,"
        " start_date: 2026-01-01}\n"
    )
    for number in range(3):
        folder_place.put(key_of(number), lines(1))
    return choose_folder(bucket, tmp_path / "out")


def test_the_command_says_what_it_did_and_how_the_folder_is_used(configured, folder_place) -> None:
    folder_place.put(f"logs/{DAY}-notes.txt", b"x")

    done = CliRunner().invoke(app, ["mirror", "--out", "out"])

    assert done.exit_code == 0
    assert f"media: 3 keys fetched ({3 * len(lines(1)):,} bytes), 0 were there already" in done.stderr
    assert f"to load from there: log_bucket_name: {configured.as_uri()}, log_prefix: logs/" in done.stderr
    assert f"1 stray was skipped, for example 'logs/{DAY}-notes.txt'" in done.stderr
    assert len(list(configured.glob("logs/*"))) == 3


def test_what_has_no_copy_is_told_and_gives_status_1(configured, folder_place) -> None:
    (configured / key_of(1)).mkdir(parents=True)

    done = CliRunner().invoke(app, ["mirror", "--out", "out", "--json"])

    assert done.exit_code == 1
    assert f"bucket media, key {key_of(1)}: cannot be written: " in done.stderr
    assert '"keys": 2' in done.stdout
    assert CliRunner().invoke(app, ["mirror"]).exit_code == 2


def test_a_mirror_that_is_killed_leaves_whole_copies_and_the_next_goes_on(configured, folder_place) -> None:
    script = "import tamarin_dagster.pipeline.mirror as m, sys; m.BATCH_KEYS = 1; from tamarin_dagster.cli import app;"
    script += " app(sys.argv[1:])"
    killed = subprocess.run(
        [sys.executable, "-c", script, "mirror", "--out", "out"],
        env=os.environ | {VARIABLE: "fetch.after:kill:3"},
        check=False,
    )
    (configured / ASIDE / "incoming/left").write_bytes(b"half")

    assert killed.returncode == -signal.SIGKILL
    assert {path.read_bytes() for path in configured.glob("logs/*")} <= {lines(1)}
    assert CliRunner().invoke(app, ["mirror", "--out", "out"]).exit_code == 0
    assert [path.read_bytes() for path in configured.glob("logs/*")] == [lines(1)] * 3
    assert list((configured / ASIDE / "incoming").iterdir()) == []
