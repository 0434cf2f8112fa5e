"""The report in a browser: what a hostile client sent stays text; it can be read on a phone, in the dark, on paper."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page

from tamarin_dagster.analytics.report import Month, write_report
from tamarin_dagster_tests.analytics.report import months
from tamarin_dagster_tests.browser.watching import watched

pytestmark = pytest.mark.browser

OCTOBER = Month(2026, 10)
DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
# Down to the end of the first four charts.
_PICTURE_HEIGHT = 1290
SCHEMES = ("light", "dark")
# The browser reports violations of the policy to the page, and requests even if a file makes them.
_WATCH = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", event =>
        violations.push(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture
def reports(engine: sa.Engine, tmp_path: Path) -> dict[str, Path]:
    """A media site's month, and the same with all that a hostile client sends."""
    with engine.begin() as connection:
        for bucket in ("media.example.org", "press.example.org"):
            months.fill(connection, bucket, OCTOBER, 0.7)
        months.fill(connection, "media.example.org", OCTOBER.before, 0.62)
        months.fill_ledger(connection, "media.example.org", OCTOBER)
        months.fill_dimensions(connection, "media.example.org", OCTOBER)
        months.fill_hostile(connection, "press.example.org", OCTOBER.first)
    return {
        bucket: write_report(
            engine, bucket, OCTOBER, tmp_path / f"{bucket}.html", now=OCTOBER.end + timedelta(days=4)
        ).path
        for bucket in ("media.example.org", "press.example.org")
    }


@contextmanager
def opened(browser: Browser, path: Path, viewport: dict[str, int], scheme: str = "light") -> Iterator[Page]:
    """The report's page. It asks for nothing but itself, and does nothing that its policy forbids."""
    context = browser.new_context(viewport=viewport, color_scheme=scheme, locale="en-GB", timezone_id="UTC")
    context.add_init_script(_WATCH)
    page = context.new_page()
    complaints = watched(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    try:
        yield page
        complaints += page.evaluate("violations")
    finally:
        context.close()
    assert asked == [path.as_uri()]
    assert [each for each in complaints if each != f"request to {path.as_uri()}"] == []


def too_wide(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


def test_a_hostile_client_reaches_nothing(browser: Browser, reports: dict[str, Path]) -> None:
    for viewport in (DESKTOP, PHONE):
        with opened(browser, reports["press.example.org"], viewport) as page:
            for details in page.locator("summary").all():
                details.click()
            page.mouse.wheel(0, 20_000)
            text = page.locator("body").inner_text()
            assert [
                each for each in ("<script>alert(1)</script>", "{{ 7*7 }}", "\\u202egnp.exe") if each not in text
            ] == []
            assert months.SECRET not in page.content()
            assert (
                page.evaluate("document.querySelectorAll('script, img, iframe, form, a, base, link, object').length")
                == 0
            )
            assert page.evaluate("document.styleSheets.length") == 1
            assert too_wide(page) == 0


def test_it_fits_a_phone_a_dark_room_and_paper(browser: Browser, reports: dict[str, Path], tmp_path: Path) -> None:
    path = reports["media.example.org"]
    colours = {}
    for scheme in SCHEMES:
        for name, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
            with opened(browser, path, viewport, scheme) as page:
                assert too_wide(page) == 0
                assert page.locator("figure svg").count() == 5
                colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
                bars = page.locator("figure svg path[fill='var(--accent)']").first
                assert bars.evaluate("mark => getComputedStyle(mark).fill") not in {"none", "rgb(0, 0, 0)"}
                if (folder := os.environ.get("SCREENSHOTS")) and (scheme, name) == ("light", "desktop"):
                    shown = {"x": 0, "y": 0, "width": DESKTOP["width"], "height": _PICTURE_HEIGHT}
                    page.screenshot(path=Path(folder) / "report.png", full_page=True, clip=shown)
    assert len(set(colours.values())) == 2

    with opened(browser, path, DESKTOP, "dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 33, 39)", "ink on white paper"
        paper = page.pdf(prefer_css_page_size=True)
    assert paper.startswith(b"%PDF")
    pages = paper.count(b"/Type /Page\n") or paper.count(b"/Type /Page ")
    assert 2 <= pages <= 8
