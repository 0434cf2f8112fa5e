"""Parse the S3 server access log format: bytes in, DataFrames out. No network, no database, no Dagster.

`parse_logs` and `parse_log` parse log objects, `parse_parts` parses one of any size, `parse_key_name` parses their
names. `decompress` and `decompress_chunks` decompress them, `redact` removes the secrets of presigned URLs from
records, `mask_line` masks a line, `FIELDS` lists the fields of a line, and `RECORDS_SCHEMA` is the schema of a
DataFrame of records.

The way of a line: `lines` cuts bodies into lines, `compiled` or `regex_reader` reads them by the patterns of `fields`,
`parser` makes the frames of `frames`, `redaction` removes secrets.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tamarin_dagster.logformat.escaping import escape_bytes, unescape_text
from tamarin_dagster.logformat.fields import FIELD_NAMES, FIELDS, NUMBER_NAMES, TEXT_NAMES, Field
from tamarin_dagster.logformat.keynames import (
    DatedFolders,
    DeliveryHour,
    DeliveryPeriod,
    LogKeyName,
    dated_folders,
    delivery_day,
    parse_key_name,
    partitioned_prefix,
    simple_prefix,
)
from tamarin_dagster.logformat.masking import SHAPE_BYTES, mask_line
from tamarin_dagster.logformat.reasons import RejectReason
from tamarin_dagster.logformat.redaction import redact, redact_text

if TYPE_CHECKING:
    from tamarin_dagster.logformat.compression import DecompressionError, decompress, decompress_chunks
    from tamarin_dagster.logformat.frames import RECORDS_SCHEMA, REJECTED_SCHEMA, FrameError
    from tamarin_dagster.logformat.parser import LogCounts, ParsedLog, ParsedLogs, parse_log, parse_logs, parse_parts

# Names that need pyarrow, which takes 0.2 s to import, are imported on first use, because most commands do not need
# them.
_LAZY = {
    "compression": ("DecompressionError", "decompress", "decompress_chunks"),
    "frames": ("RECORDS_SCHEMA", "REJECTED_SCHEMA", "FrameError"),
    "parser": ("LogCounts", "ParsedLog", "ParsedLogs", "parse_log", "parse_logs", "parse_parts"),
}
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [
    "FIELDS",
    "FIELD_NAMES",
    "NUMBER_NAMES",
    "RECORDS_SCHEMA",
    "REJECTED_SCHEMA",
    "SHAPE_BYTES",
    "TEXT_NAMES",
    "DatedFolders",
    "DecompressionError",
    "DeliveryHour",
    "DeliveryPeriod",
    "Field",
    "FrameError",
    "LogCounts",
    "LogKeyName",
    "ParsedLog",
    "ParsedLogs",
    "RejectReason",
    "dated_folders",
    "decompress",
    "decompress_chunks",
    "delivery_day",
    "escape_bytes",
    "mask_line",
    "parse_key_name",
    "parse_log",
    "parse_logs",
    "parse_parts",
    "partitioned_prefix",
    "redact",
    "redact_text",
    "simple_prefix",
    "unescape_text",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
