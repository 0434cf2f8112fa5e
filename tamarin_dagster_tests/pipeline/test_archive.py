"""archive: each record is archived once before its log key is purged, whatever comes late, twice or in between."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pytest

from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.lake.schema import FILE
from tamarin_dagster.logstore.archiving import ArchiveError, FolderArchive, S3Archive
from tamarin_dagster.pipeline import archive as archiving
from tamarin_dagster.pipeline.archive import archive_bucket, verify
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster.pipeline.reparse import reparse_bucket
from tamarin_dagster.pipeline.retain import expire
from tamarin_dagster.recordstore import archived as ledger_of_archive
from tamarin_dagster.recordstore.archived import lock_day
from tamarin_dagster_tests.lines import line, lines
from tamarin_dagster_tests.older_parser import reject

DAY, NEXT = date(2026, 3, 5), date(2026, 3, 6)
WAITING = "SELECT count(*) FROM s3_log_key WHERE superseded_at IS NULL AND archived_at IS NULL"


def name(day: date = DAY, number: int = 0) -> str:
    return f"logs/{day}-10-00-00-{number:016X}"


def later() -> datetime:
    """Return a time when late log keys that were loaded now have waited long enough."""
    return datetime.now(UTC) + timedelta(hours=archiving.LATE_KEYS_WAIT_HOURS, minutes=1)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "archive"


@pytest.fixture
def kept(folder):
    return FolderArchive(str(folder))


@pytest.fixture
def load(folder_place, engine):
    """load({name: body}): put log keys and load what is new."""

    def load(keys):
        for key, body in keys.items():
            folder_place.put(key, body)
        assert pull_bucket(folder_place.bucket, folder_place.store, engine).failures == []

    return load


@pytest.fixture
def run(folder_place, kept, engine):
    """run(now=…): archive, then purge what is archived; return both."""

    def run(place=kept, **options):
        done = archive_bucket(folder_place.bucket, place, engine, **options)
        return done, purge_bucket(folder_place.bucket, folder_place.store, engine, archive=place)

    return run


def rows_in(folder, filesystem=None):
    folders = pa.schema([("logged_bucket", pa.string()), ("delivery_day", pa.date32())])
    partitioning = ds.partitioning(folders, flavor="hive")
    found = ds.dataset(folder, schema=None, partitioning=partitioning, filesystem=filesystem, format="parquet")
    table = found.to_table(columns=["log_key", "line_number", "request_id", "bucket", *folders.names])
    return sorted(table.to_pylist(), key=lambda row: (row["log_key"], row["line_number"]))


def as_in_the_table(rows):
    names = ("log_key", "line_number", "request_id", "bucket", "logged_bucket", "delivery_day")
    found = rows(
        "SELECT key.key, line_number, request_id, record.bucket, key.bucket, delivery_date"
        " FROM s3_log_record record JOIN s3_log_key key ON key.id = log_key_id ORDER BY 1, 2"
    )
    return [dict(zip(names, row, strict=True)) for row in found]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))


def test_records_are_in_the_archive_before_their_keys_are_purged(load, run, folder, rows, log_folder) -> None:
    load({
        name(NEXT): lines(3) + line("06/Mar/2026:00:00:00 +0000", bucket="films"),
        name(NEXT, 1): b"\n",
    })  # fmt: skip

    done, purged = run()

    assert (done.days, done.files, done.rows, done.keys, done.waiting_keys) == ([NEXT], 1, 4, 2, 0)
    assert files_in(folder) == [
        "_archived/media/2026-03-06.json",
        "_archived/media/owner.json",
        "logged_bucket=media/delivery_day=2026-03-06/records.parquet",
    ]
    assert rows_in(folder) == as_in_the_table(rows)
    assert ds.dataset(folder / "logged_bucket=media", format="parquet").schema.equals(FILE)
    assert purged.keys == 2
    assert list(log_folder.glob("logs/*")) == []
    assert run()[0].days == []


def test_an_archive_in_s3_is_as_one_in_a_folder(
    load, run, rows, s3, s3_bucket, s3_endpoint, folder_place, engine
) -> None:
    place = S3Archive(s3, f"s3://{s3_bucket}/some/where")
    load({name(): lines(3)})

    done, purged = run(place)

    assert (done.files, done.keys, purged.keys) == (1, 1, 1)
    listed = [item["Key"] for item in s3.list_objects_v2(Bucket=s3_bucket)["Contents"]]
    assert listed == [
        "some/where/_archived/media/2026-03-05.json",
        "some/where/_archived/media/owner.json",
        "some/where/logged_bucket=media/delivery_day=2026-03-05/records.parquet",
    ]
    store = pyarrow.fs.S3FileSystem(
        endpoint_override=s3_endpoint, access_key="test", secret_key="test", region="us-east-1"
    )
    assert rows_in(f"{s3_bucket}/some/where", store) == as_in_the_table(rows)
    assert verify(folder_place.bucket, place, engine, DAY).is_true
    place.remove("logged_bucket=media/delivery_day=2026-03-05/records.parquet")
    assert not verify(folder_place.bucket, place, engine, DAY).is_true


def test_an_archive_that_is_not_there_is_named(load, run, s3, folder_place) -> None:
    load({name(): lines(1)})
    with pytest.raises(
        ArchiveError, match=r"^archive s3://not-there-at-all/x: .* check that it exists, and that s3:GetObject"
    ):
        run(S3Archive(s3, "s3://not-there-at-all/x"))
    assert folder_place.names() == [name()]


def test_the_present_day_waits_and_so_do_its_keys(load, run, folder, today, folder_place) -> None:
    key = name(today)
    load({key: lines(1)})

    done, purged = run()

    assert (done.days, done.waiting_keys, purged.keys) == ([], 1, 0)
    assert (folder.exists(), folder_place.names()) == (False, [key])
    tomorrow = datetime.combine(today + timedelta(days=1), datetime.min.time(), UTC)
    assert run(now=tomorrow + timedelta(minutes=59))[0].days == []
    assert run(now=tomorrow + timedelta(minutes=60))[1].keys == 1


def test_late_keys_are_collected_and_then_the_day_is_written_again(load, run, folder, rows, folder_place) -> None:
    load({name(): lines(3)})
    run()
    load({name(number=1): lines(2)})

    done, purged = run()
    assert (done.days, done.waiting_keys, purged.keys, len(rows_in(folder))) == ([], 1, 0, 3)

    done, purged = run(now=later())
    assert (done.days, done.keys, done.rows, purged.keys) == ([DAY], 1, 5, 1)
    assert rows_in(folder) == as_in_the_table(rows)
    assert folder_place.names() == []


@pytest.mark.parametrize("files", [1, 3])
def test_a_kill_after_any_file_leaves_nothing_purged_and_the_next_run_each_record_once(
    load, run, folder, rows, kept, monkeypatch, files
) -> None:
    load({name(NEXT): lines(2) + line("06/Mar/2026:00:00:00 +0000")})
    write, written = FolderArchive.writing, []

    def writing(self, name):
        if len(written) == files:
            raise KeyboardInterrupt
        written.append(name)
        return write(self, name)

    monkeypatch.setattr(FolderArchive, "writing", writing)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    assert rows(WAITING) == [(1,)]

    done, purged = run()

    assert (done.keys, purged.keys) == (1, 1)
    assert rows_in(folder) == as_in_the_table(rows)


def test_a_kill_before_the_ledger_is_told_has_the_day_written_again(load, run, folder, rows, monkeypatch) -> None:
    load({name(): lines(2)})

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger_of_archive, "mark_archived", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    load({name(number=1): lines(1)})

    assert run()[1].keys == 2
    assert rows_in(folder) == as_in_the_table(rows)


def test_a_newer_generation_takes_the_place_of_the_older_one_there_too(
    load, run, folder, rows, kept, engine, folder_place
) -> None:
    """Its records are of another day, so the older one's file must go. It does not wait for other late log keys."""
    load({name(NEXT): lines(3), name(NEXT, 1): line("06/Mar/2026:00:00:00 +0000")})
    archive_bucket(folder_place.bucket, kept, engine)
    load({name(NEXT): lines(2, "06/Mar/2026:00:00:00 +0000")})

    done, purged = run()

    assert (done.days, purged.keys) == ([NEXT], 2)
    assert rows_in(folder) == as_in_the_table(rows)
    assert len(files_in(folder)) == 3


