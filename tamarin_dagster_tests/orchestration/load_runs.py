"""Runs of the load job and ticks of the sensor in this process, and what they report."""

import dagster as dg
import sqlalchemy as sa

from tamarin_dagster.recordstore.schema.tables import s3_log_key, s3_log_record
from tamarin_dagster_tests.runs import job_of

RECORDS = dg.AssetKey(["media", "log_records"])
PURGED = dg.AssetKey(["media", "purged_log_keys"])
DAY = "2026-03-05"
CHECKS = {
    "every_log_key_is_loaded",
    "no_stray_keys",
    "readers_agree",
    "every_line_is_accounted_for",
    "rows_match_the_ledger",
    "no_rejected_lines",
}
# Of the whole bucket, whatever the partition.
ADDED_UP = ("rollups_add_up", None)


def run_day(definitions: dg.Definitions, instance: dg.DagsterInstance, day: str = DAY) -> dg.ExecuteInProcessResult:
    job = job_of(definitions, "load")
    return job.execute_in_process(instance=instance, partition_key=day, raise_on_error=False)


def run_range(
    definitions: dg.Definitions, instance: dg.DagsterInstance, first: str, last: str
) -> dg.ExecuteInProcessResult:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return job_of(definitions, "load").execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def metadata_by_partition(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> dict[str | None, dict[str, object]]:
    found = {}
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        if materialization.asset_key == key:
            found[materialization.partition] = {name: value.value for name, value in materialization.metadata.items()}
    return found


def check_results(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str | None], bool]:
    return {(each.check_name, each.partition): each.passed for each in result.get_asset_check_evaluations()}


def stored(engine: sa.Engine) -> tuple[int, int]:
    with engine.connect() as connection:
        keys = connection.scalar(sa.select(sa.func.count()).select_from(s3_log_key))
        return keys, connection.scalar(sa.select(sa.func.count()).select_from(s3_log_record))


def tick(definitions: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources=definitions.resources, definitions=definitions
    ) as context:
        return definitions.resolve_sensor_def("media__new_log_keys")(context)


def run_as_requested(
    definitions: dg.Definitions, instance: dg.DagsterInstance, request: dg.RunRequest
) -> dg.ExecuteInProcessResult:
    return job_of(definitions, "load").execute_in_process(
        instance=instance, partition_key=request.partition_key, tags=dict(request.tags), raise_on_error=False
    )
