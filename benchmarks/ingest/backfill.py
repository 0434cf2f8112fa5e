"""Measure what Dagster adds to a backfill of years, and check that a cancelled backfill can be continued.

    .venv/bin/python -m benchmarks.ingest.backfill [--days 730] [--buckets 3] [--keys 2] [--lines 5]

Each bucket has a folder with many days of small log keys. `tamarin-dagster dev` runs on a new home, and a backfill of
records and purge is launched for all days of all buckets, as the UI does it. When a third of its days are loaded, the
first bucket's backfill is cancelled. Then the days that are not materialized are launched again. In the end each line
must be loaded once, each day must be materialized, and no log key may be left.

The baseline is `tamarin-dagster pull` of the same keys in one process, bucket by bucket. The additional time of the
runs, divided by their days, is the bookkeeping.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import yaml

from benchmarks.command_line import command_line, show
from benchmarks.dagster_page import Page
from benchmarks.ingest.dev import Dev, dev, instance_of
from benchmarks.ingest.stage import COMMAND, LOG_PREFIX, Stage, stage
from benchmarks.sheet import Sheet
from tamarin_dagster.demo import write_log_keys
from tamarin_dagster.demo.endpoint import free_port

_HEADINGS = ("what", "figure", "")
_CANCELLED_AT = 1 / 3
_BACKFILL_SECONDS = 3 * 3600
_SUCCEEDED = {"COMPLETED", "COMPLETED_SUCCESS"}


@dataclass(frozen=True)
class History:
    """The content of the log buckets: the number of lines, and the days."""

    buckets: tuple[str, ...]
    first_day: date
    days: int
    keys: int
    lines: int

    @property
    def partitions(self) -> list[str]:
        """Return the days as partitions."""
        return [(self.first_day + timedelta(days=number)).isoformat() for number in range(self.days)]


def main() -> None:
    """Print a table."""
    parser = command_line(__doc__)
    parser.add_argument("--days", type=int, default=730)
    parser.add_argument("--buckets", type=int, default=3)
    parser.add_argument("--keys", type=int, default=2, help="log keys of a bucket on each day: %(default)s")
    parser.add_argument("--lines", type=int, default=5, help="lines of each log key: %(default)s")
    options = parser.parse_args()
    with stage() as staged:
        history = _write(staged, options.days, options.buckets, options.keys, options.lines)
        alone = staged.run((*COMMAND, "pull")).seconds
        staged.expect(history.lines)
        staged.empty_tables()
        _write(staged, options.days, options.buckets, options.keys, options.lines)
        with (
            dev(staged.folder / "dev.log", free_port()) as running,
            instance_of(running, staged.home) as instance,
        ):
            rows = list(_measured(staged, history, running, instance, alone))
    title = (
        f"A backfill of {history.days} days of {len(history.buckets)} buckets, {history.keys:,} log keys,"
        f" {history.lines:,} lines"
    )
    show([Sheet(title, _HEADINGS, rows, texts=_HEADINGS)], options.markdown)


def _write(staged: Stage, days: int, buckets: int, keys: int, lines: int) -> History:
    """Write the log keys, the same in each call, and settings without sensors."""
    # the end must not move during the benchmark
    end = datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC)
    names = tuple(f"bucket{number}" for number in range(buckets))
    for number, name in enumerate(names):
        written = write_log_keys(
            staged.folder / name,
            lines=days * keys * lines,
            keys=days * keys,
            days=days,
            end=end,
            bucket=name,
            prefix=LOG_PREFIX,
            seed=number,
        )
    entries = [
        {
            "name": name,
            "log_bucket_name": (staged.folder / name).as_uri(),
            "log_prefix": LOG_PREFIX,
            "start_date": written.first_day,
            "monitor_bucket": False,
        }
        for name in names
    ]
    staged.configure(written.first_day)  # names the file in the environment
    (staged.folder / "tamarin.yaml").write_text(yaml.safe_dump({"home": str(staged.home), "buckets": entries}), "utf-8")
    per_bucket = days * keys
    return History(names, written.first_day, days, buckets * per_bucket, buckets * per_bucket * lines)


def _measured(
    staged: Stage, history: History, running: Dev, instance: dg.DagsterInstance, alone: float
) -> Iterator[tuple[str, str, str]]:
    page = Page(running.address())
    started = time.monotonic()
    backfills = {bucket: page.backfill(bucket, history.partitions) for bucket in history.buckets}
    first = history.buckets[0]
    wanted = int(history.days * _CANCELLED_AT)
    enough = f"{wanted} days of {first}"
    running.wait_for(enough, lambda: len(_materialized(instance, first)) >= wanted, _BACKFILL_SECONDS)
    page.cancel(backfills[first])
    cancelling = time.monotonic()
    running.wait_for("the cancelled backfill's end", lambda: page.has_ended(backfills[first]), _BACKFILL_SECONDS)
    cancelled_after = time.monotonic() - cancelling
    done = _materialized(instance, first)
    loaded = staged.count("s3_log_record")
    missing = [partition for partition in history.partitions if partition not in done]
    ids = [backfills[bucket] for bucket in history.buckets[1:]]
    if missing:  # if there are few days, all may be in progress when a third is done
        ids.append(page.backfill(first, missing))
    running.wait_for("the backfills' end", lambda: all(map(page.has_ended, ids)), _BACKFILL_SECONDS)
    wall = time.monotonic() - started
    if unsuccessful := {page.status(each) for each in ids} - _SUCCEEDED:
        raise SystemExit(f"a backfill ended as {unsuccessful}. Dagster says:\n{running.reported()}")
    staged.expect(history.lines)
    for bucket in history.buckets:
        if left := [path for path in (staged.folder / bucket).rglob("*-*") if path.is_file()]:
            raise SystemExit(f"{len(left)} log keys are left, for example {left[0]}")
        if (count := len(_materialized(instance, bucket))) != history.days:
            raise SystemExit(f"{bucket}: {count} of {history.days} days are materialized")
    records = instance.get_run_records()
    seconds = [(record.end_time or 0) - (record.start_time or 0) for record in records if record.start_time]
    days = history.days * len(history.buckets)
    statuses = sorted({record.dagster_run.status.value for record in records})
    yield "runs", f"{len(records)}", ", ".join(statuses)
    yield "wall time, all", f"{wall:.0f} s", f"{days / wall:.1f} days/s"
    yield "the same by `tamarin-dagster pull`", f"{alone:.1f} s", f"ratio {wall / alone:.0f}"
    yield "seconds of runs, in sum", f"{sum(seconds):.0f} s", f"{max(seconds):.1f} s the longest"
    per_day = (sum(seconds) - alone) / days
    yield "bookkeeping per day", f"{1000 * per_day:.0f} ms", "of a run's time, beyond the pull's"
    yield "cancelled with", f"{len(done)} of {history.days} days", f"{loaded:,} rows were in; {cancelled_after:.1f} s"
    yield "launched again", f"{len(missing)} days", "each line is there once, no log key is left"


def _materialized(instance: dg.DagsterInstance, bucket: str) -> set[str]:
    """Return the days whose keys are purged: these are complete."""
    return set(instance.get_materialized_partitions(dg.AssetKey([bucket, "purged_log_keys"])))


if __name__ == "__main__":
    main()
