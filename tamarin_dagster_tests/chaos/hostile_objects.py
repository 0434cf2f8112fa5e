"""Objects that a log bucket should not hold: random bytes, mutated and spliced lines, packed well and badly."""

import gzip
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

import hypothesis
import pyarrow as pa
from hypothesis import strategies as st

from tamarin_dagster.demo import DemoSite, make_lines_between
from tamarin_dagster_tests.chaos.histories import PREFIX
from tamarin_dagster_tests.fuzz.seeds import seeds
from tamarin_dagster_tests.lines import line
from tamarin_dagster_tests.logformat.lines_written import BASES
from tamarin_dagster_tests.logformat.mutations import mutated_lines
from tamarin_dagster_tests.logformat.written_lines import Line, lines

_DAYS = 7
_MUTATED_LINES = 3_000
_MIB = 1 << 20
# As docs/reference/lines.md and docs/reference/tables.md have it.
LONGEST_LINE_BYTES = _MIB
BOM = b"\xef\xbb\xbf"
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

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
    traffic = make_lines_between(DemoSite(broken_share=0.0), end - timedelta(hours=2), end, 500, name="hostile")
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
    BOM,
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
    lambda draws, seed: BOM + _log(draws, seed, draws.choice((0.0, 0.3))): 20,
    _ahead: 30,
    lambda draws, seed: _long(draws, seed, 20_000): 20,
    lambda draws, seed: _long(draws, seed, LONGEST_LINE_BYTES): 3,
    lambda draws, seed: _log(draws, seed, 0.01) * draws.randint(200, 1_000): 1,
}
"""The ways to make the bytes of an object, and how often each occurs in about a thousand."""


def _packed(draws: Draws, body: bytes) -> tuple[str, bytes]:
    """The end of the name and the bytes of an object: mostly as they are, else packed, well or badly."""
    packed = gzip.compress(body, mtime=0) if draws.random() < 0.6 else pa.compress(body, codec="zstd", asbytes=True)
    is_gzip = packed.startswith(GZIP)
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
        (".gz", parts[0] + draws.choice((b"tail", b"\0\0tail\n", GZIP))): 1,
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
