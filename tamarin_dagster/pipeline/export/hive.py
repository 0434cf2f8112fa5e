"""Folders as Hive names them: column=value."""

import hashlib
from datetime import date
from urllib.parse import quote

# What Hive, Spark, DuckDB and pyarrow take for NULL in a folder's name.
NULL_VALUE = "__HIVE_DEFAULT_PARTITION__"
# A name of a file or folder has 255 bytes at most.
_MOST_BYTES = 200
_DIGEST_CHARACTERS = 16


def hive_folder(column: str, value: str | None) -> str:
    """`bucket=media` for a value of a column, percent-encoded: `..%2Fetc`, never a path.

    Of a longer value than a folder can be named after, a part and a digest. Source: Hive's FileUtils.escapePathName,
    whose set is a part of what is encoded here.
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
    """`bucket=media/date=2026-03-05`."""
    return f"{hive_folder('bucket', bucket)}/date={day.isoformat()}"
