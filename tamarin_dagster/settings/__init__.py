"""Read and validate the settings: tamarin.yaml, and TAMARIN_* variables, which win over the file."""

from tamarin_dagster.settings.models import (
    DEFAULT_CONFIG,
    DEFAULT_LOAD_CONNECTIONS,
    DEFAULT_QUIET_SECONDS,
    DEFAULT_ROLLUP_PARTS_DAYS,
    DEFAULT_ROLLUP_ROWS,
    FIRST_LOG_DATE,
    LAKE_SCHEME,
    VARIABLE_PREFIX,
    Lake,
    LoggedBucket,
    PartitionUnit,
    Settings,
    SettingsError,
    build_settings,
    load_settings,
)

__all__ = [
    "DEFAULT_CONFIG",
    "DEFAULT_LOAD_CONNECTIONS",
    "DEFAULT_QUIET_SECONDS",
    "DEFAULT_ROLLUP_PARTS_DAYS",
    "DEFAULT_ROLLUP_ROWS",
    "FIRST_LOG_DATE",
    "LAKE_SCHEME",
    "VARIABLE_PREFIX",
    "Lake",
    "LoggedBucket",
    "PartitionUnit",
    "Settings",
    "SettingsError",
    "build_settings",
    "load_settings",
]
