r"""`tamarin-dagster pull` end to end, beside psql's \copy of the very same rows into an equal, empty table.

    .venv/bin/python -m benchmarks.pull [--lines 1000000] [--keys 2000] [--rounds 5]

Both run in turn against one embedded Postgres in a folder of their own. The pull's seconds are the whole process's:
start, listing, reading, parsing, loading. The \\copy gets a CSV file of ready rows. Peak memory is the pull process's.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from tamarin_dagster.demo import write_log_keys
from tamarin_dagster.recordstore.database import RECORDS_DATABASE, migrate
from tamarin_dagster.recordstore.embedded import EmbeddedPostgres
from tamarin_dagster.recordstore.tables import RECORD_COLUMNS

_DAYS = 10
_TABLES = "s3_log_key, s3_rejected_line, s3_log_record"


def main() -> None:
    """Prints a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with _folder() as folder, EmbeddedPostgres(folder / "home") as server:
        written = write_log_keys(folder / "keys", lines=options.lines, keys=options.keys, days=_DAYS)
        (folder / "tamarin.yaml").write_text(
            f"home: home\nbuckets: [{{name: media, log_bucket_name: '{(folder / 'keys').as_uri()}', log_prefix: logs/,"
            f" start_date: {written.first_day}}}]\n"
        )
        server.ensure_databases(RECORDS_DATABASE)
        migrate(sa.create_engine(server.url(RECORDS_DATABASE)))
        url = server.url(RECORDS_DATABASE, "postgresql")
        pulls, copies, peaks = [], [], []
        for number in range(options.rounds):
            seconds, peak = _pull(folder, url, options.lines)
            if number == 0:
                _prepare_copy(folder, url)
            pulls.append(seconds)
            peaks.append(peak)
            copies.append(_copy(server, folder, url))
    _report(options.lines, options.keys, written.bytes, pulls, copies, peaks)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tamarin-bench-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pull(folder: Path, url: str, lines: int) -> tuple[float, float]:
    """Seconds and peak MiB of a pull into empty tables."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {_TABLES}")
        connection.execute("CHECKPOINT")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TAMARIN_")}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tamarin_dagster.cli", "pull", "--no-purge"],
        env=clean | {"TAMARIN_CONFIG": str(folder / "tamarin.yaml")},
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM s3_log_record").fetchone()
    if status != 0 or found != (lines,):
        raise SystemExit(f"the pull ended with {status} and {found} rows; {lines} were expected")
    return seconds, usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _prepare_copy(folder: Path, url: str) -> None:
    """The loaded rows as a CSV file, and an empty table equal to the record table, partitions and index included."""
    columns = ", ".join(RECORD_COLUMNS)
    with (folder / "rows.csv").open("wb") as out, psycopg.connect(url) as connection:
        with connection.cursor().copy(f"COPY (SELECT {columns} FROM s3_log_record) TO STDOUT (FORMAT csv)") as copy:
            for piece in copy:
                out.write(piece)
        connection.execute(
            "CREATE TABLE equal_record (LIKE s3_log_record INCLUDING ALL) PARTITION BY RANGE (request_dtime)"
        )
        bounds = connection.execute(
            "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid)"
            " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 's3_log_record'::regclass"
        ).fetchall()
        for name, bound in bounds:
            connection.execute(f"CREATE TABLE equal_{name} PARTITION OF equal_record {bound}")


def _copy(server: EmbeddedPostgres, folder: Path, url: str) -> float:
    """Seconds of psql's copy into the empty equal table."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE equal_record")
        connection.execute("CHECKPOINT")
    statement = f"\\copy equal_record ({', '.join(RECORD_COLUMNS)}) FROM '{folder / 'rows.csv'}' (FORMAT csv)"
    started = time.perf_counter()
    subprocess.run([server.psql, "-q", url, "-c", statement], check=True)
    return time.perf_counter() - started


def _report(lines: int, keys: int, size: int, pulls: list[float], copies: list[float], peaks: list[float]) -> None:
    ratios = [copy / pull for pull, copy in zip(pulls, copies, strict=True)]
    table = Table(
        title=f"{lines:,} lines in {keys:,} keys, {size / 1e6:,.0f} MB; {len(pulls)} rounds, {os.cpu_count()} cores"
    )
    for heading in ("", "median", "min", "max"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, values, unit in (
        ("tamarin-dagster pull, lines/s", [lines / s for s in pulls], ",.0f"),
        ("psql \\copy of the same rows, rows/s", [lines / s for s in copies], ",.0f"),
        ("ratio pull / \\copy", ratios, ".2f"),
        ("peak memory of the pull, MiB", peaks, ",.0f"),
    ):
        table.add_row(name, *(format(f(values), unit) for f in (statistics.median, min, max)))
    Console().print(table)


if __name__ == "__main__":
    main()
