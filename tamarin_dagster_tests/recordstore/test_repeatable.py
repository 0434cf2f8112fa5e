"""Views and functions are made again when their text has changed, with their grants, or not at all."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

import tamarin_dagster.recordstore
from tamarin_dagster.cli import app
from tamarin_dagster.recordstore import database
from tamarin_dagster.recordstore.database import DatabaseError, migrate, open_database, schema_revision
from tamarin_dagster.recordstore.roles import grant_reading
from tamarin_dagster.recordstore.schema import repeatable
from tamarin_dagster.recordstore.schema.functions import DEFINITIONS
from tamarin_dagster.recordstore.schema.repeatable import VIEWS_AND_FUNCTIONS
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION, s3_logged_bucket
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests.recordstore.schema import grants_of, schema_of

PACKAGE = Path(tamarin_dagster.recordstore.__file__).parent / "schema"
MIGRATION = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "9000", "{before}", None, None

def upgrade():
    {body}
"""
TO_NUMERIC = """[op.execute(f"ALTER TABLE traffic_daily_by_{name} ALTER COLUMN bytes_sent TYPE numeric")
        for name in ("key", "remote_ip", "requester", "referrer", "user_agent")]"""
# Another definition of s3_error with the same columns.
OTHERWISE = ("s3_is_error(r.http_status, r.error_code)", "r.http_status > 399")
LAST_COLUMN = "    t.folded_values\nFROM traffic_daily_by_key t"


