"""Run all benchmarks of loading in turn, with sizes that take about half an hour on two cores.

    .venv/bin/python -m benchmarks.ingest [--only pull,objects,...]

Each is a module that you can also run alone, with other sizes: `python -m benchmarks.ingest.growth --help`.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.command_line import command_line

_MEASUREMENTS: dict[str, tuple[str, ...]] = {
    "pull": (),
    "objects": (),
    "memory": (),
    "tick": (),
    "run": (),
    "start": (),
    "backfill": ("--days", "124"),
    "growth": (),
    "connections": ("--rounds", "3"),
    "profile": (),
}
"""The benchmarks with their options."""


def main() -> int:
    """Run each benchmark in its own process. If one fails, the others still run, and the exit status is 1."""
    parser = command_line(__doc__)
    parser.add_argument("--only", type=_names, default=",".join(_MEASUREMENTS), help="comma-separated: %(default)s")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failed, tables = [], []
    with tempfile.TemporaryDirectory(prefix="tamarin-bench-tables-") as folder:
        for name in options.only:
            out = Path(folder) / f"{name}.md"
            command = [sys.executable, "-m", f"benchmarks.ingest.{name}", *_MEASUREMENTS[name], "--markdown", str(out)]
            if _status(command):
                failed.append(name)
            elif out.exists():
                tables.append(out.read_text("utf-8"))
    if options.markdown:
        options.markdown.write_text("\n".join(tables), "utf-8")
    if failed:
        print(f"Not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _status(command: list[str]) -> int:
    """Return the exit status of a benchmark. After an interrupt, wait until it has cleaned up."""
    # in a separate session, because a ctrl-C in the terminal would reach it twice
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise SystemExit("interrupted") from None


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(_MEASUREMENTS):
        known = ", ".join(_MEASUREMENTS)
        raise argparse.ArgumentTypeError(f"no such measurement: {', '.join(sorted(unknown))}; there are {known}")
    return names


if __name__ == "__main__":
    sys.exit(main())
