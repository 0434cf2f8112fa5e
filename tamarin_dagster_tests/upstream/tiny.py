"""Tiny assets, runs of them, and a daemon in this process: for the tests of what we rely on of Dagster itself."""

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.remote_representation.external import RemoteRepository
from dagster._core.scheduler.instigation import InstigatorTick
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._core.test_utils import freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.monitoring import execute_concurrency_slots_iteration
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import ScheduleIterationTimes, launch_scheduled_runs

_log = logging.getLogger(__name__)

# The days that tests load: one, and a range.
DAYS = dg.DailyPartitionsDefinition("2026-03-01", end_date="2026-04-01")
DAY, LAST = "2026-03-04", "2026-03-06"
RANGE = ["2026-03-04", "2026-03-05", "2026-03-06"]
LOADED, PURGED, DELIVERED = dg.AssetKey("loaded"), dg.AssetKey("purged"), dg.AssetKey("delivered")

_RUNS_AT_ONCE = {
    "run_launcher": {
        "module": "dagster._core.launcher.sync_in_memory_run_launcher",
        "class": "SyncInMemoryRunLauncher",
    },
    "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
}


def range_tags(first: str, last: str) -> dict[str, str]:
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


def run(
    assets: Sequence[Any], instance: dg.DagsterInstance, *days: str, selection: Any = None, **others: Any
) -> dg.ExecuteInProcessResult:
    """Of no partition, of a day, or of a range of days; of all that is given, or of the selection."""
    return dg.materialize(
        assets,
        instance=instance,
        selection=selection,
        partition_key=days[0] if len(days) == 1 else None,
        tags=range_tags(*days) if len(days) == 2 else None,
        raise_on_error=False,
        **others,
    )


def materialized(result: dg.ExecuteInProcessResult, key: dg.AssetKey = LOADED) -> list[str | None]:
    """The partitions."""
    materializations = [
        event.step_materialization_data.materialization for event in result.get_asset_materialization_events()
    ]
    return [each.partition for each in materializations if each.asset_key == key]


def psycopg2_url(url: str) -> str:
    return "postgresql+psycopg2" + url.removeprefix("postgresql")


def check_rows(instance: dg.DagsterInstance, asset: dg.AssetKey, name: str) -> Counter[tuple[str | None, str]]:
    """Return the stored rows of a check: the number for each partition and status."""
    key = dg.AssetCheckKey(asset, name)
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return Counter((row.partition, row.status.value) for row in history)


def spec(name: str = "counted", asset: dg.AssetKey = LOADED, **others: Any) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=asset, partitions_def=DAYS, **others)


@dg.asset(key=LOADED, partitions_def=DAYS)
def just_loaded() -> dg.MaterializeResult:
    return dg.MaterializeResult()


@dg.asset(key=PURGED, partitions_def=DAYS, deps=[LOADED])
def just_purged() -> dg.MaterializeResult:
    return dg.MaterializeResult()


@contextmanager
def instance_of(home: Path, **settings: Any) -> Iterator[dg.DagsterInstance]:
    """An instance on SQLite in `home`, with these settings in its dagster.yaml."""
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(yaml.safe_dump({"telemetry": {"enabled": False}} | settings), "utf-8")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@dataclass
class Daemon:
    """A daemon that acts only when a test asks it to, at the time that the test sets."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext
    _iterations: dict[str, ScheduleIterationTimes] = field(default_factory=dict)

    def look_at_sensors(self, now: datetime) -> None:
        """One round of the sensor daemon."""
        with freeze_time(now):
            list(execute_sensor_iteration(self.workspace, _log, None, None))

    def look_at_schedules(self, now: datetime) -> None:
        """One round of the scheduler."""
        with freeze_time(now):
            list(launch_scheduled_runs(self.workspace, _log, now, self._iterations))

    def backfill(self, now: datetime, assets: Sequence[str], partitions: Sequence[str]) -> list[dg.DagsterRun]:
        """A backfill as it is launched from the page of assets, and its runs, first to last."""
        graph = self.workspace.create_request_context().asset_graph
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id="backfill",
            asset_graph=graph,
            partition_names=partitions,
            asset_selection=[dg.AssetKey(name) for name in assets],
            backfill_timestamp=now.timestamp(),
            tags={},
            dynamic_partitions_store=self.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(backfill)
        list(execute_backfill_iteration(self.workspace, _log))
        return self.runs(**{"dagster/backfill": "backfill"})

    def free_slots(self, now: datetime) -> None:
        """One look for pool slots that ended runs still hold."""
        with freeze_time(now):
            list(execute_concurrency_slots_iteration(self.workspace, _log))

    def repository(self) -> RemoteRepository:
        """The definitions, as the daemon and the page know them."""
        return self.workspace.create_request_context().get_code_location("here").get_repository("__repository__")

    def runs(self, **tags: str) -> list[dg.DagsterRun]:
        """Those with these tags, first to last."""
        return list(reversed(self.instance.get_runs(dg.RunsFilter(tags=tags))))

    def ticks(self, name: str) -> list[InstigatorTick]:
        """Of a sensor or schedule, first to last."""
        return [
            tick
            for state in self.instance.all_instigator_state()
            if state.name == name
            for tick in reversed(self.instance.get_ticks(state.instigator_origin_id, state.selector_id))
        ]

    def cursor(self, sensor: str) -> str | None:
        """Return the cursor for the sensor's next tick."""
        (state,) = [state for state in self.instance.all_instigator_state() if state.name == sensor]
        found: str | None = state.instigator_data.cursor
        return found


@contextmanager
def daemon_of(home: Path, module: str, attribute: str, **settings: Any) -> Iterator[Daemon]:
    """A daemon for the definitions of that name in that module, on an instance of its own."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=module, attribute=attribute)
    origin = InProcessCodeLocationOrigin(target, location_name="here")
    with (
        instance_of(home, **(_RUNS_AT_ONCE | settings)) as instance,
        WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as workspace,
    ):
        yield Daemon(instance, workspace)
