"""Measure how long Dagster needs to recover after a kill -9: `python -m benchmarks.recovery [--runs 80]`.

`tamarin-dagster dev` runs on a new home with the embedded Postgres. First runs are queued, each for a day with one log
key, and the code server is killed. Then a run's process is killed while it loads, then Postgres, then the daemon. The
last table counts the runs and the log keys of the first part: each log key must be loaded once.
"""

import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.command_line import command_line, show
from benchmarks.dagster_page import Page, PageError
from benchmarks.ingest.dev import Dev, dev
from benchmarks.ingest.repeated import day_folder
from benchmarks.ingest.stage import Stage, stage
from benchmarks.sheet import Sheet
from tamarin_dagster.demo import DemoSite, make_lines_between
from tamarin_dagster.demo.endpoint import free_port
from tamarin_dagster.recordstore.server.place import find_folder

_SLUG = "media"
_LINES = 5
_SECONDS = 1_800
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_LAUNCHES_AT_ONCE = 8
# As operations.watchdog has it: the code server must have been seen alive before it is killed.
_SEEN_SECONDS = 35

Found = TypeVar("Found")


def main() -> None:
    """Print a table of seconds, and a table of the queued runs."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=int, default=80, help="runs that are queued when the code server is killed")
    options = parser.parse_args()
    with stage() as staged:
        days = _write_days(staged, options.runs)
        port = free_port()
        rows: list[list[str]] = []
        with dev(staged.folder / "dev.log", port) as running:
            page = Page(running.address())
            time.sleep(_SEEN_SECONDS)
            counts = _kill_code_server(running, page, staged, days, rows)
            _kill_run(running, page, days, rows)
            _kill_postgres(running, page, staged, days, rows)
            _kill_daemon(running, rows)
        started = time.monotonic()
        with dev(staged.folder / "dev.log", port) as running:
            page = Page(running.address())
            rows.append(["`dev` started again", "the Dagster UI answers", _since(started)])
            _end(running, page, page.launch(_SLUG, days[0], days[0]))
            rows.append(["", "a run launched there has succeeded", _since(started)])
    title = f"Seconds after a kill -9; {os.cpu_count()} cores"
    show(
        [
            Sheet(title, ("killed", "until", "seconds"), rows, texts=("killed", "until")),
            Sheet(
                f"The {options.runs} queued runs",
                ("what", "count"),
                [[name, f"{count:,}"] for name, count in counts.items()],
                texts=("what",),
            ),
        ],
        options.markdown,
    )


def _write_days(staged: Stage, count: int) -> list[str]:
    """Write a log key for each day, and return the days."""
    first = datetime.now(UTC).date() - timedelta(days=count)
    staged.configure(first, monitored=False, quiet_seconds=0)
    folder = day_folder(staged.log_folder)
    days = [first + timedelta(days=number) for number in range(count)]
    for number, day in enumerate(days):
        begin = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        lines = make_lines_between(
            DemoSite(broken_share=0.0), begin, begin + timedelta(minutes=5), _LINES, name=str(number)
        )
        (folder / f"{begin:%Y-%m-%d-%H-%M-%S}-{number:016X}").write_text("".join(f"{line}\n" for line in lines))
    return [date.isoformat(day) for day in days]


def _kill_code_server(
    running: Dev, page: Page, staged: Stage, days: list[str], rows: list[list[str]]
) -> dict[str, int]:
    with ThreadPoolExecutor(_LAUNCHES_AT_ONCE) as pool:
        launched = set(pool.map(lambda day: page.launch(_SLUG, day, day), days))
    queued = sum(run["status"] == "QUEUED" for run in page.runs())
    os.kill(_process(running, b"\0api\0grpc\0"), signal.SIGKILL)
    killed, killed_at = time.monotonic(), time.time()
    what = f"code server, {queued} runs queued"
    _wait(running, "another code server", lambda: _found(running, b"\0api\0grpc\0"))
    rows.append([what, "there is another code server", _since(killed)])
    started = _wait(
        running,
        "a run that starts",
        lambda: min((run["startTime"] or 0 for run in page.runs() if (run["startTime"] or 0) > killed_at), default=0),
    )
    rows.append(["", "the next queued run starts", f"{started - killed_at:.0f}"])
    runs = _wait(running, "the end of all runs", lambda: _ended(page.runs()))
    rows.append(["", "all runs have ended", _since(killed)])
    states = Counter(run["status"] for run in runs if run["runId"] in launched)
    loaded = staged.scalar("SELECT count(*) FROM s3_log_key WHERE record_count = (SELECT count(*) FROM s3_log_record r"
                           " WHERE r.log_key_id = s3_log_key.id)")  # fmt: skip
    return {
        "queued at the kill": queued,
        "succeeded at their first attempt": states["SUCCESS"],
        "failed": states["FAILURE"],
        "attempts that Dagster made again": len(runs) - len(launched),
        "log keys not loaded": len(days) - loaded,
        "records more or fewer than lines": staged.count("s3_log_record") - _LINES * len(days),
    }


def _kill_run(running: Dev, page: Page, days: list[str], rows: list[list[str]]) -> None:
    run_id = page.launch(_SLUG, days[0], days[-1])
    pid = _wait(
        running, "the run's process", lambda: re.search(r"Started process for run \(pid: (\d+)\)", page.why(run_id))
    )[1]
    os.kill(int(pid), signal.SIGKILL)
    killed = time.monotonic()
    _wait(running, "the run's failure", lambda: _run(page, run_id)["status"] == "FAILURE")
    rows.append(["a run's process", "the run has failed", _since(killed)])
    again = _wait(
        running,
        "the second attempt",
        lambda: [run for run in page.runs() if run["tags"].get("dagster/parent_run_id") == run_id and run["startTime"]],
    )
    rows.append(["", "it is executed again", _since(killed)])
    _end(running, page, again[0]["runId"])


def _kill_postgres(running: Dev, page: Page, staged: Stage, days: list[str], rows: list[list[str]]) -> None:
    lines = (find_folder(staged.home) / "data" / "postmaster.pid").read_text().splitlines()
    os.kill(int(lines[0]), signal.SIGKILL)
    killed = time.monotonic()
    _wait(running, "Dagster's storage", page.runs)
    rows.append(["Postgres (embedded)", "the Dagster UI reads its storage again", _since(killed)])
    run_id = _wait(running, "a launch", lambda: page.launch(_SLUG, days[0], days[0]))
    _end(running, page, run_id)
    rows.append(["", "a new run has succeeded", _since(killed)])


def _kill_daemon(running: Dev, rows: list[list[str]]) -> None:
    os.kill(_process(running, b"dagster._daemon"), signal.SIGKILL)
    killed = time.monotonic()
    status = running.process.wait(120)
    rows.append(["daemon", f"`dev` has ended with status {status}", _since(killed)])


def _end(running: Dev, page: Page, run_id: str) -> None:
    run = _wait(running, "a run's end", lambda: found if (found := _run(page, run_id))["status"] in _ENDED else None)
    if run["status"] != "SUCCESS":
        raise SystemExit(f"a run ended as {run['status']}: {page.why(run_id)}")


def _ended(runs: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return runs if all(run["status"] in _ENDED for run in runs) else None


def _run(page: Page, run_id: str) -> dict[str, Any]:
    return next(run for run in page.runs() if run["runId"] == run_id)


def _wait(running: Dev, what: str, probe: Callable[[], Found | None]) -> Found:
    found = running.wait_for(what, lambda: _try(probe), _SECONDS)
    assert found is not None
    return found


def _try(probe: Callable[[], Found | None]) -> Found | None:
    """What a probe finds; None while the UI cannot answer."""
    with contextlib.suppress(OSError, PageError):
        return probe()
    return None


def _process(running: Dev, argument: bytes) -> int:
    (pid,) = _found(running, argument)
    return pid


def _found(running: Dev, argument: bytes) -> list[int]:
    """Processes of `dev` whose command line has this argument."""
    return [pid for pid in _descendants(running.process.pid) if argument in _read(Path(f"/proc/{pid}/cmdline"))]


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _read(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def _since(moment: float) -> str:
    return f"{time.monotonic() - moment:.0f}"


if __name__ == "__main__":
    main()
