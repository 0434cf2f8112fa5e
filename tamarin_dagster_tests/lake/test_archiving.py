"""The lake as an archive: rows, rejected lines and counts are those of Postgres, whatever comes late or twice."""

import json
import shutil
import sys
import threading
from datetime import date

import pyarrow as pa
import pytest
import sqlalchemy as sa

from tamarin_dagster.extras import MissingExtraError
from tamarin_dagster.failpoints import FailPoint, FailPointError, arm
from tamarin_dagster.lake import tables as lake_tables
from tamarin_dagster.lake.place import LakeError, LakePlace
from tamarin_dagster.lake.tables import LEDGER, RECORDS, REJECTED, DayFiles
from tamarin_dagster.pipeline.archive import archive_bucket, verify
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster.recordstore.delivered import list_delivered_keys
from tamarin_dagster.settings import Lake
from tamarin_dagster_tests.lake.conftest import later
from tamarin_dagster_tests.lake.rows import digest_of_lake, digest_of_postgres
from tamarin_dagster_tests.lines import line, lines

DAY, NEXT = date(2026, 3, 5), date(2026, 3, 6)


def name(day: date = DAY, number: int = 0) -> str:
    return f"logs/{day}-10-00-00-{number:016X}"


def counts_in(lake, engine):
    return {each: lake.open(engine).table(each).scan().count() for each in (RECORDS, REJECTED, LEDGER)}


def test_rows_in_the_lake_are_those_in_postgres_after_late_keys_a_new_generation_and_a_replay(
    load, archived, lake, engine, folder_place
) -> None:
    load({name(): lines(3) + b"no record\n\n", name(NEXT): lines(2), name(NEXT, 1): b"\n"})
    done, purged = archived()
    assert (done.days, done.rows, done.keys, done.problems, purged.keys) == ([DAY, NEXT], 5, 3, {}, 2)
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)

    load({name(number=1): line(key="late.mp4") + b"nor this\n"})  # late, and its day waits for more
    assert archived()[0].days == []
    load({name(): lines(4)})  # a newer generation of the log key that stayed because of its rejected line
    done, purged = archived(now=later())
    assert (done.days, done.rows, done.problems) == ([DAY], 5, {})
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)

    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE s3_log_key SET archived_at = NULL")
    assert archived()[0].days == [DAY]  # only days with log keys in the log bucket
    assert archive_bucket(folder_place.bucket, lake, engine, days=[DAY, NEXT]).days == [NEXT]
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)
    for day in (DAY, NEXT):
        assert verify(folder_place.bucket, lake, engine, day).is_true
    assert counts_in(lake, engine) == {RECORDS: 7, REJECTED: 1, LEDGER: 4}


def test_a_day_is_one_snapshot_whose_summary_has_the_counts(load, archived, lake, engine) -> None:
    load({name(): lines(3) + b"no record\n\n"})
    archived()
    load({name(number=1): lines(2)})
    archived(now=later())

    for table in (RECORDS, LEDGER):
        first, second = lake.open(engine).table(table).snapshots()
        assert {key: value for key, value in second.summary.additional_properties.items() if "tamarin" in key} == {
            "tamarin.bucket": "media",
            "tamarin.day": "2026-03-05",
            "tamarin.keys": "2",
            "tamarin.line-count": "7",
            "tamarin.record-count": "5",
            "tamarin.rejected-count": "1",
            "tamarin.blank-count": "1",
            "tamarin.loaded-by": first.summary["tamarin.loaded-by"],
        }
        assert second.summary.operation.value == "overwrite"


def test_fields_have_the_same_ids_in_the_table_and_in_the_files(load, archived, lake, engine) -> None:
    load({name(): lines(1)})
    archived()
    table = lake.open(engine).table(RECORDS)
    with table.io.new_input(next(iter(table.scan().plan_files())).file.file_path).open() as file:
        schema = pa.parquet.read_schema(file)
    ids = {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in schema}
    assert ids == {field.name: field.field_id for field in table.schema().fields}
    assert list(ids.values()) == list(range(1, len(ids) + 1))


