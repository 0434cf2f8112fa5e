"""The Iceberg tables of a lake: records, rejected lines and the ledger. A delivery day is replaced in one commit.

The tables have the same names as in Postgres, and are partitioned by logged bucket and delivery day. `DayFiles` lists
the data files of a day. This process or a Spark executor writes them. Readers see no change before `replace_day`.

With the catalog in Postgres, the three tables change in one transaction. With another catalog, each table has its own
commit, and the ledger comes last. After a kill between them, the ledger still has the former day, so the next load or
archiving replaces the day again.
"""

import copy
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import SqlCatalog, SqlCatalogBaseTable
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual, LessThanOrEqual
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import parquet_file_to_data_file, pyarrow_to_schema
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.transforms import IdentityTransform

from tamarin_dagster.failpoints import FailPoint, FailPointError, hit
from tamarin_dagster.lake import schema as columns
from tamarin_dagster.lake.parquet import write_records
from tamarin_dagster.lake.place import LakeError
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.settings import Lake

_log = logging.getLogger(__name__)

CATALOG_SCHEMA = "tamarin_lake"
RECORDS, REJECTED, LEDGER = "s3_log_record", "s3_rejected_line", "s3_log_key"
_SCHEMAS = {RECORDS: columns.RECORDS, REJECTED: columns.REJECTED, LEDGER: columns.LEDGER}
# The order of the commits: the ledger is last, because it says what is loaded.
_COMMITS = (REJECTED, RECORDS, LEDGER)
# An arbitrary number that must not change: of the advisory lock that makes commits wait for each other.
_LOCK = 2011_0319
_COMMIT_ATTEMPTS = 5
_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    # of the other columns no query asks for a range
    "write.metadata.metrics.default": "none",
    **{
        f"write.metadata.metrics.column.{name}": "full"
        for name in ("logged_bucket", "delivery_day", "bucket", "request_dtime")
    },
    **{f"write.metadata.metrics.column.{name}": "truncate(32)" for name in ("key", "remote_ip", "log_key")},
}


@dataclass(slots=True)
class DayFiles:
    """The data files that a delivery day is to consist of, and its ledger, with the columns of `schema.LEDGER`."""

    ledger: pa.Table
    records: list[DataFile] = field(default_factory=list)
    rejected: list[DataFile] = field(default_factory=list)


class _PostgresCatalog(SqlCatalog):
    """A catalog in the Postgres of the records, in a schema of its own, over the engine that we have already."""

    def __init__(self, name: str, engine: sa.Engine, **properties: str) -> None:
        self._given = engine
        super().__init__(name, uri="postgresql+psycopg://", **properties)

    def _init_catalog(self) -> None:
        self.engine = self._given.execution_options(schema_translate_map={None: CATALOG_SCHEMA})
        self._schema_version = "v1"
        if not sa.inspect(self.engine).has_table("iceberg_tables", schema=CATALOG_SCHEMA):
            with self.engine.begin() as connection:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
                connection.execute(sa.schema.CreateSchema(CATALOG_SCHEMA, if_not_exists=True))
                SqlCatalogBaseTable.metadata.create_all(connection)

    @contextmanager
    def in_one_transaction(self) -> Iterator[Catalog]:
        """Yield this catalog with all commits in one transaction of Postgres, for which other committers wait."""
        with self.engine.begin() as connection:
            connection.execute(_MAY_WAIT)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            within = copy.copy(self)
            within.engine = connection  # type: ignore[assignment]  # a session takes either
            yield within


# A commit waits for the file store.
_MAY_WAIT = sa.text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)


def open_tables(lake: Lake, engine: sa.Engine) -> "LakeTables":
    """Return the tables of a lake, after creating those that are missing. Raises LakeError."""
    properties = lake.reveal_properties()
    with _explained(lake):
        catalog: Catalog
        if lake.catalog == "sql":
            catalog = _PostgresCatalog("tamarin", engine, warehouse=lake.warehouse, **properties)
        else:
            catalog = load_catalog("tamarin", type=lake.catalog, **{"warehouse": lake.warehouse, **properties})
        tables = LakeTables(lake, catalog)
        tables.create()
        return tables


@contextmanager
def _explained(lake: Lake) -> Iterator[None]:
    """Raise errors of the catalog and the file store as a LakeError, without the values of its properties."""
    try:
        yield
    except (LakeError, FailPointError, sa.exc.DBAPIError):
        raise
    except Exception as error:  # noqa: BLE001 - pyiceberg and the file stores have no common class of errors
        said = str(error).split("\n", 1)[0]
        for _, secret in lake.properties:
            said = said.replace(secret.get_secret_value(), "…")
        raise LakeError(
            f"lake {lake.url}: {type(error).__name__}: {said} - check the warehouse, its permissions, and the"
            " catalog's properties",
            transient=True,
        ) from None


