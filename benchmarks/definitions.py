"""Measure the loading of the definitions of many buckets: `python -m benchmarks.definitions --buckets 1 100 1000`.

Each number of buckets has its own process, which builds the definitions and the snapshot for Dagster's daemon and UI.
CPU seconds depend on the other work of the machine. `loop` is a fixed loop of Python in the same process, so that you
can compare two measurements.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

_LOOP = 5_000_000


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buckets", type=int, nargs="+", default=[1, 20, 100, 300, 1000])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        print(json.dumps(measure(given.measure)))
        return
    columns = [
        *("buckets", "CPU s", "of it build", "of it snapshot", "MB resident", "snapshot MB"),
        *("jobs", "schedules", "checks", "loop s"),
    ]
    print(f"| {' | '.join(columns)} |")
    print(f"|{'---:|' * len(columns)}")
    for count in given.buckets:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.definitions", "--measure", str(count)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"| {' | '.join(f'{found[name]:,}' for name in columns)} |", flush=True)


def measure(count: int) -> dict[str, float]:
    """Build the definitions of this number of buckets and their snapshot, in this process."""
    from dagster._core.remote_representation.external_data import RepositorySnap  # noqa: PLC0415 - it is measured too
    from dagster_shared.serdes import serialize_value  # noqa: PLC0415

    from tamarin_dagster.definitions import build_definitions  # noqa: PLC0415
    from tamarin_dagster.settings import LoggedBucket, Settings  # noqa: PLC0415

    buckets = tuple(
        LoggedBucket.model_validate(
            {"name": f"bucket-{number:04}", "log_bucket_name": f"logs-{number:04}", "start_date": "2026-01-01"}
        )
        for number in range(count)
    )
    started = time.process_time()
    definitions = build_definitions(Settings(buckets=buckets))
    built = time.process_time()
    repository = definitions.get_repository_def()
    snapshot = serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))
    ended = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    looped = time.process_time()
    for number in range(_LOOP):
        number * number % 7
    return {
        "buckets": count,
        "CPU s": round(ended, 1),
        "of it build": round(built - started, 1),
        "of it snapshot": round(ended - built, 1),
        "MB resident": memory,
        "snapshot MB": round(len(snapshot) / 1e6, 1),
        "jobs": len(repository.get_all_jobs()),
        "schedules": len(repository.schedule_defs),
        "checks": len(repository.asset_graph.asset_check_keys),
        "loop s": round(time.process_time() - looped, 2),
    }


if __name__ == "__main__":
    main()
