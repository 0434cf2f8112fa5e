"""A day's rollups beside the load of that day.

    .venv/bin/python -m benchmarks.answers.rollups [--lines 1000000] [--keys 2000] [--rounds 5]

In turn: `tamarin-dagster pull --no-rollups` of a day's log keys into empty tables, the whole process; then the roll-up
of the day of their requests (some are of the day before; that is a roll-up of its own), and the check that each rollup
adds up to the records. And once the rollups' size.
"""

import statistics
import time

import sqlalchemy as sa

from benchmarks.command_line import command_line, show
from benchmarks.ingest.stage import Stage, stage
from benchmarks.sheet import Sheet
from tamarin_dagster.analysis.checking import check_sums
from tamarin_dagster.analysis.rollups import roll_up
from tamarin_dagster.recordstore.traffic_tables import ROLLUPS


def main() -> None:
    """Prints a table of medians, and one of the rollups' sizes."""
    parser = command_line(__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    loads, rollups, checks = [], [], []
    with stage() as staged:
        staged.write_keys(lines=options.lines, keys=options.keys, days=1)
        engine = sa.create_engine(staged.server.url("tamarin", "postgresql+psycopg"))
        for _ in range(options.rounds):
            staged.empty_tables()
            staged.execute(*(f"TRUNCATE {table.name}" for table in ROLLUPS))
            loads.append(staged.pull(options.lines).seconds)
            done = roll_up(engine)
            rollups.append(max(day.seconds for day in done.days))
            if done.requests != options.lines:
                raise SystemExit(f"{done.requests:,} of {options.lines:,} requests were rolled up")
            started = time.perf_counter()
            if check_sums(engine).differences:
                raise SystemExit("the rollups do not add up to the records")
            checks.append(time.perf_counter() - started)
        sizes = _sizes(staged, options.lines)
        engine.dispose()
    figures = (
        ("pull, s", loads, ".1f"),
        ("roll-up, s", rollups, ".2f"),
        ("roll-up / pull", [rollup / load for load, rollup in zip(loads, rollups, strict=True)], ".2f"),
        ("check of the sums, s", checks, ".2f"),
    )
    rows = [
        [name, *(format(figure(values), unit) for figure in (statistics.median, min, max))]
        for name, values, unit in figures
    ]
    title = f"{options.lines:,} records of a day; {options.rounds} rounds"
    show([Sheet(title, ("", "median", "min", "max"), rows, ("",)), sizes], options.markdown)


def _sizes(staged: Stage, lines: int) -> Sheet:
    rows = []
    for table in ROLLUPS:
        count = staged.count(table.name)
        size = staged.scalar(f"SELECT pg_total_relation_size('{table.name}')")
        rows.append([table.name, f"{count:,}", f"{size:,}", f"{size / lines:.2f}"])
    return Sheet("The rollups of that day", ("", "rows", "bytes", "bytes a record"), rows, ("",))


if __name__ == "__main__":
    main()
