"""The commands about the lake: load days into it with Spark, and compare it with Postgres."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tamarin_dagster.cli.app import (
    EXIT_INCOMPLETE,
    BucketOption,
    FromOption,
    JsonOption,
    ToOption,
    command,
    explain_interrupt,
    flag,
)
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import ComparedLake, LoadedLake, make_document, show_documents
from tamarin_dagster.cli.shared import check_days, select_buckets
from tamarin_dagster.cli.terminal import bar, complain, err, show_rows
from tamarin_dagster.lake.place import lake_of
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.database import open_database

if TYPE_CHECKING:
    from tamarin_dagster.pipeline.lake.loading import LakeLoaded


@command(
    "lake-load",
    ("lake-load --from 2020-01-01 --to 2025-12-31", "years, on the cores of this machine"),
    ("lake-load --bucket media --master spark://master:7077", "all days of one bucket, on a cluster"),
)
def lake_load_command(
    bucket: BucketOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    master: Annotated[
        str | None,
        typer.Option(
            help="The Spark master: local[*], spark://HOST:PORT, yarn, k8s://URL; default: spark_master of the lake,"
            " or local[*].",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Load delivery days from the log bucket into the lake, with Spark.

    Executors fetch the log keys, parse them as a pull does, and write data files; this process commits each day at
    once. Postgres gets no record, and no log key is deleted. A day that the lake holds already is skipped. After an
    error or a kill, each day is as before or complete; run the command again to continue.

    Options of Spark (memory, executors) come from its own configuration, such as SPARK_CONF_DIR. The exit status is 0
    only if every log key of the days is in the lake.
    """
    settings = load_settings()
    lake = lake_of(settings)
    buckets = select_buckets(settings, bucket)
    first, last = check_days(from_, to)
    with explain_interrupt("Days that were committed stay; run lake-load to continue."):
        engine = open_database(settings)
        tables = lake.open(engine)
        from tamarin_dagster.pipeline.lake.loading import DEFAULT_MASTER, load_lake, open_spark  # noqa: PLC0415

        done = []
        with open_spark(master or lake.settings.spark_master or DEFAULT_MASTER) as spark:
            for each in buckets:
                with bar(each.name, "days") as advance:
                    loaded = load_lake(
                        each,
                        open_log_store(each),
                        tables,
                        spark,
                        first=first,
                        last=last,
                        redacts=settings.redact_query_secrets,
                        parser=settings.parser,
                        progress=lambda d: advance(len(d.days), None, f"{d.lines:,} lines"),
                    )
                _report_load(each.name, loaded)
                done.append(make_document(LoadedLake, loaded, bucket=each.name))
        engine.dispose()
    if as_json:
        show_documents(done)
    if any(each.failures or each.problems or each.waiting for each in done):
        raise typer.Exit(EXIT_INCOMPLETE)


def _report_load(bucket: str, done: "LakeLoaded") -> None:
    err.print(f"[bold]{escape(bucket)}[/]: {done}", highlight=False)
    for failure in done.failures:
        complain(f"bucket {bucket}, key {failure.key}: {failure.error}")
    for day, problem in done.problems.items():
        complain(f"bucket {bucket}, delivery day {day} is not loaded: {problem}")
    if done.waiting:
        complain(f"bucket {bucket}: {count_noun(done.waiting, 'file')} may still be written; a later load takes them")


@command(
    "lake-compare",
    ("lake-compare", "all days of all buckets"),
    ("lake-compare --bucket media --from 2026-03-01 --json", "newer days of one bucket, for a script"),
    ("lake-compare --ledgers-only", "without reading the lake's records"),
)
def lake_compare_command(
    bucket: BucketOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    ledgers_only: Annotated[bool, flag("--ledgers-only", "Do not count the rows of each log key in the lake.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the lake's ledger with the ledger in Postgres, and both with the rows in the lake.

    It shows each log key that is missing on one side, or has another generation or other counts there, and changes
    nothing. `pull` with the days of a difference archives what the lake lacks; `lake-load` loads the days again.

    The exit status is 1 if they differ.
    """
    settings = load_settings()
    lake = lake_of(settings)
    buckets = [each.name for each in select_buckets(settings, bucket)]
    first, last = check_days(from_, to)
    with explain_interrupt("Nothing was changed."):
        engine = open_database(settings)
        tables = lake.open(engine)
        from tamarin_dagster.pipeline.lake.comparing import compare  # noqa: PLC0415 - needs the extra

        with bar("Comparing", "days") as advance:
            done = compare(
                buckets,
                tables,
                engine,
                first=first,
                last=last,
                counts_rows=not ledgers_only,
                progress=lambda d: advance(d.days, None, f"{d.keys:,} log keys agree"),
            )
        engine.dispose()
    if as_json:
        show_documents(ComparedLake.model_validate(done))
    elif done.differences:
        show_rows(
            ["bucket", "delivery day", "log key", "difference"],
            [(each.bucket, each.delivery_day, each.log_key, each.what) for each in done.differences],
        )
    err.print(str(done), highlight=False)
    if unnamed := done.differing_keys - len({(each.bucket, each.log_key) for each in done.differences}):
        complain(f"{unnamed:,} more log keys differ; name a bucket and days to see them")
    if done.differing_keys:
        raise typer.Exit(EXIT_INCOMPLETE)