def test_a_reparsed_key_waits_until_its_moved_lines_are_there(
    load, run, folder, rows, engine, folder_place, kept
) -> None:
    key = name()
    load({key: lines(4)})
    reject(rows, key, lines(4), [1, 3])
    assert run()[1].keys == 0
    assert len(rows_in(folder)) == 2
    assert reparse_bucket(folder_place.bucket, engine).moved == 2

    assert purge_bucket(folder_place.bucket, folder_place.store, engine, archive=kept).keys == 0
    done, purged = run()

    assert (done.rows, purged.keys) == (4, 1)
    assert rows_in(folder) == as_in_the_table(rows)


def test_a_key_that_is_reparsed_while_its_day_is_written_is_not_noted(
    load, run, folder, rows, engine, folder_place, monkeypatch
) -> None:
    key = name()
    load({key: lines(4), name(number=1): lines(1)})
    reject(rows, key, lines(4), [1])
    mark = ledger_of_archive.mark_archived

    def after_a_reparse(*arguments):
        assert reparse_bucket(folder_place.bucket, engine).moved == 1
        return mark(*arguments)

    monkeypatch.setattr(ledger_of_archive, "mark_archived", after_a_reparse)
    done, purged = run()
    monkeypatch.undo()

    assert (done.keys, purged.keys, rows(WAITING)) == (0, 0, [(2,)])
    assert done.problems == {
        DAY: "some of its log keys were loaded or reparsed meanwhile; the next run writes it again"
    }
    assert run()[1].keys == 2
    assert rows_in(folder) == as_in_the_table(rows)


