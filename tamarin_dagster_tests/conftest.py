"""Real parts for all tests: a Postgres, an S3 endpoint over HTTP, folders of log keys."""

import functools
import gc
import itertools
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import alembic.script
import boto3
import botocore.session
import moto.s3.models
import psycopg
import pytest
import sqlalchemy as sa
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.server import ThreadedMotoServer

from tamarin_dagster.logformat.engine import load_engine
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.logstore.s3 import S3LogStore
from tamarin_dagster.recordstore.database import migrate, open_database
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests import examples  # noqa: F401 - registers hypothesis' profiles before one is chosen
from tamarin_dagster_tests.contents import digests
from tamarin_dagster_tests.folders import MEMORY_FOLDER, make_short_folder, write_object
from tamarin_dagster_tests.logstore.faulty import Faulty, faulty_endpoint
from tamarin_dagster_tests.places import Place

_numbers = itertools.count(1)

# Tests have settings of their own, whatever the shell they are started from has.
for _name in [name for name in os.environ if name.startswith(("TAMARIN_", "DAGSTER_"))]:
    if _name != "TAMARIN_TEST_DATABASE_URL":
        del os.environ[_name]
# They write files just before they are loaded.
os.environ["TAMARIN_QUIET_SECONDS"] = "0"
# Each session of botocore reads its models again: 1 MB of JSON, half of the work of a test that makes some clients.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
# For each request moto lists its own folder twice to find that it is for S3, and werkzeug writes a line that nobody
# reads: a quarter of the work of a request.
DomainDispatcherApplication.get_backend_for_host = functools.cache(DomainDispatcherApplication.get_backend_for_host)
logging.getLogger("werkzeug").setLevel(logging.ERROR)


def _read_dagsters_migrations_once() -> None:
    """Import the migrations of Dagster only once. Each new storage imports all of them to find its revision."""
    from_config = alembic.script.ScriptDirectory.from_config
    found: dict[str, alembic.script.ScriptDirectory] = {}

    def from_config_once(config: Any) -> alembic.script.ScriptDirectory:
        location = config.get_main_option("script_location")
        if not location.startswith("dagster:"):
            return from_config(config)
        if location not in found:
            found[location] = from_config(config)
        return found[location]

    alembic.script.ScriptDirectory.from_config = from_config_once


_read_dagsters_migrations_once()

# Tests read little. They are of the compiled reader, too, which otherwise is used only if there is more to read.
load_engine()


