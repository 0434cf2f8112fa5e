"""A peer: DuckDB reads whole lines as a column, and `regexp_extract` with the pattern of `athena` splits them.

`read_csv` returns whole lines as a column if its delimiter is a byte that occurs in no line. DuckDB's text is UTF-8.
With `ignore_errors` it skips other lines; otherwise it would refuse the file.
"""

from collections.abc import Iterator
from pathlib import Path

import duckdb

from benchmarks.parse.athena import COMPARED_GROUPS, GROUPS, PATTERN
from benchmarks.parse.truth import Compared, compared_columns, lines_of

_EXTRACT = """
    SELECT {columns} FROM (
        SELECT line, regexp_extract(line, $pattern, $names) AS found
        FROM read_csv($path, columns = {{'line': 'VARCHAR'}}, auto_detect = false, header = false, delim = chr(1),
                      quote = '', escape = '', strict_mode = false, ignore_errors = true))
"""
_IS_MATCH = "bucketowner <> ''"
"""A line that does not match has empty texts."""
_BATCH_ROWS = 10_000


def read_groups(path: Path) -> int:
    """Return the number of matching lines, after writing their groups to a table."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("CREATE TABLE records AS " + _EXTRACT.format(columns="unnest(found)"), _parameters(path))
    (count,) = connection.execute(f"SELECT count(*) FROM records WHERE {_IS_MATCH}").fetchone() or (0,)
    return int(count)


def answers(path: Path) -> Iterator[Compared | None]:
    """Yield the result for each line. Rows are matched to lines by the text of the line, because some are skipped."""
    columns = ", ".join(f"found.{name}" for name in ("bucketowner", *COMPARED_GROUPS))
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(_EXTRACT.format(columns=f"line, {columns}"), _parameters(path))
    rows = (row for batch in iter(lambda: connection.fetchmany(_BATCH_ROWS), []) for row in batch if row[0])
    row = next(rows, None)
    for line in lines_of(path):
        if row is None or row[0] != line.removesuffix("\r"):
            yield None
            continue
        _, owner, *texts = row
        yield compared_columns(*texts) if owner else None
        row = next(rows, None)


def _parameters(path: Path) -> dict[str, object]:
    return {"path": str(path), "pattern": PATTERN, "names": list(GROUPS)}
