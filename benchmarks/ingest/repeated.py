"""Write log keys of any number and size at the speed of the disk, by repeating generated lines.

The lines are 20,000 lines of an evening in the demo's traffic. Each key continues where the key before ended.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from pathlib import Path

from benchmarks.ingest.stage import LOG_PREFIX
from tamarin_dagster.demo import DemoSite, make_lines_between

_STRETCH_LINES = 20_000
_BYTES_PER_LINE = 556
_BEGIN, _END = time(18), time(22)
_GZIP_LEVEL = 1
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Written:
    """The written log keys. `bytes` is their size as stored, `log_bytes` the uncompressed size."""

    keys: int
    lines: int
    bytes: int
    log_bytes: int


def day_folder(folder: Path) -> Path:
    """Return the folder of the log keys in the folder of a log bucket."""
    made = folder / LOG_PREFIX
    made.mkdir(parents=True, exist_ok=True)
    return made


def key_names(day: date, keys: int, suffix: str = "") -> Iterator[str]:
    """Return names of log keys, spread evenly over a day."""
    begin = datetime.combine(day, time(), UTC)
    for number in range(keys):
        moment = begin + timedelta(seconds=86_400 * number // keys)
        yield f"{moment:%Y-%m-%d-%H-%M-%S}-{number:016X}{suffix}"


def lines_in(size: int) -> int:
    """Return the number of these lines that have about this number of bytes."""
    return max(1, size // _BYTES_PER_LINE)


def write_repeated(folder: Path, day: date, *, lines: int, keys: int, gzipped: bool = False) -> Written:
    """Write these lines evenly into the log keys of one day."""
    stretch, ends = _stretch(day)
    size = log_size = done = 0
    target = day_folder(folder)
    for number, name in enumerate(key_names(day, keys, ".gz" if gzipped else "")):
        until = lines * (number + 1) // keys
        packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW) if gzipped else None
        with (target / name).open("wb") as out:
            for piece in _pieces(stretch, ends, done, until):
                out.write(packer.compress(piece) if packer else piece)
                log_size += len(piece)
            if packer:
                out.write(packer.flush())
            size += out.tell()
        done = until
    return Written(keys, lines, size, log_size)


def _stretch(day: date) -> tuple[bytes, list[int]]:
    """Return the lines that are repeated, and the end of each."""
    begin, end = (datetime.combine(day, moment, UTC) for moment in (_BEGIN, _END))
    lines = [
        f"{line}\n".encode() for line in make_lines_between(DemoSite(broken_share=0.0), begin, end, _STRETCH_LINES)
    ]
    return b"".join(lines), list(accumulate(map(len, lines)))


def _pieces(stretch: bytes, ends: list[int], first: int, last: int) -> Iterator[memoryview]:
    """Yield the bytes of the lines from `first` to `last` of the endless repetition."""
    view, count = memoryview(stretch), len(ends)
    while first < last:
        start = first % count
        end = min(count, start + last - first)
        yield view[ends[start - 1] if start else 0 : ends[end - 1]]
        first += end - start
