"""`python -m tamarin_dagster.demo --port P`: run the demo's S3 endpoint as a process of its own.

It ends at SIGTERM or SIGINT, and when its parent ends, so that a killed launcher leaves no process.
"""

import argparse
import logging
import os
import signal
from threading import Event
from types import FrameType

from tamarin_dagster.demo.endpoint import DEFAULT_HISTORY_DAYS, DEFAULT_INTERVAL_SECONDS, DemoEndpoint, demo_environment

logger = logging.getLogger("tamarin_dagster.demo")

PARENT_POLL_SECONDS = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Run the endpoint until a signal or the parent's end; return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)  # otherwise a line about each client's credentials
    os.environ.update(demo_environment())
    stop = Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    endpoint = DemoEndpoint(port=options.port, interval_seconds=options.interval, history_days=options.history_days)
    try:
        endpoint.start()
    except OSError as error:
        logger.error("cannot listen on port %d: %s", options.port, error)  # noqa: TRY400 - a traceback adds nothing
        return 1
    try:
        while not stop.wait(PARENT_POLL_SECONDS):
            if options.parent_pid and os.getppid() != options.parent_pid:
                logger.info("the parent process %d has ended", options.parent_pid)
                break
    finally:
        endpoint.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tamarin_dagster.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 chooses a free port and logs it")
    parser.add_argument("--interval", type=float, default=DEFAULT_INTERVAL_SECONDS, help="seconds between deliveries")
    parser.add_argument(
        "--history-days", type=int, default=DEFAULT_HISTORY_DAYS, help="days of history to write at the start"
    )
    parser.add_argument(
        "--parent-pid",
        type=int,
        default=os.getppid(),
        help="end when this process is no longer the parent (default: the parent at start; 0: never). A launcher that"
        " passes its own ID is safe even if it dies while this process starts",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
