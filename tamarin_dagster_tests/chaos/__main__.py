"""Plays the matrix and prints its table.

    .venv/bin/python -m tamarin_dagster_tests.chaos [--only TEXT] [--kills 200] [--markdown FILE]

Exit status 0 only if each row is as expected.
"""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tamarin_dagster_tests.chaos.kills import random_kills
from tamarin_dagster_tests.chaos.matrix import Row, as_markdown, played
from tamarin_dagster_tests.chaos.rows import SCENARIOS
from tamarin_dagster_tests.chaos.worlds import bench

_BEGIN, _END = "<!-- matrix -->\n", "<!-- /matrix -->"


def main() -> int:
    """Plays, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows with this text in their group or fault")
    parser.add_argument(
        "--kills", type=int, default=0, help="the number of kills at random moments, in addition to the matrix"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", type=Path, help="a file in which the table is put between its marks")
    options = parser.parse_args()
    console = Console()
    chosen = [each for each in SCENARIOS if options.only.lower() in f"{each.group} {each.fault}".lower()]
    rows: list[Row] = []
    kills_told = ""
    with bench() as shared:
        for row in played(shared, chosen):
            rows.append(row)
            mark = "[green]as expected[/]" if row.as_expected else "[red]NOT AS EXPECTED[/]"
            console.print(f"{len(rows):3} of {len(chosen)} {mark} {row.seconds:5.1f} s", row.scenario.fault, row.seen)
        if options.kills:
            started = time.monotonic()
            killed, equal = random_kills(shared, options.kills, options.seed)
            kills_told = (
                f"kill -9 at {options.kills} random moments: {killed} died before their end,"
                f" {equal} of {options.kills} worlds are as without it ({time.monotonic() - started:.0f} s)"
            )
    console.print(_table(rows))
    unexpected = sum(not row.as_expected for row in rows)
    total = f"{len(rows)} rows, {len(rows) - unexpected} as expected"
    console.print(total, kills_told, sep="\n")
    if options.markdown:
        _put(options.markdown, f"{total}. {kills_told}".strip() + "\n\n" + as_markdown(rows))
    return 1 if unexpected or (options.kills and equal < options.kills) else 0


def _table(rows: list[Row]) -> Table:
    table = Table("fault", "expected", "seen", header_style="bold", show_lines=True)
    for row in rows:
        table.add_row(row.scenario.fault, row.scenario.expected, row.seen, style="" if row.as_expected else "red")
    return table


def _put(file: Path, text: str) -> None:
    before, _, rest = file.read_text("utf-8").partition(_BEGIN)
    file.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{rest.partition(_END)[2]}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
