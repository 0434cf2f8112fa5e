"""The S3 server access log format. Pure: bytes in, frames out; no network, no database, no Dagster.

`parse_logs` and `parse_log` read log objects, `parse_parts` one of any size, `parse_key_name` their names, `decompress`
and `unpacked` unpack them, `redact` takes the secrets of presigned URLs out of records, `shape` masks a line,
and `FIELDS` says what one holds.
"""

from tamarin_dagster.logformat.compression import DecompressionError, decompress, unpacked
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
from tamarin_dagster.logformat.masking import SHAPE_BYTES, shape
from tamarin_dagster.logformat.parser import (
    LogCounts,
    ParsedLog,
    ParsedLogs,
    RejectedLine,
    parse_log,
    parse_logs,
    parse_parts,
)
from tamarin_dagster.logformat.reasons import RejectReason
from tamarin_dagster.logformat.records import RECORDS_SCHEMA, Records
from tamarin_dagster.logformat.redaction import redact, redact_text

__all__ = [
    "FIELDS",
    "FIELD_NAMES",
    "NUMBER_NAMES",
    "RECORDS_SCHEMA",
    "SHAPE_BYTES",
    "TEXT_NAMES",
    "DatedFolders",
    "DecompressionError",
    "DeliveryHour",
    "DeliveryPeriod",
    "Field",
    "LogCounts",
    "LogKeyName",
    "ParsedLog",
    "ParsedLogs",
    "Records",
    "RejectReason",
    "RejectedLine",
    "dated_folders",
    "decompress",
    "delivery_day",
    "escape_bytes",
    "parse_key_name",
    "parse_log",
    "parse_logs",
    "parse_parts",
    "partitioned_prefix",
    "redact",
    "redact_text",
    "shape",
    "simple_prefix",
    "unescape_text",
    "unpacked",
]
