"""The report: a bucket's month on one page, from the rollups.

`figures` are what it tells, `queries` and `evidence` ask for them, `texts` and `pseudonyms` make them fit to be shown,
`page` (with `charts`) and `summary` show them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from tamarin_dagster.analytics.report.figures import Report
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.analytics.report.pseudonyms import as_it_is, pseudonyms
from tamarin_dagster.analytics.report.queries import ask_all
from tamarin_dagster.extras import needing
from tamarin_dagster.logstore.files import write_whole_file

FEATURE = "The report"

__all__ = ["FEATURE", "Month", "Report", "ReportFile", "file_name", "write_report"]


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A report that was written: what it tells, where it is, and how large."""

    report: Report
    path: Path
    bytes: int


def file_name(bucket: str, month: Month) -> str:
    """What a report's file is called."""
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
    """Makes the bucket's report of a month and writes it, in the place of an older one at once.

    Args:
        engine: on the records' database.
        bucket: the logged bucket.
        month: what is told; of one that has not ended, what is known so far.
        path: the file; its folder is made if it is missing.
        anonymize_ips: whether addresses have other names in it.
        key: what these names are made with; without one they hold within this report only.
        now: the present moment, if it is to be another.

    Raises:
        OSError: the file cannot be written.
        MissingExtraError: the extra `report` is not installed.
    """
    # The libraries that draw take a second to import, and are an extra.
    with needing("report", FEATURE):
        from tamarin_dagster.analytics.report.page import drawn, page  # noqa: PLC0415

    name_of = pseudonyms(key.encode() if key else None) if anonymize_ips else as_it_is
    report = ask_all(engine, bucket, month, now=now or datetime.now(UTC), name_of=name_of)
    text = page(report, drawn(report) if report.days else {}).encode()
    with write_whole_file(path) as file:
        file.write(text)
    return ReportFile(report, path, len(text))
