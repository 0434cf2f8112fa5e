"""The command that hands records to other tools."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import date
from pathlib import Path
from typing import IO, Annotated, Any

import sqlalchemy as sa
import typer

from tamarin_dagster.cli.app import EXIT_LEFT_UNDONE, BucketOption, command, day_option, flag, told_if_interrupted
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.misnamed import complain_of_foreign_records
from tamarin_dagster.cli.shared import asked_days
from tamarin_dagster.cli.terminal import bar, complain, err
from tamarin_dagster.logkey import make_printable
from tamarin_dagster.logstore.files import write_whole_file
from tamarin_dagster.pipeline.export import Exported, ExportFormat
from tamarin_dagster.pipeline.export.text import combined_lines, csv_rows
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.settings import SettingsError


@command(
    "export",
    ("export --format combined --bucket media | gzip > access.log.gz", "for a web log analyser"),
    ("export --format csv --formula-safe > records.csv", "for a spreadsheet"),
    ("export --format parquet --from 2026-03-01 --out records", "for DuckDB, Athena, Spark"),
)
def export_command(
    format_: Annotated[
        ExportFormat,
        typer.Option("--format", help="What to write.", metavar="combined|csv|parquet", show_default=False),
    ],
    bucket: BucketOption = None,
    from_: Annotated[date | None, day_option("--from", "First request day (UTC).")] = None,
    to: Annotated[date | None, day_option("--to", "Last request day (UTC).")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A file, or for parquet a folder; default: standard output.", metavar="PATH"),
    ] = None,
    formula_safe: Annotated[
        bool, flag("--formula-safe", "In csv, an apostrophe before what a spreadsheet would take for a formula.")
    ] = False,
) -> None:
    """Writes records for other tools, in the order of the requests.

    combined is Apache's log format, which Analog, AWStats, GoAccess and Matomo read: a line for each record. csv has
    all columns, with a header. parquet makes a file for each bucket and day, in folders bucket=.../date=...; one that
    is there is replaced.

    The days are those of the requests. Without --bucket: the records of all buckets, also of such as are not
    configured. A file takes its name once it is whole.
    """
    settings = load_settings()
    first, last = asked_days(from_, to)
    if formula_safe and format_ is not ExportFormat.csv:
        raise SettingsError(f"--formula-safe is for --format csv; {format_} is for no spreadsheet")
    if format_ is ExportFormat.parquet and out is None:
        raise SettingsError("--format parquet writes files: name a folder with --out")
    chosen = None if bucket is None else [bucket]
    with told_if_interrupted("What is not whole was not kept."):
        engine = open_database(settings)
        if format_ is ExportFormat.parquet and out is not None:
            done = _export_files(engine, out, chosen, first, last)
        else:
            done = _export_text(engine, format_, out, chosen, first, last, formula_safe)
        if bucket is not None:
            complain_of_foreign_records(engine, bucket)
        engine.dispose()
    if bucket is not None and not done.rows:
        settings.bucket(bucket)  # a bucket that was taken out of the settings has records still; any other is a mistake
    err.print(str(done), highlight=False)
    for failure in done.failures:
        complain(str(failure))
    if done.failures:
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _export_files(
    engine: sa.Engine, out: Path, buckets: list[str] | None, first: date | None, last: date | None
) -> Exported:
    # Arrow takes a fifth of a second to import
    from tamarin_dagster.pipeline.export.columnar import parquet_files  # noqa: PLC0415

    with bar("Exporting", "days") as advance:
        return parquet_files(engine, out, buckets=buckets, first=first, last=last, progress=_shown(advance))


def _export_text(
    engine: sa.Engine,
    format_: ExportFormat,
    out: Path | None,
    buckets: list[str] | None,
    first: date | None,
    last: date | None,
    formula_safe: bool,
) -> Exported:
    done = Exported()

    def keep(exported: Exported) -> None:
        nonlocal done
        done = exported
        tell(exported)

    with ExitStack() as stack:
        file = stack.enter_context(_opened(out))
        on_terminal = file.isatty()  # so it is as `--out /dev/stdout` too
        advance = _nobody if on_terminal else stack.enter_context(bar("Exporting", "days"))
        tell = _shown(advance)
        if format_ is ExportFormat.combined:
            pieces = combined_lines(engine, buckets=buckets, first=first, last=last, progress=keep)
        else:
            pieces = csv_rows(engine, buckets=buckets, first=first, last=last, formula_safe=formula_safe, progress=keep)
        with closing(pieces):
            for piece in pieces:
                # in a file a value is what it is; on a terminal a control character would be obeyed
                file.write(_printable(piece) if on_terminal else piece)
    return done


def _nobody(*_: Any) -> None:
    """An `advance` where there is no progress bar."""


def _shown(advance: Callable[..., None]) -> Callable[[Exported], None]:
    return lambda done: advance(done.days, done.all_days, f"{done.rows:,} records")


def _printable(piece: bytes) -> bytes:
    return "\n".join(map(make_printable, piece.decode().split("\n"))).encode()


@contextmanager
def _opened(out: Path | None) -> Iterator[IO[bytes]]:
    """Where text goes: standard output, a file that is whole once it is there, or what is no file, as a pipe."""
    if out is None:
        yield sys.stdout.buffer
    elif out.exists() and not out.is_file():
        with out.open("wb") as file:
            yield file
    else:
        with write_whole_file(out) as file:
            yield file
