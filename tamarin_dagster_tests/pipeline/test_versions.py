"""Versioned log buckets: the newest generation of each name counts, whatever reappears after a purge."""

import itertools
from datetime import date

import pytest
from moto.s3.models import FakeKey

from tamarin_dagster.logkey import CHANGED_SINCE_LOADED, LogObject
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster_tests.lines import lines

DAY = date(2026, 3, 5)
KEYS = 12


def name(number: int = 0) -> str:
    return f"logs/{DAY}-10-00-00-{number:016X}"


def set_versioning(s3, place, status: str) -> None:
    s3.put_bucket_versioning(Bucket=place.bucket.log_bucket_name, VersioningConfiguration={"Status": status})


@pytest.fixture
def versioned(s3_place, s3):
    set_versioning(s3, s3_place, "Enabled")
    return s3_place


def pull_all(place, engine):
    return pull_bucket(place.bucket, place.store, engine, periods=[DAY])


def put_all(place, count: int) -> None:
    """Put log keys with `count` lines each, a second later than what is there."""
    place.another_second()
    for number in range(KEYS):
        place.put(name(number), lines(count))


def until_nothing_changes(place, engine, rows) -> int:
    """Load and purge until nothing changes; return how often."""
    before = None
    for round_ in itertools.count(1):
        assert pull_all(place, engine).failures == []
        purge_bucket(place.bucket, place.store, engine)
        now = rows("SELECT id, etag, version_id, record_count, purged_at, outdated_at FROM s3_log_key ORDER BY id")
        if now == before:
            return round_
        before = now
        assert round_ < 10
    raise AssertionError


def versions(s3, place) -> list[tuple[str, str]]:
    found = s3.list_object_versions(Bucket=place.bucket.log_bucket_name)
    assert "DeleteMarkers" not in found
    return sorted((item["Key"], item["VersionId"]) for item in found.get("Versions", []))


def test_a_purge_that_uncovers_older_versions_does_not_load_them(versioned, engine, rows, s3):
    """1,356 true rows had become 2,682."""
    for count in (3, 4, 5):
        put_all(versioned, count)
    assert until_nothing_changes(versioned, engine, rows) <= 3
    pulled = pull_all(versioned, engine)
    assert [(day.listed, day.seen, day.outdated) for day in pulled.periods] == [(KEYS, 0, KEYS)]
    assert pulled.outdated_names == [name(number) for number in range(KEYS)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(KEYS * 5,)]
    # older versions are never deleted
    assert len(versions(s3, versioned)) == KEYS * 2


def test_a_version_that_was_loaded_and_superseded_is_not_loaded_again_when_it_comes_to_light(versioned, engine, rows):
    put_all(versioned, 3)
    pull_all(versioned, engine)
    put_all(versioned, 4)
    until_nothing_changes(versioned, engine, rows)
    assert rows("SELECT count(*) FROM s3_log_record") == [(KEYS * 4,)]
    assert rows("SELECT count(*) FROM s3_log_key WHERE superseded_at IS NULL") == [(KEYS,)]


def test_versions_of_the_same_bytes_are_one_delivery_and_all_of_them_go(versioned, engine, rows, s3):
    """The row of the overwritten version was never purged, nor looked at again."""
    put_all(versioned, 3)
    pull_all(versioned, engine)
    put_all(versioned, 3)
    first = purge_bucket(versioned.bucket, versioned.store, engine)
    assert {failure.error for failure in first.failures} == {CHANGED_SINCE_LOADED}
    put_all(versioned, 3)
    until_nothing_changes(versioned, engine, rows)
    assert versions(s3, versioned) == []
    assert rows("SELECT count(*), count(DISTINCT log_key_id) FROM s3_log_record") == [(KEYS * 3, KEYS)]
    assert rows("SELECT count(*), count(purged_at), count(purge_error) FROM s3_log_key") == [(KEYS, KEYS, 0)]


