"""The process that an asset of `lake_assets` starts: load days into the lake, and report to Dagster through Pipes."""

import sys
from datetime import date

from dagster_pipes import PipesContext, open_dagster_pipes

from tamarin_dagster.extras import MissingExtraError
from tamarin_dagster.lake.place import lake_of
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.recordstore.database import DatabaseError, open_database
from tamarin_dagster.settings import Settings


def main() -> int:
    """Load the days that Dagster names. Return the exit status: 0 only if all of their log keys are in the lake."""
    with open_dagster_pipes() as context:
        try:
            return _load(context)
        except (LogStoreError, MissingExtraError, DatabaseError) as error:
            context.log.error(str(error))  # noqa: TRY400 - the message says it, and a traceback would hide it
            return 1


def _load(context: PipesContext) -> int:
    settings = Settings.model_validate(context.get_extra("settings"))
    bucket = settings.bucket(context.get_extra("bucket"))
    lake = lake_of(settings)
    engine = open_database(settings)
    tables = lake.open(engine)
    from tamarin_dagster.pipeline.lake.loading import load_lake, open_spark  # noqa: PLC0415 - needs the extra

    with open_spark(lake.settings.spark_master or "") as spark:
        done = load_lake(
            bucket,
            open_log_store(bucket),
            tables,
            spark,
            first=date.fromisoformat(context.get_extra("first")),
            last=date.fromisoformat(context.get_extra("last")),
            redacts=settings.redact_query_secrets,
            parser=settings.parser,
            progress=lambda d: context.log.info(f"{bucket.name}: {len(d.days)} days, {d.lines:,} lines"),
        )
    engine.dispose()
    context.log.info(f"{bucket.name}: {done}")
    for failure in done.failures:
        context.log.error(f"{bucket.name}, key {failure.key}: {failure.error}")
    for day, problem in done.problems.items():
        context.log.error(f"{bucket.name}, delivery day {day} is not loaded: {problem}")
    if done.failures or done.problems:
        return 1
    context.report_asset_materialization(
        metadata={
            "lake": lake.url,
            "days replaced": len(done.days),
            "days in the lake already": done.skipped_days,
            "log keys": done.keys,
            "lines": done.lines,
            "records": done.records,
            "rejected lines": done.rejected,
            "blank lines": done.blank,
            "files that may still be written": done.waiting,
            "lines per second": round(done.lines / done.seconds) if done.seconds else 0,
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
