"""A world for each fault: an empty database, a log bucket with a history, settings; and what is in it in the end."""

import hashlib
import io
import itertools
import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pyarrow.parquet as pq
import sqlalchemy as sa
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tamarin_dagster.recordstore.database import migrate
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster_tests.chaos.histories import PREFIX, history
from tamarin_dagster_tests.chaos.programs import Ended, Program, Programs
from tamarin_dagster_tests.clusters import give_cluster
from tamarin_dagster_tests.contents import digests
from tamarin_dagster_tests.folders import make_short_folder, write_object
from tamarin_dagster_tests.logstore.faulty import Faulty, faulty_endpoint

_TEMPLATE = "chaos_template"
# What may differ from world to world: ids and times of ours, and what names a generation in a folder.
_OF_THE_WORLD = (
    "id", "run_id", "loaded_at", "purged_at", "superseded_at", "log_bucket_name", "etag", "last_modified", "version_id",
    "archived_at", "archive_place", "returned_at",
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """The state of a world: an order-free hash of each table, the purged keys, and the content of the log bucket."""

    tables: Mapping[str, tuple[int, str]]
    purged: frozenset[str]
    objects: Mapping[str, str]

    def differences(self, other: "State") -> list[str]:
        """Return the differences in words; empty if there are none."""
        found = [
            f"{table}: {self.tables[table][0]} rows where {other.tables[table][0]} should be, or others"
            for table in self.tables
            if self.tables[table] != other.tables[table]
        ]
        if self.purged != other.purged:
            found.append(f"purged: {sorted(self.purged ^ other.purged)}")
        if self.objects != other.objects:
            found.append(f"log bucket: {sorted(set(self.objects.items()) ^ set(other.objects.items()))}")
        return found


class Bench:
    """The shared resources of all worlds: a Postgres, an S3 endpoint that fails on demand, and programs."""

    def __init__(self, folder: Path, server: sa.URL, faulty: Faulty, s3: Any, programs: Programs) -> None:
        self.folder = folder
        self.server = server
        self.faulty = faulty
        self.s3 = s3
        self.programs = programs
        self._numbers = itertools.count(1)
        self._undisturbed: dict[str, State] = {}
        self._administer(f"DROP DATABASE IF EXISTS {_TEMPLATE}")
        self._administer(f"CREATE DATABASE {_TEMPLATE}")
        engine = sa.create_engine(server.set(database=_TEMPLATE))
        migrate(engine)
        engine.dispose()

    @contextmanager
    def world(self, objects: Mapping[str, bytes] | None = None, *, kind: str = "s3") -> Iterator["World"]:
        """A new world, with these objects (default: the history) in its log bucket."""
        number = next(self._numbers)
        database = f"chaos_{number}_{uuid4().hex[:6]}"
        self._administer(f"CREATE DATABASE {database} TEMPLATE {_TEMPLATE}")
        self.faulty.reset()
        folder = self.folder / f"world-{number}"
        folder.mkdir()
        world = World(self, folder, self.server.set(database=database), kind, f"chaos-{number}")
        world.put_all(history() if objects is None else objects)
        yield world
        self.faulty.reset()
        self._administer(f"DROP DATABASE {database} WITH (FORCE)")
        world.empty()

    def undisturbed(self, objects: Mapping[str, bytes] | None = None, **settings: Any) -> State:
        """Return the state after one undisturbed pull of these objects."""
        objects = history() if objects is None else objects
        digest = hashlib.sha256(repr((sorted(objects.items()), sorted(settings.items()))).encode()).hexdigest()
        if digest not in self._undisturbed:
            with self.world(objects) as world:
                world.configure(**settings)
                ended = world.pull()
                assert ended.status == 0, ended.said
                self._undisturbed[digest] = world.state()
        return self._undisturbed[digest]

    def _administer(self, statement: str) -> None:
        engine = sa.create_engine(self.server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()


@dataclass
class World:
    """A database, a log bucket (in S3, or a folder), and settings."""

    bench: Bench
    folder: Path
    url: sa.URL
    kind: str
    s3_bucket: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind == "s3":
            self.bench.s3.create_bucket(Bucket=self.s3_bucket)
            self.bench.s3.create_bucket(Bucket=self.archive_bucket)
        else:
            self.log_folder.mkdir()
        self.configure()

    @property
    def log_folder(self) -> Path:
        """The log bucket, if it is a folder."""
        return self.folder / "log keys"

    @property
    def archive_folder(self) -> Path:
        """The archive, if the log bucket is a folder."""
        return self.folder / "archive"

    @property
    def archive_bucket(self) -> str:
        """The archive's bucket, if the log bucket is in S3."""
        return f"{self.s3_bucket}-archive"

    @property
    def archive_url(self) -> str:
        """Return the archive of a world, as in the settings."""
        return f"s3://{self.archive_bucket}/some/where" if self.kind == "s3" else str(self.archive_folder)

    def archived_rows(self) -> dict[tuple[int, int], int]:
        """Return how often each record (log_key_id, line_number) is in the files of the archive."""
        found: Counter[tuple[int, int]] = Counter()
        for body in self._archive_files():
            table = pq.read_table(io.BytesIO(body), columns=["log_key_id", "line_number"])
            found.update(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
        return found

    def _archive_files(self) -> Iterator[bytes]:
        if self.kind != "s3":
            for path in sorted(self.archive_folder.rglob("*.parquet")):
                if not path.name.startswith("."):
                    yield path.read_bytes()
            return
        pages = self.bench.s3.get_paginator("list_objects_v2").paginate(Bucket=self.archive_bucket)
        for item in [item for page in pages for item in page.get("Contents", [])]:
            if item["Key"].endswith(".parquet"):
                yield self.bench.s3.get_object(Bucket=self.archive_bucket, Key=item["Key"])["Body"].read()

    @property
    def config(self) -> Path:
        """The settings' file."""
        return self.folder / "tamarin.yaml"

    def configure(self, *, log_bucket_name: str = "", **settings: Any) -> None:
        """Write the settings, with these in addition to the usual ones."""
        bucket: dict[str, Any] = {"name": "media", "log_prefix": PREFIX, "start_date": "2026-03-01"}
        if self.kind == "s3":
            bucket |= {"log_bucket_name": log_bucket_name or self.s3_bucket, "endpoint_url": self.bench.faulty.url}
        else:
            bucket |= {"log_bucket_name": log_bucket_name or self.log_folder.as_uri()}
        url = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self.settings = {"database_url": url, "home": str(self.folder / "home"), "buckets": [bucket]}
        self.settings |= {"quiet_seconds": 0, **settings}
        self.config.write_text(json.dumps(self.settings))

    def put(self, key: str, body: bytes) -> None:
        """Write an object without the faulty proxy."""
        if self.kind == "s3":
            self.bench.s3.put_object(Bucket=self.s3_bucket, Key=key, Body=body)
        else:
            write_object(self.log_folder / key, body)

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Write objects."""
        for key, body in objects.items():
            self.put(key, body)

    def remove(self, key: str) -> None:
        """Delete an object without the faulty proxy."""
        if self.kind == "s3":
            self.bench.s3.delete_object(Bucket=self.s3_bucket, Key=key)
        else:
            (self.log_folder / key).unlink()

    def start(self, *arguments: str, **options: Any) -> Program:
        """Start a command, by default a pull."""
        return self.bench.programs.start(self.config, *(arguments or ("pull",)), **options)

    def pull(self, *arguments: str, **options: Any) -> Ended:
        """A pull, to its end."""
        return self.start("pull", *arguments, **options).ended()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            found = [tuple(row) for row in connection.execute(sa.text(query))]
        engine.dispose()
        return found

    def state(self) -> State:
        """Return the present state of the database and the log bucket."""
        engine = sa.create_engine(self.url)
        with engine.connect() as connection:
            tables = digests(connection, _OF_THE_WORLD)
            purged = connection.scalars(sa.text("SELECT key FROM s3_log_key WHERE purged_at IS NOT NULL"))
            state = State(tables, frozenset(purged), self._objects())
        engine.dispose()
        return state

    def _objects(self) -> dict[str, str]:
        if self.kind == "s3":
            pages = self.bench.s3.get_paginator("list_objects_v2").paginate(Bucket=self.s3_bucket)
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
            bodies = {key: self.bench.s3.get_object(Bucket=self.s3_bucket, Key=key)["Body"].read() for key in keys}
        else:
            files = [path for path in self.log_folder.rglob("*") if path.is_file()]
            bodies = {path.relative_to(self.log_folder).as_posix(): path.read_bytes() for path in files}
        return {key: hashlib.sha256(body).hexdigest() for key, body in bodies.items()}

    def empty(self) -> None:
        """Frees what the log bucket takes."""
        if self.kind == "s3":
            for key in self._objects():
                self.bench.s3.delete_object(Bucket=self.s3_bucket, Key=key)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def bench() -> Iterator[Bench]:
    """All that worlds need, on this machine."""
    folder = make_short_folder()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line for each request
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    target = f"http://{host}:{port}"
    s3 = boto3.client(
        "s3",
        endpoint_url=target,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 3}),
    )
    home = folder / "postgres"
    give_cluster(home)
    try:
        with EmbeddedPostgres(home) as server, faulty_endpoint(target) as faulty, Programs(folder) as programs:
            yield Bench(folder, sa.make_url(server.url("postgres")), faulty, s3, programs)
    finally:
        moto.stop()
        shutil.rmtree(folder, ignore_errors=True)
