"""Count the blocks that queries read in months of generated rows, and measure what additional indexes cost a load.

    .venv/bin/python -m benchmarks.queries [--months 12] [--rows 500000] [--rounds 5]

docs/how-to/indexes.md shows the results.
"""

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.command_line import command_line, show
from benchmarks.sheet import Sheet
from tamarin_dagster.recordstore.database import migrate
from tamarin_dagster.recordstore.partitions import ensure_partitions, partition_name
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres

LINES_PER_KEY = 500
LAST_MONTH = date(2026, 10, 1)

# The rows are in the order of a load: key by key, alternating between three buckets. Each key has the requests of an
# hour, in order. An address makes ten requests in a row.
_FILL = sa.text(
    """
    INSERT INTO s3_log_record (
        log_key_id, line_number, bucket_owner, bucket, request_dtime, remote_ip, request_id, operation, key,
        request_method, request_uri, http_version, http_status, bytes_sent, object_size, total_time, turnaround_time,
        referrer, user_agent, host_id, cipher_suite, host_header, tls_version)
    SELECT
        :first_id + k, n, repeat('79a59df900b949e5', 4), (ARRAY['media', 'films', 'maps'])[k % 3 + 1],
        date_trunc('second', least(start + (ends - start) * k / keys + interval '1 hour' * n / :lines,
                                   ends - interval '1 second')),
        inet '10.0.0.0' + (hashint4(g / 10) & 65535), upper(left(md5(g::text), 16)), 'REST.GET.OBJECT', name,
        'GET', '/' || name, 'HTTP/1.1', CASE WHEN h % 50 = 0 THEN 404 ELSE 200 END, h & 1048575, h & 1048575,
        h & 127, 9, 'https://example.org/' || (h & 255),
        'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)',
        md5(g::text) || md5((g + 1)::text), 'TLS_AES_128_GCM_SHA256', 'media.s3.amazonaws.com', 'TLSv1.3'
    FROM
        (SELECT CAST(:month AS date)::timestamp AT TIME ZONE 'UTC' AS start,
                (CAST(:month AS date) + interval '1 month') AT TIME ZONE 'UTC' AS ends,
                greatest(:rows / :lines, 1) AS keys) month,
        generate_series(0, :rows - 1) g,
        LATERAL (SELECT g / :lines AS k, g % :lines + 1 AS n, hashint4(g) & 2147483647 AS h) numbers,
        LATERAL (SELECT 'photos/2026/' || (h & 16383) || '.jpg' AS name) names
    """
)


def fill_month(engine: sa.Engine, month: date, rows: int) -> None:
    """Fill that month with records in keys of LINES_PER_KEY lines, then vacuum and analyze it."""
    ensure_partitions(engine, [month])
    values = {"month": month, "rows": rows, "lines": LINES_PER_KEY, "first_id": (month.year * 12 + month.month) * 10**6}
    with engine.begin() as connection:
        connection.execute(_FILL, values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM ANALYZE {partition_name(month)}")


@dataclass(frozen=True)
class Touched:
    """The data that a query read.

    Attributes:
        partitions: the partitions that were scanned.
        blocks: the blocks of 8 KiB of tables and indexes, cached or not.
    """

    partitions: frozenset[str]
    blocks: int
    milliseconds: float


def touched(connection: sa.Connection, query: str) -> Touched:
    """Run a query, and return what it read."""
    (answer,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}").scalar_one()
    top = answer["Plan"]
    scanned = frozenset(node["Relation Name"] for node in _nodes(top) if "Relation Name" in node)
    blocks = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return Touched(scanned, blocks, answer["Execution Time"])


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if plan.get("Actual Loops", 1):
        yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def blocks_of(connection: sa.Connection, *tables: str) -> int:
    """Return the number of 8 KiB blocks of these tables, without their indexes."""
    statement = sa.text("SELECT sum(pg_relation_size(CAST(name AS regclass))) / 8192 FROM unnest(:names ::text[]) name")
    return int(connection.execute(statement, {"names": list(tables)}).scalar_one())


ONE_DAY = (
    "SELECT count(*), sum(bytes_sent) FROM s3_log_record WHERE bucket = 'media'"
    " AND request_dtime >= '{first}' AND request_dtime < '{following}'"
)
_DAYS = {"first": LAST_MONTH.replace(day=14), "following": LAST_MONTH.replace(day=15)}
_LOOK_UPS = {
    "remote_ip": "remote_ip = '10.0.17.5'",
    "key": "key = 'photos/2026/4711.jpg'",
    "request_id": "request_id = 'A87FF679A2F3E71D'",
    "http_status": "http_status >= 400",
}
_IN_A_DAY = " AND request_dtime >= '{first}' AND request_dtime < '{following}'".format(**_DAYS)
INDEXES = {
    "remote_ip": "(remote_ip)",
    "key": "USING hash (key)",
    "request_id": "(request_id)",
    "http_status": "(http_status, request_dtime) WHERE http_status >= 400",
}


def main() -> None:
    """Fill the months, run the queries without and with indexes, then load a month without and with them."""
    parser = command_line(__doc__)
    parser.add_argument("--months", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=500_000, help="in each month; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of loads; default: %(default)s")
    options = parser.parse_args()
    with _server() as engine:
        months = [_before(LAST_MONTH, number) for number in range(options.months)]
        for month in months:
            fill_month(engine, month, options.rows)
        with engine.connect() as connection:
            touched(connection, ONE_DAY.format(**_DAYS))
            print(
                *connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {ONE_DAY.format(**_DAYS)}").scalars(), sep="\n"
            )
        sheets = [_asked(engine, months), *_costs(engine, options.rounds)]
    show(sheets, options.markdown)


@contextmanager
def _server() -> Iterator[sa.Engine]:
    with tempfile.TemporaryDirectory(prefix="tamarin-bench-queries-") as folder:
        # The server may run under another account.
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder)) as server:
            engine = sa.create_engine(server.url("postgres"))
            migrate(engine)
            yield engine
            engine.dispose()