def test_a_day_that_the_database_refuses_stops_only_itself(load, run, rows) -> None:
    load({name(DAY): lines(2), name(NEXT): lines(3, "06/Mar/2026:09:58:01 +0000")})
    rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'block is damaged'; END$$;"
        " CREATE TRIGGER refuse BEFORE UPDATE ON s3_log_key FOR EACH ROW"
        f" WHEN (OLD.delivery_date = '{DAY}' AND NEW.archived_at IS NOT NULL) EXECUTE FUNCTION refuse()"
    )

    done, purged = run()

    assert done.problems == {DAY: "database: block is damaged; remove the cause, and the next run writes the day"}
    assert (purged.keys, rows("SELECT delivery_date FROM s3_log_key WHERE purged_at IS NOT NULL")) == (1, [(NEXT,)])
    assert rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    rows("DROP TRIGGER refuse ON s3_log_key")
    assert run()[1].keys == 1


def test_a_day_that_retention_has_cut_stays_as_it_was_written(load, run, folder, rows, engine, folder_place) -> None:
    load({name(): lines(2)})
    run()
    load({name(number=1): lines(1), name(number=2): b"\n"})
    roll_up(engine)
    expire(engine, 1, today=date(2026, 6, 1))

    done, purged = run(now=later())

    assert "retention has dropped records of 1 log key of that day" in done.problems[DAY]
    assert (done.waiting_keys, purged.keys) == (1, 0)
    assert len(rows_in(folder)) == 2
    assert folder_place.names() == [name(number=1), name(number=2)]


