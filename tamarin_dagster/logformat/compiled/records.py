"""Records as the compiled reader finds them, with texts as spans of bytes, and their conversion to Arrow columns."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamarin_dagster.logformat.compiled.compiling import Octets, compiled, copy_octets, pointer
from tamarin_dagster.logformat.compiled.reader import NULL, Integers, Spans
from tamarin_dagster.logformat.fields import NUMBER_NAMES, TEXT_NAMES
from tamarin_dagster.logformat.frames import RECORDS_SCHEMA
from tamarin_dagster.logformat.values import Typed


@dataclass(frozen=True)
class Records:
    """The records of one piece, in the order of its lines."""

    octets: Octets
    """(bytes,): the bytes that the spans refer to, all of them UTF-8."""
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
        """Return only the records of these rows."""
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

    def typed(self, row: int) -> Typed:
        """Return the values of one record."""
        texts = [
            None if length == NULL else self.octets[start : start + length].tobytes().decode()
            for start, length in self.spans[row].tolist()
        ]
        numbers = [None if number == NULL else number for number in self.numbers[row].tolist()]
        return Typed(int(self.times[row]), numbers, texts)

    def table(self) -> pa.Table:
        """Return the records as columns of `RECORDS_SCHEMA`."""
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
        """Return the columns of TEXT_NAMES, which share one buffer."""
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


@compiled
def _measure(spans: Spans, offsets: Spans, valid: Octets, nulls: Integers) -> None:
    """Write where each text begins in its column, Arrow's validity bits, and the number of nulls of each column."""
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
    """Copy each text to its place; row by row, so that a line's bytes are read once."""
    for row in range(len(spans)):
        for column in range(spans.shape[1]):
            if spans[row, column, 1] > 0:
                at = bases[column] + offsets[column, row]
                copy_octets(pointer(texts), at, pointer(octets), spans[row, column, 0], spans[row, column, 1])
