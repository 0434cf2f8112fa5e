"""Objects of any bytes through the whole way, and an account of them by somebody who does not know the parser.

    .venv/bin/python -m tamarin_dagster_tests.chaos.hostile [--objects 10000] [--seed 1] [--kind folder|s3]

Random bytes, mutated and spliced lines, copies packed well and badly lie in a log bucket; one `tamarin-dagster pull`
takes them. Then each object is made again, unpacked and cut at its LFs in plain Python, and compared with the ledger,
the records, the rejected lines and the log bucket, line by line. Exit status 0 only if nothing is lost or differs.
"""

import argparse
import gzip
import hashlib
import itertools
import os
import pty
import subprocess
import sys
import time
import zlib
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from tamarin_dagster_tests.chaos.hostile_objects import BOM, GZIP, LONGEST_LINE_BYTES, ZSTD, LogObject, made
from tamarin_dagster_tests.chaos.matrix import require, scenario
from tamarin_dagster_tests.chaos.programs import Ended
from tamarin_dagster_tests.chaos.worlds import Bench, World, bench

_KEPT_BYTES = 64 * 1024
_SHOWN_DIFFERENCES = 20


def lines_of(body: bytes) -> list[bytes] | None:
    """The lines of an object without their LF; None if it is packed badly, or twice."""
    try:
        if body.startswith(GZIP):
            body = gzip.decompress(body)
        elif body.startswith(ZSTD):
            body = pa.CompressedInputStream(pa.BufferReader(body), "zstd").read()
        else:
            return _cut(body)
    except (OSError, EOFError, zlib.error):
        return None
    return None if body.startswith((GZIP, ZSTD)) else _cut(body)


def _cut(body: bytes) -> list[bytes]:
    found = body.split(b"\n")
    return found if found[-1] else found[:-1]


@dataclass
class Account:
    """The account of all objects."""

    objects: int = 0
    bytes: int = 0
    lines: int = 0
    records: int = 0
    rejected: int = 0
    blank: int = 0
    left_alone: int = 0
    purged: int = 0
    lost: int = 0
    differences: list[str] = field(default_factory=list)

    def require(self, truth: object, text: str) -> None:
        """Notes a difference if it is not true."""
        if not truth:
            self.differences.append(text)


_LEDGER = (
    "SELECT key, id, line_count, record_count, rejected_count, blank_count, size, purged_at IS NOT NULL FROM s3_log_key"
)
_ROWS = {
    "record": "SELECT k.key, r.line_number, r.request_id FROM s3_log_record r JOIN s3_log_key k ON k.id = r.log_key_id"
    " ORDER BY 1, 2",
    "rejected line": "SELECT k.key, r.line_number, r.line, r.line_bytes, r.sha256"
    " FROM s3_rejected_line r JOIN s3_log_key k ON k.id = r.log_key_id ORDER BY 1, 2",
}


def accounted(world: World, seed: int, count: int, ended: Ended) -> Account:
    """Make each object again and compare. Only the lines of one object are in memory at a time."""
    account = Account()
    left = world.state().objects
    ledger: dict[str, list[Any]] = {}
    for key, *row in world.rows(_LEDGER):
        account.require(key not in ledger, f"{key} is in the ledger twice")
        ledger[key] = row
    numbers = sorted((made(seed, number).key, number) for number in range(count))
    account.require(set(ledger) <= {key for key, _ in numbers}, "the ledger has keys that nobody wrote")
    account.require(set(left) <= {key for key, _ in numbers}, "the log bucket has keys that nobody wrote")
    engine = sa.create_engine(world.url)
    with closing(_Rows(engine, "record")) as records, closing(_Rows(engine, "rejected line")) as rejected:
        for key, number in numbers:
            _compare(account, made(seed, number), ledger.get(key), records.of(key), rejected.of(key), left, ended.said)
        for rows in (records, rejected):
            account.require(rows.at_end(), f"there are {rows.what}s of keys that nobody wrote")
    engine.dispose()
    account.require(ended.status == (1 if account.left_alone else 0), f"the pull ended with {ended.how}")
    return account


class _Rows:
    """Rows of a table as they come from the server, to be had in the keys' order."""

    def __init__(self, engine: sa.Engine, what: str) -> None:
        self.what = what
        self._connection = engine.connect().execution_options(yield_per=1_000)
        self._groups = itertools.groupby(self._connection.execute(sa.text(_ROWS[what])), key=lambda row: row[0])
        self._next = next(self._groups, None)

    def of(self, key: str) -> dict[int, tuple[Any, ...]]:
        """By line number the rest of the key's rows."""
        if self._next is None or self._next[0] != key:
            return {}
        found: dict[int, tuple[Any, ...]] = {}
        for _, number, *rest in self._next[1]:
            # two rows for a line: a number that no line has
            found[-number if number in found else number] = tuple(rest)
        self._next = next(self._groups, None)
        return found

    def at_end(self) -> bool:
        """Return whether all of them are accounted for."""
        return self._next is None

    def close(self) -> None:
        """End the query."""
        self._connection.close()