def pytest_collection_finish() -> None:
    """Keep what is imported out of Python's garbage collection, which takes a tenth of the tests' time otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def root_logger_keeps_its_level() -> Iterator[None]:
    """A Celery worker sets it to ERROR: tests that ran later in the same process saw no warnings."""
    level = logging.root.level
    yield
    logging.root.setLevel(level)


@pytest.fixture(autouse=True)
def definitions_load_without_state() -> Iterator[None]:
    """Load definitions as if Dagster had no stored state for them: ours have none.

    An instance that is closed late, when Python collects it, leaves Dagster with the storage of an instance that no
    longer exists. Definitions that are loaded after that would ask this storage, and fail.
    """
    if "dagster" not in sys.modules:
        yield
        return
    from dagster._core.storage.defs_state.base import DefsStateStorage  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DefsStateStorage, "get", lambda: None)
        yield


@pytest.fixture
def today() -> date:
    """The UTC day, which lasts as long as the test: just before midnight it waits for the next one."""
    now = datetime.now(UTC)
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    if (left := (midnight - now).total_seconds()) < 60:
        time.sleep(left + 0.1)
    return datetime.now(UTC).date()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """An empty folder that an embedded Postgres may live in."""
    folder = make_short_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server_url() -> Iterator[sa.URL]:
    """A Postgres that tests may make databases in: $TAMARIN_TEST_DATABASE_URL, else an embedded one.

    The embedded one is of the worker's own and does not outlive the session, so it never waits for a disk.
    """
    if configured := os.environ.get("TAMARIN_TEST_DATABASE_URL"):
        yield sa.make_url(configured).set(drivername="postgresql+psycopg")
        return
    folder = make_short_folder()
    with EmbeddedPostgres(folder) as server:
        url = sa.make_url(server.url("postgres"))
        for setting in _WITHOUT_A_DISK:
            _administer(url, f"ALTER SYSTEM SET {setting}")
        _administer(url, "SELECT pg_reload_conf()")
        yield url
        _close_administration(url)
    shutil.rmtree(folder, ignore_errors=True)


_WITHOUT_A_DISK = (
    "fsync = off",
    "full_page_writes = off",
    "synchronous_commit = off",
    "max_wal_size = '512MB'",  # it may be in memory
    "autovacuum = off",  # of databases that live for a second; and it would be a user of the template
)


@pytest.fixture(scope="session")
def template(server_url: sa.URL) -> Iterator[str]:
    """A migrated, empty database to copy for each test."""
    name = f"tamarin_test_template_{uuid4().hex[:8]}"
    _administer(server_url, f"CREATE DATABASE {name}")
    engine = sa.create_engine(server_url.set(database=name))
    migrate(engine)
    engine.dispose()
    yield name
    _administer(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def new_database(server_url: sa.URL, template: str = "template1") -> Iterator[sa.URL]:
    """The URL of a new database, which is a copy of the template; it is dropped at the end."""
    name = f"tamarin_test_{uuid4().hex[:8]}"
    _administer(server_url, f"CREATE DATABASE {name} TEMPLATE {template}{_strategy(server_url)}")
    yield server_url.set(database=name)
    _administer(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@functools.cache
def _strategy(server_url: sa.URL) -> str:
    """To copy the template's files takes half the time where they are in memory, and needs a checkpoint elsewhere."""
    in_memory = str(server_url.query.get("host", "")).startswith(f"{MEMORY_FOLDER}/")
    return " STRATEGY FILE_COPY" if in_memory else ""


@pytest.fixture
def database_url(server_url: sa.URL, template: str) -> Iterator[str]:
    """The URL of a database of this test's own, migrated and empty."""
    with new_database(server_url, template) as url:
        yield url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def empty_url(server_url: sa.URL) -> Iterator[str]:
    """The URL of a database in which nobody has migrated anything."""
    with new_database(server_url) as url:
        yield url.set(drivername="postgresql").render_as_string(hide_password=False)


_administrations: dict[sa.URL, psycopg.Connection] = {}


def _administer(server_url: sa.URL, statement: str) -> None:
    """Run a statement on the server, over a connection that lasts as long as the session."""
    connection = _administrations.get(server_url)
    if connection is None or connection.closed:
        url = server_url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = _administrations[server_url] = psycopg.connect(url, autocommit=True)
    connection.execute(statement.encode())


