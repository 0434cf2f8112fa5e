"""Measure how long `make dev` takes until it can be used, and how much memory it needs while nothing happens.

    .venv/bin/python -m benchmarks.ingest.start [--rounds 5] [--idle-minutes 5]

`tamarin-dagster dev` starts with the demo on a new home, as after an installation: the table shows the seconds until
the UI answers, and until the demo's sensor has loaded the first rows. Then it starts again with a bucket that gets no
log keys, and the memory of its processes is measured every few seconds, by their purpose. Memory is the proportional
set size (PSS), which counts a shared page only once. The table shows the median and the largest sum. Linux only.
"""

import contextlib
import os
import re
import shutil
import statistics
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from benchmarks.command_line import command_line, show
from benchmarks.ingest.dev import Dev, dev
from benchmarks.ingest.repeated import day_folder
from benchmarks.ingest.stage import Stage, stage
from benchmarks.sheet import Sheet
from tamarin_dagster.demo.endpoint import free_port
from tamarin_dagster.homes import CONFIG_VARIABLE, demo_home
from tamarin_dagster.recordstore.connections import RECORDS_DATABASE
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster.recordstore.server.place import find_folder

_PAGE, _ROWS = "the UI answers", "the first rows are loaded"
_START_SECONDS, _ROWS_SECONDS = 300, 300
_LOOK_SECONDS = 5
_KIB_PER_MIB = 1024
_ALL = "all"
# The message of a sensor for each tick.
_TICK = re.compile(r"\bkeys? in \d")
# The purpose of a process by a part of its command line. The first match decides.
_KINDS = {
    "postgres": "Postgres",
    "tamarin_dagster.cli": "dev",
    "-m dagster dev": "dagster dev",
    "dagster._daemon": "daemon",
    "dagster_webserver": "page",
    "code-server": "code server",
    "api grpc": "code server",
    "multiprocessing": "runs",
}


def main() -> None:
    """Print a table of seconds, and a table of memory."""
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle-minutes", type=float, default=5, help="that memory is looked at: %(default)s")
    options = parser.parse_args()
    with stage() as staged:
        rounds = [_start(staged.folder / f"round-{number}") for number in range(options.rounds)]
        looks = _idle(staged, options.idle_minutes * 60)
    cores = f"{os.cpu_count()} cores"
    sheets = [
        Sheet(
            f"Seconds from the start of `tamarin-dagster dev`; {options.rounds} rounds, {cores}",
            ("until", "median", "min", "max"),
            [[name, *_figures([each[name] for each in rounds])] for name in (_PAGE, _ROWS)],
            texts=("until",),
        ),
        Sheet(
            f"Memory while nothing is delivered; {len(looks)} looks in {options.idle_minutes:g} minutes, {cores}",
            ("processes", "PSS, MiB", "min", "max"),
            list(_memory_rows(looks)),
            texts=("processes",),
        ),
    ]
    show(sheets, options.markdown)


def _start(folder: Path) -> dict[str, float]:
    """Return the seconds until the UI answers and until the first rows are loaded, on a new home with the demo."""
    folder.mkdir(mode=0o711)
    home, config, port = folder / "home", folder / "tamarin.yaml", free_port()
    config.write_text(f"home: {home}\n", "utf-8")
    os.environ[CONFIG_VARIABLE] = str(config)
    url = EmbeddedPostgres(demo_home(home, is_set=True)).url(RECORDS_DATABASE, "postgresql")
    spent = {}
    with dev(folder / "dev.log", port) as running:
        running.wait_for(_PAGE, lambda: _answers(port), _START_SECONDS)
        spent[_PAGE] = time.monotonic() - running.started
        running.wait_for(_ROWS, lambda: _has_rows(url), _ROWS_SECONDS)
        spent[_ROWS] = time.monotonic() - running.started
    shutil.rmtree(folder)
    return spent


def _idle(staged: Stage, seconds: float) -> list[Mapping[str, float]]:
    """Return the MiB by purpose for each measurement, after the first tick of the bucket's sensor."""
    staged.configure(datetime.now(UTC).date())
    day_folder(staged.log_folder)
    looks: list[Mapping[str, float]] = []
    with dev(staged.folder / "dev.log", free_port()) as running:
        running.wait_for("the first tick", lambda: _TICK.search(running.reported()), _START_SECONDS)
        ends = time.monotonic() + seconds
        while not looks or time.monotonic() < ends:
            looks.append(_memory(running, staged.home))
            time.sleep(_LOOK_SECONDS)
    return looks


def _answers(port: int) -> bool:
    page = f"http://127.0.0.1:{port}/"
    with contextlib.suppress(OSError), urllib.request.urlopen(page, timeout=10) as answer:
        return bool(answer.status == 200)
    return False


def _has_rows(url: str) -> bool:
    with contextlib.suppress(psycopg.Error), psycopg.connect(url) as connection:
        return connection.execute("SELECT FROM s3_log_record LIMIT 1").fetchone() is not None
    return False


def _memory(running: Dev, home: Path) -> Mapping[str, float]:
    """Return the MiB of all processes of `dev` and of this home's Postgres, by purpose."""
    sums: defaultdict[str, float] = defaultdict(float)
    for pid in {*_descendants(running.process.pid), *_server(home)}:
        with contextlib.suppress(OSError):  # it has ended in the meantime
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            kind = next((kind for text, kind in _KINDS.items() if text in arguments), "others")
            sums[kind] += _pss_mib(pid)
    sums[_ALL] = sum(sums.values())
    return sums


def _pss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / _KIB_PER_MIB
    return 0.0


def _descendants(pid: int) -> Iterator[int]:
    """Return a process and all of its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text("utf-8").split():
                yield from _descendants(int(child))


def _server(home: Path) -> Iterator[int]:
    """Return the processes of the embedded Postgres, which have no parent, by their working directory."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended in the meantime, or belongs to another user
                if (folder / "cwd").readlink() == find_folder(home) / "data":
                    yield int(folder.name)


def _memory_rows(looks: list[Mapping[str, float]]) -> Iterator[list[str]]:
    sizes_of = {kind: [each.get(kind, 0.0) for each in looks] for look in looks for kind in look}
    for kind, sizes in sorted(sizes_of.items(), key=lambda item: (item[0] == _ALL, -statistics.median(item[1]))):
        yield [kind, *_figures(sizes, digits=0)]


def _figures(values: list[float], digits: int = 1) -> list[str]:
    return [f"{figure(values):,.{digits}f}" for figure in (statistics.median, min, max)]


if __name__ == "__main__":
    main()
