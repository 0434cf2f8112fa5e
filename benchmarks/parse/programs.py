"""Peers that are programs: gawk and GoAccess, from Debian.

gawk splits fields by content (`FPAT`, see "Defining Fields by Content" in its manual), with the alternative `[time]`
that recipes for access logs add. It prints the seven compared columns of each line with at least 17 fields.

GoAccess uses its predefined format for S3 (`--log-format=AWSS3`) and writes its whole report as JSON, with the number
of valid requests. It does not show the fields of a line.
"""

import json
import subprocess
from collections.abc import Iterator
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.parse import one_core
from benchmarks.parse.truth import Compared, Digests, Mistakes, compared_columns, digests, mistakes

_SEPARATOR = "\x1f"
_GAWK = (
    *("gawk", "-v", 'FPAT=[[][^][]*[]]|"[^"]*"|[^ ]+', "-v", f"OFS={_SEPARATOR}"),
    "NF >= 17 { print NR, $4, $7, $8, $9, $10, $12, $17 }",
)


def gawk_seconds(path: Path, folder: Path) -> float:
    """Return the CPU seconds of printing the columns to a file."""
    with (folder / "rows.txt").open("wb") as out:
        return one_core.program_seconds([*_GAWK, str(path)], stdout=out)


def gawk_mistakes(path: Path, truth: Digests) -> Mistakes:
    """Compare the rows that gawk prints with the truth."""
    with one_core.start_program([*_GAWK, str(path)], stdout=subprocess.PIPE) as process:
        rows = (row.decode("utf-8", "surrogateescape").removesuffix("\n") for row in process.stdout or ())
        return mistakes(truth, digests(_gawk_answers(rows, len(truth))))


def goaccess_seconds(path: Path, folder: Path) -> float:
    """Return the CPU seconds of making the report."""
    return one_core.program_seconds(_goaccess(str(path), folder))


def goaccess_mistakes(path: Path, truth: Digests, folder: Path) -> Mistakes:
    """Return the errors by GoAccess' own counts: once for all records, once for all lines that are not records."""
    is_record = truth != 0
    # This does not use its count of failed requests, because it reads a long line as several.
    not_found = int(is_record.sum()) - _goaccess_valid(path, is_record, folder)
    return Mistakes(lost=not_found + _goaccess_valid(path, ~is_record, folder), wrong=None)


def _gawk_answers(rows: Iterator[str], line_count: int) -> Iterator[Compared | None]:
    number, texts = _numbered(next(rows, None))
    for line_number in range(1, line_count + 1):
        if line_number != number:
            yield None
            continue
        yield compared_columns(*texts)
        number, texts = _numbered(next(rows, None))


def _numbered(row: str | None) -> tuple[int, list[str]]:
    if row is None:
        return 0, []
    number, *texts = row.split(_SEPARATOR)
    return int(number), texts


def _goaccess(source: str, folder: Path) -> list[str]:
    # Without --num-tests=0 it gives up if none of the first ten lines is a record.
    return ["goaccess", source, "--log-format=AWSS3", "--no-global-config", "--no-progress", "--num-tests=0",
            f"--output={folder / 'report.json'}"]  # fmt: skip


def _goaccess_valid(path: Path, chosen: npt.NDArray[np.bool_], folder: Path) -> int:
    """Return how many of these lines GoAccess counts as valid requests."""
    if not chosen.any():
        return 0
    command = _goaccess("-", folder)
    with path.open("rb") as lines, one_core.start_program(command, stdin=subprocess.PIPE) as process:
        if process.stdin:
            process.stdin.writelines(compress(lines, chosen))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    report = json.loads((folder / "report.json").read_text("utf-8", "replace"))
    return int(report["general"]["valid_requests"])