def test_rows_that_are_missing_from_the_table_do_not_go_from_the_archive(load, run, folder, rows) -> None:
    load({name(): lines(3)})
    run()
    load({name(number=1): lines(2)})
    rows("DELETE FROM s3_log_record WHERE line_number = 3")

    done, purged = run(now=later())

    assert "its rows differ from the ledger" in done.problems[DAY]
    assert (purged.keys, len(rows_in(folder))) == (0, 3)


def test_a_day_with_more_keys_than_the_ledger_knows_is_not_written_over(load, run, folder, rows) -> None:
    load({name(): lines(2), name(number=1): lines(2)})
    run()
    rows("TRUNCATE s3_log_key, s3_log_record")
    load({name(number=2): lines(1)})

    done, purged = run()

    assert "holds 2 log keys of that day that this database" in done.problems[DAY]
    assert (purged.keys, len(rows_in(folder))) == (0, 4)


def test_a_day_that_another_process_is_writing_is_left_to_it(load, run, engine, folder_place) -> None:
    load({name(): lines(1), name(NEXT): lines(1)})
    with lock_day(engine, "media", DAY):
        done, purged = run()
    assert (done.days, done.problems) == ([NEXT], {DAY: "another process is writing it"})
    assert purged.keys == 1
    assert run()[1].keys == 1


def test_purged_keys_are_archived_when_their_day_is_asked_for(load, run, folder, rows, engine, folder_place) -> None:
    """The archive is set later, and their records are still in the table."""
    load({name(): lines(2)})
    purge_bucket(folder_place.bucket, folder_place.store, engine)
    assert run()[0].days == []
    assert run(days=[DAY])[0].keys == 1
    assert rows_in(folder) == as_in_the_table(rows)


def test_files_that_are_not_what_was_written_are_seen(load, run, kept, folder, engine, folder_place) -> None:
    load({name(): lines(3), name(NEXT): line("06/Mar/2026:00:00:00 +0000")})
    run()
    path = folder / "logged_bucket=media/delivery_day=2026-03-05/records.parquet"
    whole, other = path.read_bytes(), (path.parents[1] / "delivery_day=2026-03-06" / path.name).read_bytes()

    def is_true():
        return verify(folder_place.bucket, kept, engine, DAY).is_true

    assert is_true()
    for harmed in (whole[:-20], b"", other, b"PAR1"):
        path.write_bytes(harmed)
        assert not is_true(), harmed[:20]
    path.unlink()
    assert not is_true()
    path.write_bytes(whole)
    assert is_true()


def test_a_file_of_an_earlier_layout_stays_until_a_new_one_agrees_with_the_ledger(load, run, folder, rows) -> None:
    load({name(): lines(3)})
    run()
    earlier = "bucket=media/2026-03-05/records.parquet"
    (folder / earlier).parent.mkdir(parents=True)
    new = folder / "logged_bucket=media/delivery_day=2026-03-05/records.parquet"
    new.rename(folder / earlier)
    record = folder / "_archived/media/2026-03-05.json"
    record.write_text(record.read_text().replace(str(new.relative_to(folder)), earlier))

    load({name(number=1): lines(2)})
    rows("DELETE FROM s3_log_record WHERE line_number = 3")
    assert run(now=later())[0].problems == {DAY: archiving._NOT_AS_THE_LEDGER_SAYS}
    assert (folder / earlier).exists()

    rows("UPDATE s3_log_key SET record_count = 2, line_count = 2 WHERE record_count = 3")
    assert run(now=later())[0].problems == {}
    assert (new.exists(), (folder / earlier).exists()) == (True, False)


def test_a_day_that_waits_is_no_fault_and_one_whose_files_were_written_over_is(
    load, run, kept, rows, engine, folder_place
) -> None:
    load({name(): lines(3)})
    assert verify(folder_place.bucket, kept, engine, DAY).is_true
    run()
    rows("UPDATE s3_log_key SET record_count = 4, line_count = 4")
    assert not verify(folder_place.bucket, kept, engine, DAY).is_true
    load({name(number=1): lines(3)})
    assert verify(folder_place.bucket, kept, engine, DAY).is_true
