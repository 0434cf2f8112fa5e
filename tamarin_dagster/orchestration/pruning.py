"""The nightly job that deletes old operational events from Dagster's storage: the step-by-step story of finished runs.

Dagster prunes only the ticks of sensors and schedules. A run for one small log key leaves about fifty events. A quarter
of them contain everything that the UI shows of assets, and those stay.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import sqlalchemy as sa
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.runs.schema import BulkActionsTable, RunsTable, RunTagsTable
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage

from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.naming import (
    ASSET_JOB,
    FINISHED,
    PARENT_RUN_TAG,
    REPOSITORY_TAG,
    ROOT_RUN_TAG,
    make_name,
)
from tamarin_dagster.orchestration.tick_logs import prune_tick_logs
from tamarin_dagster.settings import Settings

# The number of runs whose events are deleted in one transaction: about 5,000 rows, so that nobody waits for the locks.
RUNS_PER_BATCH = 100

_TYPES = dg.DagsterEventType
# Types of events that only say how a run went. All other types stay, including any that Dagster adds later. Failures
# stay too: they are few, and they say what is wrong.
OPERATIONAL = (
    _TYPES.STEP_INPUT,
    _TYPES.STEP_START,
    _TYPES.STEP_OUTPUT,
    _TYPES.STEP_SUCCESS,
    _TYPES.STEP_SKIPPED,
    _TYPES.STEP_RESTARTED,
    _TYPES.STEP_UP_FOR_RETRY,
    _TYPES.STEP_WORKER_STARTING,
    _TYPES.STEP_WORKER_STARTED,
    _TYPES.RESOURCE_INIT_STARTED,
    _TYPES.RESOURCE_INIT_SUCCESS,
    _TYPES.HANDLED_OUTPUT,
    _TYPES.LOADED_INPUT,
    _TYPES.OBJECT_STORE_OPERATION,
    _TYPES.ENGINE_EVENT,
    _TYPES.LOGS_CAPTURED,
    _TYPES.RUN_ENQUEUED,
    _TYPES.RUN_DEQUEUED,
    _TYPES.RUN_STARTING,
    _TYPES.RUN_START,
    _TYPES.RUN_SUCCESS,
    _TYPES.RUN_CANCELING,
    _TYPES.ASSET_CHECK_EVALUATION_PLANNED,
)
# Dagster uses these to know which partitions a run failed to make. After a success, the materializations say more.
OPERATIONAL_OF_SUCCESS = (*OPERATIONAL, _TYPES.ASSET_MATERIALIZATION_PLANNED)
# If a run has none of these events and no other run or backfill refers to it, the UI shows nothing of it for assets.
REFERRED_TO = (
    _TYPES.ASSET_MATERIALIZATION,
    _TYPES.ASSET_MATERIALIZATION_PLANNED,
    _TYPES.ASSET_OBSERVATION,
    _TYPES.ASSET_FAILED_TO_MATERIALIZE,
    _TYPES.ASSET_CHECK_EVALUATION,
    _TYPES.FRESHNESS_STATE_CHANGE,
)


@dataclass
class Pruned:
    """The numbers of deleted rows."""

    runs_looked_at: int = 0
    events: int = 0
    runs: int = 0


class UnsupportedStorageError(Exception):
    """Dagster's storage is of a kind that cannot be pruned. The text names the kind."""


def build_prune_job(
    settings: Settings,
    asset_keys: Collection[dg.AssetKey],
    jobs: Sequence[str],
    instigators: Collection[str],
    prefix: str = "",
) -> dg.JobDefinition:
    """Build the job that prunes the runs of these assets and jobs in the code location that it runs in.

    It also deletes what old ticks of the `instigators`, which are sensors and schedules, have logged.
    """

    @dg.op(
        name=make_name(prefix, "prune_dagster_events"),
        out=dg.Out(dg.Nothing),
        description="Deletes the step events, log lines and compute logs of runs that ended long ago.",
    )
    def prune_dagster_events(context: dg.OpExecutionContext) -> None:
        repository = context.run.tags.get(REPOSITORY_TAG)
        if repository is None:
            context.log.warning(
                "nothing is pruned: this run has no code location, so it cannot tell which runs are its own; launch the"
                " job from a workspace"
            )
            return
        before = datetime.now(UTC) - timedelta(days=settings.dagster_event_retention_days)
        with cancellable():
            try:
                done = prune(
                    context.instance,
                    before=before,
                    repository=repository,
                    is_ours=lambda run: is_run_of(run, asset_keys, {*jobs, make_name(prefix, "prune_dagster_storage")}),
                )
            except UnsupportedStorageError as error:
                context.log.warning(f"nothing is pruned: {error}")
                return
            ticks = prune_tick_logs(context.instance, before=before, repository=repository, names=instigators)
        context.add_output_metadata(
            {
                "before": before.isoformat(timespec="minutes"),
                "pruned runs": done.runs_looked_at,
                "deleted events": done.events,
                "deleted runs": done.runs,
                "deleted logs of ticks": ticks,
            }
        )

    @dg.job(
        name=make_name(prefix, "prune_dagster_storage"),
        description=f"Deletes step events and logs {settings.dagster_event_retention_days} days after a run's end."
        " Materializations, observations, check results and failures stay.",
        executor_def=dg.in_process_executor,
    )
    def prune_dagster_storage() -> None:
        prune_dagster_events()

    return prune_dagster_storage


