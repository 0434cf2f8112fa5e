"""Run a Celery worker for WatchedCeleryRunLauncher.

    python -m tamarin_dagster.orchestration.patches.celery_worker [options of `celery worker`]

It needs what a code location needs (DAGSTER_HOME with the same dagster.yaml, the settings), and executes runs of this
code location, one at a time unless `--concurrency` says otherwise.
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
    """Works until SIGTERM, which lets the runs under way end first."""
    worker_app().worker_main(["worker", "--loglevel=INFO", "--without-mingle", "--without-gossip", *options])


def worker_app() -> Celery:
    """The launcher's own Celery app, so that both have one configuration, with the task that executes a run."""
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        if not isinstance(launcher, WatchedCeleryRunLauncher):
            raise SystemExit(f"run_launcher in dagster.yaml is {type(launcher).__name__}, not WatchedCeleryRunLauncher")
        if not instance.run_monitoring_enabled:
            # A run that the broker gives out a second time would be marked as failed, while it goes on.
            raise SystemExit("run_monitoring in dagster.yaml must be enabled")
        create_execute_job_task(launcher.celery)
        return launcher.celery


if __name__ == "__main__":
    main(sys.argv[1:])
