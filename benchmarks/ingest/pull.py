r"""Measure `tamarin-dagster pull` end to end, compared with psql's \copy of the same rows into an equal, empty table.

    .venv/bin/python -m benchmarks.ingest.pull [--lines 1000000] [--keys 2000] [--rounds 5]

Both run in turn against one embedded Postgres in a temporary folder. The seconds of the pull are those of the whole
process: start, listing, reading, parsing, loading. The \copy reads a CSV file of finished rows. Peak memory is that of
the pull's process.
"""

import os
import statistics
import subprocess
import time

import psycopg

from benchmarks.command_line import command_line, show
from benchmarks.ingest.stage import Stage, Usage, stage
from benchmarks.sheet import Sheet
from tamarin_dagster.recordstore.schema.tables import RECORD_COLUMNS


def main() -> None:
    """Print a table of medians."""
    parser = command_line(__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with stage() as staged:
        written = staged.write_keys(lines=options.lines, keys=options.keys)
        pulls, copies = [], []
        for number in range(options.rounds):
            staged.empty_tables()
            pulls.append(staged.pull(options.lines))
            if number == 0:
                prepare_copy(staged)
            copies.append(copy_rows(staged))
    title = f"{options.lines:,} lines in {options.keys:,} keys, {written.bytes / 1e6:,.0f} MB"
    show([_sheet(title, options.lines, pulls, copies)], options.markdown)


def prepare_copy(staged: Stage) -> None:
    """Write the loaded rows to a CSV file, and create an empty table like the record table, with its index."""
    columns = ", ".join(RECORD_COLUMNS)
    with (staged.folder / "rows.csv").open("wb") as out, psycopg.connect(staged.url) as connection:
        statement = f"COPY (SELECT {columns} FROM s3_log_record) TO STDOUT (FORMAT csv)"
        with connection.cursor().copy(statement) as copy:
            for piece in copy:
                out.write(piece)
        connection.execute(
            "CREATE TABLE equal_record (LIKE s3_log_record INCLUDING ALL) PARTITION BY RANGE (request_dtime)"
        )
        bounds = connection.execute(
            "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid)"
            " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 's3_log_record'::regclass"
        ).fetchall()
        for name, bound in bounds:
            connection.execute(f"CREATE TABLE equal_{name} PARTITION OF equal_record {bound}")


def copy_rows(staged: Stage) -> float:
    """Return the seconds of psql's copy into the empty table."""
    staged.execute("TRUNCATE equal_record", "CHECKPOINT")
    path = staged.folder / "rows.csv"
    statement = f"\\copy equal_record ({', '.join(RECORD_COLUMNS)}) FROM '{path}' (FORMAT csv)"
    started = time.perf_counter()
    subprocess.run([staged.server.psql, "-q", staged.url, "-c", statement], check=True)
    return time.perf_counter() - started


def _sheet(title: str, lines: int, pulls: list[Usage], copies: list[float]) -> Sheet:
    figures = (
        ("tamarin-dagster pull, lines/s", [lines / pull.seconds for pull in pulls], ",.0f"),
        ("psql \\copy of the same rows, rows/s", [lines / seconds for seconds in copies], ",.0f"),
        ("ratio pull / \\copy", [copy / pull.seconds for pull, copy in zip(pulls, copies, strict=True)], ".2f"),
        ("peak memory of the pull, MiB", [pull.peak_mib for pull in pulls], ",.0f"),
    )
    rows = [
        [name, *(format(figure(values), unit) for figure in (statistics.median, min, max))]
        for name, values, unit in figures
    ]
    title += f"; {len(pulls)} rounds, {os.cpu_count()} cores"
    return Sheet(title, ("", "median", "min", "max"), rows, texts=("",))


if __name__ == "__main__":
    main()
