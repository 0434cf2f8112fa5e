r"""Measure rollups: the load with its parts, the roll-up of a day, a late log key, and the disk space.

    .venv/bin/python -m benchmarks.answers.rollups [--traffic demo|distinct|put] [--lines 1000000] [--rounds 5]

Each round runs in this order: `tamarin-dagster pull` of one log key of 1,000 lines, which measures the start of the
process; the pull of all log keys with its rollups; psql's \copy of the same rows into an equal table; `pull
--no-rollups`, and the roll-up of its largest day alone; a late log key of 1,000 lines of that day, and its roll-up. All
requests are of one day, unless you set `--days`. The sizes of rollups, parts, records and Postgres' temporary files are
measured once.
"""

import os
import statistics
import time
from datetime import date
from pathlib import Path

import sqlalchemy as sa

from benchmarks.answers.unkind import write_unkind_keys
from benchmarks.command_line import command_line, show
from benchmarks.ingest.pull import copy_rows, prepare_copy
from benchmarks.ingest.stage import COMMAND, LOG_PREFIX, PULL, Stage, stage
from benchmarks.sheet import Sheet
from tamarin_dagster.analytics.checking import check_sums
from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.demo import write_log_keys
from tamarin_dagster.recordstore.schema.traffic_tables import ROLLUPS, traffic_day, traffic_fold, traffic_part

PULL_AND_ROLL_UP = (*COMMAND, "pull", "--no-purge")
LATE_LINES = 1000
_DAY = date(2026, 3, 5)
_EARLIER = date(2026, 2, 5)
_TABLES = (*ROLLUPS, traffic_day, traffic_fold, traffic_part)


def main() -> None:
    """Print a table of medians, and a table of sizes."""
    parser = command_line(__doc__)
    parser.add_argument("--traffic", choices=("demo", "distinct", "put"), default="demo")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    figures: dict[str, list[float]] = {}
    with stage() as staged:
        _write_keys(staged, options.traffic, options.lines, options.keys, options.days)
        engine = sa.create_engine(staged.server.url("tamarin", "postgresql+psycopg"))
        for number in range(options.rounds):
            for name, value in _round(staged, engine, options.traffic, options.lines, is_first=number == 0).items():
                figures.setdefault(name, []).append(value)
        spilled = staged.scalar("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
        if check_sums(engine).differences:
            raise SystemExit("the rollups do not add up to the records")
        sizes = _sizes(staged, options.lines, spilled)
        engine.dispose()
    rows = [
        [name, *(f"{figure(values):.2f}" for figure in (statistics.median, min, max))]
        for name, values in figures.items()
    ]
    title = f"{options.lines:,} records, {options.traffic} traffic, {options.days} days; {options.rounds} rounds"
    show([Sheet(title, ("", "median", "min", "max"), rows, ("",)), sizes], options.markdown)


_PUT_SHARES = {"distinct": 0.0, "put": 0.99}


def _write_keys(staged: Stage, traffic: str, lines: int, keys: int, days: int) -> None:
    if traffic == "demo":
        staged.write_keys(lines=lines, keys=keys, days=days)
    else:
        write_unkind_keys(staged.log_folder, lines=lines, keys=keys, day=_DAY, put_share=_PUT_SHARES[traffic])
    staged.configure(_EARLIER)


def _round(staged: Stage, engine: sa.Engine, traffic: str, lines: int, *, is_first: bool) -> dict[str, float]:
    start = _start(staged, traffic)
    _empty(staged)
    pull = staged.run(PULL_AND_ROLL_UP).seconds
    staged.expect(lines)
    if is_first:
        prepare_copy(staged)
    copy = copy_rows(staged)
    _empty(staged)
    staged.pull(lines)
    rolled_up = roll_up(engine)
    if rolled_up.requests != lines:
        raise SystemExit(f"{rolled_up.requests:,} of {lines:,} requests were rolled up")
    largest = max(rolled_up.days, key=lambda day: day.requests)
    late = _late_key(staged, engine, traffic, largest.day)
    return {
        "pull with rollups, s": pull,
        "start of its process, s": start,
        "\\copy, s": copy,
        "\\copy / pull": copy / pull,
        "\\copy / pull less its start": copy / (pull - start),
        "roll-up of the largest day, s": largest.seconds,
        "roll-up after a late key of 1,000 lines, s": late,
    }


def _start(staged: Stage, traffic: str) -> float:
    """Return the seconds of a pull of one log key, of a day before all others."""
    _empty(staged)
    name = _write_late_key(staged, traffic, _EARLIER)
    try:
        return staged.run((*PULL_AND_ROLL_UP, "--from", str(_EARLIER), "--to", str(_EARLIER))).seconds
    finally:
        name.unlink()


def _empty(staged: Stage) -> None:
    staged.execute(f"TRUNCATE {', '.join(table.name for table in _TABLES)}")
    staged.empty_tables()


def _late_key(staged: Stage, engine: sa.Engine, traffic: str, day: date) -> float:
    """Return the seconds of the roll-up of a day after one more log key."""
    name = _write_late_key(staged, traffic, day)
    try:
        staged.run(PULL)
        started = time.perf_counter()
        rolled_up = roll_up(engine)
        seconds = time.perf_counter() - started
        if [each.day for each in rolled_up.days] != [day] or rolled_up.requests <= LATE_LINES:
            raise SystemExit("the late log key is not of the day that was rolled up before")
        return seconds
    finally:
        name.unlink()


def _write_late_key(staged: Stage, traffic: str, day: date) -> Path:
    """Write a log key of a day, with requests of that day to the bucket of the other log keys."""
    late = staged.folder / "late"
    if traffic == "demo":
        write_log_keys(late, lines=LATE_LINES, keys=1, days=1, prefix=LOG_PREFIX)
    else:
        write_unkind_keys(late, lines=LATE_LINES, keys=1, day=day, put_share=_PUT_SHARES[traffic])
    (written,) = (path for path in late.rglob("*") if path.is_file())
    name = staged.log_folder / LOG_PREFIX / f"{day}-23-59-59-FFFFFFFFFFFFFFFF"
    found = written.read_bytes()
    # the demo's log keys belong to the last days
    for stamp in {line.split(b"[", 1)[1][:11] for line in found.splitlines()}:
        found = found.replace(b"[" + stamp, f"[{day:%d/%b/%Y}".encode())
    name.write_bytes(found)
    os.utime(name, (0, 0))  # a file that was just written would wait for the next pull
    written.unlink()
    return name


def _sizes(staged: Stage, lines: int, spilled: int) -> Sheet:
    records = staged.scalar(
        "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 's3_log_record'::regclass"
    )
    rows = [["s3_log_record", f"{lines:,}", f"{records:,}", "100.0"]]
    for table in _TABLES:
        staged.execute(f"VACUUM FULL {table.name}")
        size = staged.scalar(f"SELECT pg_total_relation_size('{table.name}')")
        rows.append([table.name, f"{staged.count(table.name):,}", f"{size:,}", f"{100 * size / records:.2f}"])
    rows.append(["rollups and parts", "", "", f"{sum(float(row[3]) for row in rows[1:]):.2f}"])
    rows.append(["temporary files of all rounds", "", f"{spilled:,}", ""])
    return Sheet("Disk space", ("", "rows", "bytes", "% of the records"), rows, ("",))


if __name__ == "__main__":
    main()
