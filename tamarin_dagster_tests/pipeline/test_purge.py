"""purge: delete what the ledger proves to be loaded, and nothing else, ever."""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore import Deleted
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline import purge as purging
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.pipeline.purge import Purged, purge_bucket
from tamarin_dagster.pipeline.reparse import reparse_bucket
from tamarin_dagster.recordstore.ledger import KeptKeys
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.older_parser import reject

JUNK = b"no log line at all\n"
DAY, NEXT = date(2026, 3, 5), date(2026, 3, 6)
OVERWRITTEN = "it was overwritten after it was loaded; the next pull loads the new generation"
LEDGER = (
    "SELECT key, record_count, purged_at IS NOT NULL, purge_error FROM s3_log_key WHERE superseded_at IS NULL"
    " ORDER BY key, id"
)


def name(day: date = DAY, number: int = 0, suffix: str = "") -> str:
    return f"logs/{day}-10-00-00-{number:016X}{suffix}"


def pull_all(place, engine) -> None:
    assert pull_bucket(place.bucket, place.store, engine).failures == []


def purge_all(place, engine, **options) -> Purged:
    return purge_bucket(place.bucket, place.store, engine, **options)


def failures(purged: Purged) -> list[tuple[str, date, str]]:
    return [(failure.key, failure.delivery_date, failure.error) for failure in purged.failures]


class Refusing:
    """A store that refuses to delete some log keys; it notes what it was asked to delete."""

    def __init__(self, store, refused: Sequence[str] = ()) -> None:
        self._store = store
        self._refused = refused
        self.name = store.name
        self.asked: list[str] = []

    def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
        self.asked += [item.key for item in objects]
        return [
            Deleted(item, "DELETE failed: access denied")
            if item.key in self._refused
            else self._store.delete([item])[0]
            for item in objects
        ]


def test_exactly_the_loaded_keys_without_rejected_lines_are_deleted(place, engine, rows, contents):
    strays = ["elsewhere", "logs/2026-03-05-junk", "logs/README", name(DAY, 1) + ".tmp", f"logs/backup/{name()[5:]}"]
    for stray in strays:
        place.put(stray, lines(1))
    place.put(name(DAY, 1), lines(3))
    place.put(name(DAY, 2), lines(2) + JUNK)
    place.put(name(DAY, 3), b"")
    place.put(name(NEXT, 1), lines(4) + b"\n")
    place.put("logs/123456789012/eu-west-1/media/2026/03/05/" + name(DAY, 5)[5:], lines(1))
    pull_all(place, engine)
    before = contents()
    place.put(name(DAY, 4), lines(1))  # nobody has seen this one
    reported: list[int] = []
    purged = purge_all(place, engine, progress=reported.append)
    assert (purged.keys, purged.by_day, failures(purged)) == (4, {DAY: 3, NEXT: 1}, [])
    assert purged.bytes == len(lines(8)) + 1
    assert purged.seconds > 0
    assert reported == [4]
    assert sorted(place.names()) == sorted([*strays, name(DAY, 2), name(DAY, 4)])
    assert rows("SELECT key FROM s3_log_key WHERE purged_at IS NULL") == [(name(DAY, 2),)]
    assert rows(
        "SELECT bool_and(purged_at > now() - interval '1 minute'), bool_and(purge_error IS NULL) FROM s3_log_key"
    ) == [(True, True)]
    assert contents() == before
    again = purge_all(place, engine)
    assert (again.keys, again.by_day, again.failures) == (0, {}, [])


def test_log_keys_of_other_stores_and_copies_with_a_suffix_are_purged_and_strays_beside_them_stay(place, engine):
    tree = "logs/zone/user/media/"
    keys = [f"{tree}2026/03/05/{name()[5:]}", f"{tree}2026/03/05/{name(DAY, 1)[5:]}.txt.gz", name(DAY, 2) + ".log"]
    strays = [f"{tree}{name()[5:]}", f"{tree}2026/03/06/{name()[5:]}", f"{tree}2026/03/05/x/{name()[5:]}"]
    strays += [f"logs/backup/{name()[5:]}", f"{tree}copy/2026/03/05/notes.txt"]
    for key in (*keys, *strays):
        place.put(key, lines(2))
    pulled = pull_bucket(place.bucket, place.store, engine)
    assert (sum(each.keys for each in pulled.periods), pulled.failures) == (3, [])
    reported = [*pulled.strays, *(stray for each in pulled.periods for stray in each.strays)]
    assert sorted(reported) == sorted(strays)
    assert purge_all(place, engine).keys == 3
    assert sorted(place.names()) == sorted(strays)


