"""Delete the logs of old ticks. Dagster deletes old ticks, but leaves their logs in the compute logs."""

from collections.abc import Collection
from datetime import UTC, datetime

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.schedules.schema import JobTickTable
from dagster_postgres.schedule_storage import PostgresScheduleStorage


def prune_tick_logs(instance: dg.DagsterInstance, *, before: datetime, repository: str, names: Collection[str]) -> int:
    """Delete the logs of the ticks before this time, and return the number of these ticks.

    Args:
        instance: the Dagster instance whose compute logs are pruned.
        before: only logs of older ticks are deleted.
        repository: the code location, as Dagster writes it in a run's tag.
        names: the names of the sensors and schedules.
    """
    logs, storage = instance.compute_log_manager, instance.schedule_storage
    if isinstance(logs, NoOpComputeLogManager) or not isinstance(storage, PostgresScheduleStorage):
        return 0
    first_kept = _find_first_tick(storage, before)
    if first_kept is None:
        return 0
    deleted = 0
    for name in names:
        try:
            # The key of a tick's log has the name of the repository, the name of the sensor, and the tick's number.
            keys = logs.get_log_keys_for_log_key_prefix([repository.partition("@")[0], name], ComputeIOType.STDERR)
        except FileNotFoundError:
            continue
        for key in keys:
            if key[-1].isdecimal() and int(key[-1]) < first_kept:
                logs.delete_logs(log_key=key)
                deleted += 1
    return deleted


def _find_first_tick(storage: PostgresScheduleStorage, start: datetime) -> int | None:
    """Return the number of the first tick since then, of any sensor; the numbers increase."""
    query = sa.select(sa.func.min(JobTickTable.c.id)).where(
        JobTickTable.c.timestamp >= start.astimezone(UTC).replace(tzinfo=None)
    )
    with storage.connect() as connection:
        number: int | None = connection.scalar(query)
    return number
