"""Compare a lake with Postgres: the load with Spark with a pull, and ten questions in DuckDB with those in Postgres.

    .venv/bin/python -m benchmarks.lake [--lines 5000000] [--keys 10000] [--days 30] [--master local[2]] [--rounds 3]

The same log keys are pulled into Postgres and loaded into a lake. The peak is the largest resident memory of a process:
of the pull, and for Spark of one Python worker and of Java. `lake-compare` must find no difference. A question on the
rollups has the same answer as on the records. Times are the fastest of the rounds, without the time to open the lake.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import sqlalchemy as sa

from benchmarks.command_line import command_line, show
from benchmarks.ingest.stage import COMMAND, Stage, stage
from benchmarks.sheet import Sheet
from tamarin_dagster.lake.place import LakePlace
from tamarin_dagster.settings import Lake

_SAMPLE_SECONDS = 0.2
# Name; SQL on the records; SQL on the rollups, where they have the answer. {day} is a delivery day in the middle.
QUESTIONS = (
    (
        "requests and bytes",
        "SELECT count(*), sum(bytes_sent) FROM s3_log_record",
        "SELECT sum(requests), sum(bytes_sent) FROM traffic_hourly",
    ),
    (
        "top keys by bytes",
        "SELECT key, sum(bytes_sent) AS b FROM s3_log_record GROUP BY key ORDER BY b DESC NULLS LAST LIMIT 20",
        "SELECT key, sum(bytes_sent) AS b FROM traffic_daily_by_key GROUP BY key ORDER BY b DESC NULLS LAST LIMIT 20",
    ),
    (
        "top addresses by bytes",
        "SELECT remote_ip, sum(bytes_sent) AS b FROM s3_log_record GROUP BY 1 ORDER BY b DESC NULLS LAST LIMIT 20",
        "SELECT remote_ip, sum(bytes_sent) FROM traffic_daily_by_remote_ip GROUP BY 1 ORDER BY 2 DESC LIMIT 20",
    ),
    (
        "requests by hour",
        "SELECT date_trunc('hour', request_dtime) AS hour, count(*) FROM s3_log_record GROUP BY 1 ORDER BY 1",
        "SELECT hour, sum(requests) FROM traffic_hourly GROUP BY 1 ORDER BY 1",
    ),
    (
        "statuses",
        "SELECT http_status, count(*) FROM s3_log_record GROUP BY 1 ORDER BY 2 DESC",
        "",
    ),
    (
        "missing keys",
        "SELECT key, count(*) FROM s3_log_record WHERE http_status = 404 GROUP BY key ORDER BY 2 DESC LIMIT 20",
        "",
    ),
    (
        "one key, all days",
        "SELECT count(*), sum(bytes_sent) FROM s3_log_record WHERE key = '{key}'",
        "SELECT sum(requests), sum(bytes_sent) FROM traffic_daily_by_key WHERE key = '{key}'",
    ),
    (
        "one address, all days",
        "SELECT key, count(*) FROM s3_log_record WHERE remote_ip = '{address}' GROUP BY key ORDER BY 2 DESC LIMIT 20",
        "",
    ),
    (
        "one day by user agent",
        (
            "SELECT user_agent, count(*) FROM s3_log_record WHERE request_dtime >= '{day} 00:00Z'"
            " AND request_dtime < '{day} 23:59:59Z' GROUP BY 1 ORDER BY 2 DESC LIMIT 20"
        ),
        (
            "SELECT user_agent, sum(requests) FROM traffic_daily_by_user_agent WHERE request_date = '{day}' GROUP BY 1"
            " ORDER BY 2 DESC LIMIT 20"
        ),
    ),
    (
        "addresses of one day",
        (
            "SELECT count(DISTINCT remote_ip) FROM s3_log_record WHERE request_dtime >= '{day} 00:00Z'"
            " AND request_dtime < '{day} 23:59:59Z'"
        ),
        "SELECT count(DISTINCT remote_ip) FROM traffic_daily_by_remote_ip WHERE request_date = '{day}'",
    ),
)


@dataclass(slots=True)
class Peaks:
    """The largest resident memory of a process, in MiB, by its kind."""

    worker: float = 0
    java: float = 0


def main() -> None:
    """Print a table of the loads and one of the questions."""
    parser = command_line(__doc__)
    parser.add_argument("--lines", type=int, default=5_000_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--master", default="local[2]")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with stage() as staged:
        written = staged.write_keys(lines=options.lines, keys=options.keys, days=options.days)
        lake = Lake(warehouse=str(staged.folder / "lake"), archives=False)
        os.environ["TAMARIN_LAKE"] = json.dumps({"warehouse": lake.warehouse, "archives": False})
        os.environ["TAMARIN_QUIET_SECONDS"] = "0"
        pulled = staged.pull(options.lines)
        rows = [_row("pull", options.lines, pulled.seconds, pulled.peak_mib)]
        seconds, peaks = _load(staged, options.master)
        rows.append(_row(f"lake-load --master {options.master}", options.lines, seconds, peaks.worker, peaks.java))
        staged.run([*COMMAND, "lake-compare"])
        title = f"{options.lines:,} lines in {options.keys:,} log keys of {options.days} days, {os.cpu_count()} cores"
        loads = Sheet(title, ("load", "s", "lines/s", "peak MiB", "Java MiB"), rows, ("load",))
        staged.run([*COMMAND, "roll-up"])
        staged.execute("VACUUM ANALYZE", "CHECKPOINT")
        day = written.first_day.fromordinal(written.first_day.toordinal() + options.days // 2).isoformat()
        show([loads, _ask(staged, lake, options.lines, day, options.rounds)], options.markdown)


def _row(name: str, lines: int, seconds: float, peak: float, java: float | None = None) -> tuple[str, ...]:
    return name, f"{seconds:.1f}", f"{lines / seconds:,.0f}", f"{peak:.0f}", "" if java is None else f"{java:.0f}"


def _load(staged: Stage, master: str) -> tuple[float, Peaks]:
    """Load the lake in a process of its own; return the seconds from its start to its end, and the peaks."""
    started = time.monotonic()
    with (staged.folder / "load.log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, "lake-load", "--master", master], stdout=log, stderr=log)
        peaks = Peaks()
        while process.poll() is None:
            _sample(process.pid, peaks)
            time.sleep(_SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit((staged.folder / "load.log").read_text("utf-8", "replace")[-2000:])
    return time.monotonic() - started, peaks


def _sample(pid: int, peaks: Peaks) -> None:
    try:
        for child in psutil.Process(pid).children(recursive=True):
            mib = child.memory_info().rss / 2**20
            if child.name() == "java":
                peaks.java = max(peaks.java, mib)
            else:
                peaks.worker = max(peaks.worker, mib)
    except psutil.Error:
        return


def _ask(staged: Stage, lake: Lake, lines: int, day: str, rounds: int) -> Sheet:
    """Return the milliseconds of each question, and the bytes of a record, in each place."""
    from tamarin_dagster.lake.query import open_lake  # noqa: PLC0415 - needs the extra

    engine = sa.create_engine(staged.url.replace("postgresql:", "postgresql+psycopg:"))
    with psycopg.connect(staged.url, autocommit=True) as postgres:
        texts = {"day": day, "key": _middle(postgres, "key"), "address": _middle(postgres, "host(remote_ip)")}
        started = time.monotonic()
        with open_lake(LakePlace(lake).open(engine), engine) as found:
            opened = time.monotonic() - started

            def ask_lake(query: str) -> int:
                return sum(len(list(answer.rows)) for answer in found.ask(query))

            def ask_postgres(query: str) -> int:
                return len(postgres.execute(query.encode()).fetchall())

            rows: list[tuple[str, ...]] = [
                (
                    name,
                    _fastest(ask_lake, on_records.format(**texts), rounds),
                    _fastest(ask_postgres, on_records.format(**texts), rounds),
                    _fastest(ask_postgres, on_rollups.format(**texts), rounds) if on_rollups else "",
                )
                for name, on_records, on_rollups in QUESTIONS
            ]
    engine.dispose()
    files = Path(lake.warehouse.removeprefix("file://")).rglob("*.parquet")
    sizes = (
        sum(path.stat().st_size for path in files),
        staged.scalar("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname LIKE 's3\\_log\\_record\\_%'"
                      " AND relkind = 'r'"),
        staged.scalar("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname LIKE 'traffic\\_%'"
                      " AND relkind = 'r'"),
    )  # fmt: skip
    rows.append(("bytes stored per record", *(f"{size / lines:.1f}" for size in sizes)))
    title = f"{lines:,} records, ms, the fastest of {rounds}; opening the lake took {opened * 1000:.0f} ms"
    return Sheet(title, ("question", "lake, DuckDB", "Postgres, records", "Postgres, rollups"), rows, ("question",))


def _middle(postgres: psycopg.Connection, column: str) -> str:
    """Return a value of a column that neither comes most often nor once."""
    found: Iterable[tuple[str]] = postgres.execute(
        f"SELECT {column} FROM traffic_daily_by_{'key' if column == 'key' else 'remote_ip'}"
        f" WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY sum(requests) DESC OFFSET 50 LIMIT 1".encode()
    )
    return next(iter(found))[0]


def _fastest(ask: Callable[[str], int], query: str, rounds: int) -> str:
    times = []
    for _ in range(rounds):
        started = time.monotonic()
        ask(query)
        times.append(time.monotonic() - started)
    return f"{min(times) * 1000:,.0f}"


if __name__ == "__main__":
    main()