def test_a_pull_after_the_purge_loads_nothing_again(place, engine, rows, contents):
    for number in range(3):
        place.put(name(DAY, number), lines(2))
    pull_all(place, engine)
    purge_all(place, engine)
    before = contents()
    pulled = pull_bucket(place.bucket, place.store, engine, periods=[DAY])
    assert [(day.listed, day.keys) for day in pulled.periods] == [(0, 0)]
    assert contents() == before
    assert rows("SELECT count(*) FROM s3_log_record") == [(6,)]


def test_a_day_is_purged_alone(folder_place, engine):
    for day in (DAY, NEXT, date(2026, 3, 7)):
        folder_place.put(name(day), lines(1))
    pull_all(folder_place, engine)
    assert purge_all(folder_place, engine, periods=[]).keys == 0
    assert purge_all(folder_place, engine, periods=[date(2026, 3, 8)]).keys == 0
    assert purge_all(folder_place, engine, periods={NEXT}).by_day == {NEXT: 1}
    assert folder_place.names() == [name(DAY), name(date(2026, 3, 7))]
    assert purge_all(folder_place, engine).keys == 2


def test_many_keys_are_purged_page_by_page(folder_place, engine, rows, monkeypatch):
    monkeypatch.setattr(purging, "PURGE_PAGE_KEYS", 3)
    for number in range(10):
        folder_place.put(name(DAY, number), lines(1))
    pull_all(folder_place, engine)
    rows("DELETE FROM s3_log_record r USING s3_log_key k WHERE k.id = log_key_id AND k.key = :key", key=name(DAY, 4))
    reported: list[int] = []
    purged = purge_all(folder_place, engine, progress=reported.append)
    assert (purged.keys, [failure.key for failure in purged.failures]) == (9, [name(DAY, 4)])
    assert reported == [3, 5, 8, 9]
    assert folder_place.names() == [name(DAY, 4)]


def test_nothing_of_another_log_bucket_or_bucket_is_touched(folder_place, s3_place, engine, rows):
    """The same names, loaded from two log buckets by two logged buckets."""
    for place in (folder_place, s3_place):
        place.put(name(), lines(2))
        pull_all(place, engine)
    films = folder_place.bucket.model_copy(update={"name": "films"})
    assert purge_bucket(films, open_log_store(films), engine).keys == 0
    assert purge_all(folder_place, engine).keys == 1
    assert (folder_place.names(), s3_place.names()) == ([], [name()])
    assert rows("SELECT log_bucket_name FROM s3_log_key WHERE purged_at IS NULL") == [
        (s3_place.bucket.log_bucket_name,)
    ]


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("DELETE FROM s3_log_record WHERE log_key_id = :id AND line_number = 2", 2),
        ("DELETE FROM s3_log_record WHERE log_key_id = :id", 0),
        ("INSERT INTO s3_log_record SELECT * FROM s3_log_record WHERE log_key_id = :id AND line_number = 1", 4),
        ("UPDATE s3_log_record SET log_key_id = 0 WHERE log_key_id = :id AND line_number = 1", 2),
    ],
)
def test_a_key_whose_rows_are_not_what_the_ledger_says_stays(folder_place, engine, rows, tampering, found):
    folder_place.put(name(DAY, 1), lines(3))
    folder_place.put(name(DAY, 2), lines(3) + line("01/Jan/2026:00:00:00 +0000"))
    pull_all(folder_place, engine)
    ((id_,),) = rows("SELECT id FROM s3_log_key WHERE key = :key", key=name(DAY, 1))
    rows(tampering, id=id_)
    store = Refusing(folder_place.store)
    purged = purge_bucket(folder_place.bucket, store, engine)
    assert purged.by_day == {DAY: 1}
    ((key, day, said),) = failures(purged)
    assert (key, day) == (name(DAY, 1), DAY)
    assert said.startswith("its rows differ from the ledger: ")
    assert "expected_records=3" in said
    assert f"found_records={found}" in said
    assert store.asked == [name(DAY, 2)]
    assert folder_place.names() == [name(DAY, 1)]
    assert rows("SELECT purged_at FROM s3_log_key WHERE id = :id", id=id_) == [(None,)]


def test_a_rejected_line_that_nobody_counted_keeps_its_key(folder_place, engine, rows):
    folder_place.put(name(), lines(3))
    pull_all(folder_place, engine)
    rows("INSERT INTO s3_rejected_line SELECT id, 9, 'not_a_record', 'x', 1, 'x' FROM s3_log_key")
    assert "found_rejected=1" in failures(purge_all(folder_place, engine))[0][2]
    assert folder_place.names() == [name()]


