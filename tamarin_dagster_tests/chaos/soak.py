"""A soak: keys arrive all the time, `tamarin-dagster dev` loads and purges them, and is killed bit by bit.

    .venv/bin/python -m tamarin_dagster_tests.chaos.soak [--minutes 30] [--keys-per-second 50] [--kill-every 60]

Each `--kill-every` seconds (0: never) one process gets a kill -9: `dev` itself, Dagster's daemon, page, code servers
and runs, Postgres' postmaster and backends; a random kind, and of it a random process. Whoever looks after `dev` starts
it again when it has ended or its page is dead, and ends the processes that it left, as systemd does with a unit.

The log bucket is a folder: moto, the S3 endpoint of the tests, cannot take 50 keys a second in addition to the other
processes on two cores.

At the end keys and lines are compared with the account of who wrote them. Exit status 0 only if all counts are exact.
"""

import argparse
import contextlib
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tamarin_dagster.recordstore.connections import DAGSTER_DATABASE
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster_tests.chaos.soak_home import Dev, Soak
from tamarin_dagster_tests.chaos.soak_processes import LARGEST_RUN, SUMS, memory_sums, victim
from tamarin_dagster_tests.chaos.soak_writer import OUR_REQUESTS

_LOOK_SECONDS = 5
_REST_SECONDS = 300
_MEMORY = (*SUMS, LARGEST_RUN)

console = Console(soft_wrap=True, highlight=False, markup=False)


@dataclass
class Minute:
    """The figures of a minute: the maximum memory of each kind, and the events."""

    memory: Counter[str] = field(default_factory=Counter)
    events: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)


def soak_for(soak: Soak, dev: Dev, options: argparse.Namespace) -> list[Minute]:
    """Kill processes and restart them, and print a line each minute."""
    draws = random.Random(options.seed)
    began = time.monotonic()
    kill_at = began + options.kill_every if options.kill_every else float("inf")
    minutes: list[Minute] = []
    console.print(
        f"{'time':8} {'written':>8} {'ledger':>8} {'bucket':>7} " + " ".join(f"{name:>8}" for name in _MEMORY)
    )
    while len(minutes) < options.minutes:
        minute = Minute()
        while time.monotonic() < began + 60 * (len(minutes) + 1):
            if said := dev.watch():
                minute.events.append(said)
            processes = soak.processes()
            minute.memory |= memory_sums(processes)
            if time.monotonic() >= kill_at and (chosen := victim(draws, processes)):
                chosen.kill()
                kill_at += options.kill_every
                minute.events.append(f"killed {chosen.kind} {chosen.pid}")
                minute.killed.append(chosen.kind)
            time.sleep(_LOOK_SECONDS)
        minutes.append(minute)
        _tell(soak, minute)
    return minutes


def _tell(soak: Soak, minute: Minute) -> None:
    ledger = soak.loaded()
    counts = f"{len(soak.written()):8} {'-' if ledger is None else ledger:>8} {soak.in_bucket():7}"
    memory = " ".join(f"{minute.memory[name]:8}" for name in _MEMORY)
    console.print(f"{datetime.now(UTC):%H:%M:%S} {counts} {memory}  {'; '.join(minute.events)}")


def rest(soak: Soak, dev: Dev) -> None:
    """Nobody kills any more: waits until all is loaded and purged, at most five minutes; else pulls once."""
    began = time.monotonic()
    wanted = len(soak.written())
    while time.monotonic() < began + _REST_SECONDS:
        if said := dev.watch():
            console.print(said)
        if soak.loaded() == wanted and not soak.in_bucket():
            console.print(f"All is loaded and purged {time.monotonic() - began:.0f} s after the last key.")
            dev.stop()
            return
        time.sleep(1)
    console.print(
        f"{time.monotonic() - began:.0f} s after the last key {soak.loaded()} of {wanted} keys are loaded,"
        f" {soak.in_bucket()} are in the log bucket: the last step is a pull."
    )
    dev.stop()
    console.print(soak.pull())