def _compare(
    account: Account,
    item: LogObject,
    row: list[Any] | None,
    records: dict[int, tuple[Any, ...]],
    rejected: dict[int, tuple[Any, ...]],
    left: Any,
    said: str,
) -> None:
    key, found = item.key, lines_of(item.body)
    account.objects += 1
    account.bytes += len(item.body)
    is_left = left.get(key) == hashlib.sha256(item.body).hexdigest()
    if found is None:
        account.left_alone += 1
        account.require(row is None and not records and not rejected, f"{key} is packed badly, but loaded")
        account.require(is_left and key in said, f"{key} is packed badly, and is not there or not named any more")
        return
    blank = {
        number
        for number, text in enumerate(found, 1)
        if not (text.removeprefix(BOM) if number == 1 else text).strip(b" \t\r")
    }
    account.lines += len(found)
    account.blank += len(blank)
    account.records += len(records)
    account.rejected += len(rejected)
    seen = [*records, *rejected, *blank]
    account.lost += len(set(range(1, len(found) + 1)) - set(seen))
    account.require(sorted(seen) == list(range(1, len(found) + 1)), f"{key}: its lines are not there once each")
    counts = [len(found), len(records), len(rejected), len(blank), len(item.body)]
    account.require(row and row[1:6] == counts, f"{key}: the ledger says {row}, counted were {counts}")
    for number, (request_id,) in records.items():
        text = found[number - 1] if 0 < number <= len(found) else b""
        is_of_it = request_id is None or "\\" in request_id or request_id.encode() in text
        account.require(is_of_it, f"{key}: record {number} is not of line {number}")
    for number, stored in rejected.items():
        text = found[number - 1] if 0 < number <= len(found) else b""
        kept = text if len(text) <= LONGEST_LINE_BYTES else text[:_KEPT_BYTES]
        is_whole = stored == (kept, len(text), hashlib.sha256(text).digest())
        account.require(is_whole, f"{key}: the rejected line {number} is not stored as it is")
    should_go = row is not None and not rejected
    account.purged += key not in left
    account.require(is_left is not should_go, f"{key}: {'it should be gone' if should_go else 'it should be there'}")
    account.require(not row or row[6] is should_go, f"{key}: the ledger is wrong on whether it is purged")


def _put(world: World, seed: int, count: int) -> None:
    for number in range(count):
        item = made(seed, number)
        world.put(item.key, item.body)


def _pulled_on_terminal(world: World) -> Ended:
    """The real command, on a terminal of its own: with its progress bar."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tamarin_dagster.cli", "--config", str(world.config), "pull"]
    environment = os.environ | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "TERM": "xterm"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = bytearray()
        with suppress(OSError):  # its end, on a terminal
            while piece := os.read(ours, 65_536):
                said += piece
                if sys.stderr.isatty():
                    os.write(2, piece)
    os.close(ours)
    return Ended(process.returncode, said.decode("utf-8", "replace"))


@scenario(
    "Objects of any bytes",
    "300 objects of random bytes and mutated lines",
    "no line is lost or stored otherwise; exactly the keys without a rejected line go",
)
def _three_hundred(bench: Bench) -> str:
    with bench.world({}, kind="folder") as world:
        _put(world, 300, 300)
        account = accounted(world, 300, 300, world.pull())
        require(not account.lost and not account.differences, "; ".join(account.differences[:_SHOWN_DIFFERENCES]))
        return (
            f"{account.lines} lines: {account.records} records, {account.rejected} rejected, {account.blank} blank,"
            f" none lost; {account.purged} keys go, {account.left_alone} that cannot be unpacked are named"
        )


def main() -> int:
    """Put objects, pull them, account for them, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=("folder", "s3"), default="folder")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    with bench() as shared, shared.world({}, kind=options.kind) as world:
        _put(world, options.seed, options.objects)
        started = time.monotonic()
        ended = _pulled_on_terminal(world)
        seconds = time.monotonic() - started
        console.print(ended.said[-1_000:], markup=False, highlight=False)
        account = accounted(world, options.seed, options.objects, ended)
    table = Table("", "count", header_style="bold")
    table.columns[1].justify = "right"
    reported = vars(account) | {"differences": len(account.differences)}
    for name, value in reported.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    table.add_row("seconds of the pull", f"{seconds:.1f}")
    console.print(table)
    for difference in account.differences[:_SHOWN_DIFFERENCES]:
        console.print(difference, style="red", markup=False)
    return 1 if account.lost or account.differences else 0


if __name__ == "__main__":
    sys.exit(main())
