"""Measure the worst lines: lines that are made to be slow, compared with the average line of the same length.

    .venv/bin/python -m benchmarks.parse.adversarial [--lengths 600,8192,65536,1048576]

An adversarial line is a short ordinary line in which one place (the URI, the key, ...) is filled with repetitions of a
bait. Each bait is tried in each place. The average line is an ordinary line whose key, URI, referrer and user agent
have all grown by the same factor, with ordinary text.

The cost of a line is the CPU time of `parse_logs` for many copies of it, divided by their number: the best of three.
The average line and the worst lines are measured again in turn, because on a busy machine the largest of many figures
is mostly one that was disturbed; the best counts. The ratio is that of the worst line to the average line. Each length
has its own process, on one core.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from benchmarks.command_line import command_line, show, whole_numbers
from benchmarks.parse import one_core
from benchmarks.parse.odd_lines import FALSE_BLOCK, HOST_ID, OWNER, TAIL
from benchmarks.sheet import Sheet
from tamarin_dagster.logformat import parse_logs

LENGTHS = (600, 8 * 1024, 64 * 1024, 1024 * 1024)
"""In bytes: a common line, the longest URI that S3 accepts, more than any line seen, the longest line that is read."""
_LEAST_SECONDS = 0.02
"""The CPU time of a measurement: long enough to hide the fixed cost of a call."""
_LEAST_COPIES = 2
_TRIALS = 3
_SUSPECTS = 20
"""The number of the worst lines that are measured again."""
_WORST = "the worst"

_TIME = "[06/Feb/2019:00:00:38 +0000]"
_BLOCK = "200 - 81920 81920 40 12"
_HEAD = f"{OWNER} films {_TIME} 192.0.2.3"
_REQUEST = 'E40WS06VA07CA27H REST.GET.OBJECT a.png "GET /a.png HTTP/1.1"'
_PLACES = {
    "requester": f'{_HEAD} arn:@ {_REQUEST} {_BLOCK} "-" "curl/8.5.0" {TAIL}',
    "key": f'{_HEAD} - E40WS06VA07CA27H REST.GET.OBJECT @ "GET /a.png HTTP/1.1" {_BLOCK} "-" "curl/8.5.0" {TAIL}',
    "URI": f'{_HEAD} - E40WS06VA07CA27H REST.GET.OBJECT a.png "GET /@ HTTP/1.1" {_BLOCK} "-" "curl/8.5.0" {TAIL}',
    "referrer": f'{_HEAD} - {_REQUEST} {_BLOCK} "@" "curl/8.5.0" {TAIL}',
    "user agent": f'{_HEAD} - {_REQUEST} {_BLOCK} "-" "@" {TAIL}',
    "extra fields": f'{_HEAD} - {_REQUEST} {_BLOCK} "-" "curl/8.5.0" {TAIL} @',
    "all after the key": f"{_HEAD} - E40WS06VA07CA27H REST.GET.OBJECT a.png @",
    "whole line": "@",
}
"""The places for a bait, marked by @."""
_BAITS: tuple[bytes, ...] = (
    *(b'"', b'" ', b'" "', b'" "a', b'"- ', b'" -', b' "- ', b"- ", b"a ", b" ", b"[", b"0", rb"\x", b"\0", b"\xff"),
    *(text.encode() for text in (f" {FALSE_BLOCK} ", ' HTTP/1.1" ', ' HTTP/1.1" 200 - 1 1 1 ', '" 200 - 1 1 1 1 ')),
    *(text.encode() for text in (f"{_TIME} ", f'" {TAIL} ', f'" {TAIL} "', f" - {HOST_ID}", " REST.GET.OBJECT ")),
    *(text.encode() for text in ("arn: ", "é")),
)

_ORDINARY = (
    ("images/2025/07/harbour-0042.jpg", "/harbour-0042/2025/07/images"),
    ("images/2025/07/harbour-0042.jpg?width=320", "&sort=new&page=2&tag=harbour"),
    ("https://www.example.org/gallery/2025/", "gallery/2025/harbour/"),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0)", " Gecko/20100101 Firefox/140.0"),
)
"""Key, URI, referrer and user agent of the average line, and the text that each repeats to grow."""


@dataclass(frozen=True)
class Costs:
    """Microseconds of CPU time per line."""

    length: int
    average: float
    adversarial: dict[str, float]
    """The costs by the name of the line."""


def average_line(length: int) -> bytes:
    """Return an ordinary line of this number of bytes."""
    starts = [start for start, _ in _ORDINARY]
    start_bytes = len("".join(starts))
    room = length - len(_ordinary_line(starts)) + start_bytes
    # the sums are rounded, so that all of them together are exact
    ends = [room * sum(map(len, starts[: index + 1])) // start_bytes for index in range(len(starts))]
    sizes = [end - before for before, end in itertools.pairwise([0, *ends])]
    texts = [(start + more * size)[:size] for (start, more), size in zip(_ORDINARY, sizes, strict=True)]
    return _ordinary_line(texts).encode()


def adversarial_lines(length: int) -> Iterator[tuple[str, bytes]]:
    """Yield each bait in each place: a name, and a line of this number of bytes."""
    for (place, line), bait in itertools.product(_PLACES.items(), _BAITS):
        before, after = line.encode().split(b"@")
        room = length - len(before) - len(after)
        filling = bait * (room // len(bait)) or bait[:room]
        yield f"{_shown(bait)} in the {place}", before + filling.ljust(room, b"x") + after


def _shown(bait: bytes) -> str:
    return repr(bait[:24])[1:] + ("…" if len(bait) > 24 else "")


def main() -> None:
    """Print a table, or in the process for one length, its costs."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--lengths", type=whole_numbers, default=",".join(map(str, LENGTHS)), help="in bytes: %(default)s"
    )
    parser.add_argument("--costs-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.costs_of:
        print(json.dumps(asdict(_costs(options.costs_of))))
        return
    one_core.pin()
    show([_measured(options.lengths)], options.markdown)


def _measured(lengths: list[int]) -> Sheet:
    printed = (one_core.python("benchmarks.parse.adversarial", "--costs-of", str(length)) for length in lengths)
    rows = [_row(Costs(**json.loads(text))) for text in printed]
    title = f"{len(_BAITS) * len(_PLACES)} adversarial lines of each length, microseconds of CPU time a line, one core"
    headings = ("bytes", "average", "median", "worst", "ratio", _WORST)
    return Sheet(title, headings, rows, texts=(_WORST,))


def _row(costs: Costs) -> list[str]:
    name, worst = max(costs.adversarial.items(), key=lambda item: item[1])
    median = statistics.median(costs.adversarial.values())
    numbers = (f"{value:,.1f}" for value in (costs.average, median, worst))
    return [f"{costs.length:,}", *numbers, f"{worst / costs.average:.1f}", name]


def _costs(length: int) -> Costs:
    average = average_line(length)
    if parse_logs([average]).counts[0].record_count != 1:
        raise ValueError(f"the average line of {length} bytes is not a record")
    lines = dict(adversarial_lines(length))
    costs = {name: _microseconds(line) for name, line in lines.items()}
    average_cost = _microseconds(average)
    for name in sorted(costs, key=costs.__getitem__)[-_SUSPECTS:]:
        for _ in range(_TRIALS):
            average_cost = min(average_cost, _microseconds(average))
            costs[name] = min(costs[name], _microseconds(lines[name]))
    return Costs(length, average_cost, costs)


def _microseconds(line: bytes) -> float:
    """Return the cost of a line in microseconds."""
    copies, seconds = _LEAST_COPIES, 0.0
    while (seconds := _cpu_seconds(line, copies)) < _LEAST_SECONDS:
        # a fifth more than enough, as far as is known; at most eight times as many in one step
        copies = round(copies * min(8, 1.2 * _LEAST_SECONDS / seconds)) + 1
    trials = [seconds, *(_cpu_seconds(line, copies) for _ in range(_TRIALS - 1))]
    return 1e6 * min(trials) / copies


def _cpu_seconds(line: bytes, copies: int) -> float:
    body = (line + b"\n") * copies
    started = time.process_time()
    parse_logs([body])
    return time.process_time() - started


def _ordinary_line(texts: list[str]) -> str:
    key, uri, referrer, agent = texts
    return (
        f'{_HEAD} - E40WS06VA07CA27H REST.GET.OBJECT {key} "GET /{uri} HTTP/1.1" {_BLOCK} "{referrer}" "{agent}" {TAIL}'
    )


if __name__ == "__main__":
    main()
