"""The nightly job that deletes old operational events from Dagster's storage: how finished runs went, step by step.

Dagster prunes the ticks of sensors and schedules, and nothing else. A run for one small log key leaves some fifty
events. What the UI shows of assets is in a quarter of them, and those stay.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import sqlalchemy as sa
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.runs.schema import BulkActionsTable, RunsTable, RunTagsTable
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, REPOSITORY_LABEL_TAG, ROOT_RUN_ID_TAG
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage

from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.naming import ASSET_JOB, named
from tamarin_dagster.settings import Settings

# Runs whose events go in one transaction: some 5,000 rows, so that nobody waits for their locks.
RUNS_PER_BATCH = 100

_TYPES = dg.DagsterEventType
# What only says how a run went. Types that are not listed here stay, also those that Dagster may add. Failures stay:
# they are few, and say what is wrong.
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
# By these Dagster knows which partitions a run failed to make. After a success, the materializations say more.
OPERATIONAL_OF_SUCCESS = (*OPERATIONAL, _TYPES.ASSET_MATERIALIZATION_PLANNED)
# A run that has none of these, and is part of nothing else, is referred to by nothing that the UI shows of assets.
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
    """What was deleted."""

    runs_looked_at: int = 0
    events: int = 0
    runs: int = 0


class UnsupportedStorageError(Exception):
    """Dagster's storage is not one that can be pruned. Its text says which it is."""


def build_prune_job(
    settings: Settings, asset_keys: Collection[dg.AssetKey], jobs: Sequence[str], prefix: str = ""
) -> dg.JobDefinition:
    """Build the job that prunes the runs of these assets and jobs in the code location that it runs in."""

    @dg.op(
        name=named(prefix, "prune_dagster_events"),
        out=dg.Out(dg.Nothing),
        description="Deletes the step events, log lines and compute logs of runs that ended long ago.",
    )
    def prune_dagster_events(context: dg.OpExecutionContext) -> None:
        repository = context.run.tags.get(REPOSITORY_LABEL_TAG)
        if repository is None:
            context.log.warning(
                "nothing is pruned: this run belongs to no code location, so it cannot tell which runs do"
            )
            return
        before = datetime.now(UTC) - timedelta(days=settings.dagster_event_retention_days)
        with cancellable():
            try:
                done = prune(
                    context.instance,
                    before=before,
                    repository=repository,
                    is_ours=lambda run: is_run_of(run, asset_keys, {*jobs, named(prefix, "prune_dagster_storage")}),
                )
            except UnsupportedStorageError as error:
                context.log.warning(f"nothing is pruned: {error}")
                return
        context.add_output_metadata(
            {
                "before": before.isoformat(timespec="minutes"),
                "pruned runs": done.runs_looked_at,
                "deleted events": done.events,
                "deleted runs": done.runs,
            }
        )

    @dg.job(
        name=named(prefix, "prune_dagster_storage"),
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
        name=named(prefix, "prune_dagster_storage_nightly"),
        job=job,
        # After all other nightly runs.
        cron_schedule="40 5 * * *",
        execution_timezone="UTC",
        description="Deletes old step events, log lines and compute logs from Dagster's storage.",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def is_run_of(run: dg.DagsterRun, asset_keys: Collection[dg.AssetKey], jobs: Collection[str]) -> bool:
    """Whether a run is one of these jobs, or makes nothing but these assets and their checks.

    A code location may hold other people's assets and jobs as well.
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
    """Delete the operational events and compute logs of runs that ended before this time, and runs with nothing left.

    Each batch of runs is a transaction of its own, so that an interrupted pruning goes on where it was.

    Args:
        instance: whose storage it is.
        before: when a run must have ended.
        repository: the value of the tag by which Dagster knows the code location of a run; None: any.
        is_ours: whether a run of that code location may be pruned.

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
    with events.index_connection() as connection:  # which commits each statement
        for page in _pages(connection, before, repository):
            ours = [run for run in instance.get_runs(dg.RunsFilter(run_ids=page)) if run.is_finished and is_ours(run)]
            done.runs_looked_at += len(ours)
            for kinds, success in ((OPERATIONAL_OF_SUCCESS, True), (OPERATIONAL, False)):
                ids = [run.run_id for run in ours if run.is_success is success]
                done.events += connection.execute(_DELETION.where(_EVENTS.run_id.in_(ids), _is_one_of(kinds))).rowcount
            for run in ours:
                instance.compute_log_manager.delete_logs(prefix=[run.run_id])
            for run_id in _referred_to_by_nothing(connection, [run.run_id for run in ours]):
                instance.delete_run(run_id)
                done.runs += 1
    return done


_EVENTS, _RUNS, _TAGS = SqlEventLogStorageTable.c, RunsTable.c, RunTagsTable.c
_DELETION = sa.delete(SqlEventLogStorageTable)


def _is_one_of(kinds: Sequence[dg.DagsterEventType]) -> sa.ColumnElement[bool]:
    """Whether an event is of one of these types, or a line of the run's log, which has none."""
    return sa.or_(_EVENTS.dagster_event_type.is_(None), _EVENTS.dagster_event_type.in_([kind.value for kind in kinds]))


def _pages(connection: sa.Connection, before: datetime, repository: str | None) -> Iterator[list[str]]:
    """Yield the ids of finished runs that have something to prune, oldest first.

    Runs of a backfill that is not over wait for its end: Dagster reads their events again.
    """
    unfinished = sa.select(BulkActionsTable.c.key).where(
        BulkActionsTable.c.status.not_in([status.value for status in BULK_ACTION_TERMINAL_STATUSES])
    )
    wanted = [
        _RUNS.status.in_([status.value for status in FINISHED_STATUSES]),
        _RUNS.update_timestamp < before.astimezone(UTC).replace(tzinfo=None),
        sa.or_(_RUNS.end_time.is_(None), _RUNS.end_time < before.timestamp()),
        sa.or_(_RUNS.backfill_id.is_(None), _RUNS.backfill_id.not_in(unfinished)),
        sa.exists().where(_EVENTS.run_id == _RUNS.run_id, _is_one_of(OPERATIONAL)),
    ]
    if repository is not None:
        wanted.append(
            sa.exists().where(
                _TAGS.run_id == _RUNS.run_id, _TAGS.key == REPOSITORY_LABEL_TAG, _TAGS.value == repository
            )
        )
    last = 0
    while found := connection.execute(
        sa.select(_RUNS.id, _RUNS.run_id).where(*wanted, _RUNS.id > last).order_by(_RUNS.id).limit(RUNS_PER_BATCH)
    ).all():
        last = found[-1].id
        yield [row.run_id for row in found]


def _referred_to_by_nothing(connection: sa.Connection, run_ids: list[str]) -> list[str]:
    """Return those of the runs that no asset, check, backfill or other run refers to."""
    checks = AssetCheckExecutionsTable.c
    others = sa.select(_TAGS.value).where(
        _TAGS.key.in_((PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG)), _TAGS.value.in_(run_ids), _TAGS.run_id != _RUNS.run_id
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
