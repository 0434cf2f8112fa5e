"""Records for the tools that people have: web log analysers, spreadsheets, DuckDB, Athena, Spark.

`text` makes lines and CSV, `columnar` Parquet files in folders that `hive` names. Each day of requests is a statement
of its own, and is sent on as it comes. Knows nothing of Dagster.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from tamarin_dagster.recordstore.failures import DayFailure


class ExportFormat(StrEnum):
    """What records are written as."""

    combined = "combined"
    csv = "csv"
    parquet = "parquet"


@dataclass(slots=True)
class Exported:
    """What an export has written so far.

    Attributes:
        days: days of requests that were looked at, of `all_days`.
        rows: records.
        bytes: of text, or of files.
        files: Parquet files.
        failures: buckets and days whose file could not be written; a file that was there before stays.
    """

    all_days: int = 0
    days: int = 0
    rows: int = 0
    bytes: int = 0
    files: int = 0
    failures: list[DayFailure] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """In a line, for a person."""
        files = f" in {self.files:,} files" if self.files else ""
        rate = self.rows / self.seconds if self.seconds else 0
        return f"{self.rows:,} records{files}, {self.bytes:,} bytes; {self.seconds:.1f} s, {rate:,.0f} records/s"
