"""Render the report as one HTML file that loads nothing and runs nothing.

Its policy allows the page's own style sheet, by its digest, and nothing else: no script, request, form or frame. Texts
from clients are escaped, and are always the text of an element, never an attribute.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from tamarin_dagster.analytics.report import charts, texts, wording
from tamarin_dagster.analytics.report.figures import Report, Traffic

_TEMPLATE, _STYLE = "report.html.jinja", "report.css"
_BAR = Markup('<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">{}</svg>')
_FILLED = Markup('<rect width="100" height="6" class="rest"/><rect width="{}" height="6"/>')


def draw_charts(report: Report) -> dict[str, Markup]:
    """Draw the charts of the page, by their names in the template."""
    return {
        "bytes": charts.bytes_by_day(report.days, report.month),
        "requests": charts.requests_by_day(report.days, report.month),
        "hours": charts.hours_of_the_week(report.hours),
        "latency": charts.latency_by_day(report.latencies, report.month),
        "sizes": charts.bytes_by_object_size(report.files.sizes),
    }


def render_page(report: Report, drawings: Mapping[str, Markup]) -> str:
    """Return the whole page as HTML, with the drawings of `draw_charts`."""
    style = _own(_STYLE)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return _template().render(
        report=report,
        traffic=report.traffic,
        style=Markup(style),  # noqa: S704 - our own file
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        charts=drawings,
        busiest=_busiest(report),
        operations=by_operation(report),
        statuses=by_status(report),
    )


def by_operation(report: Report) -> list[tuple[str, Traffic]]:
    """Return the month's traffic of each operation class, the most frequent first."""
    sums: dict[str, Traffic] = {}
    for each in report.days:
        sums[each.operation_class] = sums.get(each.operation_class, Traffic()) + each.traffic
    return sorted(sums.items(), key=lambda item: -item[1].requests)


def by_status(report: Report) -> list[tuple[int | None, Traffic]]:
    """Return the month's traffic of each status class; requests without a status come last."""
    sums: dict[int | None, Traffic] = {}
    for each in report.days:
        sums[each.status_class] = sums.get(each.status_class, Traffic()) + each.traffic
    return sorted(sums.items(), key=lambda item: item[0] or 10)


def _busiest(report: Report) -> str:
    if not report.hours:
        return ""
    most = max(report.hours, key=lambda each: each.requests)
    return f"{wording.WEEKDAYS[most.weekday - 1]} {most.hour:02}:00, {wording.as_count(round(most.requests))}"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_own),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name.removeprefix("as_"): getattr(wording, name) for name in dir(wording) if name.startswith("as_")
    }
    environment.filters |= {
        "object": texts.clean_key,
        "clean_text": texts.clean_text,
        "shorten": texts.shorten,
        "bar": _bar,
    }
    environment.globals["share"] = lambda part, all_: part / all_ if all_ else 0.0
    return environment.get_template(_TEMPLATE)


def _bar(share: float) -> Markup:
    """Draw a bar that is filled up to the share: 0 to 1."""
    return _BAR.format(_FILLED.format(f"{100 * min(max(share, 0), 1):.1f}"))


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
