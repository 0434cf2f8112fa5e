"""Log keys that come back after their purge, in both kinds of stores: the same bytes are the same delivery."""

import os
from datetime import UTC, date, datetime

import pytest

from tamarin_dagster.pipeline import pull as pulling
from tamarin_dagster.pipeline.pull import Pulled, pull_bucket
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster.recordstore import loading
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.logstore.broken import Broken

DAY = date(2026, 3, 5)
LEDGER = (
    "SELECT key, record_count, purged_at IS NOT NULL, returned_at IS NOT NULL FROM s3_log_key"
    " WHERE superseded_at IS NULL ORDER BY key, id"
)


def name(number: int = 0) -> str:
    return f"logs/{DAY}-10-00-00-{number:016X}"


def in_sum(pulled: Pulled) -> tuple[int, ...]:
    """Return listed, seen, returned, keys, outdated, failures."""
    columns = ("listed", "seen", "returned", "keys", "outdated")
    return (*(sum(getattr(day, each) for day in pulled.periods) for each in columns), len(pulled.failures))


def pull_all(place, engine) -> Pulled:
    return pull_bucket(place.bucket, place.store, engine, first=DAY, last=DAY)


def purge_all(place, engine) -> int:
    purged = purge_bucket(place.bucket, place.store, engine)
    assert purged.failures == []
    return purged.keys


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch) -> str:
    """Log keys that are loaded in batches, and log keys that are each loaded in parts."""
    if request.param == "large":
        monkeypatch.setattr(pulling, "BATCH_BYTES", 1000)
    return str(request.param)


def test_content_that_is_put_back_after_its_purge_is_counted_and_deleted_and_not_loaded_twice(
    place, engine, rows, contents, size
):
    """On S3 it was never loaded, deleted or mentioned, and it was loaded again from a folder."""
    for number in range(3):
        place.put(name(number), lines(number + 8))
    assert in_sum(pull_all(place, engine)) == (3, 0, 0, 3, 0, 0)
    assert purge_all(place, engine) == 3
    before = rows("SELECT * FROM s3_log_record ORDER BY log_key_id, line_number")
    for round_ in range(2):
        place.put(name(1), lines(9))
        assert in_sum(pull_all(place, engine)) == (1, 0, 1, 0, 0, 0), round_
        assert rows(LEDGER)[1] == (name(1), 9, False, True)
        assert in_sum(pull_all(place, engine)) == (1, 1, 0, 0, 0, 0)
        assert purge_all(place, engine) == 1
        assert place.names() == []
    assert rows(LEDGER) == [
        (name(0), 8, True, False),
        (name(1), 9, True, True),
        (name(2), 10, True, False),
    ]
    assert rows("SELECT * FROM s3_log_record ORDER BY log_key_id, line_number") == before


def test_other_content_under_a_purged_name_is_another_delivery(place, engine, rows, size):
    place.put(name(), lines(8))
    pull_all(place, engine)
    purge_all(place, engine)
    place.another_second()
    place.put(name(), lines(11))
    assert in_sum(pull_all(place, engine)) == (1, 0, 0, 1, 0, 0)
    assert purge_all(place, engine) == 1
    assert rows(LEDGER) == [(name(), 8, True, False), (name(), 11, True, False)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(19,)]


def test_a_pull_that_read_a_key_before_a_newer_one_was_loaded_and_purged_does_not_load_it(
    place, engine, rows, monkeypatch
):
    """The supersede race: 7 rows for 4 lines."""
    place.put(name(), lines(3))
    prepare, once = loading.prepare, iter([1])

    def overtaken(*arguments, **options):
        if next(once, None):
            place.another_second()
            place.put(name(), lines(4))
            assert in_sum(pull_all(place, engine)) == (1, 0, 0, 1, 0, 0)
            assert purge_all(place, engine) == 1
        return prepare(*arguments, **options)

    monkeypatch.setattr(loading, "prepare", overtaken)
    pulled = pull_all(place, engine)
    assert in_sum(pulled) == (1, 0, 0, 0, 1, 0)
    assert pulled.outdated_names == [name()]
    assert place.names() == []
    assert rows("SELECT count(*) FROM s3_log_record") == [(4,)]


def test_a_listing_that_still_has_purged_keys_is_no_failure(place, engine, rows):
    """Pages that were read before another pull's purge, and stores whose listings are delayed."""
    place.put(name(), lines(3))
    (page,) = place.store.pages("logs/")
    pull_all(place, engine)
    purge_all(place, engine)

    class Lagging(Broken):
        def pages(self, prefix, start_after="", page_keys=1000):  # noqa: ARG002
            yield [item for item in page if item.key.startswith(prefix) and item.key > start_after]

    pulled = pull_bucket(place.bucket, Lagging(place.store), engine, periods=[DAY])
    assert in_sum(pulled) == (1, 1, 0, 0, 0, 0)
    assert rows(LEDGER) == [(name(), 3, True, False)]


