"""Measure the queries of the cookbook over a month and a year of rollups, and over a day of records.

    .venv/bin/python -m benchmarks.answers.views [--days 365] [--values 2500] [--records 822000] [--rounds 5]

The rollups are those of ten million records a year (rollups.sql). The same queries run on the records of a month,
alternating with the others in the same run. docs/reference/performance.md shows the results.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import sqlalchemy as sa

from benchmarks.command_line import command_line, show
from benchmarks.queries import LAST_MONTH, fill_month, processor_seconds
from benchmarks.sheet import Sheet
from tamarin_dagster.recordstore.database import migrate
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres

_FILL = Path(__file__).parent / "rollups.sql"
_LAST_DAY = LAST_MONTH.replace(day=31)
_MONTH = (LAST_MONTH, _LAST_DAY)
_TOP = "GROUP BY 1 ORDER BY 2 DESC LIMIT 20"
_RECORDS = "FROM s3_log_record WHERE request_dtime >= '{first} 00:00Z' AND request_dtime < '{following} 00:00Z'"

# The queries of rollups, and the same queries of plain records.
_OF_ROLLUPS: dict[str, tuple[str, str]] = {
    "top files": (
        (
            "SELECT key, sum(bytes_sent), sum(requests) FROM traffic_daily_by_key WHERE bucket = 'media'"
            f" AND request_date BETWEEN '{{first}}' AND '{{last}}' {_TOP}"
        ),
        f"SELECT key, sum(bytes_sent), count(*) {_RECORDS} {_TOP}",
    ),
    "files with errors": (
        (
            "SELECT key, sum(error_count), sum(requests) FROM traffic_daily_by_key WHERE bucket = 'media'"
            f" AND request_date BETWEEN '{{first}}' AND '{{last}}' AND error_count > 0 {_TOP}"
        ),
        f"SELECT key, count(*) {_RECORDS} AND http_status >= 400 {_TOP}",
    ),
    "`s3_hogs`": (
        "SELECT * FROM s3_hogs('media', '{first}', '{last}') ORDER BY bytes_sent DESC LIMIT 20",
        (
            f"WITH c AS (SELECT remote_ip, sum(bytes_sent) AS sent {_RECORDS} GROUP BY 1)"
            " SELECT *, sent / (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY sent) FROM c) FROM c"
            " ORDER BY sent DESC LIMIT 20"
        ),
    ),
    "`s3_hotlink`": (
        (
            "SELECT referrer_host, sum(bytes_sent) FROM s3_hotlink WHERE bucket = 'media'"
            f" AND request_date BETWEEN '{{first}}' AND '{{last}}' {_TOP}"
        ),
        f"SELECT s3_referrer_host(referrer), sum(bytes_sent) {_RECORDS} {_TOP}",
    ),
    "`s3_spike`": (
        "SELECT * FROM s3_spike WHERE bucket = 'media' AND hour >= '{first} 00:00Z' AND hour < '{following} 00:00Z'",
        f"SELECT date_trunc('hour', request_dtime, 'UTC'), count(*), sum(bytes_sent) {_RECORDS} GROUP BY 1",
    ),
    "`s3_cold_objects`": (
        (
            "SELECT * FROM s3_cold_objects('media', 90, '{last}') WHERE first_seen >= '{first}'"
            " ORDER BY object_size DESC LIMIT 20"
        ),
        f"SELECT key, max(request_dtime), max(object_size) {_RECORDS} GROUP BY 1 ORDER BY 3 DESC LIMIT 20",
    ),
}

# The queries of the records of a bucket's day.
_OF_RECORDS = {
    "`s3_download`": "SELECT key, count(*), sum(requests) FROM s3_download WHERE request_date = '{first}' GROUP BY 1"
    " ORDER BY 2 DESC LIMIT 20",
    "`s3_error`": "SELECT * FROM s3_error WHERE request_date = '{first}' ORDER BY requests DESC LIMIT 20",
    "`s3_spike_causes`": "SELECT * FROM s3_spike_causes('media', '{first} 12:00Z') ORDER BY more_bytes DESC LIMIT 20",
    "`s3_change`": "SELECT * FROM s3_change WHERE request_dtime >= '{first} 00:00Z'"
    " AND request_dtime < '{following} 00:00Z'",
    "`s3_anonymous_access`": "SELECT * FROM s3_anonymous_access WHERE request_date = '{first}'",
    "`s3_old_tls`": "SELECT * FROM s3_old_tls WHERE request_date = '{first}'",
    "`s3_acl_dependent`": "SELECT * FROM s3_acl_dependent WHERE request_date = '{first}'",
}


def main() -> None:
    """Fill a server with rollups and the records of a month, and run the queries."""
    parser = command_line(__doc__)
    parser.add_argument("--days", type=int, default=365, help="of rollups; default: %(default)s")
    parser.add_argument("--values", type=int, default=2500, help="keys and addresses of a day; default: %(default)s")
    parser.add_argument("--records", type=int, default=822_000, help="of the month; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    with _server() as engine:
        first = _LAST_DAY - timedelta(days=options.days - 1)
        fill_rollups(engine, first, _LAST_DAY, options.values)
        fill_month(engine, LAST_MONTH, options.records)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # A parallel query is not faster when the cores are busy, and the CPU time of its workers is not counted.
            connection.exec_driver_sql("SET max_parallel_workers_per_gather = 0")
            sheets = [
                _rollups_asked(connection, first, options.records, options.rounds),
                _records_asked(connection, options.rounds),
            ]
    show(sheets, options.markdown)


@contextmanager
def _server() -> Iterator[sa.Engine]:
    with tempfile.TemporaryDirectory(prefix="tamarin-bench-answers-") as folder:
        # The server may run under another account.
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder)) as server:
            engine = sa.create_engine(server.url("postgres"))
            migrate(engine)
            yield engine
            engine.dispose()


def fill_rollups(engine: sa.Engine, first: date, last: date, values: int) -> None:
    """Fill the tables with rollups of these days, then vacuum and analyze them like autovacuum."""
    with engine.begin() as connection:
        for statement in _FILL.read_text("utf-8").split(";\n"):
            if "INSERT" in statement:
                connection.execute(sa.text(statement), {"first": first, "last": last, "values": values})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def _rollups_asked(connection: sa.Connection, first: date, records: int, rounds: int) -> Sheet:
    rows = connection.exec_driver_sql("SELECT count(*) FROM traffic_daily_by_key").scalar_one()
    asked = [
        [
            name,
            *_spread(connection, _bounded(query, *_MONTH), rounds),
            *_spread(connection, _bounded(query, first, _LAST_DAY), rounds),
            *_spread(connection, _bounded(of_records, *_MONTH), rounds),
        ]
        for name, (query, of_records) in _OF_ROLLUPS.items()
    ]
    times = ("a month, ms", "all days, ms", f"{records:,} records of a month, ms")
    headings = ["", *(heading for each in times for heading in (each, "CPU"))]
    return Sheet(f"Questions to {rows:,} rows of rollups by key, as many by address", headings, asked, texts=[""])


def _records_asked(connection: sa.Connection, rounds: int) -> Sheet:
    day = LAST_MONTH.replace(day=14)
    count = f"SELECT count(*) {_bounded(_RECORDS, day, day)}"
    records = connection.exec_driver_sql(count).scalar_one()
    asked = [[name, *_spread(connection, _bounded(query, day, day), rounds)] for name, query in _OF_RECORDS.items()]
    return Sheet(f"Questions to a day of {records:,} records", ["", "ms", "CPU"], asked, texts=[""])


def _bounded(query: str, first: date, last: date) -> str:
    return query.format(first=first, last=last, following=last + timedelta(days=1))


def _spread(connection: sa.Connection, query: str, rounds: int) -> list[str]:
    """Return the median time until the whole answer has arrived, and the server's mean CPU time, in ms.

    The query runs once before, to fill the caches. (Linux only.)
    """
    server = Path(f"/proc/{connection.exec_driver_sql('SELECT pg_backend_pid()').scalar_one()}/stat")
    connection.exec_driver_sql(query).all()
    taken = []
    used = processor_seconds(server)
    for _ in range(rounds):
        started = time.perf_counter()
        connection.exec_driver_sql(query).all()
        taken.append(time.perf_counter() - started)
    mean = (processor_seconds(server) - used) / rounds
    return [f"{1000 * value:,.0f}" for value in (statistics.median(taken), mean)]


if __name__ == "__main__":
    main()
