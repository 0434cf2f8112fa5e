"""Measure lines per second on one core, and lost lines, of our parser and of others for the same file.

    .venv/bin/python -m benchmarks.parse [--lines 1000000] [--rounds 3] [--peers ours,re,duckdb,goaccess,gawk]

There are two files with the same number of lines: the demo's traffic, and the same with 5 % odd lines. In each round
every peer reads the file once, in its own process on one core. Figures are medians of the rounds; ratios are within a
round. The time is CPU time: of reading alone for Python libraries, of the whole process for programs. Slow peers are
timed on the first lines only (see the column), but their errors are counted in the whole file.

lost: records that are not found, and records that are found in lines that are not records. wrong: records with another
address, operation, key, request, status, bytes sent or user agent than the line has.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.command_line import command_line, show
from benchmarks.parse import one_core
from benchmarks.parse.mixes import Mix, write_mixes
from benchmarks.parse.peers import OURS, PEERS, Peer
from benchmarks.sheet import Sheet

_HEADINGS = ("", "lines", "lines/s", "ours is", "lost", "wrong")
_NOTHING = "—"


def main() -> None:
    """Print a table for each mix."""
    parser = command_line(__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=_peers, default=",".join(PEERS), help="comma-separated: %(default)s")
    options = parser.parse_args()
    one_core.pin()
    with tempfile.TemporaryDirectory(prefix="tamarin-bench-") as folder:
        sheets = [_measured(mix, options.peers, options.rounds) for mix in write_mixes(Path(folder), options.lines)]
    show(sheets, options.markdown)


def _peers(text: str) -> list[Peer]:
    names = text.split(",")
    if unknown := set(names) - set(PEERS):
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return [peer for name in names for peer in PEERS[name]]


def _measured(mix: Mix, peers: list[Peer], rounds: int) -> Sheet:
    """Measure the peers in turn, in each round. Their errors are counted once."""
    installed = [peer for peer in peers if peer.is_installed()]
    rates: dict[str, list[float]] = {peer.name: [] for peer in installed}
    for _ in range(rounds):
        for peer in installed:
            path, count = (mix.path, mix.line_count) if peer.reads_all else (mix.first_path, mix.first_count)
            rates[peer.name].append(count / peer.seconds(path))
    title = f"{mix.name}: {mix.line_count:,} lines, {mix.bytes / 1e6:,.0f} MB; {rounds} rounds, one core"
    return Sheet(title, _HEADINGS, [_row(mix, peer, rates) for peer in peers], texts=_HEADINGS[:1])


def _row(mix: Mix, peer: Peer, rates: dict[str, list[float]]) -> list[str]:
    if peer.name not in rates:
        return [peer.name, "not installed", *[_NOTHING] * (len(_HEADINGS) - 2)]
    own, ours = rates[peer.name], rates.get(OURS.name)
    ratio = statistics.median(a / b for a, b in zip(ours, own, strict=True)) if ours else None
    mistakes = peer.mistakes(mix)
    return [
        peer.name,
        f"{mix.line_count if peer.reads_all else mix.first_count:,}",
        f"{statistics.median(own):,.0f}",
        _NOTHING if ratio is None or peer is OURS else f"{ratio:.2f} x as fast",
        f"{mistakes.lost:,}",
        _NOTHING if mistakes.wrong is None else f"{mistakes.wrong:,}",
    ]


if __name__ == "__main__":
    main()
