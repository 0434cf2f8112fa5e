"""The database: migrated by whoever comes first, described, mirrored; unreachable ones are named without secrets."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import tamarin_dagster.recordstore
from tamarin_dagster.logformat import FIELDS
from tamarin_dagster.recordstore.database import (
    DatabaseError,
    dagster_url,
    migrate,
    mirror_buckets,
    open_database,
    records_url,
    schema_revision,
)
from tamarin_dagster.recordstore.tables import RECORD_COLUMNS, SCHEMA_REVISION, metadata
from tamarin_dagster.settings import LoggedBucket, Settings

MIGRATIONS = Path(tamarin_dagster.recordstore.__file__).parent / "migrations"


@pytest.fixture
def empty_url(server_url):
    """The URL of a database in which nobody has migrated anything."""
    administrator = sa.create_engine(server_url, isolation_level="AUTOCOMMIT")
    name = f"tamarin_test_{uuid4().hex[:8]}"
    with administrator.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield server_url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)
    with administrator.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    administrator.dispose()


# ------------------------------------------------------------------------------------------------ migrations


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
    """What Alembic's comparison does not look at."""
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


# ------------------------------------------------------------------------------------------------ the mirror


def mirrored(engine: sa.Engine) -> list[tuple]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text("SELECT * FROM s3_logged_bucket ORDER BY name"))]


def test_the_configured_buckets_are_mirrored(engine, database_url):
    media = LoggedBucket(name="media", log_bucket_name="logs", log_prefix="media/")
    films = LoggedBucket(name="films", log_bucket_name="logs", monitor_bucket=False)
    mirror_buckets(engine, [media, films])
    both = [("films", "logs", "", False), ("media", "logs", "media/", True)]
    assert mirrored(engine) == both
    mirror_buckets(engine, [films, media])
    assert mirrored(engine) == both
    mirror_buckets(engine, [media.model_copy(update={"log_prefix": "m/"}), films])
    assert mirrored(engine) == [both[0], ("media", "logs", "m/", True)]
    open_database(Settings(database_url=database_url, buckets=(media,))).dispose()
    assert mirrored(engine) == [both[1]]
    mirror_buckets(engine, [])
    assert mirrored(engine) == []


def test_an_unchanged_mirror_is_not_written(engine):
    media = LoggedBucket(name="media", log_bucket_name="logs")
    mirror_buckets(engine, [media])
    with engine.connect() as connection:
        before = connection.scalar(sa.text("SELECT xmin::text || ctid::text FROM s3_logged_bucket"))
    mirror_buckets(engine, [media])
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT xmin::text || ctid::text FROM s3_logged_bucket")) == before


# ------------------------------------------------------------------------------------------------ URLs and errors


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
    assert said.endswith("is the server up, and is TAMARIN_DATABASE_URL right?")
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
    """The usual first day: the database was made by somebody else, and the role may not create tables in it."""
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
