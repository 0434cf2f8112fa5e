"""Measure the CPU time of commands with little work, compared with the imports that every database command needs.

    .venv/bin/python -m benchmarks.start_up [--rounds N] [--bare]

Each round runs every line once, in turn, so that other work of the machine affects all of them. The figure is the
minimum of the rounds. A first round, which is not counted, writes the byte code. The database is an embedded server
that runs all the time. The bucket is a folder, or a bucket of a local S3 endpoint, with one loaded log key. `--bare`
omits the local S3 endpoint.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.command_line import command_line, show
from benchmarks.ingest.endpoint import CREDENTIALS
from benchmarks.sheet import Sheet
from tamarin_dagster.recordstore.connections import RECORDS_DATABASE
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres

_BASE = "import sqlalchemy, psycopg"
_CODE: Mapping[str, str] = {
    _BASE: _BASE,
    f"{_BASE}, boto3": f"{_BASE}, boto3",
}
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "--help": ("--help",),
    'sql "SELECT 1"': ("sql", "SELECT 1"),
    "buckets (folder)": ("buckets",),
    "pull, nothing new (folder)": ("pull", "--no-purge"),
}
_S3_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "buckets (S3)": ("--config", "s3.yaml", "buckets"),
    "pull, nothing new (S3)": ("--config", "s3.yaml", "pull", "--no-purge"),
}
_KEY = "logs/2026-03-05-10-00-00-0123456789ABCDEF"
_LINE = (
    b"79a59df900b949e55d96a1e698fbaced media [05/Mar/2026:09:00:38 +0000] 192.0.2.3 - 3E57427F3EXAMPLE REST.GET.OBJECT"
    b' film.mp4 "GET /film.mp4 HTTP/1.1" 200 - 113 113 7 6 "-" "curl/8" -\n'
)


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="how often each line runs: %(default)s")
    parser.add_argument("--bare", action="store_true", help="without a local S3 endpoint")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tamarin-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with EmbeddedPostgres(folder / "home") as server:
            server.ensure_databases(RECORDS_DATABASE)
            environment = _environment(server.url(RECORDS_DATABASE, "postgresql"))
            lines: dict[str, tuple[str, ...]] = {name: (sys.executable, "-c", code) for name, code in _CODE.items()}
            commands = dict(_COMMANDS)
            _stage_folder(folder)
            if not options.bare:
                environment |= _stage_s3(folder)
                commands |= _S3_COMMANDS
            lines |= {name: (sys.executable, "-m", "tamarin_dagster.cli", *words) for name, words in commands.items()}
            least = _least(lines, folder, environment, options.rounds)
    base, with_boto3 = least[_BASE], least[f"{_BASE}, boto3"]
    rows = [(name, f"{spent:.2f}", f"{spent / base:.2f}", f"{spent / with_boto3:.2f}") for name, spent in least.items()]
    headings = ("line", "CPU seconds", "times the first", "times the second")
    show([Sheet(f"CPU time, minimum of {options.rounds} rounds", headings, rows, texts=("line",))], options.markdown)


def _environment(url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAMARIN_", "AWS_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"TAMARIN_DATABASE_URL": url, "TAMARIN_QUIET_SECONDS": "0"}


def _stage_folder(folder: Path) -> None:
    key = folder / "keys" / _KEY
    key.parent.mkdir(parents=True)
    key.write_bytes(_LINE)
    bucket = f"name: media, log_bucket_name: '{(folder / 'keys').as_uri()}', log_prefix: logs/, start_date: 2026-03-01"
    (folder / "tamarin.yaml").write_text(f"buckets: [{{{bucket}}}]\n")


def _stage_s3(folder: Path) -> dict[str, str]:
    """Create a bucket with the log key in a local endpoint of this process; return the environment of a client."""
    import boto3  # noqa: PLC0415 - not with --bare
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    os.environ |= CREDENTIALS
    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket="logs-of-films")
    client.put_object(Bucket="logs-of-films", Key=_KEY, Body=_LINE)
    bucket = (
        f"name: films, log_bucket_name: logs-of-films, log_prefix: logs/, start_date: 2026-03-01, endpoint_url: '{url}'"
    )
    (folder / "s3.yaml").write_text(f"buckets: [{{{bucket}}}]\n")
    return dict(CREDENTIALS)


def _least(
    lines: Mapping[str, tuple[str, ...]], folder: Path, environment: Mapping[str, str], rounds: int
) -> dict[str, float]:
    """Return the minimum CPU time of each line, in seconds."""
    spent: dict[str, list[float]] = {name: [] for name in lines}
    for number in range(rounds + 1):
        for name, line in lines.items():
            seconds = _seconds(line, folder, environment)
            if number:
                spent[name].append(seconds)
    return {name: min(each) for name, each in spent.items()}


def _seconds(line: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> float:
    """Return the CPU seconds of a process and its children."""
    process = subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(line)} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
