"""The former name of tamarin_dagster.orchestration.patches.instance_storage, for one release."""

from tamarin_dagster.orchestration.patches.instance_storage import SettingsPostgresStorage

__all__ = ["SettingsPostgresStorage"]
