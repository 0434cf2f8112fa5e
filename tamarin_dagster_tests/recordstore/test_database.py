"""The database: the first process migrates it, tables have comments, and errors name it without secrets."""

import re
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import tamarin_dagster.recordstore
from tamarin_dagster.logformat import FIELDS
from tamarin_dagster.recordstore.connections import dagster_url, records_url
from tamarin_dagster.recordstore.database import DatabaseError, migrate, mirror_buckets, open_database, schema_revision
from tamarin_dagster.recordstore.ledger import count_differences
from tamarin_dagster.recordstore.partitions import ensure_partitions
from tamarin_dagster.recordstore.schema.tables import RECORD_COLUMNS, SCHEMA_REVISION, metadata
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests.lines import line
from tamarin_dagster_tests.recordstore.log_keys import load_keys, log_key

MIGRATIONS = Path(tamarin_dagster.recordstore.__file__).parent / "schema" / "migrations"


def test_the_newest_migration_is_the_schema_revision():
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert scripts.get_heads() == [SCHEMA_REVISION]
    assert {path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("*.py")} == {
        script.revision for script in scripts.walk_revisions()
    }


def test_the_migrations_make_exactly_the_tables_of_the_metadata(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "target_metadata": metadata}
        )
        assert compare_metadata(context, metadata) == []


def test_collation_check_and_partitioning_are_there_too(engine):
    """Alembic's comparison does not check this."""
    with engine.connect() as connection:
        collation = connection.scalar(
            sa.text(
                "SELECT collname FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation"
                " WHERE attrelid = 's3_log_key'::regclass AND attname = 'key'"
            )
        )
        check = connection.scalar(
            sa.text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 's3_log_key_counts'")
        )
        partitioning = connection.scalar(sa.text("SELECT pg_get_partkeydef('s3_log_record'::regclass)"))
        indexes = set(connection.scalars(sa.text("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")))
    assert collation == "C"
    assert check == "CHECK ((line_count = ((record_count + rejected_count) + blank_count)))"
    assert partitioning == "RANGE (request_dtime)"
    assert {index.name for table in metadata.tables.values() for index in table.indexes} < indexes


def test_storage_parameters_and_conditions_of_indexes_are_those_of_the_metadata(engine):
    """Alembic's comparison does not check this either."""
    with engine.connect() as connection:
        options = {
            name: set(values or ())
            for name, values in connection.execute(
                sa.text("SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace")
            )
        }
        definitions = dict(connection.execute(sa.text("SELECT indexname, indexdef FROM pg_indexes")).all())
    for table in metadata.tables.values():
        assert options[table.name] == said(table), table.name
        for index in table.indexes:
            assert options[index.name] == said(index), index.name
            condition = index.dialect_options["postgresql"]["where"]
            found = definitions[index.name].partition(" WHERE ")[2].replace("(", "").replace(")", "")
            assert found == ("" if condition is None else str(condition)), index.name
            assert definitions[index.name].startswith("CREATE UNIQUE") == bool(index.unique), index.name


def said(item: sa.Table | sa.Index) -> set[str]:
    return {f"{name}={value}" for name, value in (item.dialect_options["postgresql"]["with"] or {}).items()}


def upgrade_to(engine: sa.Engine, revision: str) -> None:
    """Bring the schema to that revision."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


# A month with a key of 9,000 rows, as the first release left it.
FIRST_RELEASE_CONTENTS = """
CREATE TABLE s3_log_record_2026_03 (LIKE s3_log_record INCLUDING ALL);
ALTER TABLE s3_log_record ATTACH PARTITION s3_log_record_2026_03
    FOR VALUES FROM ('2026-03-01 00:00:00+00') TO ('2026-04-01 00:00:00+00');
INSERT INTO s3_log_key (bucket, log_bucket_name, key, etag, size, last_modified, delivery_date,
                        line_count, record_count, rejected_count, blank_count, first_request_dtime, last_request_dtime)
VALUES ('media', 'logs', 'a', 'x', 9, '2026-03-05 10:00Z', '2026-03-05', 9001, 9000, 1, 0,
        '2026-03-05 00:00:01Z', '2026-03-05 02:30:00Z');
