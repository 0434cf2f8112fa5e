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
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import hypothesis
import pyarrow as pa
import sqlalchemy as sa
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from tamarin_dagster.demo import DemoSite, lines_between
from tamarin_dagster_tests.chaos.histories import PREFIX
from tamarin_dagster_tests.chaos.matrix import require, scenario
from tamarin_dagster_tests.chaos.programs import Ended
from tamarin_dagster_tests.chaos.worlds import Bench, World, bench
from tamarin_dagster_tests.fuzz.seeds import seeds
from tamarin_dagster_tests.lines import line
from tamarin_dagster_tests.logformat.lines_written import BASES
from tamarin_dagster_tests.logformat.mutations import mutated_lines
from tamarin_dagster_tests.logformat.written_lines import Line, lines

_DAYS = 7
_MUTATED_LINES = 3_000
_MIB = 1 << 20
# As docs/lines.md and docs/tables.md have it.
_LONGEST_LINE_BYTES, _KEPT_BYTES = _MIB, 64 * 1024
_BOM = b"\xef\xbb\xbf"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SHOWN_DIFFERENCES = 20

Draws = random.Random


@dataclass(frozen=True)
class LogObject:
    """An object of the log bucket."""

    key: str
    body: bytes


@cache
def _mutated(seed: int) -> list[bytes]:
    """Lines of mutators that the parser's own tests have; the same for the same seed."""
    found: list[bytes] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=_MUTATED_LINES,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.one_of(mutated_lines(), mutated_lines(), lines().map(Line.written)))
    def collect(text: bytes) -> None:
        found.append(text)

    collect()
    return found


@cache
def _real() -> list[bytes]:
    """Lines that are records, most of them."""
    end = datetime(2026, 3, 1, tzinfo=UTC)
    traffic = lines_between(DemoSite(broken_share=0.0), end - timedelta(hours=2), end, 500, name="hostile")
    return [text.encode() for text in (*BASES, *traffic)]


def _log(draws: Draws, seed: int, mutated: float = 0.0, end: bytes = b"\n") -> bytes:
    """A log of some lines, such a share of them mutated."""
    count = draws.choice((1, 2, 5, 20, 100))
    texts = [draws.choice(_mutated(seed) if draws.random() < mutated else _real()) for _ in range(count)]
    return end.join(texts) + draws.choice((end, end, b""))


def _spliced(draws: Draws, seed: int) -> bytes:
    """Logs, each cut somewhere at both ends, in one."""
    logs = [_log(draws, seed, draws.choice((0.0, 0.3))) for _ in range(draws.randint(2, 4))]
    cuts = [sorted(draws.choices(range(len(log) + 1), k=2)) for log in logs]
    return b"".join(log[begin:end] for log, (begin, end) in zip(logs, cuts, strict=True))


def _sprinkled(draws: Draws, seed: int, pieces: list[bytes]) -> bytes:
    """A log with such bytes put in here and there."""
    log = bytearray(_log(draws, seed))
    for _ in range(draws.randint(1, 20)):
        place = draws.randrange(len(log))
        log[place:place] = draws.choice(pieces)
    return bytes(log)


def _flipped(draws: Draws, body: bytes, first: int = 0) -> bytes:
    changed = bytearray(body)
    for _ in range(draws.randint(1, 3)):
        changed[draws.randrange(first, len(body))] ^= 1 << draws.randrange(8)
    return bytes(changed)