def _close_administration(server_url: sa.URL) -> None:
    if connection := _administrations.pop(server_url, None):
        connection.close()


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on the test's own database."""
    engine = open_database(Settings(database_url=database_url))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def shared_engine(server_url: sa.URL, template: str) -> Iterator[sa.Engine]:
    """An engine on a database that the tests of a file share, where each keeps to a bucket of its own."""
    with new_database(server_url, template) as url:
        engine = sa.create_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of a local S3 endpoint. Credentials for it are in the environment for the whole session."""
    before = dict(os.environ)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    os.environ.pop("AWS_PROFILE", None)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    os.environ.clear()
    os.environ |= before


@pytest.fixture(scope="session")
def s3(s3_endpoint: str) -> Any:
    """A boto3 client of the local endpoint; one for all tests, since making it takes longer than most of them."""
    return boto3.client("s3", endpoint_url=s3_endpoint)


@pytest.fixture(scope="session")
def faulty_server(s3_endpoint: str) -> Iterator[Faulty]:
    """The local S3 endpoint, through a proxy that fails on demand."""
    with faulty_endpoint(s3_endpoint) as endpoint:
        yield endpoint


@pytest.fixture
def faulty(faulty_server: Faulty) -> Faulty:
    """The local S3 endpoint, through a proxy that fails as this test says."""
    faulty_server.reset()
    return faulty_server


@pytest.fixture
def s3_bucket(s3: Any) -> str:
    """The name of a new, empty bucket in the local endpoint."""
    name = f"log-bucket-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def log_folder(tmp_path: Path) -> Path:
    """An empty folder for log keys."""
    folder = tmp_path / "log keys"
    folder.mkdir()
    return folder


@pytest.fixture
def folder_bucket(log_folder: Path) -> LoggedBucket:
    """A logged bucket whose log keys lie in `log_folder` under logs/."""
    return LoggedBucket(
        name="media", log_bucket_name=log_folder.as_uri(), log_prefix="logs/", start_date=date(2026, 1, 1)
    )


@pytest.fixture
def put_key(log_folder: Path) -> Callable[..., str]:
    """put_key(body, day="2026-03-05", time="10-00-00", unique=…) writes a log key to `log_folder`; returns its name."""

    def put(
        body: bytes, day: str = "2026-03-05", time: str = "10-00-00", unique: str | None = None, suffix: str = ""
    ) -> str:
        key = f"logs/{day}-{time}-{unique or f'{next(_numbers):016X}'}{suffix}"
        path = log_folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return key

    return put


@pytest.fixture
def s3_logged_bucket(s3_bucket: str, s3_endpoint: str) -> LoggedBucket:
    """A logged bucket whose log keys lie in `s3_bucket` under logs/; `open_log_store` reads it over HTTP."""
    return LoggedBucket(
        name="media",
        log_bucket_name=s3_bucket,
        log_prefix="logs/",
        start_date=date(2026, 1, 1),
        endpoint_url=s3_endpoint,
    )


@pytest.fixture
def rows(engine: sa.Engine) -> Callable[..., list[tuple[Any, ...]]]:
    """rows("SELECT … :name", name=…): what a query on the test's database gives; statements are committed."""

    def rows(statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with engine.begin() as connection:
            result = connection.execute(sa.text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    return rows


@pytest.fixture
def folder_place(folder_bucket: LoggedBucket, log_folder: Path) -> Place:
    """A folder of log keys."""

    def put(key: str, body: bytes) -> None:
        write_object(log_folder / key, body)

    return Place(folder_bucket, open_log_store(folder_bucket), put, lambda key: (log_folder / key).unlink())


@pytest.fixture
def s3_place(s3_logged_bucket: LoggedBucket, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A bucket in S3, over HTTP."""
    name = s3_logged_bucket.log_bucket_name
    now, ahead = moto.s3.models.utcnow, timedelta()

    def another_second() -> None:
        """Put the endpoint's clock forward, which takes less time than waiting."""
        nonlocal ahead
        ahead += timedelta(seconds=1)

    monkeypatch.setattr(moto.s3.models, "utcnow", lambda: now() + ahead)
    return Place(
        s3_logged_bucket,
        S3LogStore(s3, name),
        lambda key, body: s3.put_object(Bucket=name, Key=key, Body=body),
        lambda key: s3.delete_object(Bucket=name, Key=key),
        another_second,
    )


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    """A log bucket of either kind."""
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture
def contents(engine: sa.Engine) -> Callable[[], Mapping[str, tuple[int, str]]]:
    """contents(): number and order-free digest of the rows of each table, less ids, run ids and times of ours."""

    def contents() -> Mapping[str, tuple[int, str]]:
        with engine.connect() as connection:
            return digests(connection)

    return contents


@pytest.fixture
def run(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run("pull", …) runs tamarin-dagster in `tmp_path` on the test's database, in this process."""
    from typer.testing import CliRunner  # noqa: PLC0415 - most tests run no command

    from tamarin_dagster.cli import app  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMARIN_CONFIG", "")  # --config sets it, and here the process lives on

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(app, arguments, env={"TAMARIN_DATABASE_URL": database_url} | environment)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def configured(tmp_path: Path, log_folder: Path) -> Path:
    """Settings of a bucket in `log_folder`: the path of `tamarin.yaml` in `tmp_path`."""
    config = tmp_path / "tamarin.yaml"
    config.write_text(
        f"buckets:\n  - {{name: media, log_bucket_name: '{log_folder.as_uri()}', log_prefix: logs/,"
        " start_date: 2026-01-01}\n"
    )
    return config