def day_filter(bucket: str, first: date | None = None, last: date | None = None) -> BooleanExpression:
    """Return the expression for a logged bucket, and delivery days from `first` to `last`."""
    found: BooleanExpression = EqualTo(term="logged_bucket", value=bucket)
    if first:
        found = And(found, GreaterThanOrEqual(term="delivery_day", value=first.isoformat()))
    return And(found, LessThanOrEqual(term="delivery_day", value=last.isoformat())) if last else found


class LakeTables:
    """The tables of a lake. Methods raise LakeError."""

    def __init__(self, lake: Lake, catalog: Catalog) -> None:
        self.lake = lake
        self._catalog = catalog

    @property
    def url(self) -> str:
        """The lake's URL."""
        return self.lake.url

    def create(self) -> None:
        """Create the namespace and the tables that are missing; add columns that are new in this version."""
        present = {name[-1] for name in self._list_tables()}
        if present >= set(_SCHEMAS) and len(self.table(RECORDS).schema().fields) >= len(columns.RECORDS):
            return
        self._catalog.create_namespace_if_not_exists(self.lake.namespace)
        for name, arrow in _SCHEMAS.items():
            iceberg = pyarrow_to_schema(arrow)
            table = self._catalog.create_table_if_not_exists(
                f"{self.lake.namespace}.{name}",
                iceberg,
                f"{self.lake.warehouse}/{self.lake.namespace}/{name}",
                partition_spec=_partition(iceberg),
                properties=_PROPERTIES,
            )
            if len(table.schema().fields) < len(iceberg.fields):
                with table.update_schema() as update:
                    update.union_by_name(iceberg)

    def _list_tables(self) -> Sequence[tuple[str, ...]]:
        if not self._catalog.namespace_exists(self.lake.namespace):
            return []
        return list(self._catalog.list_tables(self.lake.namespace))

    def table(self, name: str) -> Table:
        """Return one of the tables, as it is now."""
        with _explained(self.lake):
            return self._catalog.load_table(f"{self.lake.namespace}.{name}")

    def read_ledger(
        self, bucket: str, first: date | None = None, last: date | None = None, columns: tuple[str, ...] = ("*",)
    ) -> pa.Table:
        """Return the ledger of a logged bucket's delivery days."""
        with _explained(self.lake):
            return self.table(LEDGER).scan(day_filter(bucket, first, last), columns).to_arrow()

    def data_files(self, name: str, bucket: str, day: date) -> list[DataFile]:
        """Return the data files of a delivery day, by the table's metadata."""
        with _explained(self.lake):
            return [task.file for task in self.table(name).scan(day_filter(bucket, day, day)).plan_files()]

    def count_rows(self, name: str, bucket: str, day: date) -> Iterator[tuple[str, int]]:
        """Yield the log keys of a delivery day in a table, each with a number of its rows; a log key may come again."""
        with _explained(self.lake):
            for batch in self.table(name).scan(day_filter(bucket, day, day), ("log_key",)).to_arrow_batch_reader():
                found = pc.value_counts(batch["log_key"])
                yield from zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)

    def replace_day(self, bucket: str, day: date, files: DayFiles, summary: dict[str, str] | None = None) -> None:
        """Make a delivery day consist of these files, whatever it consisted of before.

        A log key that is in the lake and not in the new ledger would be lost: then LakeError is raised, and the day
        stays as it is. The counts of the ledger are compared with those of the files first. `summary` goes into the
        snapshots, next to the counts.
        """
        counts = _count(bucket, day, files)
        said = {f"tamarin.{name}": str(value) for name, value in counts.items()} | (summary or {})
        with _explained(self.lake):
            new = write_ledger(self.table(LEDGER), bucket, day, files.ledger)
            replaced = {REJECTED: files.rejected, RECORDS: files.records, LEDGER: new}
            for attempt in range(1, _COMMIT_ATTEMPTS + 1):
                try:
                    self._commit(bucket, day, files.ledger, replaced, said)
                    break
                except (CommitFailedException, ValidationException):
                    # another process has committed in between: look again at what it left
                    if attempt == _COMMIT_ATTEMPTS:
                        raise
                    _log.info("lake %s: another commit came first, attempt %d", self.url, attempt)

    def _commit(
        self, bucket: str, day: date, ledger: pa.Table, replaced: dict[str, list[DataFile]], said: dict[str, str]
    ) -> None:
        where = day_filter(bucket, day, day)
        with self._committing() as catalog:
            tables = {name: catalog.load_table(f"{self.lake.namespace}.{name}") for name in _COMMITS}
            self._check_nothing_is_lost(bucket, day, tables[LEDGER], ledger)
            hit(FailPoint.LAKE_COMMIT_BEFORE)
            for name in _COMMITS:
                old = [task.file for task in tables[name].scan(where).plan_files()]
                if not old and not replaced[name]:
                    continue
                with (
                    tables[name].transaction() as change,
                    change.update_snapshot(snapshot_properties=said).overwrite() as overwrite,
                ):
                    overwrite.delete_by_predicate(where)
                    for file in old:
                        overwrite.delete_data_file(file)
                    for file in replaced[name]:
                        overwrite.append_data_file(file)
                hit(FailPoint.LAKE_TABLE_AFTER)
        hit(FailPoint.LAKE_COMMIT_AFTER)

    @contextmanager
    def _committing(self) -> Iterator[Catalog]:
        if isinstance(self._catalog, _PostgresCatalog):
            with self._catalog.in_one_transaction() as catalog:
                yield catalog
        else:
            yield self._catalog

    def _check_nothing_is_lost(self, bucket: str, day: date, table: Table, ledger: pa.Table) -> None:
        held = table.scan(day_filter(bucket, day, day), ("log_key",)).to_arrow()["log_key"]
        lost = held.filter(pc.invert(pc.is_in(held, ledger["log_key"].combine_chunks())))
        if len(lost):
            raise LakeError(
                f"lake {self.url}, bucket {bucket}, delivery day {day}: the lake holds"
                f" {count_noun(len(lost), 'log key')} that would be lost, for example '{lost[0]}', because this"
                " load does not have them; the day stays as it is; load it from where all its log keys are"
            )


