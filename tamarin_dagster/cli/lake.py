"""The commands about the lake: load days into it with Spark, and compare it with Postgres."""

from typing import Annotated

import typer

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
from tamarin_dagster.cli.documents import ComparedLake, show_documents
from tamarin_dagster.cli.shared import check_days, select_buckets
from tamarin_dagster.cli.terminal import bar, complain, err, show_rows
from tamarin_dagster.lake.place import lake_of
from tamarin_dagster.recordstore.database import open_database


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
