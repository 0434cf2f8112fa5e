"""Measure how long each command is silent: on a healthy server, and on one that lost its startup process in recovery.

    .venv/bin/python -m benchmarks.first_word [--command NAME …]

The table shows the seconds from the start of the process to its first byte on a pipe and to its end, and the exit
status. The home has one bucket, a folder of 20 log keys. iam-policy has other settings (OTHER), because it needs a log
bucket in S3. The server is broken again for each command: a backend is killed, and then the startup process as soon as
it exists. Postgres 18 then stays in recovery mode forever. A command is killed after 60 s. Linux only.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.command_line import command_line, show
from benchmarks.sheet import Sheet
from tamarin_dagster.demo import write_log_keys
from tamarin_dagster.homes import CONFIG_VARIABLE
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster.recordstore.server.processes import kill_processes, read_state
from tamarin_dagster.settings import load_settings

_LIMIT_SECONDS = 60
_ATTEMPTS = 20
_NAME = "media.example.org"
_COMMANDS = (
    "--config OTHER iam-policy",
    "doctor",
    "buckets",
    "pull --no-purge",
    "purge",
    "reparse",
    "roll-up",
    "expire --dry-run",
    "report",
    "hogs",
    f"export --format csv --bucket {_NAME} --out OUT",
    "migrate",
    "sql SELECT_1",
    "sql --url",
    "grant-reader readers",
    "stop",
)


@dataclass(frozen=True)
class _Run:
    """Seconds to the first byte and to the end. The status is None if the command was killed at the limit."""

    word: float | None
    end: float
    status: int | None

    def cells(self) -> tuple[str, str, str]:
        word = "none" if self.word is None else f"{self.word:.1f}"
        return (word, f"{self.end:.1f}", "killed" if self.status is None else str(self.status))


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--command", action="append", help="only the commands that begin with this; repeatable")
    options = parser.parse_args()
    wanted = [each for each in _COMMANDS if not options.command or each.startswith(tuple(options.command))]
    with tempfile.TemporaryDirectory(prefix="tamarin-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        rows = []
        for each in wanted:
            healthy, broken = (_on(folder, each, broken=broken) for broken in (False, True))
            rows.append((each, *healthy.cells(), *broken.cells()))
        kill_processes(folder / "home" / "postgres")
    headings = ("command", "healthy: first word, s", "end, s", "status", "broken: first word, s", "end, s ", "status ")
    title = f"Seconds of silence; {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
    show([Sheet(title, headings, rows, texts=("command",))], options.markdown)


def _on(folder: Path, command: str, *, broken: bool) -> _Run:
    server = _healthy(folder)
    if broken:
        _break(server)
    try:
        return _run(folder, command)
    finally:
        server.release()


def _healthy(folder: Path) -> EmbeddedPostgres:
    """Yield a running server with a migrated database, which no other process uses."""
    config = folder / "tamarin.yaml"
    if not config.exists():
        keys = folder / "keys"
        write_log_keys(keys, lines=1000, keys=20, days=3, seed=2011)
        first = min(path.name for path in keys.rglob("*") if path.is_file())[:10]
        bucket = f"name: {_NAME}, log_bucket_name: '{keys.as_uri()}', log_prefix: logs/, start_date: {first}"
        config.write_text(f"home: {folder / 'home'}\nretention_months: 12\nbuckets: [{{{bucket}}}]\n")
        other = f"name: {_NAME}, log_bucket_name: my-logs, log_prefix: logs/"
        (folder / "other.yaml").write_text(f"home: {folder / 'home'}\nbuckets: [{{{other}}}]\n")
    os.environ[CONFIG_VARIABLE] = str(config)
    settings = load_settings()
    server = EmbeddedPostgres(settings.home)
    server.ensure_running()
    if not (folder / "migrated").exists():
        _run(folder, "migrate")
        (folder / "migrated").touch()
    server.keep_running()
    return server


def _break(server: EmbeddedPostgres) -> None:
    """Kill the startup process at the beginning of a recovery."""
    for _ in range(_ATTEMPTS):
        server.ensure_running()
        main = read_state(server.folder).main
        if main is None:
            continue
        connection = psycopg.connect(server.url("postgres", "postgresql"))
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        _kill_startup(main.pid)
        with contextlib.suppress(psycopg.Error):
            connection.close()
        time.sleep(0.5)
        found = read_state(server.folder)
        if found.main and found.startup is None and not server.is_running():
            return
    raise RuntimeError("the server did not lose its startup process")


def _kill_startup(main: int) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{main}/task/{main}/children").read_text().split():
                if "startup" in Path(f"/proc/{child}/cmdline").read_text():
                    os.kill(int(child), signal.SIGKILL)
                    return


def _run(folder: Path, command: str) -> _Run:
    stands_for = {"SELECT_1": "SELECT 1", "OUT": str(folder / "out"), "OTHER": str(folder / "other.yaml")}
    words = [stands_for.get(word, word) for word in command.split()]
    begin = time.monotonic()
    word = None
    with subprocess.Popen(
        [sys.executable, "-m", "tamarin_dagster.cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        if process.stdout is None:
            raise RuntimeError("no pipe")
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while (left := begin + _LIMIT_SECONDS - time.monotonic()) > 0:
                if selector.select(left):
                    if not os.read(process.stdout.fileno(), 65536):
                        break
                    word = word or time.monotonic() - begin
        try:
            status: int | None = process.wait(max(0.1, begin + _LIMIT_SECONDS - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            status = None
        return _Run(word, time.monotonic() - begin, status)


if __name__ == "__main__":
    main()
