"""Our parser, called like the loader does: bytes in, DataFrames out."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from benchmarks.parse.truth import Compared, compared
from tamarin_dagster.logformat import FIELD_NAMES, parse_log, parse_logs, unescape_text
from tamarin_dagster.logformat.engine import ParserName
from tamarin_dagster.pipeline.pull import BATCH_BYTES


def read_logs(path: Path) -> int:
    """Return the number of records, read in batches as a pull makes them."""
    return sum(len(parse_logs([batch]).records) for batch in _batches(path))


def read_by_regex(path: Path) -> int:
    """Return the number of records, read by the regex reader."""
    return sum(len(parse_logs([batch], parser="regex").records) for batch in _batches(path))


def answers(path: Path, parser: ParserName = "compiled") -> Iterator[Compared | None]:
    """Yield the result for each line."""
    for batch in _batches(path):
        parsed = parse_log(batch, parser=parser)
        columns = [_texts(parsed.records[name].array) for name in FIELD_NAMES]
        read = zip(parsed.records["line_number"].tolist(), zip(*columns, strict=True), strict=True)
        found = {number: compared(dict(zip(FIELD_NAMES, values, strict=True))) for number, values in read}
        yield from (found.get(number) for number in range(1, parsed.line_count + 1))


def regex_answers(path: Path) -> Iterator[Compared | None]:
    """Yield the result of the regex reader for each line."""
    return answers(path, "regex")


def _batches(path: Path) -> Iterator[bytes]:
    """Yield the file in batches of whole lines."""
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(BATCH_BYTES):
            end = piece.rfind(b"\n") + 1
            yield rest + piece[:end]
            rest = piece[end:]
    if rest:
        yield rest


def _texts(column: object) -> list[str | None]:
    """Return the values as the line has them."""
    return [None if value is None else _text(value) for value in pa.array(column).to_pylist()]


def _text(value: object) -> str:
    if isinstance(value, str) and "\\x" in value:
        return unescape_text(value).decode("utf-8", "surrogateescape")
    return str(value)
