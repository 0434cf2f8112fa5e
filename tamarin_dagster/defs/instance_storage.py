"""Dagster's own storage in Postgres, for dagster.yaml: dagster-postgres on the database of the settings.

    storage:
      custom:
        module: tamarin_dagster.defs.instance_storage
        class: SettingsPostgresStorage

So every Dagster process on this home finds its storage without a URL in a file, starts the embedded server if it is the
first, and keeps it running while it lives.
"""

from collections.abc import Mapping
from typing import Any, Self

from dagster._config import UserConfigSchema
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from tamarin_dagster.recordstore.database import dagster_url
from tamarin_dagster.settings import load_settings


class SettingsPostgresStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage whose URL is `dagster_database_url`, by default the embedded server's."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """It takes no configuration: the settings have it all."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003
        """Opens the storage. Raises SettingsError, EmbeddedPostgresError."""
        return super().from_config_value(inst_data, {"postgres_url": dagster_url(load_settings())})  # type: ignore[return-value]
