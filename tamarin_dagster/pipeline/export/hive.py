"""Name folders as Hive does: column=value."""

import hashlib
from datetime import date
from urllib.parse import quote

# The folder name that Hive, Spark, DuckDB and pyarrow read as NULL.
NULL_VALUE = "__HIVE_DEFAULT_PARTITION__"
# File systems limit a name to 255 bytes.
_MOST_BYTES = 200
_DIGEST_CHARACTERS = 16


def hive_folder(column: str, value: str | None) -> str:
    """Return the folder for a value of a column, percent-encoded so that it is never a path: `bucket=media`,
    `..%2Fetc`.

    A value that is too long for a folder name is cut, and a digest is appended. Source: Hive's
    FileUtils.escapePathName; we encode all characters that it encodes, and more.
    """
    if value is None:
        return f"{column}={NULL_VALUE}"
    name = quote(value, safe="")
    if value == NULL_VALUE:
        name = "%5F" + name[1:]
    if len(name) > _MOST_BYTES:
        digest = hashlib.sha256(value.encode()).hexdigest()[:_DIGEST_CHARACTERS]
        name = f"{name[:_MOST_BYTES].rpartition('%')[0] or name[:_MOST_BYTES]}~{digest}"
    return f"{column}={name}"


def partition_folder(bucket: str | None, day: date) -> str:
    """Return the folder for a bucket and day: `bucket=media/date=2026-03-05`."""
    return f"{hive_folder('bucket', bucket)}/date={day.isoformat()}"
