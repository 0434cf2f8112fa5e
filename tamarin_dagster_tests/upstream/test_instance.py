"""Settings, storage, page, command line and names: what we rely on of Dagster itself, as test_upstream says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster._cli.dev import dev_command
from dagster._cli.utils import get_possibly_temporary_instance_for_cli
from dagster._cli.workspace.cli_target import _get_workspace_load_target_from_cli_opts as load_target
from dagster._config import UserConfigSchema
from dagster._core.definitions.metadata.metadata_set import TableMetadataSet
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.errors import DagsterHomeNotSetError
from dagster._core.storage.event_log.schema import ConcurrencyLimitsTable
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._serdes import ConfigurableClassData
from dagster_graphql.schema import create_schema
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_shared.cli import WorkspaceOpts
from dagster_webserver.webserver import DagsterWebserver
from graphql import parse, validate

from tamarin_dagster.operations import dev, watchdog
from tamarin_dagster_tests.upstream.tiny import LOADED, instance_of, just_loaded, psycopg2_url, run

# Each key that our dagster.yaml has, with a value that is not Dagster's default.
SETTINGS: dict[str, Any] = {
    "sensors": {"use_threads": True, "num_workers": 3},
    "schedules": {"use_threads": True, "num_workers": 5},
    "concurrency": {"runs": {"max_concurrent_runs": 7}, "pools": {"default_limit": 6}},
    "run_coordinator": {
        "module": "dagster._core.run_coordinator",
        "class": "QueuedRunCoordinator",
        "config": {
            "dequeue_interval_seconds": 2,
            "max_user_code_failure_retries": 8,
            "user_code_failure_retry_delay": 9,
        },
    },
    "run_monitoring": {
        "enabled": True,
        "start_timeout_seconds": 61,
        "poll_interval_seconds": 31,
        "free_slots_after_run_end_seconds": 62,
    },
    "run_retries": {"enabled": True, "max_retries": 4, "retry_on_asset_or_op_failure": False},
    "retention": {
        "sensor": {"purge_after_days": {"skipped": 1, "failure": 2, "success": 3, "started": 4}},
        "schedule": {"purge_after_days": {"skipped": 5, "failure": 6, "success": 7, "started": 8}},
    },
    "python_logs": {"python_log_level": "WARNING", "managed_python_loggers": ["named"]},
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
}


def paths(settings: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(settings, dict):
        for name, value in settings.items():
            yield from paths(value, (*path, name))
    else:
        yield path


def test_each_setting_of_dagster_yaml_is_taken_and_reaches_dagster(tmp_path) -> None:
    """orchestration/dagster.yaml; its storage and run_launcher have tests of their own here."""

    ours = yaml.safe_load(dev._DAGSTER_YAML.read_text("utf-8"))
    assert set(paths(ours)) - set(paths(SETTINGS)) == {
        *(("storage", "custom", name) for name in ("module", "class")),
        *(("run_launcher", name) for name in ("module", "class")),
        *(("compute_logs", name) for name in ("module", "class")),
    }
    with instance_of(tmp_path, **SETTINGS) as instance:
        concurrency = instance.get_concurrency_config()
        assert concurrency.run_queue_config.max_concurrent_runs == 7
        assert concurrency.pool_config.default_pool_limit == instance.global_op_concurrency_default_limit == 6
        assert instance.run_coordinator.dequeue_interval_seconds == 2
        assert concurrency.run_queue_config.max_user_code_failure_retries == 8
        assert concurrency.run_queue_config.user_code_failure_retry_delay == 9
        for name in ("sensors", "schedules"):
            assert SETTINGS[name].items() <= instance.get_settings(name).items()
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_start_timeout_seconds == 61
        assert instance.run_monitoring_poll_interval_seconds == 31
        assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] == 62
        assert (instance.run_retries_enabled, instance.run_retries_max_retries) == (True, 4)
        assert not instance.run_retries_retry_on_asset_or_op_failure
        for kind, first in ((InstigatorType.SENSOR, 1), (InstigatorType.SCHEDULE, 5)):
            days = {status.value: days for status, days in instance.get_tick_retention_settings(kind).items()}
            assert [days[each] for each in ("SKIPPED", "FAILURE", "SUCCESS", "STARTED")] == [*range(first, first + 4)]
        assert (instance.python_log_level, instance.managed_python_loggers) == ("WARNING", ["named"])
        assert (instance.telemetry_enabled, instance.nux_enabled) == (False, False)


def test_a_setting_that_dagster_does_not_know_is_refused(tmp_path) -> None:
    """Dagster honours every entry of orchestration/dagster.yaml, and does not just ignore it."""
    for wrong in ({"run_monitorin": {}}, {"run_monitoring": {"free_slots": 1}}, {"concurrency": {"runs": {"max": 1}}}):
        with pytest.raises(dg.DagsterInvalidConfigError), instance_of(tmp_path, **wrong):
            pass


class OwnEventLogStorage(PostgresEventLogStorage):
    asked_for: list[str]

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        self.asked_for.append(concurrency_key)
        self._reconcile_concurrency_limits_from_slots()
        assert self.has_instance
        assert self.has_default_pool_limit_col
        with self.index_transaction() as connection:
            pool = {"concurrency_key": concurrency_key, "limit": 3, "using_default_limit": True}
            connection.execute(sa.insert(ConcurrencyLimitsTable).values(**pool))
            self._allocate_concurrency_slots(connection, concurrency_key, 3)
        return True


class OwnStorage(DagsterPostgresStorage):
    url: ClassVar[str]

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(postgres_url, inst_data=inst_data)
        self._event_log_storage = OwnEventLogStorage(postgres_url, should_autocreate_tables=True)
        self._event_log_storage.asked_for = []

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "OwnStorage":
        assert config_value == {}
        return cls(cls.url, inst_data)


def test_a_storage_of_ones_own_makes_the_pools_in_its_own_way(tmp_path, empty_url, monkeypatch) -> None:
    """instance_storage.SettingsPostgresStorage: the private parts of Dagster's that it sets and calls."""
    monkeypatch.setattr(OwnStorage, "url", psycopg2_url(empty_url), raising=False)
    claimed = []

    @dg.asset(pool="load")
    def loaded(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        claimed.append(context.instance.event_log_storage.get_concurrency_info("load"))
        return dg.MaterializeResult()

    storage = {"custom": {"module": __name__, "class": "OwnStorage"}}
    with instance_of(tmp_path, storage=storage, concurrency={"pools": {"default_limit": 3}}) as instance:
        assert isinstance(instance.event_log_storage, OwnEventLogStorage)
        assert run([loaded], instance).success
        assert instance.event_log_storage.asked_for == ["load"]
    (info,) = claimed
    assert (info.slot_count, info.active_slot_count) == (3, 1)


def test_what_dev_asks_the_page_is_in_its_schema() -> None:
    """watchdog: a code server that is gone is found out and started again."""

    schema = create_schema().graphql_schema
    for query in (watchdog.LOCATIONS, watchdog.RELOAD):
        assert validate(schema, parse(query)) == []
    assert "LOADED" in schema.type_map["RepositoryLocationLoadStatus"].values
    assert {each.name for each in schema.type_map["RepositoryLocationOrLoadError"].types} == {
        "RepositoryLocation",
        "PythonError",
    }


def test_the_page_tells_that_it_is_there_and_answers_graphql(tmp_path) -> None:
    """dev._await_page, watchdog.ask."""

    with instance_of(tmp_path) as instance, WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace:
        routes = {getattr(route, "path", None) for route in DagsterWebserver(workspace).build_routes()}
    assert {"/server_info", "/graphql"} <= routes


def test_dagster_dev_takes_host_port_and_workspace() -> None:
    """dev.run."""

    options = {option for parameter in dev_command.params for option in parameter.opts}
    assert {"-h", "-p", "-w"} <= options


def test_tool_dagster_wins_over_workspace_yaml_unless_that_is_named(tmp_path, monkeypatch) -> None:
    """Why pyproject.toml and workspace.yaml name one location: `dagster` takes the one, dev.run the other.

    Whether a sensor is on, and its cursor, are kept by the location's name.
    """

    monkeypatch.chdir(tmp_path)
    file = {"module_name": "of_workspace", "location_name": "of_workspace"}
    (tmp_path / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"python_module": file}]}))
    (tmp_path / "pyproject.toml").write_text(
        "[tool.dagster]\nmodule_name = 'of_pyproject'\ncode_location_name = 'of_pyproject'\n"
    )

    def location(**opts: Any) -> str:
        (origin,) = load_target(WorkspaceOpts(**opts)).create_origins()
        return origin.location_name

    assert location() == "of_pyproject"
    assert location(workspace=("workspace.yaml",)) == "of_workspace"


