"""The former name of tamarin_dagster.orchestration.patches.run_launcher, for one release."""

from tamarin_dagster.orchestration.patches.run_launcher import LocalRunLauncher, ServedRunLauncher

__all__ = ["LocalRunLauncher", "ServedRunLauncher"]
