"""Measure a backfill of 60 days on one and on two Celery workers, with the CPU time of each part.

    .venv/bin/python -m benchmarks.scaling [--lines 600000] [--keys 1200] [--days 60] [--days-per-run 5]
        [--workers 1,2] [--rounds 3]

All services of deploy/celery run on this machine: Redis (redis-server must be installed), code location, daemon, UI and
workers. Each round loads the same keys into empty tables with each number of workers, and with a plain `pull`. The time
is from the start of the backfill's first run to the end of its last one. The ratio is to the first number of the same
round. More workers than cores, minus those that Postgres needs, cannot help.
"""

import argparse
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from benchmarks.command_line import command_line, show, whole_numbers
from benchmarks.ingest.profile import postgres_seconds
from benchmarks.ingest.stage import LOGGED_BUCKET, Stage, stage
from benchmarks.scaling.cluster import REDIS, Cluster, cluster
from benchmarks.sheet import Sheet

_BACKFILL_SECONDS = 3_600
# The interval between looks at the UI, because each look costs CPU time of the UI and Postgres.
_LOOK_SECONDS = 3
_DAGSTER = ("code", "daemon", "page", "redis")
_HEADINGS = (
    "loaded by", "s", "min", "max", "lines/s", "speed to 1", "min", "max",
    "workers, CPU s", "Postgres, CPU s", "Dagster, CPU s", "cores busy",
)  # fmt: skip
_PULL = "pull, without Dagster"


@dataclass(frozen=True)
class Taken:
    """The time of a backfill: elapsed seconds, and the CPU seconds of each part."""

    seconds: float
    workers: float
    postgres: float
    dagster: float


def main() -> None:
    """Print a table with a row for each number of workers."""
    parser = command_line(__doc__)
    parser.add_argument("--lines", type=int, default=600_000)
    parser.add_argument("--keys", type=int, default=1_200)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--days-per-run", type=int, default=5)
    parser.add_argument("--workers", type=whole_numbers, default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if REDIS is None:
        raise SystemExit("redis-server is not installed: apt-get install redis-server")
    taken: dict[str, list[Taken]] = {_PULL: [], **{_named(count): [] for count in options.workers}}
    with stage() as staged:
        written = staged.write_keys(lines=options.lines, keys=options.keys, days=options.days)
        staged.configure(written.first_day, monitored=False, days_per_run=options.days_per_run, purge_parsed_keys=False)
        days = [(written.first_day + timedelta(number)).isoformat() for number in range(options.days)]
        with cluster(staged.folder) as started:
            for _ in range(options.rounds):
                taken[_PULL].append(_pull(staged, options.lines))
                for count in options.workers:
                    taken[_named(count)].append(_backfill(staged, started, count, days, options))
    title = (
        f"A backfill of {options.days} days, {options.lines:,} lines in {options.keys:,} keys,"
        f" {options.days_per_run} days a run; {options.rounds} rounds, {os.cpu_count()} cores"
    )
    show([Sheet(title, _HEADINGS, list(_rows(options.lines, taken)), texts=_HEADINGS[:1])], options.markdown)


def _named(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"


def _pull(staged: Stage, lines: int) -> Taken:
    staged.empty_tables()
    before = _postgres(staged)
    usage = staged.pull(lines)
    return Taken(usage.seconds, usage.user_seconds + usage.system_seconds, _postgres(staged) - before, 0)


def _backfill(staged: Stage, started: Cluster, count: int, days: Sequence[str], options: argparse.Namespace) -> Taken:
    """Run a backfill with empty tables and new workers."""
    staged.empty_tables()
    earlier = len(started.page.runs())
    workers = [started.start_worker(f"worker{number}") for number in range(count)]
    dagster = [started.services[name] for name in _DAGSTER]
    before = [
        sum(service.cpu_seconds() for service in workers),
        _postgres(staged),
        sum(service.cpu_seconds() for service in dagster),
    ]
    started.page.backfill(LOGGED_BUCKET, days)
    expected = earlier - (-len(days) // options.days_per_run)
    ended = started.wait_for("the runs' end", lambda: started.all_ended(expected), _BACKFILL_SECONDS, _LOOK_SECONDS)
    runs = ended[earlier:]
    after = [
        sum(service.cpu_seconds() for service in workers),
        _postgres(staged),
        sum(service.cpu_seconds() for service in dagster),
    ]
    for worker in workers:
        worker.stop()
    if failed := [run for run in runs if run["status"] != "SUCCESS"]:
        raise SystemExit(f"a run ended as {failed[0]['status']}: {started.page.why(failed[0]['runId'])}")
    staged.expect(options.lines)
    seconds = max(run["endTime"] for run in runs) - min(run["startTime"] for run in runs)
    spent = (late - early for early, late in zip(before, after, strict=True))
    return Taken(seconds, *spent)


def _postgres(staged: Stage) -> float:
    return sum(postgres_seconds(staged.server).values())


def _rows(lines: int, taken: dict[str, list[Taken]]) -> Iterator[list[str]]:
    firsts = next(rounds for name, rounds in taken.items() if name != _PULL)
    for name, rounds in taken.items():
        seconds = [each.seconds for each in rounds]
        ratios = [first.seconds / each.seconds for first, each in zip(firsts, rounds, strict=True)]
        busy = statistics.median((each.workers + each.postgres + each.dagster) / each.seconds for each in rounds)
        yield [
            name,
            *(f"{figure(seconds):.1f}" for figure in (statistics.median, min, max)),
            f"{lines / statistics.median(seconds):,.0f}",
            *(f"{figure(ratios):.2f}" for figure in (statistics.median, min, max)),
            *(
                f"{statistics.median(getattr(each, who) for each in rounds):.1f}"
                for who in ("workers", "postgres", "dagster")
            ),
            f"{busy:.2f}",
        ]


if __name__ == "__main__":
    main()