def test_a_file_of_the_same_size_and_time_is_not_purged_unread(folder_place, log_folder, engine, rows):
    """Its generation was a size and a time, which a copy may share with what it replaces."""
    folder_place.put(name(), lines(3))
    path = log_folder / name()
    pull_all(folder_place, engine)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    other = lines(3).replace(b"0000000000000002", b"FFFFFFFFFFFFFFFF")
    assert len(other) == path.stat().st_size
    path.with_name(".new").write_bytes(other)
    os.utime(path.with_name(".new"), ns=times)
    path.with_name(".new").rename(path)
    purged = purge_bucket(folder_place.bucket, folder_place.store, engine)
    assert (purged.keys, len(purged.failures), folder_place.names()) == (0, 1, [name()])
    assert in_sum(pull_all(folder_place, engine)) == (1, 0, 0, 1, 0, 0)
    assert purge_all(folder_place, engine) == 1
    assert rows("SELECT request_id FROM s3_log_record ORDER BY line_number")[-1] == ("FFFFFFFFFFFFFFFF",)
    assert rows("SELECT count(*) FROM s3_log_record") == [(3,)]


def test_a_folder_that_was_moved_and_files_whose_mode_was_changed_are_read_and_not_loaded_again(
    folder_place, log_folder, engine, rows
):
    for number in range(3):
        folder_place.put(name(number), lines(2))
    pull_all(folder_place, engine)
    ids = rows("SELECT id, loaded_at FROM s3_log_key ORDER BY id")
    (log_folder / name(0)).chmod(0o600)
    (log_folder / "logs").rename(log_folder / "moved")
    (log_folder / "logs").mkdir()
    for path in (log_folder / "moved").iterdir():
        path.rename(log_folder / "logs" / path.name)
    assert in_sum(pull_all(folder_place, engine)) == (3, 3, 0, 0, 0, 0)
    assert rows("SELECT id, loaded_at FROM s3_log_key ORDER BY id") == ids
    assert in_sum(pull_all(folder_place, engine)) == (3, 3, 0, 0, 0, 0)
    assert purge_all(folder_place, engine) == 3
    assert rows("SELECT count(*) FROM s3_log_record") == [(6,)]


def test_after_an_upgrade_the_files_of_a_folder_are_read_once_more_and_take_the_place_of_their_old_rows(
    folder_place, log_folder, engine, rows
):
    """Rows of an earlier version identify a file by time and size, and have no digest."""
    for number in range(3):
        folder_place.put(name(number), lines(number + 1))
    pull_all(folder_place, engine)
    for number in range(3):
        found = (log_folder / name(number)).stat()
        old = f"{found.st_mtime_ns:x}-{found.st_size:x}"
        rows("UPDATE s3_log_key SET etag = :old, content_sha256 = NULL WHERE key = :key", old=old, key=name(number))
    purged = purge_bucket(folder_place.bucket, folder_place.store, engine)
    assert (purged.keys, len(purged.failures)) == (0, 3)
    assert in_sum(pull_all(folder_place, engine)) == (3, 0, 0, 3, 0, 0)
    assert in_sum(pull_all(folder_place, engine)) == (3, 3, 0, 0, 0, 0)
    assert rows(LEDGER) == [(name(number), number + 1, False, False) for number in range(3)]
    assert rows("SELECT count(*), count(DISTINCT log_key_id) FROM s3_log_record") == [(6, 3)]
    assert purge_all(folder_place, engine) == 3
    assert folder_place.names() == []


def test_an_older_file_under_a_purged_name_is_skipped_and_shown_and_stays(folder_place, log_folder, engine, rows):
    folder_place.put(name(), lines(8))
    pull_all(folder_place, engine)
    purge_all(folder_place, engine)
    folder_place.put(name(), lines(5))
    before = datetime(2026, 3, 5, 11, tzinfo=UTC).timestamp()
    os.utime(log_folder / name(), (before, before))
    for _ in range(2):
        pulled = pull_all(folder_place, engine)
        assert in_sum(pulled) == (1, 0, 0, 0, 1, 0)
        assert pulled.outdated_names == [name()]
        assert purge_all(folder_place, engine) == 0
    assert folder_place.names() == [name()]
    assert rows("SELECT count(*) FROM s3_log_record") == [(8,)]
