"""Measure what a run leaves in Dagster's storage. The run loads, checks, purges and rolls up one new key of five lines.

    .venv/bin/python -m benchmarks.dagster_books [--rounds 5]

`tamarin-dagster dev` runs on a new home, and its sensor requests the runs. The storage is measured before and after
them. The bytes of a table are those of its values, without indexes; `all tables and indexes` is the size that Postgres
reports for the database, which grows by pages. Then the events of these runs are pruned, as the nightly job does.
"""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import sqlalchemy as sa

from benchmarks.command_line import command_line, show
from benchmarks.ingest.dev import Dev, dev, instance_of
from benchmarks.ingest.repeated import day_folder
from benchmarks.ingest.run import put_key
from benchmarks.ingest.stage import stage
from benchmarks.sheet import Sheet
from tamarin_dagster.demo.endpoint import free_port
from tamarin_dagster.orchestration.pruning import prune

_TABLES = ("event_logs", "asset_check_executions", "run_tags", "runs")
_RUN_SECONDS = 300
_LINES = 5


def main() -> None:
    """Print a table: what a run adds, and what remains after pruning."""
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with stage() as staged:
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        staged.configure(yesterday, pull_parse_interval=2 / 60, minutes_between_runs=0, quiet_seconds=0)
        day_folder(staged.log_folder)
        with (
            dev(staged.folder / "dev.log", free_port()) as running,
            instance_of(running, staged.home) as instance,
        ):
            _load(staged.log_folder, instance, 0, running)
            before = _books(instance, staged.home)
            for number in range(1, options.rounds + 1):
                _load(staged.log_folder, instance, number, running)
            after = _books(instance, staged.home)
            later = datetime.now(UTC) + timedelta(days=1)
            prune(instance, before=later, is_ours=lambda _: True, repository=None)
            pruned = _books(instance, staged.home)
    rows = [
        [name, f"{(after[name] - before[name]) / options.rounds:,.1f}", f"{pruned[name] / (options.rounds + 1):,.1f}"]
        for name in after
    ]
    title = f"A run for one key of {_LINES} lines; {options.rounds} rounds, {os.cpu_count()} cores"
    headings = ("of a run", "added", "left after pruning")
    show([Sheet(title, headings, rows, texts=headings[:1])], options.markdown)


def _load(log_folder: Path, instance: dg.DagsterInstance, number: int, running: Dev) -> None:
    put_key(log_folder, number, _LINES)

    def ended() -> dg.RunRecord | None:
        records = instance.get_run_records()
        return records[0] if len(records) > number and records[0].dagster_run.is_finished else None

    record = running.wait_for("the run's end", ended, _RUN_SECONDS)
    if not record or not record.dagster_run.is_success:
        raise SystemExit("the run did not succeed")
    time.sleep(2)  # the last events are written after the run's status


def _books(instance: dg.DagsterInstance, home: Path) -> dict[str, float]:
    """Return rows and kB of the tables that a run writes to, and of the folder of compute logs."""
    found: dict[str, float] = {}
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        for table in _TABLES:
            rows, size = connection.execute(
                sa.text(f"SELECT count(*), coalesce(sum(pg_column_size(t.*)), 0) FROM {table} t")
            ).one()
            found |= {f"{table}, rows": float(rows), f"{table}, kB": float(size) / 1000}
        size = connection.scalar(sa.text("SELECT pg_database_size(current_database())"))
    logs = (path for path in (home / "dagster" / "storage").rglob("*") if path.is_file())
    found["compute logs, kB"] = sum(path.stat().st_blocks * 512 for path in logs) / 1000
    found["all tables and indexes, kB"] = float(size) / 1000
    return found


if __name__ == "__main__":
    main()
