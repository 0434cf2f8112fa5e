"""Dagster's storage for dagster.yaml: dagster-postgres with the database of the settings.

    storage:
      custom:
        module: tamarin_dagster.orchestration.patches.instance_storage
        class: SettingsPostgresStorage

Every Dagster process of this home finds its storage without a URL in a file. The first process starts the embedded
server, and the server runs as long as any process needs it.
"""

from collections.abc import Mapping
from typing import Any, Self

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

# The number of connections that a storage keeps (some of its methods need two), and how many more it may open.
_KEPT_CONNECTIONS = 2
_MORE_CONNECTIONS = 20


class _KeepsConnection:
    """A storage of dagster-postgres that keeps its connections.

    dagster-postgres opens a connection for each statement, and Postgres starts a process for each connection. In a run
    over a month of days these 900 connections took two thirds of the time. A kept connection is tested before its use,
    since Postgres may have restarted.
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
        """Close the kept connections, since a code server makes an instance for each tick."""
        super().dispose()  # type: ignore[misc]
        self._engine.dispose()


class _RunStorage(_KeepsConnection, PostgresRunStorage):
    """The run storage of dagster-postgres, with kept connections."""


class _ScheduleStorage(_KeepsConnection, PostgresScheduleStorage):
    """The schedule storage of dagster-postgres, with kept connections."""


class _EventLogStorage(_KeepsConnection, PostgresEventLogStorage):
    """The event log storage of dagster-postgres, with kept connections, in which two runs may create the same pool.

    Dagster inserts the row of a pool, and updates it if it exists. But in Postgres a failed insert aborts the
    transaction, so the update fails too, and with it the run (dagster #33552). This hits the second of two runs that
    start at the same time on a fresh home.
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
    """A DagsterPostgresStorage whose URL is the setting `dagster_database_url`, by default the embedded server."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(postgres_url, inst_data=inst_data)
        self._run_storage = _RunStorage(postgres_url)
        self._event_log_storage = _EventLogStorage(postgres_url)
        self._schedule_storage = _ScheduleStorage(postgres_url)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty configuration, since everything is in the settings."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:  # noqa: ARG003
        """Open the storage. Raises SettingsError, EmbeddedPostgresError."""
        url = dagster_url(load_settings())
        with clean_errors(url):
            return cls(url, inst_data)
