"""Answer SQL over the lake with DuckDB, together with what Postgres holds and the lake does not.

The tables have the names that they have in Postgres. `s3_log_record` has the lake's records, and those of log keys that
are in Postgres in another generation, with another count, or not in the lake at all: recent days that are not archived
yet. Each record is there once, and its column `stored_in` says where it comes from.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import sqlalchemy as sa
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from tamarin_dagster.lake import schema
from tamarin_dagster.lake.place import LakeError
from tamarin_dagster.lake.tables import LEDGER, RECORDS, REJECTED, LakeTables
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.delivered import list_live_keys
from tamarin_dagster.recordstore.extracts import open_snapshot
from tamarin_dagster.recordstore.record_frames import delivered_records

# Functions of Postgres that plain queries of the documentation use.
_FUNCTIONS = (
    "CREATE MACRO host(address) AS address",
    "CREATE MACRO pg_size_pretty(bytes) AS format_bytes(CAST(bytes AS BIGINT))",
)
# Log keys of Postgres that the lake does not hold as they are, and those of the lake that these take the place of.
_MISSING = """
CREATE TEMP TABLE missing_key AS SELECT k.* FROM postgres_key k ANTI JOIN lake_key l
ON l.logged_bucket = k.logged_bucket AND l.log_key = k.log_key AND l.etag = k.etag AND l.record_count = k.record_count;
CREATE TEMP TABLE outdated_key AS SELECT l.logged_bucket, l.log_key, l.record_count, l.delivery_day
FROM lake_key l SEMI JOIN missing_key k ON l.logged_bucket = k.logged_bucket AND l.log_key = k.log_key;
"""
_WITHOUT_OUTDATED = "ANTI JOIN outdated_key USING (logged_bucket, log_key)"
_VIEWS = """
CREATE VIEW s3_log_key AS SELECT * FROM lake_key {without};
CREATE VIEW s3_log_record AS SELECT *, 'lake' AS stored_in FROM lake_record {without}
UNION ALL BY NAME SELECT *, 'postgres' AS stored_in FROM postgres_record;
"""
_PARTS = """
WITH part AS (
    SELECT 1 AS place, record_count, delivery_day FROM s3_log_key WHERE record_count > 0
    UNION ALL SELECT 2, record_count, delivery_day FROM missing_key WHERE record_count > 0)