@pytest.mark.parametrize("point", [FailPoint.LAKE_FILE_AFTER, FailPoint.LAKE_COMMIT_BEFORE, FailPoint.LAKE_TABLE_AFTER])
def test_a_writer_that_ends_half_way_leaves_the_day_as_before(load, archived, lake, engine, rows, point) -> None:
    load({name(): lines(3) + b"no record\n"})
    archived()
    before = digest_of_lake(lake, engine)
    load({name(number=1): lines(2) + b"no record\n"})

    for nth in (1, 2) if point is FailPoint.LAKE_TABLE_AFTER else (1,):
        arm(f"{point}:raise:{nth}")
        try:
            with pytest.raises((FailPointError, LakeError)):
                archived(now=later())
        finally:
            arm("")
        assert digest_of_lake(lake, engine) == before
        assert rows("SELECT count(*) FROM s3_log_key WHERE archived_at IS NULL") == [(1,)]

    assert archived(now=later())[0].keys == 1
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)


def test_a_commit_that_was_not_noted_is_repeated(load, archived, lake, engine, rows) -> None:
    load({name(): lines(3)})
    arm(f"{FailPoint.LAKE_COMMIT_AFTER}:raise")
    try:
        with pytest.raises((FailPointError, LakeError)):
            archived()
    finally:
        arm("")
    assert rows("SELECT count(*) FROM s3_log_key WHERE archived_at IS NULL") == [(1,)]
    assert archived()[1].keys == 1
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)


def test_days_that_are_replaced_at_the_same_time_are_both_there(load, lake, engine, folder_place) -> None:
    days = [date(2026, 3, day) for day in range(1, 7)]
    load({name(day, number): lines(2) for day in days for number in range(2)})
    lake.open(engine)
    threads = [
        threading.Thread(target=archive_bucket, args=(folder_place.bucket, lake, engine), kwargs={"days": [day]})
        for day in days
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)
    assert len(lake.open(engine).table(RECORDS).snapshots()) == len(days)


