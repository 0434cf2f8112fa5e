"""The shared stage of the benchmarks: a temporary folder with a Postgres and settings, and pulls as processes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psycopg
import sqlalchemy as sa
import yaml

from tamarin_dagster.demo import WrittenLogKeys, write_log_keys
from tamarin_dagster.homes import CONFIG_VARIABLE
from tamarin_dagster.recordstore.connections import RECORDS_DATABASE, embedded_postgres
from tamarin_dagster.recordstore.database import migrate
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres

LOGGED_BUCKET = "media"
LOG_PREFIX = "logs/"
LOG_BUCKET = "log-keys"
"""The log bucket at the local endpoint, and the name of its folder on the stage."""
COMMAND = (sys.executable, "-m", "tamarin_dagster.cli")
"""The command `tamarin-dagster` of this Python."""
PULL = (*COMMAND, "pull", "--no-purge", "--no-rollups")

_TABLES = "s3_log_key, s3_rejected_line, s3_log_record, traffic_pending_day, traffic_part, traffic_day"
_FOREIGN = ("TAMARIN_", "DAGSTER_", "AWS_")
_TOLD_BYTES = 2_000


@dataclass(frozen=True)
class Usage:
    """The resources that a program used. The peak is that of the resident memory."""

    seconds: float
    user_seconds: float
    system_seconds: float
    peak_mib: float
    status: int


@dataclass(frozen=True)
class Stage:
    """A temporary folder with a Postgres and settings."""

    folder: Path
    server: EmbeddedPostgres

    @property
    def home(self) -> Path:
        """TAMARIN_HOME."""
        return self.server.home

    @property
    def log_folder(self) -> Path:
        """Return the folder of the log keys, which is the bucket LOG_BUCKET of the local endpoint."""
        return self.folder / LOG_BUCKET

    @property
    def url(self) -> str:
        """Return the URL of the records' database, for psycopg and psql."""
        return self.server.url(RECORDS_DATABASE, "postgresql")

    def write_keys(self, *, lines: int, keys: int, days: int = 10) -> WrittenLogKeys:
        """Write log keys of the demo's traffic, and settings to pull them from their folder."""
        written = write_log_keys(self.log_folder, lines=lines, keys=keys, days=days, prefix=LOG_PREFIX)
        self.configure(written.first_day)
        return written

    def configure(
        self, first_day: date, *, endpoint_url: str | None = None, monitored: bool = True, **settings: object
    ) -> None:
        """Write settings with one bucket, whose log keys are in `log_folder` or at the endpoint."""
        bucket: dict[str, object] = {
            "name": LOGGED_BUCKET,
            "log_bucket_name": LOG_BUCKET if endpoint_url else self.log_folder.as_uri(),
            "log_prefix": LOG_PREFIX,
            "start_date": first_day,
            "monitor_bucket": monitored,
        }
        if endpoint_url:
            bucket |= {"endpoint_url": endpoint_url, "region": "us-east-1"}
        entries = {"home": str(self.home), **settings, "buckets": [bucket]}
        config = self.folder / "tamarin.yaml"
        config.write_text(yaml.safe_dump(entries), "utf-8")
        os.environ[CONFIG_VARIABLE] = str(config)

    def empty_tables(self) -> None:
        """Delete all rows, and make a checkpoint so that Postgres has nothing left to write."""
        self.execute(f"TRUNCATE {_TABLES}", "CHECKPOINT")

    def execute(self, *statements: str) -> None:
        """Run statements, each in its own transaction."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        return self.scalar(f"SELECT count(*) FROM {table}")

    def scalar(self, query: str) -> int:
        """Return the number that a query returns."""
        with psycopg.connect(self.url) as connection:
            found = connection.execute(query).fetchone()
        return found[0] if found else 0

    def pull(self, lines: int, *, environment: Mapping[str, str] | None = None) -> Usage:
        """Run a pull with the settings, and check the number of records."""
        usage = self.run(PULL, environment)
        self.expect(lines)
        return usage

    def run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Usage:
        """Run a program to its end, in the current environment with additions."""
        log = self.folder / "program.log"
        usage = _run(command, dict(os.environ) | dict(environment or {}), log)
        if usage.status:
            reported = log.read_text("utf-8", "replace")[-_TOLD_BYTES:]
            raise SystemExit(f"{' '.join(command)} ended with {usage.status}. Its output:\n{reported}")
        return usage

    def expect(self, lines: int) -> None:
        """Check the number of records."""
        if (found := self.count("s3_log_record")) != lines:
            raise SystemExit(f"{found:,} rows were loaded; {lines:,} were expected")


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Yield a stage with empty tables. It is removed at the end, after ctrl-C and SIGTERM too.

    The settings in the environment are removed for this process and the processes that it starts.
    """
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    # Compile now, so that no figure includes the compilation at the first use.
    subprocess.run([*COMMAND, "compile"], check=True)
    folder = Path(tempfile.mkdtemp(prefix="tamarin-bench-")).resolve()
    folder.chmod(0o711)  # as root, Postgres runs as another account, which must be able to enter
    try:
        # The project's code in this process uses the same object, so the server stops when it is released here.
        with embedded_postgres(folder / "home") as server:
            engine = sa.create_engine(server.url(RECORDS_DATABASE))
            migrate(engine)
            engine.dispose()
            yield Stage(folder, server)
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: Sequence[str], environment: dict[str, str], log: Path) -> Usage:
    """Return the resources that a program used. Its output goes to the log."""
    launcher = [sys.executable, "-m", "benchmarks.ingest.launcher", *command]
    with log.open("wb") as out:
        # in a separate session, so that it can be ended together with the program that it starts
        process = subprocess.Popen(
            launcher, env=environment, stdout=subprocess.PIPE, stderr=out, start_new_session=True
        )
    try:
        reported, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return Usage(**json.loads(reported))