SELECT count(record_count), coalesce(sum(record_count), 0)::BIGINT, min(delivery_day), max(delivery_day)
FROM range(1, 3) AS places (place) LEFT JOIN part USING (place) GROUP BY place ORDER BY place
"""


@dataclass(frozen=True, slots=True)
class Part:
    """What one place contributes to `s3_log_record`: log keys, their records, and their delivery days."""

    keys: int
    records: int
    first_day: date | None
    last_day: date | None

    def __str__(self) -> str:
        """Return it as text."""
        days = f", delivered {self.first_day} to {self.last_day}" if self.keys else ""
        return f"{count_noun(self.records, 'record')} of {count_noun(self.keys, 'log key')}{days}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a statement, as Python values."""

    names: Sequence[str]
    rows: Iterator[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class OpenLake:
    """A lake that can be queried.

    Attributes:
        of_lake, of_postgres: what `s3_log_record` consists of.
    """

    of_lake: Part
    of_postgres: Part
    _connection: duckdb.DuckDBPyConnection

    def ask(self, query: str) -> Iterator[Answer]:
        """Run the statements of a query, and yield the answer of each that returns rows. Raises LakeError."""
        try:
            for statement in self._connection.extract_statements(query):
                cursor = self._connection.execute(statement)
                if cursor.description and statement.type == duckdb.StatementType.SELECT:
                    yield Answer([column[0] for column in cursor.description], iter(cursor.fetchone, None))
        except duckdb.Error as error:
            raise LakeError(f"lake: {error}") from None


@contextmanager
def open_lake(tables: LakeTables, engine: sa.Engine) -> Iterator[OpenLake]:
    """Open the lake for queries. What only Postgres has is copied to a temporary file. Raises LakeError."""
    with tempfile.TemporaryDirectory(prefix="tamarin-lake-") as folder, duckdb.connect() as connection:
        connection.execute("SET temp_directory = ?", [folder])
        connection.execute("SET TimeZone = 'UTC'")
        for function in _FUNCTIONS:
            connection.execute(function)
        # A drop of a month waits until the records that are only in Postgres are copied.
        with open_snapshot(engine, keeps_partitions=True) as snapshot:
            connection.register("postgres_key", list_live_keys(snapshot))
            ledger, records, rejected = _load_tables(tables)
            _make_view(connection, "lake_key", ledger)
            _make_view(connection, "lake_record", records)
            _make_view(connection, REJECTED, rejected)
            connection.execute(_MISSING)
            path = Path(folder) / "postgres.parquet"
            _copy_missing(connection, snapshot, path)
        connection.read_parquet(str(path)).create_view("postgres_record")
        has_outdated = connection.execute("SELECT count(*) > 0 FROM outdated_key").fetchall()[0][0]
        connection.execute(_VIEWS.format(without=_WITHOUT_OUTDATED if has_outdated else ""))
        of_lake, of_postgres = (Part(*row) for row in connection.execute(_PARTS).fetchall())
        yield OpenLake(of_lake, of_postgres, connection)


def _load_tables(tables: LakeTables) -> tuple[Table, Table, Table]:
    """Return the three tables as one commit left them."""
    while True:
        ledger, records, rejected = (tables.table(name) for name in (LEDGER, RECORDS, REJECTED))
        if tables.table(LEDGER).metadata_location == ledger.metadata_location:
            return ledger, records, rejected


def _make_view(connection: duckdb.DuckDBPyConnection, name: str, table: Table) -> None:
    """Make a view of the data files of a table."""
    tasks = list(table.scan().plan_files())
    if any(task.delete_files for task in tasks):
        raise LakeError(
            f"table {'.'.join(table.name())}: another engine has deleted rows of it without rewriting its files;"
            " rewrite them there (OPTIMIZE, rewrite_data_files), then ask again"
        )
    paths = [task.file.file_path for task in tasks]
    if paths and all(path.startswith("file://") for path in paths):
        # Files of before a new column lack it.
        local = [path.removeprefix("file://") for path in paths]
        connection.read_parquet(local, union_by_name=len(table.schemas()) > 1).create_view(name)
        return
    arrow = {LEDGER: schema.LEDGER, RECORDS: schema.RECORDS, REJECTED: schema.REJECTED}[table.name()[-1]]
    if not paths:
        connection.register(name, arrow.empty_table())
        return
    # Over Arrow's own reader, so that DuckDB needs neither an extension nor the credentials.
    properties = table.io.properties
    scheme, location, _ = PyArrowFileIO.parse_location(paths[0], properties)
    files = [PyArrowFileIO.parse_location(path, properties)[2] for path in paths]
    store = PyArrowFileIO(properties).fs_by_scheme(scheme, location)
    found = ds.dataset(files, arrow, format="parquet", filesystem=store)
    connection.register(name, found)


def _copy_missing(connection: duckdb.DuckDBPyConnection, snapshot: sa.Connection, path: Path) -> None:
    """Copy the records of log keys that the lake does not hold out of Postgres."""
    rows = connection.execute(
        "SELECT logged_bucket, delivery_day, list(log_key_id) FROM missing_key WHERE record_count > 0 GROUP BY ALL"
    ).fetchall()
    with pq.ParquetWriter(path, schema.RECORDS) as writer:
        for bucket, day, ids in sorted(rows):
            wanted = pa.array(ids, pa.int64())
            for table in delivered_records(snapshot, bucket, day):
                found = table.filter(pc.is_in(table["log_key_id"], wanted))
                writer.write_table(schema.place(found, bucket, day, schema.RECORDS))
