"""Summarize the report in a few lines of Markdown, for the asset in the Dagster UI."""

import re

from tamarin_dagster.analytics.report import texts
from tamarin_dagster.analytics.report.figures import Report
from tamarin_dagster.analytics.report.wording import (
    as_bytes,
    as_change,
    as_count,
    as_date,
    as_dollars,
    as_duration,
    as_multiple,
    as_named_days,
    as_share,
)

_TOP = 5


def summarize(report: Report) -> str:
    """Return headline figures, how complete they are, and the top files and consumers."""
    title = f"**{report.month.name}**"
    pending = report.completeness.pending_days
    missing = [f"**Totals are incomplete**: records of {as_named_days(pending)} are not in the rollups yet."]
    if not report.days:
        known = (
            f"{title}: no day of this month is rolled up yet."
            if pending
            else f"{title}: no records of this month are loaded."
        )
        return "\n\n".join([known, *(missing if pending else [])]) + "\n"
    lines = [f"{title}: {_headline(report)}", *(missing if pending else []), _completeness(report), *_lists(report)]
    return "\n\n".join(lines) + "\n"


def code(text: str) -> str:
    """Return the text as code, the one place where Markdown does not interpret it as a link, an image or markup.

    Its fence is longer than any run of backticks in it. It is one line, because `texts` removes line ends.
    """
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    padding = " " if text[:1] in {"`", " ", ""} or text[-1:] in {"`", " "} else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def _headline(report: Report) -> str:
    traffic = report.traffic
    said = [
        f"{as_count(traffic.requests)} request{'s' * (traffic.requests != 1)}",
        f"{as_bytes(traffic.bytes_sent)} sent",
        f"{as_share(traffic.error_share)} errors",
    ]
    if report.cost:
        date = as_date(report.cost.prices.price_date)
        said.append(f"about {as_dollars(report.cost.dollars)} at the prices of {date}")
    if report.before and (change := as_change(traffic.bytes_sent, report.before.traffic.bytes_sent)):
        days = "the same days of " if report.before.is_part else ""
        said.append(f"bytes {change} compared with {days}{report.before.month.name}")
    return ", ".join(said) + "."


def _completeness(report: Report) -> str:
    state = report.completeness
    said = [f"{state.rolled_up_days} of {state.days} days have requests"]
    if state.open_days:
        said.append(f"S3 may add to {as_named_days(state.open_days)}")
    if state.pending_days:
        said.append(f"to be counted again: {as_named_days(state.pending_days)}")
    if report.foreign:
        said.append(code(report.foreign))
    said.append(f"{as_count(state.rejected_lines)} rejected line{'s' * (state.rejected_lines != 1)}")
    if state.duplicate_records is not None:
        said.append(f"{as_count(state.duplicate_records)} record{'s' * (state.duplicate_records != 1)} delivered twice")
    if state.lateness:
        said.append(f"95 % of the records arrived within {as_duration(state.lateness.p95)}")
    return "; ".join(said) + "."


def _lists(report: Report) -> list[str]:
    all_bytes = report.traffic.bytes_sent or 1
    files = [
        f"1. {code(texts.shorten(texts.clean_key(each.key)))} {as_bytes(each.traffic.bytes_sent)},"
        f" {as_share(each.traffic.bytes_sent / all_bytes)}, {as_count(each.traffic.requests)} requests"
        for each in report.files.largest[:_TOP]
    ]
    consumers = [
        f"1. {code(texts.shorten(texts.clean_text(each.name)))} {as_bytes(each.traffic.bytes_sent)},"
        f" {as_share(each.traffic.bytes_sent / all_bytes)}"
        + (f", {multiple} the median" if (multiple := as_multiple(report.addresses.compare_with_median(each))) else "")
        for each in report.addresses.largest[:_TOP]
    ]
    lists = [("Files with the most bytes", files), ("Consumers with the most bytes", consumers)]
    return [f"{title}:\n\n" + "\n".join(items) for title, items in lists if items]
