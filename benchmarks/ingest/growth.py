"""Measure how a pull's time and memory grow with the lines, with the keys, and with the size of the ledger.

    .venv/bin/python -m benchmarks.ingest.growth [--lines 10000,100000,1000000] [--keys 1,100,10000,100000]
        [--lines-in-keys 1000000] [--ledger 0,100000,1000000,10000000] [--lines-over-ledger 100000] [--rounds 3] [--big]

Each figure is of a whole process, `tamarin-dagster pull --no-purge` of a file:// bucket. Lines: the demo's traffic in
keys of 500 lines over ten days; --big adds 10,000,000. Keys: the same lines of one day in different numbers of keys.
Ledger: a pull of keys of 500 lines, while the ledger has rows of purged keys of earlier years. Figures are medians of
the rounds. Ratios are of seconds per line, to the row that the heading names.
"""

import os
import shutil
import statistics
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from benchmarks.command_line import command_line, show, whole_numbers
from benchmarks.ingest.ledgers import add_past
from benchmarks.ingest.repeated import write_repeated
from benchmarks.ingest.stage import Stage, Usage, stage
from benchmarks.sheet import Sheet

_BIG_LINES = 10_000_000
_LINES_PER_KEY = 500

Measured = dict[int, list[Usage]]
"""By the number that grows."""


def main() -> None:
    """Print three tables."""
    parser = command_line(__doc__)
    parser.add_argument("--lines", type=whole_numbers, default="10000,100000,1000000")
    parser.add_argument("--keys", type=whole_numbers, default="1,100,10000,100000")
    parser.add_argument("--lines-in-keys", type=int, default=1_000_000)
    parser.add_argument("--ledger", type=whole_numbers, default="0,100000,1000000,10000000")
    parser.add_argument("--lines-over-ledger", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--big", action="store_true", help=f"{_BIG_LINES:,} lines, too")
    options = parser.parse_args()
    lines = [*options.lines, _BIG_LINES] if options.big else options.lines
    with stage() as staged:
        by_lines = {count: _by_lines(staged, count, options.rounds) for count in lines}
        by_keys = {count: _by_keys(staged, options.lines_in_keys, count, options.rounds) for count in options.keys}
        by_ledger = dict(_by_ledger(staged, options.lines_over_ledger, sorted(options.ledger), options.rounds))
    end = f"; {options.rounds} rounds, {os.cpu_count()} cores"
    sheets = [
        _sheet(f"Pulls of keys of {_LINES_PER_KEY} lines{end}", "lines", by_lines),
        _sheet(f"Pulls of {options.lines_in_keys:,} lines in one day{end}", "keys", by_keys, options.lines_in_keys),
        _sheet(
            f"Pulls of {options.lines_over_ledger:,} lines{end}", "ledger before", by_ledger, options.lines_over_ledger
        ),
    ]
    show(sheets, options.markdown)


def _by_lines(staged: Stage, lines: int, rounds: int) -> list[Usage]:
    staged.write_keys(lines=lines, keys=_keys(lines))
    return _pulls(staged, lines, rounds)


def _keys(lines: int) -> int:
    return max(1, lines // _LINES_PER_KEY)


def _by_keys(staged: Stage, lines: int, keys: int, rounds: int) -> list[Usage]:
    day = datetime.now(UTC).date() - timedelta(days=1)
    write_repeated(staged.log_folder, day, lines=lines, keys=keys)
    staged.configure(day)
    return _pulls(staged, lines, rounds)


def _pulls(staged: Stage, lines: int, rounds: int) -> list[Usage]:
    usages = []
    for _ in range(rounds):
        staged.empty_tables()
        usages.append(staged.pull(lines))
    shutil.rmtree(staged.log_folder)
    return usages


def _by_ledger(staged: Stage, lines: int, sizes: list[int], rounds: int) -> Iterator[tuple[int, list[Usage]]]:
    staged.write_keys(lines=lines, keys=_keys(lines))
    before = 0
    staged.empty_tables()
    for size in sizes:
        if size > before:
            add_past(staged.url, [staged.log_folder.as_uri()], before + 1, size)
        before = size
        usages = []
        for _ in range(rounds):
            usages.append(staged.pull(lines))
            staged.execute(
                "TRUNCATE s3_log_record, s3_rejected_line",
                "DELETE FROM s3_log_key WHERE purged_at IS NULL",
                "VACUUM s3_log_key",
                "CHECKPOINT",
            )
        yield size, usages


def _sheet(title: str, what: str, measured: Measured, lines: int | None = None) -> Sheet:
    """Return a table. `lines` is the number of lines of each pull; None means that the number grows."""
    rates = {
        count: statistics.median((lines or count) / usage.seconds for usage in usages)
        for count, usages in measured.items()
    }
    baseline = min(measured) if lines else max(measured)
    rows = [
        [
            f"{count:,}",
            f"{statistics.median(usage.seconds for usage in usages):.2f}",
            f"{rates[count]:,.0f}",
            f"{rates[baseline] / rates[count]:.2f}",
            f"{statistics.median(usage.peak_mib for usage in usages):,.0f}",
        ]
        for count, usages in measured.items()
    ]
    return Sheet(title, (what, "seconds", "lines/s", f"time a line, to {baseline:,}", "peak MiB"), rows, ())


if __name__ == "__main__":
    main()