def test_an_overwritten_key_stays_and_goes_after_the_next_pull(place, engine, rows):
    place.put(name(DAY, 1), lines(3))
    place.put(name(DAY, 2), lines(1))
    pull_all(place, engine)
    place.another_second()
    place.put(name(DAY, 1), lines(5))
    purged = purge_all(place, engine)
    assert (purged.keys, failures(purged)) == (1, [(name(DAY, 1), DAY, OVERWRITTEN)])
    assert place.names() == [name(DAY, 1)]
    assert rows(LEDGER) == [(name(DAY, 1), 3, False, OVERWRITTEN), (name(DAY, 2), 1, True, None)]
    pull_all(place, engine)
    assert rows(LEDGER) == [(name(DAY, 1), 5, False, None), (name(DAY, 2), 1, True, None)]
    assert purge_all(place, engine).keys == 1
    assert place.names() == []
    assert rows(LEDGER) == [(name(DAY, 1), 5, True, None), (name(DAY, 2), 1, True, None)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(6,)]


def test_a_key_that_somebody_else_deleted_counts_as_purged(place, engine, rows):
    place.put(name(), lines(3))
    pull_all(place, engine)
    place.remove(name())
    purged = purge_all(place, engine)
    assert (purged.keys, purged.failures) == (1, [])
    assert rows(LEDGER) == [(name(), 3, True, None)]


def test_a_refused_deletion_is_kept_and_tried_again(place, engine, rows, contents):
    for number in range(3):
        place.put(name(DAY, number), lines(2))
    pull_all(place, engine)
    for _ in range(2):
        purged = purge_bucket(place.bucket, Refusing(place.store, [name(DAY, 1)]), engine)
        assert failures(purged) == [(name(DAY, 1), DAY, "DELETE failed: access denied")]
    assert place.names() == [name(DAY, 1)]
    assert rows(LEDGER) == [
        (name(DAY, 0), 2, True, None),
        (name(DAY, 1), 2, False, "DELETE failed: access denied"),
        (name(DAY, 2), 2, True, None),
    ]
    pulled = pull_bucket(place.bucket, place.store, engine)
    assert [(day.listed, day.seen, day.keys) for day in pulled.periods] == [(1, 1, 0)]
    purged = purge_all(place, engine)
    assert (purged.keys, purged.failures, place.names()) == (1, [], [])
    assert rows(LEDGER)[1] == (name(DAY, 1), 2, True, None)


def test_a_purge_that_is_killed_between_deleting_and_noting_is_completed_by_the_next(folder_place, engine, rows):
    for number in range(3):
        folder_place.put(name(DAY, number), lines(2))
    pull_all(folder_place, engine)

    class Killed(Refusing):
        def delete(self, objects: Sequence[LogObject]) -> list[Deleted]:
            super().delete(objects[:2])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        purge_bucket(folder_place.bucket, Killed(folder_place.store), engine)
    assert folder_place.names() == [name(DAY, 2)]
    assert rows("SELECT count(*) FROM s3_log_key WHERE purged_at IS NOT NULL") == [(0,)]
    assert purge_all(folder_place, engine).keys == 3
    assert rows("SELECT count(*), count(purged_at) FROM s3_log_key") == [(3, 3)]
    assert rows("SELECT count(*) FROM s3_log_record") == [(6,)]


def test_only_a_purge_deletes_from_a_log_bucket():
    """A listing never leads to a deletion: nothing else asks a store to delete."""
    package = Path(purging.__file__).parents[1]
    asking = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.parent.name != "logstore" and re.search(r"(?<!sa)\.delete(_objects?)?\(", path.read_text("utf-8"))
    }
    assert asking == {"pipeline/purge.py"}


OVERSIZED = b"x" * (1024 * 1024 + 1) + b"\n"


def test_a_key_with_rejected_lines_stays_and_is_told_of(place, engine, rows):
    place.put(name(DAY, 1), lines(2) + JUNK)
    place.put(name(DAY, 2), lines(2))
    place.put(name(DAY, 3), OVERSIZED)
    pull_all(place, engine)
    purged = purge_all(place, engine)
    assert (purged.keys, purged.failures) == (1, [])
    assert purged.kept == KeptKeys(keys=2, oversized_keys=1)
    assert purge_all(place, engine, periods=[NEXT]).kept == KeptKeys(0, 0)
    assert place.names() == [name(DAY, 1), name(DAY, 3)]


def test_purge_rejected_lets_all_go_but_keys_with_an_oversized_line(place, engine, rows):
    """Only the start of an oversized line is stored; only the log bucket has the whole line."""
    place.put(name(DAY, 1), lines(2) + JUNK)
    place.put(name(DAY, 2), lines(2))
    place.put(name(DAY, 3), lines(1) + OVERSIZED + JUNK)
    pull_all(place, engine)
    purged = purge_all(place, engine, with_rejected=True)
    assert (purged.keys, purged.rows, purged.failures) == (2, 5, [])
    assert purged.kept == KeptKeys(keys=1, oversized_keys=1)
    assert place.names() == [name(DAY, 3)]
    assert rows("SELECT count(*) FROM s3_rejected_line") == [(3,)]


