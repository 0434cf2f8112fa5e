"""S3 server access logs into Postgres, completely and exactly once, with Dagster.

For notebooks and scripts: `read_log_keys` reads log keys from a folder or a bucket, `parse_log` and `parse_logs` read
bytes; all give pandas DataFrames. docs/reference/python.md shows how. `LoggedBucketsComponent` is for `dg` projects.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tamarin_dagster.component import LoggedBucketsComponent
    from tamarin_dagster.logformat import ParsedLog, ParsedLogs, parse_log, parse_logs
    from tamarin_dagster.notebook import LogKeyError, RejectedLinesWarning, read_log_keys

__all__ = [
    "LogKeyError",
    "LoggedBucketsComponent",
    "ParsedLog",
    "ParsedLogs",
    "RejectedLinesWarning",
    "parse_log",
    "parse_logs",
    "read_log_keys",
]

# These are imported when they are used, because the commands do not need them.
_MODULE_OF = (
    dict.fromkeys(("LogKeyError", "RejectedLinesWarning", "read_log_keys"), "notebook")
    | dict.fromkeys(("ParsedLog", "ParsedLogs", "parse_log", "parse_logs"), "logformat")
    | {"LoggedBucketsComponent": "component"}
)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """Return all public names, including those that are imported on use, since `dg` looks here for components."""
    return sorted({*globals(), *__all__})