INSERT INTO s3_log_record (log_key_id, line_number, request_dtime, bucket)
SELECT 1, n, timestamptz '2026-03-05 00:00Z' + n * interval '1 second', 'media' FROM generate_series(1, 9000) n;
INSERT INTO s3_rejected_line VALUES (1, 9001, 'truncated', 'x', 1, sha256('x'));
"""


def test_a_database_of_the_first_release_keeps_its_rows_and_gets_all_that_a_new_one_has(empty_url):
    engine = sa.create_engine("postgresql+psycopg" + empty_url.removeprefix("postgresql"))
    upgrade_to(engine, "0001")
    with engine.begin() as connection:
        connection.connection.cursor().execute(FIRST_RELEASE_CONTENTS)
    assert migrate(engine) is True
    ensure_partitions(engine, [date(2026, 4, 1)])
    with engine.connect() as connection:
        assert count_differences(connection, [1]) == []
        assert connection.execute(sa.text("SELECT record_count, rejected_count, expired_at FROM s3_log_key")).all() == [
            (9000, 1, None)
        ]
        upgraded, new = (settings_of(connection, f"s3_log_record_2026_0{month}") for month in (3, 4))
    assert upgraded == new
    assert len(upgraded) == 2, "the table's and its one index's"
    engine.dispose()


def settings_of(connection: sa.Connection, partition: str) -> list[tuple]:
    """Return the storage parameters of a partition and of its indexes."""
    statement = sa.text(
        "SELECT relkind, array(SELECT unnest(reloptions) ORDER BY 1) FROM pg_class"
        " WHERE oid = CAST(:name AS regclass)"
        " OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = CAST(:name AS regclass)) ORDER BY relkind"
    )
    return [tuple(row) for row in connection.execute(statement, {"name": partition})]


def test_a_name_has_one_generation_that_is_live_and_not_purged(engine, rows):
    load_keys(engine, [log_key("a", "x")], [line()])
    again = (
        "INSERT INTO s3_log_key (bucket, log_bucket_name, key, etag, size, last_modified, delivery_date, line_count,"
        " record_count, rejected_count, blank_count)"
        " VALUES ('media', :place, 'a', 'y', 1, now(), '2026-03-05', 0, 0, 0, 0)"
    )
    with pytest.raises(sa.exc.IntegrityError, match="s3_log_key_live"):
        rows(again, place="logs")
    rows(again, place="elsewhere")
    rows("UPDATE s3_log_key SET purged_at = now() WHERE log_bucket_name = 'logs'")
    rows(again, place="logs")
    assert rows("SELECT etag, purged_at IS NULL FROM s3_log_key WHERE log_bucket_name = 'logs' ORDER BY 1") == [
        ("x", False),
        ("y", True),
    ]


def test_a_database_is_migrated_once(empty_url):
    engine = sa.create_engine("postgresql+psycopg" + empty_url.removeprefix("postgresql"))
    assert schema_revision(engine) is None
    assert migrate(engine) is True
    assert schema_revision(engine) == SCHEMA_REVISION
    assert migrate(engine) is False
    engine.dispose()


def test_two_threads_may_migrate_at_once(empty_url):
    barrier, found, errors = threading.Barrier(2), [], []

    def work() -> None:
        barrier.wait()
        try:
            engine = open_database(Settings(database_url=empty_url))
            found.append(schema_revision(engine))
            engine.dispose()
        except Exception as error:  # noqa: BLE001 - asserted below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, errors) == ([SCHEMA_REVISION] * 2, [])


@pytest.mark.slow
def test_two_processes_may_migrate_at_once(empty_url):
    program = (
        "import sys; from tamarin_dagster.recordstore.database import open_database, schema_revision;"
        "from tamarin_dagster.settings import Settings; sys.stdin.read();"
        "print(schema_revision(open_database(Settings(database_url=sys.argv[1]))))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.close()
        process.stdin = None
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [(out.strip(), process.returncode) for (out, _), process in zip(outputs, processes, strict=True)] == [
        (SCHEMA_REVISION, 0)
    ] * 2, outputs


def test_tables_and_all_columns_of_a_record_are_described(engine):
    statement = sa.text(
        "SELECT a.attname, col_description(a.attrelid, a.attnum) FROM pg_attribute a"
        " WHERE a.attrelid = 's3_log_record'::regclass AND a.attnum > 0 ORDER BY a.attnum"
    )
    with engine.connect() as connection:
        shown = dict(connection.execute(statement).all())
        tables = connection.scalars(
            sa.text("SELECT obj_description(c::regclass) FROM unnest(:names ::text[]) c"),
            {"names": list(metadata.tables)},
        ).all()
    assert tuple(shown) == RECORD_COLUMNS
    assert {name: shown[name] for name in RECORD_COLUMNS[2:]} == {field.name: field.meaning for field in FIELDS}
    assert all(shown.values())
    assert tables == [table.comment for table in metadata.tables.values()]


def mirrored(engine: sa.Engine) -> list[tuple]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text("SELECT * FROM s3_logged_bucket ORDER BY name"))]


def test_the_configured_buckets_are_mirrored(engine, database_url):
    media = LoggedBucket(name="media", log_bucket_name="logs", log_prefix="media/")
    films = LoggedBucket(name="films", log_bucket_name="logs", monitor_bucket=False, own_hosts=("*.Films.org",))
    mirror_buckets(engine, [media, films])
    both = [("films", "logs", "", False, None, ["*.films.org"]), ("media", "logs", "media/", True, None, [])]
    assert mirrored(engine) == both
    mirror_buckets(engine, [films, media])
    assert mirrored(engine) == both
    mirror_buckets(engine, [media.model_copy(update={"log_prefix": "m/", "region": "eu-west-1"}), films])
    assert mirrored(engine) == [both[0], ("media", "logs", "m/", True, "eu-west-1", [])]
    open_database(Settings(database_url=database_url, buckets=(media,))).dispose()
    assert mirrored(engine) == [both[1]]
    mirror_buckets(engine, [])
    assert mirrored(engine) == []


def test_an_unchanged_mirror_is_not_written(engine):
    media = LoggedBucket(name="media", log_bucket_name="logs", own_hosts=("www.example.org",))
    mirror_buckets(engine, [media])
    with engine.connect() as connection:
        before = connection.scalar(sa.text("SELECT xmin::text || ctid::text FROM s3_logged_bucket"))
    mirror_buckets(engine, [media])
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT xmin::text || ctid::text FROM s3_logged_bucket")) == before


def test_a_configured_url_gets_the_driver_of_its_use():
    url = "postgresql://tamarin:s3cret@db:5433/tamarin?sslmode=require"
    settings = Settings(database_url=url, dagster_database_url=url)
    assert records_url(settings) == url.replace("postgresql:", "postgresql+psycopg:")
    assert records_url(settings, driver="postgresql") == url
    assert dagster_url(settings) == url.replace("postgresql:", "postgresql+psycopg2:")


@pytest.mark.parametrize("place", ["127.0.0.1:9/tamarin", "no-such-host.invalid:5432/tamarin"])
def test_an_unreachable_server_is_named_without_the_password(place):
    with pytest.raises(DatabaseError) as caught:
        open_database(Settings(database_url=f"postgresql://tamarin:s3cret@{place}"))
    said = str(caught.value)
    assert f"tamarin:***@{place}: " in said
    assert said.endswith("check that the server is running and that TAMARIN_DATABASE_URL is right")
    assert "s3cret" not in said
    assert caught.value.__suppress_context__


def test_a_missing_database_is_named_without_the_password(server_url):
    url = server_url.set(drivername="postgresql", database="no_such_database")
    with pytest.raises(DatabaseError, match='database "no_such_database" does not exist') as caught:
        open_database(Settings(database_url=url.render_as_string(hide_password=False)))
    if server_url.password:
        assert server_url.password not in str(caught.value)


@pytest.mark.parametrize(
    "statement",
    ["REVOKE CREATE ON SCHEMA public FROM PUBLIC", "ALTER SCHEMA public RENAME TO private"],
)
def test_a_database_that_may_not_be_changed_is_a_database_error(empty_url, server_url, statement):
    """The usual first day: somebody else made the database, and the role may not create tables in it."""
    administrator = sa.create_engine(
        sa.make_url(empty_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    role = f"tamarin_test_{uuid4().hex[:8]}"
    with administrator.connect() as connection:
        connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD 's3cret'")
    try:
        url = sa.make_url(empty_url).set(username=role, password="s3cret")
        with pytest.raises(DatabaseError) as caught:
            open_database(Settings(database_url=url.render_as_string(hide_password=False)))
        assert "s3cret" not in str(caught.value)
    finally:
        with administrator.connect() as connection:
            connection.exec_driver_sql(f"DROP ROLE {role}")
        administrator.dispose()


def test_a_database_of_a_newer_release_is_a_database_error(engine, database_url):
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match=re.compile("newer|9999")):
        open_database(Settings(database_url=database_url))


def test_no_error_of_a_statement_shows_its_values(engine):
    """Dagster shows errors in its UI, and values are what somebody requested."""
    with pytest.raises(sa.exc.DBAPIError) as raised, engine.connect() as connection:
        connection.execute(sa.text("SELECT 1 / (CASE WHEN :value = '' THEN 1 ELSE 0 END)"), {"value": "s3cret"})
    assert "s3cret" not in str(raised.value)