def build_prune_schedule(job: dg.JobDefinition, prefix: str = "") -> dg.ScheduleDefinition:
    """Build the nightly schedule."""
    return dg.ScheduleDefinition(
        name=make_name(prefix, "prune_dagster_storage_nightly"),
        job=job,
        # After all other nightly runs.
        cron_schedule="40 5 * * *",
        execution_timezone="UTC",
        description="Deletes old step events, log lines and compute logs from Dagster's storage.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def is_run_of(run: dg.DagsterRun, asset_keys: Collection[dg.AssetKey], jobs: Collection[str]) -> bool:
    """Return whether a run is one of these jobs, or makes only these assets and their checks.

    A code location may also contain other people's assets and jobs.
    """
    if run.job_name in jobs:
        return True
    if run.job_name != ASSET_JOB:
        return False
    keys = {*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())}
    return bool(keys) and keys <= set(asset_keys)


def prune(
    instance: dg.DagsterInstance,
    *,
    before: datetime,
    repository: str | None,
    is_ours: Callable[[dg.DagsterRun], bool],
) -> Pruned:
    """Delete the operational events and compute logs of old runs, and the runs themselves if nothing refers to them.

    Each batch of runs is one transaction, so an interrupted pruning continues where it stopped.

    Args:
        instance: the Dagster instance whose storage is pruned.
        before: only runs that ended before this time are pruned.
        repository: the code location of the runs, as Dagster writes it in their tag; None means any.
        is_ours: returns whether a run of that code location may be pruned.

    Raises UnsupportedStorageError.
    """
    runs, events = instance.run_storage, instance.event_log_storage
    if not (isinstance(runs, PostgresRunStorage) and isinstance(events, PostgresEventLogStorage)):
        raise UnsupportedStorageError(
            f"Dagster's storage is {type(events).__name__}; only the storage of dagster-postgres can be pruned"
        )
    if runs.postgres_url != events.postgres_url:
        raise UnsupportedStorageError("Dagster's runs and events are in two databases; only one can be pruned")
    done = Pruned()
    with events.index_connection() as connection:  # this connection commits each statement
        for page in _read_run_ids(connection, before, repository):
            ours = [run for run in instance.get_runs(dg.RunsFilter(run_ids=page)) if run.is_finished and is_ours(run)]
            done.runs_looked_at += len(ours)
            # Before the events: a run without events is not found again if this is interrupted.
            for run in ours:
                instance.compute_log_manager.delete_logs(prefix=[run.run_id])
            for kinds, success in ((OPERATIONAL_OF_SUCCESS, True), (OPERATIONAL, False)):
                ids = [run.run_id for run in ours if run.is_success is success]
                done.events += connection.execute(_DELETION.where(_EVENTS.run_id.in_(ids), _is_one_of(kinds))).rowcount
            for run_id in _find_unreferenced(connection, [run.run_id for run in ours]):
                instance.delete_run(run_id)
                done.runs += 1
    return done


_EVENTS, _RUNS, _TAGS = SqlEventLogStorageTable.c, RunsTable.c, RunTagsTable.c
_DELETION = sa.delete(SqlEventLogStorageTable)


def _is_one_of(kinds: Sequence[dg.DagsterEventType]) -> sa.ColumnElement[bool]:
    """Return the condition that an event has one of these types, or is a line of the run's log, which has no type."""
    return sa.or_(_EVENTS.dagster_event_type.is_(None), _EVENTS.dagster_event_type.in_([kind.value for kind in kinds]))


def _read_run_ids(connection: sa.Connection, before: datetime, repository: str | None) -> Iterator[list[str]]:
    """Yield the ids of finished runs that have something to prune, oldest first.

    Runs of an unfinished backfill are left out, since Dagster reads their events again.
    """
    unfinished = sa.select(BulkActionsTable.c.key).where(
        BulkActionsTable.c.status.not_in([status.value for status in BULK_ACTION_TERMINAL_STATUSES])
    )
    wanted = [
        _RUNS.status.in_([status.value for status in FINISHED]),
        _RUNS.update_timestamp < before.astimezone(UTC).replace(tzinfo=None),
        sa.or_(_RUNS.end_time.is_(None), _RUNS.end_time < before.timestamp()),
        sa.or_(_RUNS.backfill_id.is_(None), _RUNS.backfill_id.not_in(unfinished)),
        sa.exists().where(_EVENTS.run_id == _RUNS.run_id, _is_one_of(OPERATIONAL)),
    ]
    if repository is not None:
        wanted.append(
            sa.exists().where(_TAGS.run_id == _RUNS.run_id, _TAGS.key == REPOSITORY_TAG, _TAGS.value == repository)
        )
    last = 0
    while found := connection.execute(
        sa.select(_RUNS.id, _RUNS.run_id).where(*wanted, _RUNS.id > last).order_by(_RUNS.id).limit(RUNS_PER_BATCH)
    ).all():
        last = found[-1].id
        yield [row.run_id for row in found]


def _find_unreferenced(connection: sa.Connection, run_ids: list[str]) -> list[str]:
    """Return the runs that no asset, check, backfill or other run refers to."""
    checks = AssetCheckExecutionsTable.c
    others = sa.select(_TAGS.value).where(
        _TAGS.key.in_((PARENT_RUN_TAG, ROOT_RUN_TAG)), _TAGS.value.in_(run_ids), _TAGS.run_id != _RUNS.run_id
    )
    events = sa.exists().where(
        _EVENTS.run_id == _RUNS.run_id, _EVENTS.dagster_event_type.in_([kind.value for kind in REFERRED_TO])
    )
    query = sa.select(_RUNS.run_id).where(
        _RUNS.run_id.in_(run_ids),
        _RUNS.backfill_id.is_(None),
        ~events,
        ~sa.exists().where(checks.run_id == _RUNS.run_id),
        _RUNS.run_id.not_in(others),
    )
    return list(connection.scalars(query))