def _partition(schema: Schema) -> PartitionSpec:
    fields = [
        PartitionField(schema.find_field(name).field_id, 1000 + number, IdentityTransform(), name)
        for number, name in enumerate(columns.PARTITIONS)
    ]
    return PartitionSpec(*fields)


def _count(bucket: str, day: date, files: DayFiles) -> dict[str, Any]:
    """Return the counts of a day. Raises LakeError if lines were lost, or the files differ from the ledger."""
    found = {
        name: pc.sum(files.ledger[f"{name}_count"]).as_py() or 0 for name in ("line", "record", "rejected", "blank")
    }
    written = {
        "record": sum(file.record_count for file in files.records),
        "rejected": sum(file.record_count for file in files.rejected),
    }
    kept = pc.add(pc.add(files.ledger["record_count"], files.ledger["rejected_count"]), files.ledger["blank_count"])
    wrong = files.ledger["log_key"].filter(pc.not_equal(files.ledger["line_count"], kept))
    if len(wrong) or any(found[name] != rows for name, rows in written.items()):
        raise LakeError(
            f"bucket {bucket}, delivery day {day}: the written rows differ from the counts of the log keys"
            f" ({written} in the files, {found} counted{f', first {wrong[0]}' if len(wrong) else ''}); nothing was"
            " changed; please report it"
        )
    return {"bucket": bucket, "day": day, "keys": files.ledger.num_rows} | {
        f"{name}-count": count for name, count in found.items()
    }


def make_path(metadata: TableMetadata, bucket: str, day: date) -> str:
    """Return the path of a new data file of a delivery day."""
    return f"{metadata.location}/data/logged_bucket={bucket}/delivery_day={day.isoformat()}/{uuid4().hex}.parquet"


def write_record_file(
    io: FileIO, metadata: TableMetadata, bucket: str, day: date, tables: Iterable[pa.Table], rows: int
) -> DataFile | None:
    """Write records, in the order of their object keys, as a data file of that day; None if there are none.

    `tables` have the columns of `schema.RECORDS`. `rows` is about how many come.
    """
    path = make_path(metadata, bucket, day)
    arriving = iter(tables)
    first = next(arriving, None)
    if first is None:
        return None
    hit(FailPoint.LAKE_FILE_BEFORE)
    with io.new_output(path).create() as file:
        whole = itertools.chain([first], arriving)
        write_records(file, whole, columns.RECORDS, rows)  # type: ignore[arg-type]  # it has what is used
    hit(FailPoint.LAKE_FILE_AFTER)
    return parquet_file_to_data_file(io, metadata, path)


def write_table(io: FileIO, metadata: TableMetadata, bucket: str, day: date, table: pa.Table) -> list[DataFile]:
    """Write the rows of a small table as a data file of that day; no file if there are none."""
    if not table.num_rows:
        return []
    path = make_path(metadata, bucket, day)
    with io.new_output(path).create() as file:
        pq.write_table(table, file, compression="zstd")
    return [parquet_file_to_data_file(io, metadata, path)]


def write_ledger(table: Table, bucket: str, day: date, ledger: pa.Table) -> list[DataFile]:
    """Write the ledger of a day as a data file, in the order of the names."""
    ordered = ledger.sort_by("log_key").cast(columns.LEDGER)
    return write_table(table.io, table.metadata, bucket, day, ordered)
