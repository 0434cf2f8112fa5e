"""Run a Celery worker for WatchedCeleryRunLauncher.

    python -m tamarin_dagster.orchestration.patches.celery_worker [options of `celery worker`]

It needs the same things as a code location: DAGSTER_HOME with the same dagster.yaml, and the settings. It executes runs
of this code location, one at a time unless you set `--concurrency`.
"""

import sys
from collections.abc import Sequence

import dagster as dg

from tamarin_dagster.extras import needing

with needing("celery", "A Celery worker"):
    from celery import Celery
    from dagster_celery.tasks import create_execute_job_task

from tamarin_dagster.orchestration.patches.celery_run_launcher import WatchedCeleryRunLauncher


def main(options: Sequence[str] = ()) -> None:
    """Run the worker until SIGTERM. On SIGTERM it first finishes its current runs."""
    worker_app().worker_main(["worker", "--loglevel=INFO", "--without-mingle", "--without-gossip", *options])


def worker_app() -> Celery:
    """Return the Celery app of the launcher, with the task that executes a run, so that both share a configuration."""
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        if not isinstance(launcher, WatchedCeleryRunLauncher):
            raise SystemExit(f"run_launcher in dagster.yaml is {type(launcher).__name__}, not WatchedCeleryRunLauncher")
        if not instance.run_monitoring_enabled:
            # Without it, Dagster would mark a run as failed when the broker gives it out a second time.
            raise SystemExit("run_monitoring in dagster.yaml must be enabled")
        create_execute_job_task(launcher.celery)
        return launcher.celery


if __name__ == "__main__":
    main(sys.argv[1:])