def _long(draws: Draws, seed: int, longest: int) -> bytes:
    """Lines about as long as may be, or much longer: of one word, in a record or alone."""
    texts = [_log(draws, seed)]
    for _ in range(draws.randint(1, 2)):
        word = draws.choice((b"x", b" ", b'" ', b"\xff", b"\0", b"\\x", b'" 200 - 1 1 1 1 "', b"\r", b"\xc3\xa9"))
        length = draws.choice((longest - 1, longest, longest + 1, draws.randrange(longest // 50, 2 * longest)))
        start, end = draws.choice(((b"", b""), BASES[0].encode().split(b"curl")))
        middle = (word * (length // len(word) + 1))[: max(0, length - len(start) - len(end))]
        texts.append(start + middle + end)
    draws.shuffle(texts)
    return b"\n".join(texts)


def _ahead(draws: Draws, seed: int) -> bytes:
    """Lines of times to come, or with columns that no line has yet."""
    months = draws.choices(("21/Nov/2126", "29/Feb/2400", "31/Dec/9999", "01/Jan/2005", "31/Feb/2026"), k=3)
    late = b"".join(line(f"{day}:09:58:01 +0000") for day in months)
    return late + b"".join(text + b' new "a column" - 17\n' for text in draws.choices(_real(), k=5))


_ODD_UTF8 = [
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\x80",
    b"\x85",
    _BOM,
    "\u2028\U0001f600".encode(),
]
_SHAPES: dict[Callable[[Draws, int], bytes], int] = {
    _log: 220,
    lambda draws, seed: _log(draws, seed, end=b"\r\n"): 40,
    lambda draws, seed: _log(draws, seed, 0.02): 100,
    lambda draws, seed: _log(draws, seed, 0.5): 100,
    lambda draws, seed: _log(draws, seed, 1.0, draws.choice((b"\n", b"\r\n", b"\r", b"\n\n", b"\0"))): 120,
    _spliced: 100,
    lambda draws, seed: _flipped(draws, _log(draws, seed)): 60,
    lambda draws, _: draws.randbytes(draws.choice((1, 3, 50, 2_000, 20_000))): 100,
    lambda draws, _: draws.choice(seeds()): 40,
    lambda *_: b"": 15,
    lambda draws, _: bytes(draws.choices(b"\n\n\n\r\t ", k=draws.randint(1, 300))): 25,
    lambda draws, seed: _sprinkled(draws, seed, [b"\0", b"\0\0\0\0"]): 30,
    lambda draws, _: b"\0" * draws.randint(1, 5_000): 5,
    lambda draws, seed: _sprinkled(draws, seed, _ODD_UTF8): 40,
    lambda draws, seed: _log(draws, seed).decode().encode(draws.choice(("utf-16", "utf-16-be", "utf-32"))): 30,
    lambda draws, seed: _BOM + _log(draws, seed, draws.choice((0.0, 0.3))): 20,
    _ahead: 30,
    lambda draws, seed: _long(draws, seed, 20_000): 20,
    lambda draws, seed: _long(draws, seed, _LONGEST_LINE_BYTES): 3,
    lambda draws, seed: _log(draws, seed, 0.01) * draws.randint(200, 1_000): 1,
}
"""How an object's bytes are made, and how many of about a thousand are."""


def _packed(draws: Draws, body: bytes) -> tuple[str, bytes]:
    """The end of the name and the bytes of an object: mostly as they are, else packed, well or badly."""
    packed = gzip.compress(body, mtime=0) if draws.random() < 0.6 else pa.compress(body, codec="zstd", asbytes=True)
    is_gzip = packed.startswith(_GZIP)
    suffix = ".gz" if is_gzip else ".zst"
    half = len(body) // 2
    parts = [gzip.compress(part, mtime=0) for part in (body[:half], body[half:])]
    kinds = {
        ("", body): 70,
        (draws.choice((".gz", ".zst")), body): 4,
        (suffix, packed): 12,
        ("", packed): 2,
        (".gz", b"".join(parts) + b"\0" * draws.choice((0, 0, 512))): 3,
        (".gz", gzip.compress(packed, mtime=0)): 1,
        (suffix, packed[: draws.randrange(4, len(packed))]): 3,
        (suffix, _flipped(draws, packed, 10) if is_gzip else packed[:-1]): 2,
        (".gz", parts[0] + draws.choice((b"tail", b"\0\0tail\n", _GZIP))): 1,
    }
    return draws.choices(list(kinds), list(kinds.values()))[0]


def made(seed: int, number: int) -> LogObject:
    """The object of that number; the same for the same seed."""
    draws = Draws(f"{seed} {number}")
    shape = draws.choices(list(_SHAPES), list(_SHAPES.values()))[0]
    suffix, body = _packed(draws, shape(draws, seed))
    day = 1 + number % _DAYS
    folder = draws.choice((*[""] * 9, f"123456789012/us-east-1/media/2026/03/{day:02}/"))
    clock = f"{draws.randrange(24):02}-{draws.randrange(60):02}-{draws.randrange(60):02}"
    return LogObject(f"{PREFIX}{folder}2026-03-{day:02}-{clock}-{number:016X}{suffix}", body)


def lines_of(body: bytes) -> list[bytes] | None:
    """The lines of an object without their LF; None if it is packed badly."""
    try:
        if body.startswith(_GZIP):
            body = gzip.decompress(body)
        elif body.startswith(_ZSTD):
            body = pa.CompressedInputStream(pa.BufferReader(body), "zstd").read()
    except (OSError, EOFError, zlib.error):
        return None
    found = body.split(b"\n")
    return found if found[-1] else found[:-1]


@dataclass
class Account:
    """What is found of all objects."""

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
    """Makes each object again, and compares; one object's lines are held at a time."""
    account = Account()
    left = world.state().objects
    ledger: dict[str, list[Any]] = {}
    for key, *row in world.rows(_LEDGER):
        account.require(key not in ledger, f"{key} stands in the ledger twice")
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
        """Whether all are had."""
        return self._next is None

    def close(self) -> None:
        """Ends the query."""
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
        if not (text.removeprefix(_BOM) if number == 1 else text).strip(b" \t\r")
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
        kept = text if len(text) <= _LONGEST_LINE_BYTES else text[:_KEPT_BYTES]
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
    """Puts, pulls, accounts, tells."""
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
    told = vars(account) | {"differences": len(account.differences)}
    for name, value in told.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    table.add_row("seconds of the pull", f"{seconds:.1f}")
    console.print(table)
    for difference in account.differences[:_SHOWN_DIFFERENCES]:
        console.print(difference, style="red", markup=False)
    return 1 if account.lost or account.differences else 0


if __name__ == "__main__":
    sys.exit(main())
