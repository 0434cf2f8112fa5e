"""The report in a few lines of Markdown, for the page of the asset."""

import re

from tamarin_dagster.analytics.report import texts
from tamarin_dagster.analytics.report.figures import Report
from tamarin_dagster.analytics.report.wording import (
    as_bytes,
    as_change,
    as_count,
    as_date,
    as_days,
    as_dollars,
    as_duration,
    as_multiple,
    as_share,
)

_TOP = 5


def summary(report: Report) -> str:
    """Headline figures, how complete they are, the top of the files and consumers."""
    title = f"**{report.month.name}**"
    pending = report.completeness.pending_days
    missing = [f"**Totals are incomplete**: records of day {as_days(pending)} are not in the rollups yet."]
    if not report.days:
        known = (
            f"{title}: nothing is rolled up of this month yet."
            if pending
            else f"{title}: nothing is known of this month."
        )
        return "\n\n".join([known, *(missing if pending else [])]) + "\n"
    told = [f"{title}: {_headline(report)}", *(missing if pending else []), _completeness(report), *_lists(report)]
    return "\n\n".join(told) + "\n"


def code(text: str) -> str:
    """The text as code, which is the one place where Markdown makes nothing of it: no link, no image, no markup.

    Its fence is longer than any run of backticks in it. It is one line: `texts` leaves no line end in it.
    """
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    padding = " " if text[:1] in {"`", " ", ""} or text[-1:] in {"`", " "} else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def _headline(report: Report) -> str:
    traffic = report.traffic
    said = [
        f"{as_count(traffic.requests)} requests",
        f"{as_bytes(traffic.bytes_sent)} sent",
        f"{as_share(traffic.error_share)} errors",
    ]
    if report.cost:
        said.append(f"about {as_dollars(report.cost.dollars)} by prices of {as_date(report.cost.prices.price_date)}")
    if report.before and (change := as_change(traffic.bytes_sent, report.before.traffic.bytes_sent)):
        days = "the same days of " if report.before.is_part else ""
        said.append(f"bytes {change} against {days}{report.before.month.name}")
    return ", ".join(said) + "."


def _completeness(report: Report) -> str:
    told = report.completeness
    said = [f"{told.rolled_up_days} of {told.days} days have requests"]
    if told.open_days:
        said.append(f"S3 may add to day {as_days(told.open_days)}")
    if told.pending_days:
        said.append(f"to be counted again: day {as_days(told.pending_days)}")
    if report.foreign:
        said.append(code(report.foreign))
    said.append(f"{as_count(told.rejected_lines)} rejected lines")
    if told.duplicate_records is not None:
        said.append(f"{as_count(told.duplicate_records)} records delivered twice")
    if told.lateness:
        said.append(f"95 of 100 records within {as_duration(told.lateness.p95)}")
    return "; ".join(said) + "."


def _lists(report: Report) -> list[str]:
    all_bytes = report.traffic.bytes_sent or 1
    files = [
        f"1. {code(texts.shortened(texts.name_of_object(each.key)))} {as_bytes(each.traffic.bytes_sent)},"
        f" {as_share(each.traffic.bytes_sent / all_bytes)}, {as_count(each.traffic.requests)} requests"
        for each in report.files.largest[:_TOP]
    ]
    consumers = [
        f"1. {code(texts.shortened(texts.free_text(each.name)))} {as_bytes(each.traffic.bytes_sent)},"
        f" {as_share(each.traffic.bytes_sent / all_bytes)}"
        + (f", {multiple} the median" if (multiple := as_multiple(report.addresses.multiple_of_median(each))) else "")
        for each in report.addresses.largest[:_TOP]
    ]
    lists = [("Files with the most bytes", files), ("Consumers with the most bytes", consumers)]
    return [f"{title}:\n\n" + "\n".join(items) for title, items in lists if items]
