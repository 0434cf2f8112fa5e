"""A report of a month, from a year of rollups as 10 million records leave them: each question, and the whole.

    .venv/bin/python -m benchmarks.answers.report [--values 2500] [--records 830000] [--rounds 5]

The page docs/performance.md has its numbers from here.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import sqlalchemy as sa

from benchmarks.command_line import command_line, show
from benchmarks.queries import LAST_MONTH, fill_month
from benchmarks.sheet import Sheet
from tamarin_dagster.analysis.report import Month, times, tops
from tamarin_dagster.analysis.report.evidence import completeness_of
from tamarin_dagster.analysis.report.queries import WORK_MEM
from tamarin_dagster.recordstore.database import RECORDS_DATABASE, embedded_postgres, migrate
from tamarin_dagster.recordstore.traffic_tables import ROLLUPS

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
    """Makes the rollups, asks for the last month, and writes its report."""
    parser = command_line(__doc__)
    parser.add_argument("--values", type=int, default=2_500, help="keys and addresses of a day; default: %(default)s")
    parser.add_argument("--records", type=int, default=830_000, help="of the month; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    with _home() as (home, engine):
        rows = _fill(engine, options.values, options.records)
        month = Month.of(LAST_MONTH)
        asked = _asked(engine, month, options.rounds)
        whole = [_written(home, month) for _ in range(options.rounds)]
    title = f"A report of a month of {options.records:,} records, from {rows:,} rows of rollups of a year"
    lines = [[name, *_spread(taken, 1000, ".0f")] for name, taken in asked.items()]
    rollups = [sum(each) for each in zip(*(taken for name, taken in asked.items() if name != _EVIDENCE), strict=True)]
    lines += [
        ["all of the rollups, ms", *_spread(rollups, 1000, ".0f")],
        ["`tamarin-dagster report`, s", *_spread(whole, 1, ".1f")],
    ]
    show([Sheet(title, ["", "median", "min", "max"], lines, texts=[""])], options.markdown)


_EVIDENCE = "completeness (of the records themselves), ms"


def _asked(engine: sa.Engine, month: Month, rounds: int) -> dict[str, list[float]]:
    """Seconds that each question took."""
    questions: dict[str, Callable[[sa.Connection], object]] = {
        "prices, ms": lambda c: tops.prices_of(c, _BUCKET, month),
        "days, ms": lambda c: times.traffic_by_day(c, _BUCKET, month),
        "month before, ms": lambda c: times.traffic_before(c, _BUCKET, month, _NOW),
        "hours of the week, ms": lambda c: times.traffic_by_hour(c, _BUCKET, month),
        "latencies, ms": lambda c: times.latencies(c, _BUCKET, month),
        "files, ms": lambda c: tops.files(c, _BUCKET, month, prices),
        "addresses, ms": lambda c: tops.addresses(c, _BUCKET, month, prices),
        "requesters, ms": lambda c: tops.requesters(c, _BUCKET, month, prices),
        "referrers, ms": lambda c: tops.referrers(c, _BUCKET, month),
        "user agents, ms": lambda c: tops.agents(c, _BUCKET, month),
        "cost, ms": lambda c: tops.cost(c, _BUCKET, month, prices),
        _EVIDENCE: lambda c: completeness_of(c, _BUCKET, month, _NOW),
    }
    seconds: dict[str, list[float]] = {name: [] for name in questions}
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET work_mem = '{WORK_MEM}'")
        prices = tops.prices_of(connection, _BUCKET, month)
        for number in range(rounds + 1):
            for name, question in questions.items():
                started = time.perf_counter()
                question(connection)
                if number:  # the first one reads from the disk
                    seconds[name].append(time.perf_counter() - started)
    return seconds


def _written(home: Path, month: Month) -> float:
    """Seconds of the command, from its start."""
    command = [sys.executable, "-m", "tamarin_dagster.cli", "report", "--month", str(month)]
    started = time.perf_counter()
    subprocess.run(command, cwd=home, check=True, capture_output=True)
    return time.perf_counter() - started


@contextmanager
def _home() -> Iterator[tuple[Path, sa.Engine]]:
    with tempfile.TemporaryDirectory(prefix="tamarin-bench-report-") as folder:
        home = Path(folder)
        # The server may run under an account of its own.
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
    """A year of rollups, and the records of its last month; gives how many rows of rollups that are."""
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
