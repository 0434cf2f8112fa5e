"""Measure the fixed cost of a run: a day with one new key, from the sensor's request to the success of the run.

    .venv/bin/python -m benchmarks.ingest.run [--rounds 5] [--interval 5]

`tamarin-dagster dev` runs on a new home: the UI, the daemon and the code server, as users start them. A new key of ten
lines is put into a file:// bucket. The sensor sees it and requests a run, which loads, checks and purges. Then the next
key follows. The times are from Dagster's own run record and events. The first key is not counted.
"""

import os
import statistics
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from benchmarks.command_line import command_line, show
from benchmarks.ingest.dev import Dev, dev, instance_of
from benchmarks.ingest.repeated import day_folder
from benchmarks.ingest.stage import stage
from benchmarks.sheet import Sheet
from tamarin_dagster.demo import DemoSite, make_lines_between
from tamarin_dagster.demo.endpoint import free_port

REQUEST = "request to success"
_WRITTEN = "key written to request"
_PHASES = {
    dg.DagsterEventType.RUN_ENQUEUED: "request to enqueued",
    dg.DagsterEventType.RUN_STARTING: "enqueued to dequeued and launched",
    dg.DagsterEventType.RUN_START: "process started to run started",
    dg.DagsterEventType.RUN_SUCCESS: "last step to success",
}
_PROCESS_STARTED = "Started process for run"
_LINES = 10
_RUN_SECONDS = 300
_TOLD_BYTES = 3_000
_HEADINGS = ("seconds", "median", "min", "max", "share")


def main() -> None:
    """Print a table of phases."""
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--interval", type=float, default=5, help="seconds between the sensor's ticks: %(default)s")
    options = parser.parse_args()
    with stage() as staged:
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        staged.configure(yesterday, pull_parse_interval=options.interval / 60, minutes_between_runs=0, quiet_seconds=0)
        day_folder(staged.log_folder)
        with (
            dev(staged.folder / "dev.log", free_port()) as running,
            instance_of(running, staged.home) as instance,
        ):
            rounds = [_round(staged.log_folder, instance, number, running) for number in range(options.rounds + 1)][1:]
    title = (
        f"A run for a day with one new key of {_LINES} lines, a tick each {options.interval:g} s;"
        f" {options.rounds} rounds, {os.cpu_count()} cores"
    )
    show([Sheet(title, _HEADINGS, list(_rows(rounds)), texts=_HEADINGS[:1])], options.markdown)


def _round(log_folder: Path, instance: dg.DagsterInstance, number: int, running: Dev) -> dict[str, float]:
    """Load a new key, and return the seconds of each phase of its run, in order."""
    written = put_key(log_folder, number)

    def ended() -> dg.RunRecord | None:
        records = instance.get_run_records()
        return records[0] if len(records) > number and records[0].dagster_run.is_finished else None

    record = running.wait_for("the run's end", ended, _RUN_SECONDS)
    assert record
    run = record.dagster_run
    if not run.is_success:
        raise SystemExit(f"the run ended as {run.status.value}. Dagster says:\n{running.reported()[-_TOLD_BYTES:]}")
    requested = record.create_timestamp.timestamp()
    spent = phases(requested, instance.all_logs(run.run_id))
    return {_WRITTEN: requested - written, **spent, REQUEST: sum(spent.values())}


def phases(requested: float, events: Iterable[dg.EventLogEntry]) -> dict[str, float]:
    """Return the seconds of each phase of a run, from the request to the last of these events."""
    spent: dict[str, float] = {}
    before = requested
    for event in sorted(events, key=lambda event: event.timestamp):
        if phase := _phase_until(event, has_stepped=any(name.startswith("step ") for name in spent)):
            spent[phase] = spent.get(phase, 0) + event.timestamp - before
            before = event.timestamp
    return spent


def _phase_until(event: dg.EventLogEntry, *, has_stepped: bool) -> str | None:
    """Return the name of the phase before this event, or None if the event does not end a phase."""
    kind = event.dagster_event_type
    if kind is dg.DagsterEventType.STEP_START:
        return "between the steps" if has_stepped else "run started to first step"
    if kind is dg.DagsterEventType.STEP_SUCCESS:
        return f"step {event.step_key}"
    if kind is dg.DagsterEventType.ENGINE_EVENT:
        return "launched to process started" if _PROCESS_STARTED in event.message else None
    return _PHASES.get(kind) if kind else None


def put_key(log_folder: Path, number: int, count: int = _LINES) -> float:
    """Write a log key in one step, and return the time in seconds since 1970."""
    now = datetime.now(UTC)
    begin = now - timedelta(minutes=5)
    lines = make_lines_between(DemoSite(broken_share=0.0), begin, now, count, name=f"key {number}")
    part = log_folder / ".part"
    part.write_text("".join(f"{line}\n" for line in lines))
    part.rename(day_folder(log_folder) / f"{now:%Y-%m-%d-%H-%M-%S}-{number:016X}")
    return time.time()


def _rows(rounds: list[dict[str, float]]) -> Iterator[list[str]]:
    total = statistics.median(spent[REQUEST] for spent in rounds)
    for name in rounds[0]:
        seconds = [spent.get(name, 0.0) for spent in rounds]
        figures = (f"{figure(seconds):.2f}" for figure in (statistics.median, min, max))
        share = "" if name == _WRITTEN else f"{statistics.median(seconds) / total:.2f}"
        yield [name, *figures, share]


if __name__ == "__main__":
    main()
