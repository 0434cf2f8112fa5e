"""Profile a pull: the CPU seconds of its process and of Postgres, and the functions that use them.

    .venv/bin/python -m benchmarks.ingest.profile [--lines 1000000] [--keys 2000] [--top 15] [--native]

The pull runs twice, into empty tables: once alone, for the CPU seconds, and once under py-spy, for the functions, by
samples of running threads. `--native` includes compiled code, which does most of the parsing and sending. py-spy is
optional (.venv/bin/pip install py-spy); in a container it needs the capability SYS_PTRACE. The CPU seconds of Postgres
are read from /proc, so only on Linux.

A share of the elapsed time near 1 means that one core is fully used: that process or thread limits the pull.
"""

import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.command_line import command_line, show
from benchmarks.ingest.stage import PULL, Stage, stage
from benchmarks.sheet import Sheet
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres

_SAMPLES_A_SECOND = 200
_NO_PY_SPY = "py-spy is not installed, so no functions: .venv/bin/pip install py-spy"
_UNNAMED = "(unnamed)"
_NUMBER = re.compile(r"[-_]?\d+")
_BACKENDS = "backends (and autovacuum)"
_HELPER = re.compile(r"checkpointer|background writer|walwriter|launcher|io worker")
_CPU_HEADINGS = ("process", "CPU s", "of the elapsed time")
_THREAD_HEADINGS = ("thread", "s", "share")
_FUNCTION_HEADINGS = ("thread", "function", "s", "share")


def main() -> None:
    """Print up to three tables."""
    parser = command_line(__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=2_000)
    parser.add_argument("--top", type=int, default=15, help="functions: %(default)s")
    parser.add_argument("--native", action="store_true", help="with the frames of compiled code")
    options = parser.parse_args()
    with stage() as staged:
        staged.write_keys(lines=options.lines, keys=options.keys)
        sheets = [_cpu_sheet(staged, options.lines)]
        if py_spy := _py_spy():
            stacks = _stacks(staged, options.lines, py_spy, ["--native"] if options.native else [])
            sheets += _function_sheets(stacks, options.top)
        else:
            print(_NO_PY_SPY)
    show(sheets, options.markdown)


def _py_spy() -> str | None:
    """Return the path of py-spy: next to this Python, or on the PATH."""
    return shutil.which("py-spy", path=Path(sys.executable).parent) or shutil.which("py-spy")


def _cpu_sheet(staged: Stage, lines: int) -> Sheet:
    staged.empty_tables()
    before = postgres_seconds(staged.server)
    usage = staged.run(PULL)
    after = postgres_seconds(staged.server)
    staged.expect(lines)
    spent = {"the pull, user": usage.user_seconds, "the pull, system": usage.system_seconds}
    spent |= {f"Postgres, {name}": seconds - before.get(name, 0) for name, seconds in after.items()}
    rows = [[name, f"{seconds:.2f}", f"{seconds / usage.seconds:.2f}"] for name, seconds in spent.items()]
    title = f"A pull of {lines:,} lines: {usage.seconds:.1f} s elapsed, {os.cpu_count()} cores"
    return Sheet(title, _CPU_HEADINGS, rows, texts=_CPU_HEADINGS[:1])


def postgres_seconds(server: EmbeddedPostgres) -> dict[str, float]:
    """Return the CPU seconds so far of the server's helpers, by name, and of all its other processes."""
    if not Path("/proc/self/stat").exists():
        return {}
    postmaster = int((server.folder / "data" / "postmaster.pid").read_text().partition("\n")[0])
    spent: Counter[str] = Counter()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            numbers = (folder / "stat").read_text().rpartition(")")[2].split()
            title = (folder / "cmdline").read_text().rstrip("\0 ")
        except (FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
            continue
        parent, (own_user, own_system, ended_user, ended_system) = int(numbers[1]), map(int, numbers[11:15])
        if int(folder.name) == postmaster:
            spent[_BACKENDS] += ended_user + ended_system
        elif parent == postmaster:
            helper = _HELPER.search(title)
            spent[helper[0] if helper else _BACKENDS] += own_user + own_system
    return {name: ticks / os.sysconf("SC_CLK_TCK") for name, ticks in spent.items()}


def _stacks(staged: Stage, lines: int, py_spy: str, options: list[str]) -> dict[tuple[str, ...], int]:
    """Return how often each stack was sampled. A stack begins with the thread and the outermost frame."""
    staged.empty_tables()
    out = staged.folder / "stacks.txt"
    how = ["record", "--format", "raw", "--threads", "--nolineno", "--rate", str(_SAMPLES_A_SECOND), *options]
    staged.run([py_spy, *how, "--output", str(out), "--", *PULL])
    staged.expect(lines)
    return parsed_stacks(out.read_text("utf-8", "replace").splitlines())


def parsed_stacks(lines: Iterable[str]) -> dict[tuple[str, ...], int]:
    """Parse lines like `thread (0x7F): fetch_3;run (threading.py);get (store.py) 12`. Threads of a pool become one."""
    seen: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        name = re.sub(r"^thread \([^)]*\)(: )?", "", thread) or _UNNAMED
        seen[(_NUMBER.sub("", name), *frames)] += int(count)
    return seen


def _function_sheets(stacks: dict[tuple[str, ...], int], top: int) -> list[Sheet]:
    threads: Counter[str] = Counter()
    functions: Counter[tuple[str, str]] = Counter()
    for (thread, *frames), count in stacks.items():
        threads[thread] += count
        functions[thread, frames[-1] if frames else ""] += count
    total = sum(threads.values()) or 1
    by_thread = [[name, *_shown(count, total)] for name, count in threads.most_common()]
    by_function = [[*names, *_shown(count, total)] for names, count in functions.most_common(top)]
    return [
        Sheet("Threads of the pull's process at work, by py-spy", _THREAD_HEADINGS, by_thread, texts=("thread",)),
        Sheet("What they are in, innermost", _FUNCTION_HEADINGS, by_function, texts=("thread", "function")),
    ]


def _shown(count: int, total: int) -> tuple[str, str]:
    return f"{count / _SAMPLES_A_SECOND:.2f}", f"{count / total:.2f}"


if __name__ == "__main__":
    main()
