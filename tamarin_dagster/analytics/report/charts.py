"""Draw charts as SVG inside the page, with Vega-Altair: from numbers and days, never from a client's texts.

Their colours are the page's custom properties, so the page alone decides about light, dark and print. Their texts use
the page's font. Styles, links, scripts and ids are removed, because the page's strict policy forbids them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from xml.etree import ElementTree as ET

import altair as alt
import vl_convert
from markupsafe import Markup

from tamarin_dagster.analytics.report.figures import DayLatency, DayTraffic, HourOfWeek, SizeClass
from tamarin_dagster.analytics.report.month import Month
from tamarin_dagster.analytics.report.wording import (
    WEEKDAYS,
    as_bytes,
    as_count,
    as_day,
    as_size_class,
    as_status_class,
)

# Half the width of a page. On a phone, which shows a chart in its full width, it is a fifth smaller.
_WIDTH, _HEIGHT = 440, 190
_FONT_PIXELS = 12
# Every seventh day has its number below the axis.
_LABELLED_DAYS = [1, 8, 15, 22, 29]
_STATUSES = (2, 3, 4, 5, None)
# d3 writes 1.5G; the page writes 1.5 GB.
_BYTES_LABEL = "replace(format(datum.value, '.3~s'), /([kMGTPE]?)$/, ' $1B')"
_COUNT_LABEL = "format(datum.value, '.3~s')"
_MILLISECONDS_LABEL = "format(datum.value, ',') + ' ms'"

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_ELEMENTS = {"svg", "g", "path", "line", "rect", "text", "tspan"}
_ATTRIBUTES = {
    "width", "height", "viewBox", "transform", "d", "x", "y", "x1", "y1", "x2", "y2", "dx", "dy", "fill",
    "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-miterlimit",
    "stroke-linejoin", "stroke-linecap", "opacity", "text-anchor", "font-size", "font-weight",
}  # fmt: skip

Row = Mapping[str, object]


def bytes_by_day(days: Sequence[DayTraffic], month: Month) -> Markup:
    """Draw a bar for each day."""
    sums: dict[date, int] = {}
    for each in days:
        sums[each.day] = sums.get(each.day, 0) + each.traffic.bytes_sent
    rows = [
        {"day": day.day, "value": value, "label": f"{as_day(day)}: {as_bytes(value)}"} for day, value in sums.items()
    ]
    chart = _bars_by_day(rows, month, _BYTES_LABEL).encode(color=alt.value("var(--accent)"))
    return _draw(chart, "Bytes sent, by day")


def requests_by_day(days: Sequence[DayTraffic], month: Month) -> Markup:
    """Draw a bar for each day, in the colours of the status classes."""
    sums: dict[tuple[date, int | None], int] = {}
    for each in days:
        of = each.day, each.status_class
        sums[of] = sums.get(of, 0) + each.traffic.requests
    rows = [
        {
            "day": day.day,
            "value": value,
            "status": as_status_class(status),
            "order": _STATUSES.index(status) if status in _STATUSES else len(_STATUSES),
            "label": f"{as_day(day)}: {as_count(value)} × {as_status_class(status)}",
        }
        for (day, status), value in sums.items()
    ]
    names = [as_status_class(status) for status in _STATUSES]
    colours = [f"var(--status-{'none' if status is None else status})" for status in _STATUSES]
    chart = _bars_by_day(rows, month, _COUNT_LABEL).encode(
        color=alt.Color("status:N", scale=alt.Scale(domain=names, range=colours), legend=None),
        order=alt.Order("order:Q"),
    )
    return _draw(chart, "Requests by day and status class")


def hours_of_the_week(hours: Sequence[HourOfWeek]) -> Markup:
    """Draw a square for each hour of the week: the more requests, the darker it is."""
    rows = [
        {
            "hour": each.hour,
            "weekday": WEEKDAYS[each.weekday - 1],
            "value": each.requests,
            "label": f"{WEEKDAYS[each.weekday - 1]} {each.hour:02}:00: {as_count(round(each.requests))} requests,"
            f" {as_bytes(round(each.bytes_sent))}",
        }
        for each in hours
    ]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_rect(cornerRadius=2)
        .encode(
            x=alt.X(
                "hour:O",
                title=None,
                scale=alt.Scale(domain=list(range(24)), paddingInner=0.12),
                axis=alt.Axis(values=[0, 6, 12, 18, 23], labelExpr="format(datum.value, '02') + ':00'", labelAngle=0),
            ),
            y=alt.Y("weekday:O", title=None, scale=alt.Scale(domain=list(WEEKDAYS), paddingInner=0.12)),
            color=alt.value("var(--accent)"),
            fillOpacity=alt.FillOpacity("value:Q", scale=alt.Scale(domainMin=0, range=[0.06, 1]), legend=None),
            description="label:N",
        )
    )
    return _draw(chart, "Requests by weekday and hour (UTC)")


def latency_by_day(latencies: Sequence[DayLatency], month: Month) -> Markup:
    """Draw two lines: the maximum time of the faster half of the reads, and of the faster 95 %."""
    rows = [
        {"day": each.day.day, "value": value, "kind": kind}
        for each in latencies
        for kind, value in (("p50", each.p50_ms), ("p95", each.p95_ms))
    ]
    colours = alt.Scale(domain=["p50", "p95"], range=["var(--accent)", "var(--status-4)"])
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=16), interpolate="monotone")
        .encode(
            x=_day_axis(month),
            y=_value_axis(_MILLISECONDS_LABEL),
            color=alt.Color("kind:N", scale=colours, legend=None),
        )
    )
    return _draw(chart, "How long reads took, by day")


def bytes_by_object_size(sizes: Sequence[SizeClass]) -> Markup:
    """Draw a bar for each size class: the bytes sent of objects of that size."""
    names = [as_size_class(each) for each in sizes]
    rows = [
        {
            "size": name,
            "value": each.traffic.bytes_sent,
            "label": f"{name}: {as_count(each.files)} files, {as_bytes(each.traffic.bytes_sent)}",
        }
        for name, each in zip(names, sizes, strict=True)
    ]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            y=alt.Y("size:O", title=None, sort=None, scale=alt.Scale(domain=names, paddingInner=0.3)),
            x=alt.X("value:Q", title=None, axis=alt.Axis(labelExpr=_BYTES_LABEL, tickCount=4, grid=True, domain=False)),
            color=alt.value("var(--accent)"),
            description="label:N",
        )
    )
    return _draw(chart, "Bytes sent, by the size of the object")


def _bars_by_day(rows: Iterable[Row], month: Month, label: str) -> alt.Chart:
    chart: alt.Chart = alt.Chart(alt.InlineData(values=list(rows))).mark_bar()
    return chart.encode(x=_day_axis(month), y=_value_axis(label), description="label:N")


def _day_axis(month: Month) -> alt.X:
    days = list(range(1, month.last.day + 1))
    return alt.X(
        "day:O",
        title=None,
        scale=alt.Scale(domain=days, paddingInner=0.25),
        axis=alt.Axis(values=_LABELLED_DAYS, labelAngle=0),
    )


def _value_axis(label: str) -> alt.Y:
    axis = alt.Axis(labelExpr=label, tickCount=4, grid=True, domain=False)
    return alt.Y("value:Q", title=None, axis=axis, scale=alt.Scale(zero=True))


def _draw(chart: alt.Chart, label: str) -> Markup:
    """Return the chart as SVG, with a label for screen readers."""
    axis = alt.AxisConfig(
        domainColor="var(--line)",
        gridColor="var(--line)",
        labelColor="var(--muted)",
        labelFontSize=_FONT_PIXELS,
        labelPadding=6,
        grid=False,
        ticks=False,
    )
    configured = (
        chart.properties(width=_WIDTH, height=_HEIGHT, autosize=alt.AutoSizeParams(type="fit", contains="padding"))
        .configure(axis=axis, background="transparent", padding=2)
        .configure_view(stroke=None)
    )
    return _embed(vl_convert.vegalite_to_svg(configured.to_dict(), allowed_base_urls=[]), label)


def _embed(svg: str, label: str) -> Markup:
    drawn = _clean(ET.fromstring(svg))  # noqa: S314 - the library's own
    if drawn is None:
        raise ValueError(f"the chart {label!r} is empty")
    drawn.set("role", "img")
    drawn.set("aria-label", label)
    drawn.attrib.pop("width", None)
    drawn.attrib.pop("height", None)
    return Markup(ET.tostring(drawn, encoding="unicode"))  # noqa: S704 - of known elements and attributes alone


def _clean(element: ET.Element) -> ET.Element | None:
    """Return a copy with known elements and attributes only, and a mark's label as its tooltip; None if it is empty."""
    name = element.tag.removeprefix(_NAMESPACE)
    if name not in _ELEMENTS or element.get("display") == "none":
        return None
    kept = ET.Element(name, {key: value for key, value in element.attrib.items() if key in _ATTRIBUTES})
    kept.text = element.text
    if element.get("aria-roledescription") in _MARKS and (label := element.get("aria-label")):
        ET.SubElement(kept, "title").text = label
    kept.extend(child for each in element if (child := _clean(each)) is not None)
    is_empty_group = name == "g" and not len(kept)
    return None if is_empty_group or _is_invisible(kept, element) else kept


_MARKS = {"bar", "rect mark", "point", "circle"}


def _is_invisible(kept: ET.Element, element: ET.Element) -> bool:
    """Return whether it is a background without a colour: Vega draws one for each group."""
    return element.get("class") == "background" and not {"fill", "stroke"} & set(kept.attrib)
