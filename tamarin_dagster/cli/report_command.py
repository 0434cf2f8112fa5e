"""The command that writes a report: a bucket's month on one page."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from tamarin_dagster.analytics.past import describe_incomplete
from tamarin_dagster.analytics.report import Month, ReportFile, file_name, write_report
from tamarin_dagster.cli.app import EXIT_INCOMPLETE, BucketOption, command, explain_interrupt, flag
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.misnamed import complain_of_foreign_records
from tamarin_dagster.cli.shared import report_bucket_failure, select_buckets
from tamarin_dagster.cli.terminal import complain, err, out, printable
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.failures import DATABASE_ERRORS
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_day
from tamarin_dagster.settings import Settings, SettingsError
from tamarin_dagster.settings.values import is_bucket_name


@command(
    "report",
    ("report", "the current month so far, one file for each bucket"),
    ("report --bucket media.example.org --month 2026-10", "a month that is over"),
    ("report --month 2026-10 --out handed-on --anonymize-ips", "to share with others"),
)
def report_command(
    bucket: BucketOption = None,
    month: Annotated[
        str | None, typer.Option("--month", help="The month, like 2026-10; default: the current one.", metavar="MONTH")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", help="A folder, or for one bucket a file; default: `reports` in the settings.", metavar="PATH"
        ),
    ] = None,
    anonymize_ips: Annotated[bool, flag("--anonymize-ips", "Replace IP addresses by other names.")] = False,
) -> None:
    """Write one HTML file about a bucket's month: traffic, files, consumers, referrers, bots, cost, completeness.

    The file loads nothing and runs nothing, so you can mail and print it. Its figures come from the rollups, so they
    cover the days that are loaded and rolled up; the file names days with records that are not rolled up yet. The
    command prints the file's path on standard output.
    """
    settings = load_settings()
    chosen = _choose_path(month)
    buckets = _list_buckets(settings, bucket)
    folder = to or settings.reports_folder
    if len(buckets) == 1 and to and not to.is_dir():
        paths = [to]
    elif folder.exists() and not folder.is_dir():
        raise SettingsError(f"--out {folder} is a file, and there are {len(buckets)} buckets; name one with --bucket")
    else:
        paths = [folder / file_name(each, chosen) for each in buckets]
    with explain_interrupt("Reports that were written stay."):
        engine = open_database(settings)
        failed = False
        for each, path in zip(buckets, paths, strict=True):
            try:
                with err.status(printable(f"{each}, {chosen.name}")):
                    done = write_report(
                        engine,
                        each,
                        chosen,
                        path,
                        anonymize_ips=anonymize_ips or settings.anonymize_ips,
                        key=settings.anonymize_key,
                    )
                _report_file(done)
                complain_of_foreign_records(engine, each)
            except DATABASE_ERRORS as error:
                report_bucket_failure(each, error)
                failed = True
        engine.dispose()
    if failed:
        raise typer.Exit(EXIT_INCOMPLETE)


def _list_buckets(settings: Settings, name: str | None) -> list[str]:
    """Return the configured buckets or the named one. If none is configured, as with the demo, use those rolled up."""
    known = [] if settings.buckets else _list_rolled_up(settings)
    if known and (name is None or name in known):
        return known if name is None else [name]
    return [each.name for each in select_buckets(settings, name)]


def _list_rolled_up(settings: Settings) -> list[str]:
    """Return the buckets that have rollups and a valid bucket name, in order."""
    engine = open_database(settings)
    with engine.connect() as connection:
        found = connection.scalars(sa.select(traffic_day.c.bucket).distinct().order_by(traffic_day.c.bucket)).all()
    engine.dispose()
    return [name for name in found if is_bucket_name(name)]


def _choose_path(month: str | None) -> Month:
    if month is None:
        return Month.of(datetime.now(UTC).date())
    try:
        return Month.parse(month)
    except ValueError as error:
        raise SettingsError(f"--month: {error}") from None


def _report_file(done: ReportFile) -> None:
    traffic = done.report.traffic
    err.print(
        f"[bold]{printable(done.report.bucket)}[/], {done.report.month.name}:"
        f" {count_noun(traffic.requests, 'request')}, {count_noun(traffic.bytes_sent, 'byte')} sent",
        highlight=False,
    )
    if days := done.report.completeness.pending_days:
        complain(describe_incomplete(done.report.bucket, days))
    out.print(printable(str(done.path)), highlight=False, soft_wrap=True)