class Release:
    """Another version of this package, with other view files and perhaps one more migration."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        for name in ("views", "migrations"):
            shutil.copytree(PACKAGE / name, folder / name)
        monkeypatch.setattr(repeatable, "_FILES", folder / "views")
        monkeypatch.setattr(database, "_MIGRATIONS", folder / "migrations")
        self._monkeypatch = monkeypatch

    def change_view(self, name: str, old: str, new: str) -> None:
        path = self.folder / "views" / f"{name}.sql"
        text = path.read_text("utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), "utf-8")
        database._digest.cache_clear()

    def change_comment(self, name: str, comment: str) -> None:
        self._monkeypatch.setattr(repeatable._DESCRIBED[name], "comment", comment)
        database._digest.cache_clear()

    def remove_column(self, name: str, column: str) -> None:
        table = repeatable._DESCRIBED[name]
        others = (
            sa.Column(each.name, each.type, comment=each.comment) for each in table.columns if each.name != column
        )
        without = sa.Table(name, sa.MetaData(), *others, comment=table.comment)
        self._monkeypatch.setitem(repeatable._DESCRIBED, name, without)
        database._digest.cache_clear()

    def add_migration(self, body: str) -> None:
        text = MIGRATION.format(before=SCHEMA_REVISION, body=body)
        (self.folder / "migrations" / "versions" / "9000_later.py").write_text(text, "utf-8")
        self._monkeypatch.setattr(database, "SCHEMA_REVISION", "9000")

    def set_version(self, version: str) -> None:
        self._monkeypatch.setattr(database, "_own_version", lambda: version)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    database._digest.cache_clear()
    yield Release(tmp_path, monkeypatch)
    database._digest.cache_clear()


@pytest.fixture
def make_role(server_url: sa.URL, engine: sa.Engine) -> Iterator[Callable[[str], str]]:
    """Return make_role("x"), which makes a role whose name needs quotes, and returns it quoted."""
    made = []

    def make(name: str) -> str:
        role = f'"{name} of {uuid4().hex[:8]};"'
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {role}")
        made.append(role)
        return role

    yield make
    with engine.begin() as connection:
        for role in made:
            connection.exec_driver_sql(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
        for role in made:
            connection.exec_driver_sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.fixture
def seen(engine: sa.Engine) -> Callable[[], tuple]:
    """Return seen(): schema, grants, revision and digest of the views, as committed."""

    def seen() -> tuple:
        with engine.connect() as connection:
            made = connection.exec_driver_sql("SELECT views_digest, views_version FROM tamarin_database").one()
            return schema_of(connection), grants_of(connection), schema_revision(engine), tuple(made)

    return seen


def definition(rows: Callable[..., list[tuple]], name: str) -> str:
    ((text,),) = rows("SELECT pg_get_viewdef(CAST(:name AS regclass))", name=name)
    return text


def oid(rows: Callable[..., list[tuple]], name: str) -> int:
    ((found,),) = rows("SELECT CAST(CAST(:name AS regclass) AS oid)", name=name)
    return found


def test_a_view_whose_text_has_changed_reaches_an_existing_database_when_it_is_opened(release, database_url, rows):
    release.change_view("s3_cost_by_key", LAST_COLUMN, LAST_COLUMN.replace("\n", ",\n    '100%' AS extra\n"))
    release.change_comment("s3_cost_by_key", "Estimated cost of each UTC day by object key. Ask with bounds.")
    before = oid(rows, "s3_cost_by_key")
    open_database(Settings(database_url=database_url)).dispose()
    assert "'100%'" in definition(rows, "s3_cost_by_key")
    assert rows("SELECT obj_description(CAST('s3_cost_by_key' AS regclass))") == [
        ("Estimated cost of each UTC day by object key. Ask with bounds.",)
    ]
    assert oid(rows, "s3_cost_by_key") == before, "replaced in place"


def test_a_database_with_the_present_views_is_only_looked_at(release, engine, rows):
    release.change_view("s3_error", "CREATE OR REPLACE VIEW", "-- new\nCREATE OR REPLACE VIEW")
    assert migrate(engine) is True
    written = rows("SELECT xmin::text FROM pg_class WHERE relname = 's3_error'")
    assert migrate(engine) is False
    assert rows("SELECT xmin::text FROM pg_class WHERE relname = 's3_error'") == written


def test_a_changed_description_of_a_column_reaches_an_existing_database(release, engine, rows, monkeypatch):
    monkeypatch.setattr(s3_logged_bucket.c.region, "comment", "Another one.")
    database._digest.cache_clear()
    assert migrate(engine) is True
    assert rows("SELECT col_description(CAST('s3_logged_bucket' AS regclass), 5)") == [("Another one.",)]


def test_grants_columns_grants_and_owners_of_views_that_are_made_anew_are_kept(release, engine, rows, seen, make_role):
    """Grants are neither lost nor added: default privileges would give a role more than it had."""
    reader, handing_on, owner, other = map(make_role, ("reader", "handing on", "owner", "other"))
    rows(f"GRANT USAGE, CREATE ON SCHEMA public TO {owner}")
    for statement in (
        f"GRANT SELECT ON s3_cost_by_key, s3_cold_object TO {reader}",
        f"GRANT SELECT, TRIGGER ON s3_cost_by_key TO {handing_on} WITH GRANT OPTION",
        f"GRANT UPDATE (requests), INSERT (key) ON s3_cost_by_key TO {reader}",
        f"ALTER VIEW s3_cost_daily OWNER TO {owner}",
        f"REVOKE DELETE ON s3_cost_daily FROM {owner}",
        "GRANT SELECT ON s3_error TO PUBLIC",
        "REVOKE EXECUTE ON FUNCTION s3_hogs FROM PUBLIC",
        f"GRANT EXECUTE ON FUNCTION s3_hogs TO {reader} WITH GRANT OPTION",
        f"ALTER FUNCTION s3_cold_objects OWNER TO {owner}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {other}",
        f"ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {other}",
    ):
        rows(statement)
    schema, grants, *_ = seen()
    names = [name for _, name in VIEWS_AND_FUNCTIONS]
    before = rows("SELECT oid FROM pg_class WHERE relname = ANY(:names)", names=names)
    release.change_view("s3_cost_by_key", "    t.key,\n", "")
    release.remove_column("s3_cost_by_key", "key")
    release.add_migration("pass")
    assert migrate(engine) is True
    after, granted, *_ = seen()
    gone = {row for row in grants if row[:2] == ("s3_cost_by_key", "key")}
    assert len(gone) == 1
    assert granted == grants - gone
    assert after["functions"] == schema["functions"]
    assert {row[:-1] for row in after["relations"]} == {row[:-1] for row in schema["relations"]}, "owners, too"
    assert not set(before) & set(rows("SELECT oid FROM pg_class WHERE relname = ANY(:names)", names=names))
    rows(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM {other}")


def test_a_view_that_cannot_be_replaced_in_place_is_made_anew_with_its_grants(release, engine, rows, seen, make_role):
    reader = make_role("reader")
    rows(f"GRANT SELECT ON s3_cost_by_key TO {reader}")
    rows(
        f"REVOKE EXECUTE ON FUNCTION s3_cold_objects FROM PUBLIC; GRANT EXECUTE ON FUNCTION s3_cold_objects TO {reader}"
    )
    _, grants, *_ = seen()
    release.change_view("s3_cost_by_key", "    t.requests,\n", "    CAST(t.requests AS numeric) AS requests,\n")
    release.change_view("s3_cold_objects", "    last_folded date\n)", "    last_folded date,\n    extra integer\n)")
    release.change_view(
        "s3_cold_objects",
        "    FROM (\n        SELECT\n            t.key_digest,",
        "        , 1\n    FROM (\n        SELECT\n            t.key_digest,",
    )
    assert migrate(engine) is True
    after, granted, *_ = seen()
    assert granted == grants
    assert [row[3] for row in after["columns"] if row[0] == "s3_cost_by_key" and row[2] == "requests"] == ["numeric"]
    assert any("extra integer" in text for name, text, *_ in after["functions"] if name == "s3_cold_objects")


def test_views_that_somebody_has_dropped_or_changed_are_made_again_when_the_digest_is_removed(engine, rows, seen):
    schema, grants, *_ = seen()
    rows("DROP VIEW s3_error; DROP VIEW s3_cold_object; CREATE VIEW s3_cold_object AS SELECT 1 AS other")
    rows("UPDATE tamarin_database SET views_digest = NULL")
    assert migrate(engine) is True
    assert seen()[:2] == (schema, grants)


def test_a_migration_may_alter_a_column_that_views_and_functions_use(release, engine, seen):
    _, grants, *_ = seen()
    release.add_migration(TO_NUMERIC)
    assert migrate(engine) is True
    after, granted, revision, _ = seen()
    assert revision == "9000"
    types = {row[0]: row[3] for row in after["columns"] if row[2] == "bytes_sent"}
    for name in ("key", "remote_ip", "requester", "referrer", "user_agent"):
        assert types[f"traffic_daily_by_{name}"] == "numeric"
        assert types[f"s3_cost_by_{name}"] == "numeric"
    assert granted == grants
    assert {row[0] for row in after["views"]} == {name for kind, name in VIEWS_AND_FUNCTIONS if kind == "VIEW"}


def test_a_view_of_somebody_elses_on_one_of_ours_outlives_an_upgrade(release, engine, rows):
    rows("CREATE VIEW mine AS SELECT bucket, key, days_unread FROM s3_cold_object")
    before = oid(rows, "mine"), definition(rows, "mine")
    release.change_view("s3_cold_object", "    cold.last_folded\n", "    cold.last_folded,\n    1 AS extra\n")
    release.add_migration("""op.execute("ALTER TABLE traffic_day ADD COLUMN extra int")""")
    assert migrate(engine) is True
    assert (oid(rows, "mine"), definition(rows, "mine")) == before
    assert rows("SELECT count(extra) FROM s3_cold_object") == [(0,)]


def test_a_view_of_somebody_elses_in_the_way_of_a_migration_is_named_and_nothing_is_changed(
    release, database_url, engine, rows, seen
):
    rows("CREATE VIEW mine AS SELECT bucket, sum(estimated_usd) AS usd FROM s3_cost_by_key GROUP BY bucket")
    before = seen()
    release.add_migration(TO_NUMERIC)
    with pytest.raises(DatabaseError) as raised:
        open_database(Settings(database_url=database_url))
    assert "view mine depends on view s3_cost_by_key" in str(raised.value)
    assert str(raised.value).endswith("drop it, run `tamarin-dagster migrate`, and create it again")
    assert seen() == before
    rows("DROP VIEW mine")
    assert migrate(engine) is True


def test_a_view_of_somebody_elses_on_a_table_that_is_altered_is_named(release, engine, rows, seen):
    rows("CREATE MATERIALIZED VIEW mine AS SELECT bytes_sent FROM traffic_daily_by_key")
    before = seen()
    release.add_migration(TO_NUMERIC)
    with pytest.raises(DatabaseError, match="on materialized view mine depends on column") as raised:
        migrate(engine)
    assert "drop it" in str(raised.value)
    assert seen() == before


def test_a_view_of_somebody_elses_in_the_way_of_another_text_is_named_and_nothing_is_changed(
    release, engine, rows, seen
):
    rows("CREATE VIEW mine AS SELECT * FROM s3_cost_by_key")
    before = seen()
    release.change_view("s3_error", *OTHERWISE)
    release.change_view("s3_cost_by_key", "    t.requests,\n", "    CAST(t.requests AS numeric) AS requests,\n")
    with pytest.raises(DatabaseError, match="view mine depends on view s3_cost_by_key"):
        migrate(engine)
    assert seen() == before


@pytest.mark.parametrize("place", ["view", "migration"])
def test_a_statement_that_fails_in_the_middle_leaves_all_as_it_was(release, engine, seen, place):
    before = seen()
    release.change_view("s3_cost_by_key", "    t.key,\n", "    upper(t.key) AS key,\n")
    if place == "view":
        release.change_view("s3_acl_dependent", "CREATE OR REPLACE VIEW", "SELECT 1 / 0;\nCREATE OR REPLACE VIEW")
    else:
        release.add_migration(TO_NUMERIC + """; op.execute("SELECT 1 / 0")""")
    with pytest.raises(sa.exc.DataError, match="division by zero"):
        migrate(engine)
    assert seen() == before


PROGRAM = """
import sys
from pathlib import Path
import sqlalchemy as sa
from tamarin_dagster.cli import app
from tamarin_dagster.recordstore import database
from tamarin_dagster.recordstore.schema import repeatable
folder = Path(sys.argv[2])
repeatable._FILES, database._MIGRATIONS = folder / "views", folder / "migrations"
if sys.argv[3] == "more":
    database.SCHEMA_REVISION = "9000"
