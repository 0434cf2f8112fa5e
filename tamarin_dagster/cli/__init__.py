"""tamarin-dagster: the command line, for cron, for shells, and for a first look.

An error that a person can correct is shown in one line, without a traceback. The exit statuses are in `app`.
"""

import logging
import os
import signal
import sys
from pathlib import Path

from tamarin_dagster.cli.app import PROGRAM, app
from tamarin_dagster.cli.terminal import LineHandler


def main() -> None:
    """Run the command line."""
    for sign in (signal.SIGTERM, signal.SIGHUP):  # treat them as ctrl-C: roll back, and release the database
        signal.signal(sign, signal.default_int_handler)
    if sys.stdout is None:  # our parent closed it: the next file that we open would get its number, and our answers
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - open until the process ends
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[LineHandler()])
    app(prog_name=PROGRAM)
