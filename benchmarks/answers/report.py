"""Measure a monthly report from a year of rollups, as 10 million records leave them: each query, and the whole report.

    .venv/bin/python -m benchmarks.answers.report [--values 2500] [--records 830000] [--rounds 10]

docs/reference/performance.md shows the results.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import sqlalchemy as sa

from benchmarks.command_line import command_line, show
from benchmarks.queries import LAST_MONTH, fill_month, processor_seconds
from benchmarks.sheet import Sheet
from tamarin_dagster.analytics.report import Month, over_time, tops
from tamarin_dagster.analytics.report.evidence import measure_completeness
from tamarin_dagster.analytics.report.queries import WORK_MEM
from tamarin_dagster.recordstore.connections import RECORDS_DATABASE, embedded_postgres
from tamarin_dagster.recordstore.database import migrate
from tamarin_dagster.recordstore.schema.traffic_tables import ROLLUPS

_BUCKET = "media"
_NOW = datetime(2026, 11, 20, tzinfo=UTC)
_LEDGER = sa.text(
    """
    INSERT INTO s3_log_key (id, bucket, log_bucket_name, key, etag, size, last_modified, delivery_date, line_count,
        record_count, rejected_count, blank_count)
    OVERRIDING SYSTEM VALUE
    SELECT log_key_id, 'media', 'logs', 'logs/' || to_char(last, 'YYYY-MM-DD-HH24-MI-SS') || '-0123456789'
        || lpad(to_hex(log_key_id % 16777216), 6, '0'), 'e', 300000, last, CAST(last AS date), lines, lines, 0, 0
    FROM (
        SELECT log_key_id, count(*) AS lines, max(request_dtime) AT TIME ZONE 'UTC' + interval '40 minutes' AS last
        FROM s3_log_record GROUP BY log_key_id
    ) held
    """
)


def main() -> None:
    """Make the rollups, query the last month, and write its report."""
    parser = command_line(__doc__)
    parser.add_argument("--values", type=int, default=2_500, help="keys and addresses of a day; default: %(default)s")
    parser.add_argument("--records", type=int, default=830_000, help="of the month; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=10, help="default: %(default)s")
    options = parser.parse_args()
    with _home() as (home, engine):
        rows = _fill(engine, options.values, options.records)
        month = Month.of(LAST_MONTH)
        asked = _asked(engine, month, options.rounds)
        whole = [_written(home, month) for _ in range(options.rounds)]
    rollups = [each for name, each in asked.items() if name != _EVIDENCE]
    asked["all of the rollups"] = Asked(
        [sum(taken) for taken in zip(*(each.seconds for each in rollups), strict=True)],
        sum(each.processor for each in rollups),
    )
    lines = [
        [name, *_spread(each.seconds, 1000, ".0f"), f"{1000 * each.processor:.0f}"] for name, each in asked.items()
    ]
    sheets = [
        Sheet(
            f"Questions of a month of {options.records:,} records to {rows:,} rows of rollups of a year, in ms",
            ["", "median", "min", "max", "CPU"],
            lines,
            texts=[""],
        ),
        Sheet("The whole, in s", ["", "median", "min", "max"], [["`report`", *_spread(whole, 1, ".1f")]], texts=[""]),
    ]
    show(sheets, options.markdown)


_EVIDENCE = "completeness, of the records themselves"


@dataclass(frozen=True)
class Asked:
    """The time of a query in seconds: each elapsed time, and the server's average CPU time."""

    seconds: list[float]
    processor: float


def _asked(engine: sa.Engine, month: Month, rounds: int) -> dict[str, Asked]:
    """Measure each query after its rows are in memory, without parallel plans."""
    asked: dict[str, Asked] = {}
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET work_mem = '{WORK_MEM}'")
        connection.exec_driver_sql("SET max_parallel_workers_per_gather = 0")
        server = Path(f"/proc/{connection.exec_driver_sql('SELECT pg_backend_pid()').scalar_one()}/stat")
        prices = tops.read_month_prices(connection, _BUCKET, month)
        questions: dict[str, Callable[[], object]] = {
            "prices": lambda: tops.read_month_prices(connection, _BUCKET, month),
            "days": lambda: over_time.traffic_by_day(connection, _BUCKET, month),
            "month before": lambda: over_time.traffic_before(connection, _BUCKET, month, _NOW),
            "hours of the week": lambda: over_time.traffic_by_hour(connection, _BUCKET, month),
            "latencies": lambda: over_time.latencies(connection, _BUCKET, month),
            "files": lambda: tops.files(connection, _BUCKET, month, prices),
            "addresses": lambda: tops.addresses(connection, _BUCKET, month, prices),
            "requesters": lambda: tops.requesters(connection, _BUCKET, month, prices),
            "referrers": lambda: tops.referrers(connection, _BUCKET, month),
            "user agents": lambda: tops.agents(connection, _BUCKET, month),
            "cost": lambda: tops.cost(connection, _BUCKET, month, prices),
            _EVIDENCE: lambda: measure_completeness(connection, _BUCKET, month, _NOW),
        }
        for name, question in questions.items():
            question()
            used = processor_seconds(server)
            seconds = []
            for _ in range(rounds):
                started = time.perf_counter()
                question()
                seconds.append(time.perf_counter() - started)
            asked[name] = Asked(seconds, (processor_seconds(server) - used) / rounds)
    return asked


def _written(home: Path, month: Month) -> float:
    """Return the seconds of the whole command."""
    command = [sys.executable, "-m", "tamarin_dagster.cli", "report", "--month", str(month)]
    started = time.perf_counter()
    subprocess.run(command, cwd=home, check=True, capture_output=True)
    return time.perf_counter() - started


@contextmanager
def _home() -> Iterator[tuple[Path, sa.Engine]]:
    with tempfile.TemporaryDirectory(prefix="tamarin-bench-report-") as folder:
        home = Path(folder)
        # The server may run under another account.
        home.chmod(0o711)
        (home / "tamarin.yaml").write_text(f"buckets: [{{name: {_BUCKET}, log_bucket_name: logs}}]\n", "utf-8")
        server = embedded_postgres(home / ".tamarin")
        engine = sa.create_engine(server.url(RECORDS_DATABASE))
        try:
            migrate(engine)
            yield home, engine
        finally:
            engine.dispose()
            server.release()


def _fill(engine: sa.Engine, values: int, records: int) -> int:
    """Create a year of rollups and the records of its last month; return the number of rows in the rollups."""
    year = {"first": date(LAST_MONTH.year - 1, LAST_MONTH.month + 1, 1), "last": Month.of(LAST_MONTH).last}
    fill_month(engine, LAST_MONTH, records)
    with engine.begin() as connection:
        for statement in Path(__file__).with_name("report_rows.sql").read_text("utf-8").split(";\n"):
            if statement.strip():
                connection.execute(sa.text(statement), year | {"values": values})
        connection.execute(_LEDGER)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
        return sum(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in ROLLUPS)


def _spread(values: list[float], factor: float, shape: str) -> list[str]:
    return [format(factor * value, shape) for value in (statistics.median(values), min(values), max(values))]


if __name__ == "__main__":
    main()