def differences(soak: Soak) -> Iterator[str]:
    """Return what is wrong; print what is right."""
    written = soak.written()
    ledger = soak.rows("SELECT key, line_count, record_count, rejected_count, purged_at IS NOT NULL FROM s3_log_key")
    counted = soak.rows(
        "SELECT count(*), count(DISTINCT (log_key_id, line_number)), count(DISTINCT log_key_id),"
        f" count(*) FILTER (WHERE request_id ~ '^{OUR_REQUESTS}'),"
        f" count(DISTINCT request_id) FILTER (WHERE request_id ~ '^{OUR_REQUESTS}'),"
        " count(*) FILTER (WHERE log_key_id NOT IN (SELECT id FROM s3_log_key)) FROM s3_log_record"
    )[0]
    lines = sum(written.values())
    pairs = {
        "keys in the ledger": (len(ledger), len(written)),
        "names in the ledger": (len({key for key, *_ in ledger}), len(written)),
        "keys with other lines than written": (sum(written.get(row[0]) != row[1] for row in ledger), 0),
        "lines": (sum(row[1] for row in ledger), lines),
        "records as the ledger has them": (sum(row[2] for row in ledger), lines),
        "rejected lines": (sum(row[3] for row in ledger), 0),
        "keys purged": (sum(row[4] for row in ledger), len(written)),
        "records": (counted[0], lines),
        "records, by key and line": (counted[1], lines),
        "keys that have records": (counted[2], len(written)),
        "records of our own request ids": (counted[3], len(written)),
        "our own request ids": (counted[4], len(written)),
        "records of no key": (counted[5], 0),
        "keys in the log bucket": (soak.in_bucket(), 0),
    }
    table = Table("", "found", "expected", header_style="bold")
    for name, (found, expected) in pairs.items():
        table.add_row(name, f"{found:,}", f"{expected:,}")
        if found != expected:
            yield name
    console.print(table)
    runs = soak.rows("SELECT status, count(*) FROM runs GROUP BY 1 ORDER BY 1", DAGSTER_DATABASE)
    console.print("Runs:", ", ".join(f"{count} {status}" for status, count in runs))


def show_memory(minutes: list[Minute]) -> None:
    """Medians of the first and the last third."""
    third = max(1, len(minutes) // 3)
    table = Table("MiB, the most in a minute", "first third", "last third", "ratio", header_style="bold")
    for name in _MEMORY:
        first, last = (
            statistics.median(minute.memory[name] for minute in part) for part in (minutes[:third], minutes[-third:])
        )
        table.add_row(name, f"{first:.0f}", f"{last:.0f}", f"{last / first:.2f}" if first else "")
    console.print(table)


@contextlib.contextmanager
def _writing(soak: Soak, options: argparse.Namespace) -> Iterator[None]:
    """Keys keep coming."""
    writer = soak.start_writer(options.keys_per_second, options.seed)
    try:
        yield
        assert writer.poll() is None, "the writer has ended by itself"
    finally:
        writer.terminate()
        writer.wait()


def main() -> int:
    """Soaks, rests, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--keys-per-second", type=float, default=50)
    parser.add_argument("--kill-every", type=float, default=60, help="seconds; 0: never")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for sign in (signal.SIGINT, signal.SIGTERM):  # ctrl-C ends all, also where a shell started us with it ignored
        signal.signal(sign, signal.default_int_handler)
    soak = Soak(Path(tempfile.mkdtemp(prefix="tamarin-soak-")).resolve())
    console.print(f"{options}; in {soak.folder}")
    dev = Dev(soak)
    try:
        with _writing(soak, options):
            minutes = soak_for(soak, dev, options)
        rest(soak, dev)
        with EmbeddedPostgres(soak.home):
            found = list(differences(soak))
    finally:
        dev.stop()
    show_memory(minutes)
    kills = Counter(kind for minute in minutes for kind in minute.killed)
    reported = ", ".join(f"{count} {kind}" for kind, count in kills.most_common())
    console.print(f"Killed: {reported or 'none'}. dev was started again {dev.restarts} times.")
    if found:
        console.print(f"NOT EXACT: {', '.join(found)}. All is left in {soak.folder}.")
        return 1
    shutil.rmtree(soak.folder, ignore_errors=True)
    console.print("All counts are exact.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
