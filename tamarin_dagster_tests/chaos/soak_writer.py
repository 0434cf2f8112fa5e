"""Writes log keys into a folder as S3 delivers them, so many a second, and keeps an account of them until SIGTERM.

    .venv/bin/python -m tamarin_dagster_tests.chaos.soak_writer FOLDER ACCOUNT KEYS_PER_SECOND SEED

A process of its own, that nobody kills: what it has written is what should be loaded.
"""

import random
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tamarin_dagster.demo import DemoSite, make_lines_between
from tamarin_dagster_tests.lines import line

LOG_PREFIX = "logs/"
OUR_REQUESTS = "SOAK"
"""The beginning of the request id of each key's first line, and of no other line."""
_MOST_LINES = 9
_AT_ONCE = 50
_REQUESTS_BEFORE = timedelta(seconds=60)


def main() -> None:
    """Write until it must end. The current key is finished first."""
    folder, account, rate, seed = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    told_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told_to_end.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    target = folder / LOG_PREFIX
    target.mkdir(parents=True, exist_ok=True)
    draws = random.Random(seed)
    began = time.monotonic()
    with account.open("a", buffering=1) as book:
        for number, body in enumerate(_bodies(draws, seed)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            if told_to_end:
                return
            name = f"{datetime.now(UTC):%Y-%m-%d-%H-%M-%S}-{number:08X}{draws.randrange(1 << 32):08X}"
            part = target / ".part"
            part.write_bytes(body)
            part.rename(target / name)
            book.write("\t".join((f"{LOG_PREFIX}{name}", str(body.count(b"\n")))) + "\n")


def _bodies(draws: random.Random, seed: int) -> Iterator[bytes]:
    """Without end: a line of our own, and some of the demo's traffic of the last minute."""
    number = 0
    while True:
        now = datetime.now(UTC)
        traffic = make_lines_between(
            DemoSite(broken_share=0.0),
            now - _REQUESTS_BEFORE,
            now,
            _AT_ONCE * _MOST_LINES,
            name=f"soak {seed} {number}",
        )
        for _ in range(_AT_ONCE):
            mine = line(f"{now:%d/%b/%Y:%H:%M:%S} +0000", request_id=f"{OUR_REQUESTS}{number:012}")
            others = [traffic.pop() for _ in range(draws.randrange(_MOST_LINES))]
            yield mine + "".join(f"{text}\n" for text in others).encode()
            number += 1


if __name__ == "__main__":
    main()
