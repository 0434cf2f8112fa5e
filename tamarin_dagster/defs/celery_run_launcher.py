"""The former name of tamarin_dagster.orchestration.patches.celery_run_launcher, for one release."""

from tamarin_dagster.orchestration.patches.celery_run_launcher import WatchedCeleryRunLauncher

__all__ = ["WatchedCeleryRunLauncher"]
