"""Add up the sums of a day from any number of parts, in memory that does not grow with their number."""

from dataclasses import dataclass, field

import pyarrow as pa

from tamarin_dagster.traffic.dimensions import DIMENSIONS
from tamarin_dagster.traffic.folding import fold
from tamarin_dagster.traffic.sums import merge

# A dimension's sums are exact if the day has at most this many values. 250,000 rows take about 30 MB of memory, and 1
# to 2.5 MB as a part.
MAX_VALUES = 250_000
# Rows are merged once there are this many times `max_values` of them: 120 MB of memory, and few merges.
_COLLECTED = 4

_MISSING_REQUESTS, _MISSING_BYTES = b"missing_requests", b"missing_bytes"
_BY_NAME = {each.name: each for each in DIMENSIONS}


@dataclass(slots=True)
class Total:
    """The sums by one dimension, or by hour, added up part by part.

    A day with more than `max_values` values is already folded here. If a folded value comes again in a later part, its
    row lacks the earlier sums: at most `missing_requests` and `missing_bytes`.
    """

    dimension: str
    max_values: int = MAX_VALUES
    missing_requests: int = 0
    missing_bytes: int = 0
    _tables: list[pa.Table] = field(default_factory=list)
    _rows: int = 0

    def add(self, sums: pa.Table) -> None:
        """Add the sums of a part."""
        metadata = sums.schema.metadata or {}
        self.missing_requests += int(metadata.get(_MISSING_REQUESTS, 0))
        self.missing_bytes += int(metadata.get(_MISSING_BYTES, 0))
        self._tables.append(sums.replace_schema_metadata(None))
        self._rows += sums.num_rows
        if self._rows > _COLLECTED * self.max_values:
            self._merge()

    def sums(self) -> pa.Table | None:
        """Return the sums of all parts; None if there are none. Metadata say what a row may lack; `add` reads them."""
        if not self._tables:
            return None
        self._merge()
        (table,) = self._tables
        if not self.missing_requests:
            return table
        missing = {_MISSING_REQUESTS: str(self.missing_requests), _MISSING_BYTES: str(self.missing_bytes)}
        return table.replace_schema_metadata(missing)

    def _merge(self) -> None:
        table = merge(self._tables)
        if self.dimension in _BY_NAME:
            folded = fold(table, _BY_NAME[self.dimension], self.max_values)
            self.missing_requests += folded.largest_requests
            self.missing_bytes += folded.largest_bytes
            table = folded.sums
        self._tables, self._rows = [table], table.num_rows
