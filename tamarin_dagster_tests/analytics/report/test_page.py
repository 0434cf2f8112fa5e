"""The page: texts from clients are always shown as text."""

import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import pytest
from hypothesis import given
from markupsafe import Markup

from tamarin_dagster.analytics.report import Month
from tamarin_dagster.analytics.report import charts as drawing
from tamarin_dagster.analytics.report.figures import (
    AgentTraffic,
    Before,
    ConsumerTraffic,
    DayLatency,
    Referrer,
    Report,
    TopConsumers,
    Traffic,
)
from tamarin_dagster.analytics.report.page import draw_charts, render_page
from tamarin_dagster.analytics.report.summary import code, summarize
from tamarin_dagster.analytics.report.texts import clean_key, clean_text, shorten
from tamarin_dagster_tests.analytics.report.figures import TRAFFIC
from tamarin_dagster_tests.analytics.report.hostile_texts import TEXTS
from tamarin_dagster_tests.examples import at_least

NO_CHARTS = dict.fromkeys(("bytes", "requests", "hours", "latency", "sizes"), Markup())


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append(("/" + tag, ()))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def with_texts(report: Report, *, key: str, other: str) -> Report:
    """Return the report with these texts in place of all texts from clients."""
    [file], [agent], [referrer], [requester] = (
        report.files.largest,
        report.agents.largest,
        report.referrers,
        report.requesters.largest,
    )
    files = replace(report.files, largest=(replace(file, key=key),), failing=(replace(file, key=key),))
    return replace(
        report,
        files=files,
        requesters=replace(report.requesters, largest=(replace(requester, name=other),)),
        referrers=(replace(referrer, site=other),),
        agents=replace(report.agents, largest=(replace(agent, name=other),)),
    )


@at_least(30)
@given(TEXTS.filter(bool))
def test_any_text_is_shown_and_makes_no_element(report, text) -> None:
    key, other = clean_key(text), clean_text(text)
    hostile = Elements(render_page(with_texts(report, key=text, other=text), NO_CHARTS))
    harmless = Elements(render_page(with_texts(report, key="a" * len(key), other="a" * len(other)), NO_CHARTS))

    assert hostile.elements == harmless.elements
    assert [hostile.texts.count(each) >= 1 for each in (key, other)] == [True, True]


@given(TEXTS)
def test_any_text_stays_within_its_code_in_the_summary(report, text) -> None:
    summary = summarize(with_texts(report, key=text, other=text))
    shown = code(shorten(clean_key(text)))

    assert f"1. {shown} 2.00 kB, 100.0 %, 10 requests\n" in summary
    fence = re.match("`+", shown)[0]
    inner = shown[len(fence) : -len(fence)]
    assert fence not in re.findall("`+", inner), "the text ends its code"
    assert "\n" not in shown
    assert len(summary.splitlines()) == len(summarize(report).splitlines())


def test_the_policy_allows_the_page_s_own_style_sheet_alone(report) -> None:
    text = render_page(report, draw_charts(report))
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert re.fullmatch(
        r"default-src &#39;none&#39;; style-src &#39;sha256-[A-Za-z0-9+/]{43}=&#39;;"
        r" base-uri &#39;none&#39;; form-action &#39;none&#39;",
        policy,
    )
    elements = Elements(text).elements
    assert {tag for tag, _ in elements if tag[0] != "/"} <= {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "header",
            "main",
            "footer",
            "section",
            "figure",
            "figcaption",
        ),
        *("h1", "h2", "h3", "p", "dl", "dt", "dd", "div", "span", "i", "code", "details", "summary", "figcaption"),
        *("table", "thead", "tbody", "tr", "th", "td", "svg", "g", "path", "line", "rect", "text", "tspan"),
    }
    names = {name for _, attributes in elements for name, _ in attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"style", "href", "src", "id", "xlink:href"}


def test_a_chart_has_its_numbers_as_tooltips_and_the_page_s_colours(report) -> None:
    svg = drawing.requests_by_day(report.days, report.month)
    assert re.findall("<title>(.*?)</title>", svg) == ["Thu 5 March: 10 × 2xx"]
    assert set(re.findall(r'(?:fill|stroke)="([^"]*)"', svg)) <= {
        *("none", "var(--status-2)", "var(--muted)", "var(--line)"),
    }
    assert not re.search(r"href|style=|<script|<image|<foreign|\bid=|class=|url\(", svg)


def test_a_chart_of_nothing_and_of_the_largest_numbers_is_drawn(report) -> None:
    [day] = report.days
    for traffic in (Traffic(), Traffic(2**62, 2**62, 2**62)):
        assert drawing.bytes_by_day([replace(day, traffic=traffic)], report.month).startswith("<svg ")
    latency = drawing.latency_by_day([DayLatency(date(2026, 3, 5), 10, 20)], report.month)
    assert "20 ms" in latency


def test_what_is_not_known_is_said(report) -> None:
    text = render_page(report, NO_CHARTS)
    assert "This month has no prices yet, so its cost is not estimated." in text
    assert "User agents are not classified yet." in text
    assert "Lateness and duplicates were not measured" in text
    nothing = render_page(replace(report, days=()), {})
    assert "No records of this month are loaded." in nothing
    assert "<figure>" not in nothing


def test_a_month_that_goes_on_is_held_against_the_same_days(report) -> None:
    before = Before(Month(2026, 2), Traffic(8, 1_000, 0), is_part=True)
    text = " ".join(Elements(render_page(replace(report, before=before), NO_CHARTS)).texts)
    assert "+25 % on the same days of February 2026" in text
    assert "+100 % on the same days of February 2026" in text
    whole = " ".join(Elements(render_page(replace(report, before=replace(before, is_part=False)), NO_CHARTS)).texts)
    assert "+25 % on February 2026" in whole


@pytest.mark.parametrize("median", [0, 1_000])
def test_a_consumer_is_held_against_the_median(report, median) -> None:
    addresses = TopConsumers(2, median, (ConsumerTraffic("ip-3fa9c1d2", TRAFFIC),))
    text = render_page(replace(report, addresses=addresses, anonymous=True), NO_CHARTS)
    assert ("2.0 ×" in text) is (median > 0)
    assert "2 IP addresses, shown as pseudonyms" in text


def test_who_sent_nothing_is_named(report) -> None:
    text = render_page(
        replace(
            report,
            referrers=(Referrer(None, TRAFFIC), Referrer("", TRAFFIC)),
            agents=replace(report.agents, largest=(AgentTraffic(None, None, TRAFFIC), AgentTraffic("", None, TRAFFIC))),
            requesters=TopConsumers(nobody=TRAFFIC),
        ),
        NO_CHARTS,
    )
    cells = re.findall("<tr><td>([a-z ]+)</td>", text)
    assert "Not authenticated: 10 requests" in text
    assert cells == ["none sent", "no web address", "none sent", "empty", "read"]
