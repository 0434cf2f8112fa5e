"""Measure how much faster a pull is with several connections (`load_connections`).

    .venv/bin/python -m benchmarks.ingest.connections [--lines 1000000] [--keys 2000] [--connections 1,2,3,4]
        [--rounds 5]

Each round loads the same keys into empty tables with each number of connections, in whole processes. The ratio is to
the first number of the same round. More connections than cores cannot help.
"""

import os
import statistics

from benchmarks.command_line import command_line, show, whole_numbers
from benchmarks.ingest.stage import Usage, stage
from benchmarks.sheet import Sheet


def main() -> None:
    """Print a table with a row for each number of connections."""
    parser = command_line(__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=2_000)
    parser.add_argument("--connections", type=whole_numbers, default="1,2,3,4")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    usages: dict[int, list[Usage]] = {count: [] for count in options.connections}
    with stage() as staged:
        staged.write_keys(lines=options.lines, keys=options.keys)
        for _ in range(options.rounds):
            for count, taken in usages.items():
                staged.empty_tables()
                taken.append(staged.pull(options.lines, environment={"TAMARIN_LOAD_CONNECTIONS": str(count)}))
    title = (
        f"Pulls of {options.lines:,} lines in {options.keys:,} keys; {options.rounds} rounds, {os.cpu_count()} cores"
    )
    show([_sheet(title, options.lines, usages)], options.markdown)


def _sheet(title: str, lines: int, usages: dict[int, list[Usage]]) -> Sheet:
    first = next(iter(usages))
    rows = []
    for count, taken in usages.items():
        rates = [lines / usage.seconds for usage in taken]
        ratios = [one.seconds / usage.seconds for one, usage in zip(usages[first], taken, strict=True)]
        rows.append(
            [
                str(count),
                *(f"{figure(rates):,.0f}" for figure in (statistics.median, min, max)),
                *(f"{figure(ratios):.2f}" for figure in (statistics.median, min, max)),
                f"{statistics.median(usage.peak_mib for usage in taken):,.0f}",
            ]
        )
    headings = ("connections", "lines/s", "min", "max", f"speed to {first}", "min", "max", "peak MiB")
    return Sheet(title, headings, rows, ())


if __name__ == "__main__":
    main()
