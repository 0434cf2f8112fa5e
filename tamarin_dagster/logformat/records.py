"""Records as the readers find them: texts as spans of bytes, times and numbers as integers. And as Arrow columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamarin_dagster.logformat.compiling import Octets, compiled, copy_octets, pointer
from tamarin_dagster.logformat.fields import FIELDS, NUMBER_NAMES, TEXT_NAMES
from tamarin_dagster.logformat.lines import Integers
from tamarin_dagster.logformat.quick import NULL, Spans

_EPOCH = date(1970, 1, 1)
_DAY_MICROSECONDS = 86_400_000_000
# Texts that are looked for in all rows at once, each of which is a pass over them.
_TEXTS_COMPARED = 16
_ARROW_TYPES = {
    "timestamptz": pa.timestamp("us", "UTC"),
    "inet": pa.string(),
    "smallint": pa.int16(),
    "bigint": pa.int64(),
    "text": pa.string(),
}
RECORDS_SCHEMA = pa.schema(
    [("log_index", pa.int32()), ("line_number", pa.int64())]
    + [(field.name, _ARROW_TYPES[field.sql_type]) for field in FIELDS]
)
"""Columns of `Records.table`: which log object of the batch, which of its lines (from 1), and the fields."""


@dataclass(frozen=True)
class Records:
    """The records of one piece, in the order of its lines."""

    octets: Octets
    """(bytes,): what the spans are of, UTF-8 throughout."""
    log_index: Integers
    """(records,): position of the log object in the batch."""
    line_number: Integers
    """(records,): number of the line in it, from 1."""
    times: Integers
    """(records,): microseconds since 1970, UTC."""
    numbers: Integers
    """(records, columns of NUMBER_NAMES): `NULL` is null."""
    spans: Spans
    """(records, columns of TEXT_NAMES, 2): start and length of each text; a length of `NULL` is null."""

    def __len__(self) -> int:
        return len(self.times)

    def chosen(self, rows: npt.NDArray[np.bool_]) -> "Records":
        """Only the records of these rows."""
        if rows.all():
            return self
        return Records(
            self.octets,
            self.log_index[rows],
            self.line_number[rows],
            self.times[rows],
            self.numbers[rows],
            self.spans[rows],
        )

    def request_days(self) -> set[tuple[str, date]]:
        """The buckets that the requests were made to, each with the UTC days of its requests."""
        days, spans = self.times // _DAY_MICROSECONDS, self.spans[:, TEXT_NAMES.index("bucket")]
        return {
            (bytes(self.octets[start : start + length]).decode(), _EPOCH + timedelta(days=day))
            for (start, length), rows in _rows_by_text(self.octets, spans)
            if length != NULL
            for day in np.unique(days[rows]).tolist()
        }

    def table(self) -> pa.Table:
        """The records as columns of `RECORDS_SCHEMA`."""
        texts = dict(zip(TEXT_NAMES, self._texts(), strict=True))
        columns = [pa.array(self.log_index.astype(np.int32)), pa.array(self.line_number)]
        for field in RECORDS_SCHEMA.names[2:]:
            if field in texts:
                columns.append(texts[field])
            elif field in NUMBER_NAMES:
                values = self.numbers[:, NUMBER_NAMES.index(field)]
                kind = RECORDS_SCHEMA.field(field).type.to_pandas_dtype()
                columns.append(pa.array(values.astype(kind), mask=values == NULL))
            else:
                columns.append(pa.array(self.times, RECORDS_SCHEMA.field(field).type))
        return pa.table(columns, schema=RECORDS_SCHEMA)

    def _texts(self) -> list[pa.Array]:
        """The columns of TEXT_NAMES, which share one buffer."""
        count = len(self)
        offsets = np.zeros((len(TEXT_NAMES), count + 1), np.int32)
        nulls = np.zeros(len(TEXT_NAMES), np.int64)
        valid = np.zeros((len(TEXT_NAMES), -(-count // 8)), np.uint8)
        _measure(self.spans, offsets, valid, nulls)
        bases = np.concatenate(([0], np.cumsum(offsets[:, -1], dtype=np.int64)))
        texts = np.empty(bases[-1], np.uint8)
        _gather(self.octets, self.spans, offsets, bases, texts)
        return [
            pa.StringArray.from_buffers(
                count,
                pa.py_buffer(offsets[column]),
                pa.py_buffer(texts[bases[column] : bases[column + 1]]),
                pa.py_buffer(valid[column]),
                int(nulls[column]),
            )
            for column in range(len(TEXT_NAMES))
        ]


def _rows_by_text(octets: Octets, spans: Spans) -> Iterator[tuple[tuple[int, int], Integers]]:
    """Each different text's span, and the rows that have it. Mostly there is one; of many the last come one by one."""
    left = np.arange(len(spans))
    for _ in range(_TEXTS_COMPARED):
        if not len(left):
            return
        start, length = spans[left[0]].tolist()
        alike = spans[left, 1] == length
        if length > 0:
            places = spans[left[alike], :1] + np.arange(length)
            alike[alike] = (octets[places] == octets[start : start + length]).all(axis=1)
        yield (start, length), left[alike]
        left = left[~alike]
    for row in left:
        start, length = spans[row].tolist()
        yield (start, length), np.array([row])


@compiled
def _measure(spans: Spans, offsets: Spans, valid: Octets, nulls: Integers) -> None:
    """Where each text begins in its column, which are not null (Arrow's bits), and how many are."""
    for row in range(len(spans)):
        for column in range(spans.shape[1]):
            length = spans[row, column, 1]
            if length == NULL:
                nulls[column] += 1
                length = 0
            else:
                valid[column, row >> 3] |= 1 << (row & 7)
            offsets[column, row + 1] = offsets[column, row] + length


@compiled
def _gather(octets: Octets, spans: Spans, offsets: Spans, bases: Integers, texts: Octets) -> None:
    """Copies each text to its place; row by row, so that a line's bytes are read once."""
    for row in range(len(spans)):
        for column in range(spans.shape[1]):
            if spans[row, column, 1] > 0:
                at = bases[column] + offsets[column, row]
                copy_octets(pointer(texts), at, pointer(octets), spans[row, column, 0], spans[row, column, 1])
