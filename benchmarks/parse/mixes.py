"""The files of the benchmark: the demo's traffic, the same with odd lines, and the truth of each line."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from benchmarks.parse.odd_lines import KINDS, NO_RECORD_KINDS, OddLine, no_record, odd_record
from benchmarks.parse.truth import Compared, Digests, compared, compared_demo_line, digests, lines_of
from tamarin_dagster.demo import write_log_keys

ODD_EVERY = 20
"""5 % odd lines, enough to affect the rate."""
NO_RECORD_EVERY = 10
"""One in ten of the odd lines is not a record."""
FIRST_LINES = 200_000
"""The number of lines for slow parsers: at least a second of reading. Their rate does not depend on the number."""
_LINES_PER_KEY = 500
_DAYS = 10
_END = datetime(2026, 1, 1, tzinfo=UTC)
"""A fixed end, so that each run has the same lines."""


@dataclass(frozen=True)
class Mix:
    """A file of lines, its beginning as another file, and its truth."""

    name: str
    path: Path
    first_path: Path
    truth: Digests
    bytes: int

    @property
    def line_count(self) -> int:
        """Return the number of lines of the file."""
        return len(self.truth)

    @property
    def first_count(self) -> int:
        """Return the number of lines of the file's beginning."""
        return min(self.line_count, FIRST_LINES)


def write_mixes(folder: Path, lines: int) -> tuple[Mix, Mix]:
    """Write the ordinary and the nasty mix with this number of lines as files in `folder`."""
    ordinary = folder / "ordinary.log"
    write_log_keys(folder / "keys", lines=lines, keys=max(1, lines // _LINES_PER_KEY), days=_DAYS, end=_END)
    with ordinary.open("wb") as out:
        for path in sorted((folder / "keys").rglob("*-*")):
            out.write(path.read_bytes())
    shutil.rmtree(folder / "keys")
    nasty = folder / "nasty.log"
    with nasty.open("wb") as out:
        truth = digests(_writing(out.write, nasty_lines(lines_of(ordinary))))
    return (
        _mix("ordinary mix", ordinary, digests(map(compared_demo_line, lines_of(ordinary)))),
        _mix(f"nasty mix, {100 // ODD_EVERY} % odd lines", nasty, truth),
    )


def nasty_lines(lines: Iterable[str]) -> Iterator[tuple[bytes, Compared | None]]:
    """Yield the lines of the demo's traffic, with every 20th replaced by an odd line, and the truth of each."""
    for index, line in enumerate(lines):
        if index % ODD_EVERY == ODD_EVERY - 1:
            odd = _odd_line(index // ODD_EVERY)
            yield odd.line, None if odd.fields is None else compared(odd.fields)
        else:
            yield line.encode(), compared_demo_line(line)


def _odd_line(number: int) -> OddLine:
    """Return the kinds in turn, so that each part of the file has the same share of each."""
    tens, position = divmod(number, NO_RECORD_EVERY)
    if position == NO_RECORD_EVERY - 1:
        return no_record(NO_RECORD_KINDS[tens % len(NO_RECORD_KINDS)], number)
    return odd_record(KINDS[(number - tens) % len(KINDS)], number)


def _writing(
    write: Callable[[bytes], int], lines: Iterator[tuple[bytes, Compared | None]]
) -> Iterator[Compared | None]:
    for line, truth in lines:
        write(line + b"\n")
        yield truth


def _mix(name: str, path: Path, truth: Digests) -> Mix:
    first = path.with_stem(f"{path.stem}-first")
    with path.open("rb") as whole, first.open("wb") as out:
        out.writelines(islice(whole, FIRST_LINES))
    return Mix(name, path, first, truth, path.stat().st_size)
