"""Dagster's own storage in Postgres, for dagster.yaml: dagster-postgres on the database of the settings.

    storage:
      custom:
        module: tamarin_dagster.orchestration.patches.instance_storage
        class: SettingsPostgresStorage

So every Dagster process on this home finds its storage without a URL in a file, starts the embedded server if it is the
first, and keeps it running while it lives.
"""

from collections.abc import Mapping
from typing import Any, Self

from dagster._config import UserConfigSchema
from dagster._core.storage.event_log.schema import ConcurrencyLimitsTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage
from dagster_postgres.utils import create_pg_engine
from sqlalchemy.dialects import postgresql

from tamarin_dagster.recordstore.connections import dagster_url
from tamarin_dagster.settings import load_settings
from tamarin_dagster.urls import clean_errors

# Connections of a storage that are kept (some of what it does takes a second one), and how many more it may have.
_KEPT_CONNECTIONS = 2
_MORE_CONNECTIONS = 20


class _KeepsConnection:
    """A storage of dagster-postgres that keeps its connections.

    By itself it makes one for each statement, which takes Postgres a process each: of a run over a month of days, with
    900 of them, that was two thirds of the time. A connection is tried before its use: Postgres may come and go.
    """

    def __init__(self, postgres_url: str) -> None:
        super().__init__(postgres_url, should_autocreate_tables=True)  # type: ignore[call-arg]
        self._engine = create_pg_engine(
            postgres_url,
            isolation_level="AUTOCOMMIT",
            pool_size=_KEPT_CONNECTIONS,
            max_overflow=_MORE_CONNECTIONS,
            pool_pre_ping=True,
        )

    def dispose(self) -> None:
        """Closes what it has kept: a code server makes an instance for each tick."""
        super().dispose()  # type: ignore[misc]
        self._engine.dispose()


class _RunStorage(_KeepsConnection, PostgresRunStorage):
    """dagster-postgres's, with a connection that is kept."""


class _ScheduleStorage(_KeepsConnection, PostgresScheduleStorage):
    """dagster-postgres's, with a connection that is kept."""


class _EventLogStorage(_KeepsConnection, PostgresEventLogStorage):
    """dagster-postgres's, with a connection that is kept, and pools that two runs may make at once.

    Dagster inserts a pool's row, and updates it if it is there; but on Postgres an insert that fails spoils its
    transaction, the update fails too, and with it the run (dagster #33552): the second of two that begin at once on a
    fresh home.
    """

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        limit = self._instance.global_op_concurrency_default_limit if self.has_instance else None
        if limit is None or not self.has_default_pool_limit_col:
            return super().initialize_concurrency_limit_to_default(concurrency_key)
        self._reconcile_concurrency_limits_from_slots()
        pool = {"concurrency_key": concurrency_key, "limit": limit, "using_default_limit": True}
        insert = postgresql.insert(ConcurrencyLimitsTable).values(**pool)
        with self.index_transaction() as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=["concurrency_key"], set_={"limit": limit}))
            self._allocate_concurrency_slots(connection, concurrency_key, limit)
        return True


class SettingsPostgresStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage whose URL is `dagster_database_url`, by default the embedded server's."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(postgres_url, inst_data=inst_data)
        self._run_storage = _RunStorage(postgres_url)
        self._event_log_storage = _EventLogStorage(postgres_url)
        self._schedule_storage = _ScheduleStorage(postgres_url)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """It takes no configuration: the settings have it all."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003
        """Opens the storage. Raises SettingsError, EmbeddedPostgresError."""
        url = dagster_url(load_settings())
        with clean_errors(url):
            return cls(url, inst_data)
