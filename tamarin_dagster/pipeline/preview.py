"""The first records of a load, for people who look at a run: a few shortened columns without secrets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamarin_dagster.logformat import RECORDS_SCHEMA, redact
from tamarin_dagster.logformat.frames import to_table
from tamarin_dagster.logkey import make_printable

if TYPE_CHECKING:
    import pandas as pd

PREVIEW_ROWS = 5
PREVIEW_COLUMNS = (
    "request_dtime",
    "remote_ip",
    "operation",
    "key",
    "request_uri",
    "http_status",
    "bytes_sent",
    "total_time",
    "user_agent",
)
_MAX_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Preview:
    """Rows of text with the columns PREVIEW_COLUMNS; null is empty."""

    rows: tuple[tuple[str, ...], ...]


def make_preview(records: "pd.DataFrame", log_index: int) -> Preview:
    """Return the first records of one log object of a batch.

    Args:
        records: columns of `logformat.RECORDS_SCHEMA`.
        log_index: the log object's position in the batch.
    """
    start = int(records["log_index"].searchsorted(log_index))
    first = redact(records.iloc[start : start + PREVIEW_ROWS])
    rows = to_table(first, RECORDS_SCHEMA).to_pylist()
    return Preview(
        tuple(tuple(_text(row[name]) for name in PREVIEW_COLUMNS) for row in rows if row["log_index"] == log_index)
    )


def _text(value: object) -> str:
    """Return a value as text that any page can show; clients choose keys, URIs and user agents."""
    text = "" if value is None else make_printable(str(value))
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"