def test_dagster_without_a_home_forgets_all(tmp_path, monkeypatch) -> None:
    """dev.run sets DAGSTER_HOME: `dagster dev` would take a folder that it deletes at its end."""

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(DagsterHomeNotSetError):
        dg.DagsterInstance.get()
    with get_possibly_temporary_instance_for_cli() as instance:
        folder = Path(instance.root_directory)
        assert folder.exists()
    assert not folder.exists()
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with get_possibly_temporary_instance_for_cli() as instance:
        assert instance.root_directory == str(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"owners": ["bob"]}, "Owner must be an email address or a team name prefixed with 'team:'"),
        ({"kinds": {f"kind{number}" for number in range(11)}}, "at most ten kinds"),
        ({"group_name": "media.example.org"}, "not a valid asset group name"),
    ],
)
def test_what_an_asset_may_not_have(wrong, said) -> None:
    """assets, naming.slugs: a bucket's name may hold dots and dashes, its group may not."""
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=said):
        dg.AssetSpec("a", **wrong)


def test_what_an_asset_may_have() -> None:
    """assets, naming.slugs; kinds are tags that the page shows."""
    ten = {f"kind{number}" for number in range(10)}
    spec = dg.AssetSpec(["media_2", "a"], group_name="media_2", kinds=ten, owners=["team:logs", "a@example.org"])
    assert set(spec.tags) == {f"dagster/kind/{kind}" for kind in ten}