print(database.migrate(sa.create_engine(sys.argv[1])))
"""


def start(engine: sa.Engine, release: Release, *, more: bool) -> subprocess.Popen[str]:
    """A separate process that migrates."""
    url = engine.url.render_as_string(hide_password=False)
    arguments = [sys.executable, "-c", PROGRAM, url, str(release.folder), "more" if more else "-"]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_middle_leaves_all_as_it_was(release, engine, rows, seen):
    before = seen()
    release.add_migration(TO_NUMERIC + """; op.execute("SELECT pg_sleep(60)")""")
    process = start(engine, release, more=True)
    sleeping = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
    sleeping += " AND datname = current_database()"
    for _ in range(600):
        if found := rows(sleeping):
            break
        time.sleep(0.1)
    ((pid,),) = found
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    rows("SELECT pg_terminate_backend(:pid, 10000)", pid=pid)  # otherwise it would sleep on, with nobody to answer
    assert seen() == before
    release.add_migration(TO_NUMERIC)
    assert migrate(engine) is True


@pytest.mark.parametrize("more", [pytest.param(False, marks=pytest.mark.slow), True])
def test_two_processes_may_make_the_views_at_once(release, engine, rows, more):
    release.change_view("s3_cost_by_key", "    t.requests,\n", "    CAST(t.requests AS numeric) AS requests,\n")
    if more:
        release.add_migration(TO_NUMERIC)
    processes = [start(engine, release, more=more) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(outputs) == ["False", "True"]
    assert [process.returncode for process in processes] == [0, 0]
    assert "numeric" in definition(rows, "s3_cost_by_key")


def test_a_query_that_holds_a_view_is_waited_for_a_little_and_then_named_as_the_cause(
    release, engine, rows, seen, monkeypatch
):
    monkeypatch.setattr(database, "_LOCK_TIMEOUT", "200ms")
    release.change_view("s3_error", *OTHERWISE)
    before = seen()
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM s3_error")
        with pytest.raises(DatabaseError, match="another session uses the tables or views; wait until it has ended"):
            migrate(engine)
    assert seen() == before
    assert migrate(engine) is True


def test_a_migrator_waits_for_another_one_however_long_that_takes(release, engine, monkeypatch):
    monkeypatch.setattr(database, "_LOCK_TIMEOUT", "200ms")
    release.change_view("s3_error", *OTHERWISE)
    holds, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(database._MIGRATION_LOCK)))
            holds.set()
            assert ends.wait(60)

    with ThreadPoolExecutor(2) as pool:
        holder = pool.submit(hold)
        assert holds.wait(60)
        migrator = pool.submit(migrate, engine)
        time.sleep(0.6)
        assert not migrator.done()
        ends.set()
        holder.result(60)
        assert migrator.result(60) is True


def test_an_older_version_leaves_the_views_of_a_newer_one_alone(release, engine, rows):
    release.set_version("0.10.0")
    release.change_view("s3_error", *OTHERWISE)
    assert migrate(engine) is True
    release.set_version("0.9.1")
    release.change_view("s3_error", *reversed(OTHERWISE))
    assert migrate(engine) is False
    assert "> 399" in definition(rows, "s3_error")
    release.set_version("0.11")
    assert migrate(engine) is True
    assert "> 399" not in definition(rows, "s3_error")
    assert rows("SELECT views_version FROM tamarin_database") == [("0.11",)]


def test_of_two_texts_of_one_version_the_one_that_is_opened_last_is_made(release, engine, rows):
    release.change_view("s3_error", *OTHERWISE)
    assert (migrate(engine), migrate(engine)) == (True, False)
    release.change_view("s3_error", *reversed(OTHERWISE))
    assert (migrate(engine), migrate(engine)) == (True, False)


@pytest.fixture
def login(engine: sa.Engine, database_url: str) -> Iterator[Callable[[str], str]]:
    """Return login("of role"): the URL of the database for a new login that is IN ROLE that one, or of no role."""
    made = []

    def login(of_role: str = "") -> str:
        name = f"login_{uuid4().hex[:8]}"
        made.append(name)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD 's3cret'{of_role}")
        url = sa.make_url(database_url).set(username=name, password="s3cret")
        return url.render_as_string(hide_password=False)

    yield login
    with engine.begin() as connection:
        for name in made:
            connection.exec_driver_sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_reader_opens_a_database_with_other_views_and_changes_nothing(release, engine, seen, login):
    reader = f"readers_{uuid4().hex[:8]}"
    grant_reading(engine, reader)
    url = login(f" IN ROLE {reader}")
    media = LoggedBucket(name="media", log_bucket_name="logs")
    database.mirror_buckets(engine, [media])
    before = seen()
    release.change_view("s3_error", *OTHERWISE)
    opened = open_database(Settings(database_url=url, buckets=(media,)))
    with opened.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM s3_error")) == 0
    opened.dispose()
    assert seen() == before
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {reader}; DROP ROLE {reader}")


@pytest.mark.parametrize(
    "arguments", [("sql", "SELECT count(*) FROM s3_error"), ("report",), ("hogs",), ("export", "--format", "csv")]
)
def test_a_reader_runs_the_commands_that_only_ask(
    release, engine, database_url, login, seen, tmp_path, monkeypatch, arguments
):
    reader = f"readers_{uuid4().hex[:8]}"
    grant_reading(engine, reader)
    database.mirror_buckets(engine, [LoggedBucket(name="media", log_bucket_name="logs")])
    before = seen()
    release.change_view("s3_error", *OTHERWISE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMARIN_CONFIG", "")
    (tmp_path / "tamarin.yaml").write_text("buckets: [{name: media, log_bucket_name: logs}]\n")
    done = CliRunner().invoke(app, arguments, env={"TAMARIN_DATABASE_URL": login(f" IN ROLE {reader}")})
    assert (done.exit_code, done.exception) == (0, None), done.stderr
    assert seen() == before
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {reader}; DROP ROLE {reader}")


def test_an_owner_of_tables_but_not_of_each_view_is_warned_and_goes_on(release, engine, rows, seen, login, caplog):
    url = login("")
    name = sa.make_url(url).username
    rows(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}; GRANT SELECT ON alembic_version TO {name}")
    rows(f"ALTER TABLE tamarin_database OWNER TO {name}")
    before = seen()
    release.change_view("s3_error", *OTHERWISE)
    other = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    assert migrate(other) is False
    other.dispose()
    assert "must be owner of function" in caplog.text
    assert "s3cret" not in caplog.text
    assert seen() == before
    rows("ALTER TABLE tamarin_database OWNER TO CURRENT_USER")


def test_a_session_that_may_only_read_opens_a_database_with_other_views(release, engine, seen):
    before = seen()
    release.change_view("s3_error", *OTHERWISE)
    reading = sa.create_engine(engine.url, connect_args={"options": "-c default_transaction_read_only=on"})
    assert migrate(reading) is False
    reading.dispose()
    assert seen() == before


def test_the_list_of_views_has_each_file_once():
    names = [name for _, name in VIEWS_AND_FUNCTIONS]
    files = [path.stem for path in (PACKAGE / "views").glob("*.sql")]
    assert sorted(names) == sorted([*files, *DEFINITIONS])
    for kind, name in VIEWS_AND_FUNCTIONS:
        assert f"CREATE OR REPLACE {kind} {name}" in repeatable._read_text(name)
