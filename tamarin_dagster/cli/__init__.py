"""tamarin-dagster: the command line, for cron, for shells, and for a first look.

What a person can mend is said in a line, without a traceback; the exit statuses are in `app`.
"""

import logging
import os
import signal
import sys
from pathlib import Path

from tamarin_dagster.cli.app import PROGRAM, app
from tamarin_dagster.cli.terminal import LineHandler


def main() -> None:
    """Runs the command line."""
    for sign in (signal.SIGTERM, signal.SIGHUP):  # as ctrl-C: what is at hand is rolled back, the database given up
        signal.signal(sign, signal.default_int_handler)
    if sys.stdout is None:  # closed by whoever started us: the next file would take its number, and get our answers
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as we run
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[LineHandler()])
    app(prog_name=PROGRAM)