@pytest.mark.parametrize(
    "make",
    [
        lambda name: dg.SensorDefinition(name=name, job_name="a", evaluation_fn=print),
        lambda name: dg.ScheduleDefinition(name=name, job_name="a", cron_schedule="0 0 * * *"),
        lambda name: dg.Definitions(
            assets=[just_loaded], jobs=[dg.define_asset_job(name, dg.AssetSelection.assets(LOADED))]
        ).resolve_all_job_defs(),
    ],
    ids=["sensor", "schedule", "job"],
)
def test_names_of_sensors_schedules_and_jobs_have_neither_dots_nor_dashes(make) -> None:
    """naming.slugs."""
    make("media_example_org")
    for name in ("media.example.org", "media-example-org"):
        with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"not a valid name in Dagster|resolve asset job"):
            make(name)


def test_a_table_is_shown_by_what_these_entries_of_metadata_say() -> None:
    """assets.log_records, assets._day_metadata."""
    schema = dg.TableSchema(columns=[dg.TableColumn("key", "text", description="of the log key")])
    entries = TableMetadataSet(column_schema=schema, table_name="tamarin.public.s3_log_record", partition_row_count=3)
    assert dict(entries) == {
        "dagster/column_schema": schema,
        "dagster/table_name": "tamarin.public.s3_log_record",
        "dagster/partition_row_count": 3,
    }
