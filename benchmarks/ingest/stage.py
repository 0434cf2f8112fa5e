"""What the measurements share: a folder that goes away, a Postgres in it, the settings, a pull in its own process."""

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
"""`tamarin-dagster`, of this very Python."""
PULL = (*COMMAND, "pull", "--no-purge", "--no-rollups")

_TABLES = "s3_log_key, s3_rejected_line, s3_log_record, traffic_pending_day, traffic_part, traffic_day"
_FOREIGN = ("TAMARIN_", "DAGSTER_", "AWS_")
_TOLD_BYTES = 2_000


@dataclass(frozen=True)
class Usage:
    """What a program took; the peak is that of resident memory."""

    seconds: float
    user_seconds: float
    system_seconds: float
    peak_mib: float
    status: int


@dataclass(frozen=True)
class Stage:
    """A folder of this run's own, with a Postgres and the settings in it."""

    folder: Path
    server: EmbeddedPostgres

    @property
    def home(self) -> Path:
        """TAMARIN_HOME."""
        return self.server.home

    @property
    def log_folder(self) -> Path:
        """Where log keys lie: for the local endpoint it is the bucket LOG_BUCKET."""
        return self.folder / LOG_BUCKET

    @property
    def url(self) -> str:
        """The records' database, for psycopg and psql."""
        return self.server.url(RECORDS_DATABASE, "postgresql")

    def write_keys(self, *, lines: int, keys: int, days: int = 10) -> WrittenLogKeys:
        """Writes log keys of the demo's traffic, and settings with which they are pulled from their folder."""
        written = write_log_keys(self.log_folder, lines=lines, keys=keys, days=days, prefix=LOG_PREFIX)
        self.configure(written.first_day)
        return written

    def configure(
        self, first_day: date, *, endpoint_url: str | None = None, monitored: bool = True, **settings: object
    ) -> None:
        """Writes the settings: one bucket, whose log keys lie in `log_folder`, or are had from the endpoint."""
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
        """Takes out all rows, and leaves Postgres with nothing to write."""
        self.execute(f"TRUNCATE {_TABLES}", "CHECKPOINT")

    def execute(self, *statements: str) -> None:
        """Runs statements, each in a transaction of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def count(self, table: str) -> int:
        """Rows of a table."""
        return self.scalar(f"SELECT count(*) FROM {table}")

    def scalar(self, query: str) -> int:
        """The one number that a query answers."""
        with psycopg.connect(self.url) as connection:
            found = connection.execute(query).fetchone()
        return found[0] if found else 0

    def pull(self, lines: int, *, environment: Mapping[str, str] | None = None) -> Usage:
        """Runs the pull as the settings have it; there must be so many records then."""
        usage = self.run(PULL, environment)
        self.expect(lines)
        return usage

    def run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Usage:
        """Runs a program to its end, in the present environment and more."""
        log = self.folder / "program.log"
        usage = _run(command, dict(os.environ) | dict(environment or {}), log)
        if usage.status:
            told = log.read_text("utf-8", "replace")[-_TOLD_BYTES:]
            raise SystemExit(f"{' '.join(command)} ended with {usage.status}. It said:\n{told}")
        return usage

    def expect(self, lines: int) -> None:
        """There are so many records."""
        if (found := self.count("s3_log_record")) != lines:
            raise SystemExit(f"{found:,} rows were loaded; {lines:,} were expected")


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A stage, with empty tables; ctrl-C and SIGTERM take it away too.

    Settings of the shell that this is started from are forgotten, in this process and so in those that it starts.
    """
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    # what the first use after an installation or a change would compile is no part of any figure
    subprocess.run([*COMMAND, "compile"], check=True)
    folder = Path(tempfile.mkdtemp(prefix="tamarin-bench-")).resolve()
    folder.chmod(0o711)  # under root, Postgres runs as another account, which has to pass
    try:
        # this very object is what the project's own code finds in this process: released here, the server stops
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
    """What a program took; what it says goes to the log."""
    launcher = [sys.executable, "-m", "benchmarks.ingest.launcher", *command]
    with log.open("wb") as out:
        # a session of its own, so that it can be ended with the program that it starts
        process = subprocess.Popen(
            launcher, env=environment, stdout=subprocess.PIPE, stderr=out, start_new_session=True
        )
    try:
        told, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return Usage(**json.loads(told))
