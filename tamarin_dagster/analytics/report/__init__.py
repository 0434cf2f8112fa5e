"""Write the report: a bucket's month on one page, from the rollups.

`figures` are its values. `queries` and `evidence` read them. `texts` and `pseudonyms` make them safe to show. `page`
(with `charts`) and `summary` show them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from tamarin_dagster.analytics.report.figures import Report
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.analytics.report.pseudonyms import as_it_is, make_pseudonyms
from tamarin_dagster.analytics.report.queries import ask_all
from tamarin_dagster.extras import needing
from tamarin_dagster.private_files import write_whole_file

FEATURE = "The report"

__all__ = ["FEATURE", "Month", "Report", "ReportFile", "file_name", "write_report"]


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A report that was written: its values, its file, and the size of the file."""

    report: Report
    path: Path
    bytes: int


def file_name(bucket: str, month: Month) -> str:
    """Return the name of a report's file."""
    return f"{bucket}-{month}.html"


def write_report(
    engine: sa.Engine,
    bucket: str,
    month: Month,
    path: Path,
    *,
    anonymize_ips: bool = False,
    key: str | None = None,
    now: datetime | None = None,
) -> ReportFile:
    """Write the bucket's report of a month. It replaces an older one in one step.

    Args:
        engine: connects to the records' database.
        bucket: the logged bucket.
        month: the month; if it has not ended, the report has what is known so far.
        path: the file; its folder is made if it is missing.
        anonymize_ips: whether pseudonyms replace addresses.
        key: the secret for pseudonyms; without one, they are different in each report.
        now: the current moment; default: the clock's.

    Raises:
        OSError: the file cannot be written.
        MissingExtraError: the extra `report` is not installed.
    """
    # The libraries for charts take a second to import, and are an extra.
    with needing("report", FEATURE):
        from tamarin_dagster.analytics.report.page import draw_charts, render_page  # noqa: PLC0415

    name_of = make_pseudonyms(key.encode() if key else None) if anonymize_ips else as_it_is
    report = ask_all(engine, bucket, month, now=now or datetime.now(UTC), name_of=name_of)
    text = render_page(report, draw_charts(report) if report.days else {}).encode()
    with write_whole_file(path) as file:
        file.write(text)
    return ReportFile(report, path, len(text))
