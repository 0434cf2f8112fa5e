"""Measure how many small objects per second a pull gets over HTTP, compared with plain loops that only get them.

    .venv/bin/python -m benchmarks.ingest.objects [--keys 20000] [--lines-per-key 10] [--days 10] [--rounds 5]

nginx serves the objects on loopback, and a small process of ours serves the listings, for all sides. In each round
every side runs once, in its own process: `tamarin-dagster pull --no-purge` as a whole process (into empty tables), a
pull in a process that has already imported everything, obstore and boto3. The ratios are within a round. The time of
each side includes the listing by boto3, which is also shown alone.
"""

import json
import os
import statistics
import subprocess
import sys

from benchmarks.command_line import command_line, show
from benchmarks.ingest import fetching
from benchmarks.ingest.endpoint import NGINX, NO_NGINX, endpoint
from benchmarks.ingest.stage import PULL, Stage, stage
from benchmarks.sheet import Sheet

_PROCESS = "tamarin-dagster pull, whole process"
_WARM = "ingest.pull, in a warm process"
_BASELINES = (fetching.OBSTORE, fetching.BOTO3)


def main() -> None:
    """Print a table of objects per second."""
    parser = command_line(__doc__)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--lines-per-key", type=int, default=10)
    parser.add_argument("--days", type=int, default=10, help="that the keys are spread over")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if NGINX is None:
        print(f"Nothing is measured: {NO_NGINX}")
        return
    rates: dict[str, list[float]] = {side: [] for side in (_PROCESS, _WARM, *fetching.SIDES)}
    lines = options.keys * options.lines_per_key
    with stage() as staged:
        written = staged.write_keys(lines=lines, keys=options.keys, days=options.days)
        with endpoint(staged.log_folder) as url:
            staged.configure(written.first_day, endpoint_url=url)
            for _ in range(options.rounds):
                for side, side_rates in rates.items():
                    side_rates.append(options.keys / _seconds(staged, side, options.keys, lines))
    title = (
        f"{options.keys:,} objects of {options.lines_per_key} lines, {written.bytes / 1e6:,.0f} MB, over HTTP;"
        f" {options.rounds} rounds, {os.cpu_count()} cores"
    )
    show([_sheet(title, rates)], options.markdown)


def _seconds(staged: Stage, side: str, keys: int, lines: int) -> float:
    if side in fetching.SIDES:
        return _told(keys, "fetching", side)
    staged.empty_tables()
    seconds = staged.run(PULL).seconds if side == _PROCESS else _told(keys, "pulling")
    staged.expect(lines)
    return seconds


def _told(keys: int, module: str, *arguments: str) -> float:
    """Return the seconds that one of our modules prints, after checking its number of objects."""
    command = [sys.executable, "-m", f"benchmarks.ingest.{module}", *arguments]
    reported = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    if reported["objects"] != keys:
        raise SystemExit(f"{' '.join(command)}: {reported['objects']:,} objects; {keys:,} were expected")
    return float(reported["seconds"])


def _sheet(title: str, rates: dict[str, list[float]]) -> Sheet:
    rows = []
    for side, own in rates.items():
        ratios = (
            statistics.median(a / b for a, b in zip(own, rates[baseline], strict=True)) for baseline in _BASELINES
        )
        figures = (f"{figure(own):,.0f}" for figure in (statistics.median, min, max))
        rows.append([side, *figures, *(f"{ratio:.2f}" for ratio in ratios)])
    headings = ("", "objects/s", "min", "max", *(f"to {baseline}" for baseline in _BASELINES))
    return Sheet(title, headings, rows, texts=("",))


if __name__ == "__main__":
    main()