def test_purge_rejected_still_proves_the_rejected_lines(folder_place, engine, rows):
    folder_place.put(name(), lines(2) + JUNK)
    pull_all(folder_place, engine)
    rows("DELETE FROM s3_rejected_line")
    purged = purge_all(folder_place, engine, with_rejected=True)
    assert "expected_rejected=1, found_rejected=0" in failures(purged)[0][2]
    assert folder_place.names() == [name()]


def test_a_reparse_that_clears_a_key_lets_it_go(folder_place, engine, rows):
    body = lines(3)
    folder_place.put(name(), body)
    pull_all(folder_place, engine)
    reject(rows, name(), body, [2])
    assert purge_all(folder_place, engine).keys == 0
    assert reparse_bucket(folder_place.bucket, engine).moved == 1
    assert purge_all(folder_place, engine).keys == 1
    assert folder_place.names() == []


def test_a_dry_run_proves_and_deletes_nothing(place, engine, rows):
    place.put(name(DAY, 1), lines(2))
    place.put(name(DAY, 2), lines(3))
    place.put(name(NEXT, 1), lines(4) + JUNK)
    pull_all(place, engine)
    rows("DELETE FROM s3_log_record r USING s3_log_key k WHERE k.id = log_key_id AND k.key = :key", key=name(DAY, 1))
    dry = purge_bucket(place.bucket, Refusing(place.store), engine, dry_run=True)
    assert (dry.keys, dry.bytes, dry.rows, dry.by_day) == (1, len(lines(3)), 3, {DAY: 1})
    assert [failure.key for failure in dry.failures] == [name(DAY, 1)]
    assert dry.kept.keys == 1
    assert len(place.names()) == 3
    assert rows("SELECT count(*) FROM s3_log_key WHERE purged_at IS NOT NULL OR purge_error IS NOT NULL") == [(0,)]


def test_since_when_a_deletion_fails_is_kept_until_it_succeeds(folder_place, engine, rows):
    folder_place.put(name(), lines(2))
    pull_all(folder_place, engine)
    since = "SELECT purge_failed_at FROM s3_log_key"
    purge_bucket(folder_place.bucket, Refusing(folder_place.store, [name()]), engine)
    ((first,),) = rows(since)
    assert first is not None
    purge_bucket(folder_place.bucket, Refusing(folder_place.store, [name()]), engine)
    assert rows(since) == [(first,)]
    purge_all(folder_place, engine)
    assert rows(since) == [(None,)]


@pytest.fixture
def versioned(s3_place, s3):
    s3.put_bucket_versioning(Bucket=s3_place.bucket.log_bucket_name, VersioningConfiguration={"Status": "Enabled"})
    return s3_place


def test_on_a_versioned_bucket_the_version_that_was_read_is_deleted(versioned, s3, engine, rows):
    versioned.put(name(), lines(3))
    pull_all(versioned, engine)
    assert purge_all(versioned, engine).keys == 1
    listing = s3.list_object_versions(Bucket=versioned.bucket.log_bucket_name)
    assert ("Versions" in listing, "DeleteMarkers" in listing) == (False, False)
    assert rows("SELECT version_id IS NOT NULL, purged_at IS NOT NULL FROM s3_log_key") == [(True, True)]


def test_on_a_versioned_bucket_an_overwritten_key_ends_as_on_any_other(versioned, engine, rows):
    """The tables must not show whether the purge comes before or after the pull of the new generation."""
    versioned.put(name(), lines(3))
    pull_all(versioned, engine)
    versioned.another_second()
    versioned.put(name(), lines(5))
    purge_all(versioned, engine)
    pull_all(versioned, engine)
    purge_all(versioned, engine)
    assert versioned.names() == []
    assert rows("SELECT count(*) FROM s3_log_record") == [(5,)]


def test_a_log_bucket_that_is_gone_purges_nothing(s3_place, s3, engine, rows):
    """A wrong endpoint answers 404 too; the ledger would mark log keys as purged that are still there."""
    s3_place.put(name(), lines(3))
    pull_all(s3_place, engine)
    s3_place.remove(name())
    s3.delete_bucket(Bucket=s3_place.bucket.log_bucket_name)
    purged = purge_all(s3_place, engine)
    assert (purged.keys, len(purged.failures)) == (0, 1)
    assert rows("SELECT purged_at FROM s3_log_key") == [(None,)]