def _before(month: date, number: int) -> date:
    year, index = divmod(month.year * 12 + month.month - 1 - number, 12)
    return date(year, index + 1, 1)


def _asked(engine: sa.Engine, months: Sequence[date]) -> Sheet:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        table = blocks_of(connection, *map(partition_name, months))
        month = blocks_of(connection, partition_name(LAST_MONTH))
        day = touched(connection, ONE_DAY.format(**_DAYS))
        rows = [["one day of a bucket", f"{day.blocks:,}", "", f"{day.milliseconds:.0f}", ""]]
        for column, condition in _LOOK_UPS.items():
            query = f"SELECT count(*), sum(bytes_sent) FROM s3_log_record WHERE {condition}"
            asked = [(f"`{condition}`, all months", query), (f"`{condition}`, one day", query + _IN_A_DAY)]
            before = [touched(connection, each) for _, each in asked]
            connection.exec_driver_sql(f"CREATE INDEX look_up ON s3_log_record {INDEXES[column]}")
            after = [touched(connection, each) for _, each in asked]
            connection.exec_driver_sql("DROP INDEX look_up")
            rows += [
                [name, f"{was.blocks:,}", f"{now.blocks:,}", f"{was.milliseconds:.0f}", f"{now.milliseconds:.1f}"]
                for (name, _), was, now in zip(asked, before, after, strict=True)
            ]
    headings = ["query", "blocks", "with its index", "ms", "ms with its index"]
    return Sheet(f"Blocks touched, of {table:,} in the table and {month:,} in a month", headings, rows, texts=["query"])


_VARIANTS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "http_status": ("http_status",),
    "remote_ip": ("remote_ip",),
    "key": ("key",),
    "request_id": ("request_id",),
    "remote_ip, request_id": ("remote_ip", "request_id"),
    "all four": tuple(INDEXES),
}


def _costs(engine: sa.Engine, rounds: int) -> list[Sheet]:
    """COPY the rows of a month into an empty table with and without indexes, in turn. Ratios are within a round.

    The time is the CPU time of the server's process, which does not include other work of the machine. (Linux only.)
    """
    seconds: dict[str, list[float]] = {name: [] for name in _VARIANTS}
    sizes: dict[str, float] = {}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        cursor = connection.connection.cursor()
        server = Path(f"/proc/{connection.exec_driver_sql('SELECT pg_backend_pid()').scalar_one()}/stat")
        with cursor.copy(f"COPY {partition_name(LAST_MONTH)} TO STDOUT (FORMAT binary)") as copy:
            data = b"".join(copy)
        for _ in range(rounds):
            for name, indexes in _VARIANTS.items():
                connection.exec_driver_sql("DROP TABLE IF EXISTS loaded")
                connection.exec_driver_sql("CREATE TABLE loaded (LIKE s3_log_record INCLUDING ALL)")
                for column in indexes:
                    connection.exec_driver_sql(f"CREATE INDEX loaded_{column} ON loaded {INDEXES[column]}")
                connection.exec_driver_sql("CHECKPOINT")
                started = processor_seconds(server)
                with cursor.copy("COPY loaded FROM STDIN (FORMAT binary)") as copy:
                    for start in range(0, len(data), 1 << 20):
                        copy.write(data[start : start + (1 << 20)])
                seconds[name].append(processor_seconds(server) - started)
                for column in indexes:
                    statement = f"SELECT pg_relation_size('loaded_{column}') / (SELECT count(*) FROM loaded)::float8"
                    sizes[column] = float(connection.exec_driver_sql(statement).scalar_one())
        count = connection.exec_driver_sql("SELECT count(*) FROM loaded").scalar_one()
        each = connection.exec_driver_sql(
            "SELECT pg_relation_size('loaded') / count(*)::float8 FROM loaded"
        ).scalar_one()
    bare = seconds["as it is"]
    loads = [
        [name, f"{count / statistics.median(taken):,.0f}", *_spread([b / t for b, t in zip(bare, taken, strict=True)])]
        for name, taken in seconds.items()
    ]
    return [
        Sheet(
            "COPY of a month's rows, by processor time",
            ["indexes", "rows/s", "ratio", "min", "max"],
            loads,
            texts=["indexes"],
        ),
        Sheet(
            f"Bytes of index for each row (a row itself takes {each:.0f})",
            ["index", "bytes"],
            [[column, f"{size:.1f}"] for column, size in sizes.items()],
            texts=["index"],
        ),
    ]


def processor_seconds(stat: Path) -> float:
    """Return the CPU seconds that a process has used so far: fields 14 and 15 of /proc/…/stat, user and system mode."""
    used = stat.read_text("utf-8").rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def _spread(ratios: Sequence[float]) -> list[str]:
    return [f"{value:.2f}" for value in (statistics.median(ratios), min(ratios), max(ratios))]


if __name__ == "__main__":
    main()
