"""Measure the peak memory of a pull by the size of a day and by the sizes of its keys.

    .venv/bin/python -m benchmarks.ingest.memory [--megabytes 1000] [--key-kilobytes 270] [--rounds 3] [--big]

The log is 20,000 lines of the demo's traffic, repeated, all in one day: in ordinary keys, as a single key, and as a
gzipped key; --big adds four times as much in ordinary keys. A pull of a tenth is the baseline; another pull finds
nothing to load. Peak memory is the resident memory of the pull's process, as the system counts it. The benchmark needs
four times the size of the log on disk, or sixteen times with --big.
"""

import os
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from benchmarks.command_line import command_line, show
from benchmarks.ingest.repeated import Written, day_folder, lines_in, write_repeated
from benchmarks.ingest.stage import Stage, Usage, stage
from benchmarks.sheet import Sheet

_HEADINGS = ("one day", "keys", "lines", "MB", "MB unpacked", "peak MiB", "max", "to a tenth", "lines/s")


@dataclass(frozen=True)
class Case:
    """The log of a day: the bytes of its lines, and the size of its keys (None means a single key)."""

    name: str
    bytes: int
    key_bytes: int | None
    gzipped: bool = False


def main() -> None:
    """Print a table of peaks."""
    parser = command_line(__doc__)
    parser.add_argument("--megabytes", type=float, default=1_000, help="of log: %(default)s")
    parser.add_argument("--key-kilobytes", type=float, default=270, help="of an ordinary key: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--big", action="store_true", help="four times as much, too")
    options = parser.parse_args()
    cases = _cases(round(options.megabytes * 1e6), round(options.key_kilobytes * 1e3), big=options.big)
    with stage() as staged:
        measured = [(case, *_measured(staged, case, options.rounds)) for case in cases]
    title = f"Peak memory of `tamarin-dagster pull`; {options.rounds} rounds, {os.cpu_count()} cores"
    show([_sheet(title, measured)], options.markdown)


def _cases(size: int, key_bytes: int, *, big: bool) -> list[Case]:
    return [
        Case("nothing to load", 0, key_bytes),
        Case("a tenth, ordinary keys", size // 10, key_bytes),
        Case("ordinary keys", size, key_bytes),
        *([Case("four times, ordinary keys", 4 * size, key_bytes)] if big else []),
        Case("a single key", size, None),
        Case("a single key, gzipped", size, None, gzipped=True),
    ]


def _measured(staged: Stage, case: Case, rounds: int) -> tuple[Written, list[Usage]]:
    """Measure the case with only its keys in the log bucket, and delete them afterwards."""
    day = datetime.now(UTC).date() - timedelta(days=1)
    lines = lines_in(case.bytes) if case.bytes else 0
    keys = max(1, round(case.bytes / case.key_bytes)) if case.key_bytes else 1
    day_folder(staged.log_folder)
    written = Written(0, 0, 0, 0)
    if lines:
        written = write_repeated(staged.log_folder, day, lines=lines, keys=keys, gzipped=case.gzipped)
    staged.configure(day)
    usages = []
    for _ in range(rounds):
        staged.empty_tables()
        usages.append(staged.pull(lines))
    staged.empty_tables()
    shutil.rmtree(staged.log_folder)
    return written, usages


def _sheet(title: str, measured: list[tuple[Case, Written, list[Usage]]]) -> Sheet:
    peaks = {case.name: statistics.median(usage.peak_mib for usage in usages) for case, _, usages in measured}
    baseline = peaks["a tenth, ordinary keys"]
    return Sheet(title, _HEADINGS, list(_rows(measured, peaks, baseline)), texts=_HEADINGS[:1])


def _rows(
    measured: list[tuple[Case, Written, list[Usage]]], peaks: dict[str, float], baseline: float
) -> Iterator[list[str]]:
    for case, written, usages in measured:
        rate = statistics.median(written.lines / usage.seconds for usage in usages)
        yield [
            case.name,
            *(f"{count:,}" for count in (written.keys, written.lines)),
            *(f"{size / 1e6:,.0f}" for size in (written.bytes, written.log_bytes)),
            f"{peaks[case.name]:,.0f}",
            f"{max(usage.peak_mib for usage in usages):,.0f}",
            f"{peaks[case.name] / baseline:.2f}",
            f"{rate:,.0f}",
        ]


if __name__ == "__main__":
    main()
