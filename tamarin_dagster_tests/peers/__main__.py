"""Lets the programs read the month, and prints what came of it.

    .venv/bin/python -m tamarin_dagster_tests.peers [--markdown FILE]

Exit status 0 only if each says what it must.
"""

import argparse
import sys
from pathlib import Path

from tamarin_dagster_tests.peers.comparison import as_markdown, compared
from tamarin_dagster_tests.peers.month import month
from tamarin_dagster_tests.peers.programs import missing_programs, versions

BEGIN, END = "<!-- peers -->\n", "<!-- /peers -->"


def main() -> int:
    """Reads, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="a file in which the tables are put between their marks")
    options = parser.parse_args()
    if missing := missing_programs():
        parser.error(f"not installed: {' '.join(missing)}; they are Debian's packages")
    with month() as loaded:
        comparisons = compared(loaded)
    text = as_markdown(comparisons)
    sys.stdout.write(text)
    if options.markdown:
        before, _, rest = options.markdown.read_text("utf-8").partition(BEGIN)
        reported = f"The programs: {versions()}.\n\n{text}"
        options.markdown.write_text(f"{before}{BEGIN}\n{reported}\n{END}{rest.partition(END)[2]}", "utf-8")
    return 0 if all(each.said == each.expected for each in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