def test_a_day_is_never_replaced_by_one_that_lacks_a_log_key(load, archived, lake, engine, folder_place) -> None:
    """A lake may hold the only copy: the log keys are purged, and Postgres may have been restored from a backup."""
    load({name(number=number): lines(2) for number in range(3)})
    archived()
    before = digest_of_lake(lake, engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM s3_log_record")
        connection.exec_driver_sql("DELETE FROM s3_log_key")
    load({name(number=7): lines(1)})

    done = archive_bucket(folder_place.bucket, lake, engine)

    assert done.days == []
    assert "the lake holds 3 log keys that would be lost, for example" in done.problems[DAY]
    assert digest_of_lake(lake, engine) == before
    assert purge_bucket(folder_place.bucket, folder_place.store, engine, archive=lake).keys == 0
    assert folder_place.names() == [name(number=7)]


def test_nothing_is_purged_when_the_lake_has_lost_the_day(load, lake, engine, folder_place) -> None:
    load({name(): lines(2)})
    archive_bucket(folder_place.bucket, lake, engine)
    lake.open(engine).table(RECORDS).delete()

    done = purge_bucket(folder_place.bucket, folder_place.store, engine, archive=lake)

    assert (done.keys, folder_place.names()) == (0, [name()])
    assert "the tables hold other numbers of rows than its ledger" in done.archive_problems[DAY]
    assert not verify(folder_place.bucket, lake, engine, DAY).is_true


def test_a_lake_that_is_gone_is_named_without_its_secrets(load, engine, folder_place, tmp_path) -> None:
    load({name(): lines(2)})
    lake = LakePlace(Lake(warehouse=str(tmp_path / "lake"), properties={"token": "a-secret-token"}))
    archive_bucket(folder_place.bucket, lake, engine)
    shutil.rmtree(tmp_path / "lake")
    done = purge_bucket(folder_place.bucket, folder_place.store, engine, archive=lake)
    assert done.keys == 0
    assert f"lake iceberg:file://{tmp_path}/lake/tamarin: FileNotFoundError" in done.archive_problems[DAY]
    assert "a-secret-token" not in repr(lake)

    unreachable = LakePlace(
        Lake(
            warehouse="s3://nowhere/at/all",
            catalog="rest",
            properties={"uri": "http://127.0.0.1:9/a-secret-token", "token": "a-secret-token"},
        )
    )
    with pytest.raises(LakeError) as caught:
        unreachable.open(engine)
    assert "a-secret-token" not in str(caught.value)
    assert "check the warehouse, its permissions, and the catalog's properties" in str(caught.value)


def test_counts_that_differ_from_the_files_are_not_committed(load, lake, engine) -> None:
    load({name(): lines(2)})
    with engine.connect() as connection:
        ledger = list_delivered_keys(connection, "media", DAY, "test")
    with pytest.raises(LakeError, match="the written rows differ from the counts"):
        lake.open(engine).replace_day("media", DAY, DayFiles(ledger))
    assert counts_in(lake, engine) == {RECORDS: 0, REJECTED: 0, LEDGER: 0}


def test_the_catalog_has_a_schema_of_its_own(load, archived, rows) -> None:
    load({name(): lines(1)})
    archived()
    found = rows(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name LIKE 'iceberg%' ORDER BY 2"
    )
    assert found == [
        ("tamarin_lake", "iceberg_namespace_properties"),
        ("tamarin_lake", "iceberg_tables"),
    ]


def test_without_the_extra_the_command_that_installs_it_is_named(engine, lake, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    monkeypatch.delitem(sys.modules, "tamarin_dagster.lake.tables")
    with pytest.raises(MissingExtraError, match=r"A lake needs the package .*pip install 'tamarin-dagster\[lake\]'"):
        lake.open(engine)


def test_a_lake_in_s3_is_as_one_in_a_folder(load, engine, folder_place, s3_bucket, s3_endpoint) -> None:
    properties = {
        "s3.endpoint": s3_endpoint,
        "s3.access-key-id": "test",
        "s3.secret-access-key": "test",
        "s3.region": "us-east-1",
    }
    lake = LakePlace(Lake(warehouse=f"s3://{s3_bucket}/some/where", properties=properties))
    load({name(): lines(3) + b"no record\n"})
    archive_bucket(folder_place.bucket, lake, engine)
    load({name(number=1): lines(2)})
    archive_bucket(folder_place.bucket, lake, engine, now=later())
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)
    assert verify(folder_place.bucket, lake, engine, DAY).is_true


def test_another_catalog_than_postgres_is_one_of_pyiceberg_by_its_properties(
    load, engine, folder_place, tmp_path, monkeypatch
) -> None:
    """No REST server is installed here: pyiceberg's own SQL catalog takes its place, and commits table by table."""
    from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415

    wanted = {}

    def load_catalog(name, **properties):
        wanted.update(properties)
        return SqlCatalog(name, uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=properties["warehouse"])

    monkeypatch.setattr(lake_tables, "load_catalog", load_catalog)
    lake = LakePlace(
        Lake(warehouse=str(tmp_path / "lake"), catalog="rest", properties={"uri": "https://catalog.example.org"})
    )
    load({name(): lines(3) + b"no record\n"})
    archive_bucket(folder_place.bucket, lake, engine)
    assert (wanted["type"], wanted["uri"]) == ("rest", "https://catalog.example.org")

    load({name(number=1): lines(2)})
    arm(f"{FailPoint.LAKE_TABLE_AFTER}:raise:2")  # the records are committed, and the ledger is not
    try:
        with pytest.raises((FailPointError, LakeError)):
            archive_bucket(folder_place.bucket, lake, engine, now=later())
    finally:
        arm("")
    assert verify(folder_place.bucket, lake, engine, DAY).wrong_files == [RECORDS]
    archive_bucket(folder_place.bucket, lake, engine, now=later())
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)


def test_the_environment_gives_a_lake_as_json(run, configured, tmp_path, put_key, database_url) -> None:
    put_key(lines(2))
    lake = json.dumps({"warehouse": str(tmp_path / "lake")})
    assert run("pull", TAMARIN_LAKE=lake).returncode == 0
    engine = sa.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    place = LakePlace(Lake(warehouse=str(tmp_path / "lake")))
    assert counts_in(place, engine) == {RECORDS: 2, REJECTED: 0, LEDGER: 1}
    engine.dispose()
    wrong = run("pull", TAMARIN_LAKE="s3://my-lake")
    assert (wrong.returncode, "TAMARIN_LAKE: must be JSON: an object" in wrong.stderr) == (2, True)
