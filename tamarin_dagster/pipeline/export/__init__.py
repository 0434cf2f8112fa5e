"""Export records for common tools: web log analysers, spreadsheets, DuckDB, Athena, Spark.

`text` writes lines and CSV, `columnar` writes Parquet files in folders that `hive` names. Each request day is one
statement, sent on as it arrives. This module does not know Dagster.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.failures import DayFailure


class ExportFormat(StrEnum):
    """The format of an export."""

    combined = "combined"
    csv = "csv"
    parquet = "parquet"


@dataclass(slots=True)
class Exported:
    """What an export has written so far.

    Attributes:
        days: request days that were read, of `all_days`.
        rows: records.
        bytes: the size of the text or the files.
        files: Parquet files.
        failures: buckets and days whose file could not be written; an earlier file stays.
    """

    all_days: int = 0
    days: int = 0
    rows: int = 0
    bytes: int = 0
    files: int = 0
    failures: list[DayFailure] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return a summary in one line."""
        files = f" in {count_noun(self.files, 'file')}" if self.files else ""
        rate = self.rows / self.seconds if self.seconds else 0
        return (
            f"{count_noun(self.rows, 'record')}{files}, {count_noun(self.bytes, 'byte')}; {self.seconds:.1f} s,"
            f" {rate:,.0f} records/s"
        )
