"""The command that exports records to other tools."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import date
from pathlib import Path
from typing import IO, Annotated, Any

import sqlalchemy as sa
import typer

from tamarin_dagster.cli.app import EXIT_INCOMPLETE, BucketOption, command, day_option, explain_interrupt, flag
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.misnamed import complain_of_foreign_records
from tamarin_dagster.cli.shared import check_days
from tamarin_dagster.cli.terminal import bar, complain, err
from tamarin_dagster.logkey import make_printable
from tamarin_dagster.pipeline.export import Exported, ExportFormat
from tamarin_dagster.pipeline.export.text import combined_lines, csv_rows
from tamarin_dagster.private_files import write_whole_file
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
    from_: Annotated[date | None, day_option("--from", "First day (UTC).")] = None,
    to: Annotated[date | None, day_option("--to", "Last day (UTC).")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A file, or for parquet a folder; default: standard output.", metavar="PATH"),
    ] = None,
    formula_safe: Annotated[
        bool, flag("--formula-safe", "In csv, put an apostrophe before text that a spreadsheet would run as a formula.")
    ] = False,
) -> None:
    """Write records for other tools, as text or as Parquet files.

    combined is Apache's log format, one line for each record; Analog, AWStats, GoAccess and Matomo read it. csv has
    all columns, and a header. Both are in the order of the requests, their days are those of the requests, and --bucket
    is the bucket in the records.

    parquet writes one file for each configured bucket and delivery day, in folders logged_bucket=.../delivery_day=...,
    and replaces files that are there already. Its days are delivery days, and --bucket is the configured bucket.

    Without --bucket, all records are exported, also those of buckets that are not configured. A file gets its name when
    it is complete.
    """
    settings = load_settings()
    first, last = check_days(from_, to)
    if formula_safe and format_ is not ExportFormat.csv:
        raise SettingsError(f"--formula-safe works only with --format csv, not with {format_}")
    if format_ is ExportFormat.parquet and out is None:
        raise SettingsError("--format parquet writes files: name a folder with --out")
    chosen = None if bucket is None else [bucket]
    with explain_interrupt("Incomplete files were discarded."):
        engine = open_database(settings)
        if format_ is ExportFormat.parquet and out is not None:
            done = _export_files(engine, out, chosen, first, last)
        else:
            done = _export_text(engine, format_, out, chosen, first, last, formula_safe)
        if bucket is not None:
            complain_of_foreign_records(engine, bucket)
        engine.dispose()
    if bucket is not None and not done.rows:
        settings.bucket(bucket)  # a bucket that was removed from the settings may have records; any other is an error
    err.print(str(done), highlight=False)
    for failure in done.failures:
        complain(str(failure))
    if done.failures:
        raise typer.Exit(EXIT_INCOMPLETE)


def _export_files(
    engine: sa.Engine, out: Path, buckets: list[str] | None, first: date | None, last: date | None
) -> Exported:
    # Importing Arrow takes a fifth of a second.
    from tamarin_dagster.pipeline.export.columnar import parquet_files  # noqa: PLC0415

    with bar("Exporting", "days") as advance:
        return parquet_files(engine, out, buckets=buckets, first=first, last=last, progress=_report_to(advance))


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
        file = stack.enter_context(_open_output(out))
        on_terminal = file.isatty()  # `--out /dev/stdout` may be one too
        advance = _show_nothing if on_terminal else stack.enter_context(bar("Exporting", "days"))
        tell = _report_to(advance)
        if format_ is ExportFormat.combined:
            pieces = combined_lines(engine, buckets=buckets, first=first, last=last, progress=keep)
        else:
            pieces = csv_rows(engine, buckets=buckets, first=first, last=last, formula_safe=formula_safe, progress=keep)
        with closing(pieces):
            for piece in pieces:
                # A terminal would obey a control character. A file gets each value unchanged.
                file.write(_printable(piece) if on_terminal else piece)
    return done


def _show_nothing(*_: Any) -> None:
    """Show no progress."""


def _report_to(advance: Callable[..., None]) -> Callable[[Exported], None]:
    return lambda done: advance(done.days, done.all_days, f"{done.rows:,} records")


def _printable(piece: bytes) -> bytes:
    return "\n".join(map(make_printable, piece.decode().split("\n"))).encode()


@contextmanager
def _open_output(out: Path | None) -> Iterator[IO[bytes]]:
    """Open the place for text: standard output, a file that appears when complete, or a special file such as a pipe."""
    if out is None:
        yield sys.stdout.buffer
    elif out.exists() and not out.is_file():
        with out.open("wb") as file:
            yield file
    else:
        with write_whole_file(out) as file:
            yield file
