"""The results of a parser, in a form that tests can compare."""

from typing import NamedTuple

import pyarrow as pa

from tamarin_dagster.logformat import RECORDS_SCHEMA, ParsedLogs, RejectReason
from tamarin_dagster.logformat.frames import to_table


class RejectedLine(NamedTuple):
    log_index: int
    line_number: int
    reason: RejectReason
    line: bytes
    line_bytes: int
    sha256: bytes


def records_of(parsed: ParsedLogs) -> pa.Table:
    """Return the records, with None for null."""
    return to_table(parsed.records, RECORDS_SCHEMA)


def rejected_of(parsed: ParsedLogs) -> list[RejectedLine]:
    """Return the rejected lines."""
    lines = [RejectedLine(*row) for row in parsed.rejected.itertuples(index=False)]
    return [line._replace(reason=RejectReason(line.reason)) for line in lines]