def test_a_purge_that_was_killed_after_it_uncovered_older_versions_is_completed_by_the_next(
    versioned, engine, rows, s3
):
    """The older version was taken for one that overwrote what was loaded, so the purge failed forever."""
    put_all(versioned, 3)
    put_all(versioned, 5)
    pull_all(versioned, engine)
    versioned.store.delete(
        [LogObject(*row) for row in rows("SELECT key, etag, size, last_modified, version_id FROM s3_log_key")]
    )
    assert pull_all(versioned, engine).failures == []
    done = purge_bucket(versioned.bucket, versioned.store, engine)
    assert (done.keys, done.failures) == (KEYS, [])
    until_nothing_changes(versioned, engine, rows)
    assert rows("SELECT count(*) FROM s3_log_record") == [(KEYS * 5,)]


@pytest.fixture(params=[False, True], ids=["it names no version", 'it names "null"'])
def tells_null(request, monkeypatch) -> bool:
    """Return whether the store names the version of objects from before versioning: S3 does, moto does not."""
    if request.param:
        monkeypatch.setattr(FakeKey, "_is_versioned", property(lambda _: 1, lambda *_: None), raising=False)
    return bool(request.param)


def test_what_was_written_before_a_bucket_was_versioned_is_deleted_and_leaves_no_marker(
    tells_null, s3_place, engine, rows, s3
):
    put_all(s3_place, 3)
    set_versioning(s3, s3_place, "Enabled")
    pull_all(s3_place, engine)
    assert rows("SELECT DISTINCT version_id FROM s3_log_key") == [("null" if tells_null else None,)]
    assert purge_bucket(s3_place.bucket, s3_place.store, engine).failures == []
    assert versions(s3, s3_place) == []


def test_a_version_of_before_that_comes_to_light_is_not_loaded(tells_null, s3_place, engine, rows, s3):
    put_all(s3_place, 3)
    set_versioning(s3, s3_place, "Enabled")
    put_all(s3_place, 5)
    until_nothing_changes(s3_place, engine, rows)
    assert rows("SELECT count(*) FROM s3_log_record") == [(KEYS * 5,)]
    assert {version for _, version in versions(s3, s3_place)} == {"null"}


def test_while_versioning_is_suspended_the_etag_tells_which_null_version_is_meant(
    tells_null, versioned, engine, rows, s3
):
    """Each object that is then written becomes the version "null"."""
    set_versioning(s3, versioned, "Suspended")
    put_all(versioned, 3)
    pull_all(versioned, engine)
    versioned.another_second()
    versioned.put(name(0), lines(7))
    purged = purge_bucket(versioned.bucket, versioned.store, engine)
    assert (purged.keys, [failure.error for failure in purged.failures]) == (KEYS - 1, [CHANGED_SINCE_LOADED])
    assert versions(s3, versioned) == [(name(0), "null")]
    until_nothing_changes(versioned, engine, rows)
    assert versions(s3, versioned) == []
    assert rows("SELECT count(*) FROM s3_log_record") == [((KEYS - 1) * 3 + 7,)]


def test_a_null_version_below_a_newer_one_is_deleted_only_if_it_is_the_one_that_was_read(s3_place, engine, rows, s3):
    put_all(s3_place, 3)
    pulled = pull_all(s3_place, engine)
    assert [day.keys for day in pulled.periods] == [KEYS]
    rows("UPDATE s3_log_key SET version_id = 'null'")
    rows("UPDATE s3_log_key SET etag = 'another' WHERE key = :key", key=name(1))
    set_versioning(s3, s3_place, "Enabled")
    put_all(s3_place, 4)
    purged = purge_bucket(s3_place.bucket, s3_place.store, engine)
    assert {failure.error for failure in purged.failures} == {CHANGED_SINCE_LOADED}
    assert [key for key, version in versions(s3, s3_place) if version == "null"] == [name(1)]
    assert sum(version != "null" for _, version in versions(s3, s3_place)) == KEYS
