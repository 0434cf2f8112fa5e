"""Files that are there whole or not at all, in folders as Hive names them."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
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


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, that takes its name once all is on the disk; an older one of that name is replaced.

    Until then its name begins with a dot, which readers of folders pass over. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".writing", delete=False) as file:
        try:
            yield file.file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _umask() -> int:
    """What the process takes from the rights of new files; there is no way to ask but to set it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
