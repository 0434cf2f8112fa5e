"""One `dev` and one browser for all these tests; a page for each, whose every request is watched."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tamarin_dagster_tests.browser.site import Site
from tamarin_dagster_tests.browser.site import site as running_site
from tamarin_dagster_tests.folders import make_short_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

# Only `make test-browser` installs it.
if find_spec("playwright") is None:
    collect_ignore = ["test_pages.py", "test_report.py"]

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing that Chromium does of its own accord: looking for updates, for extensions, for Google's hosts.
_FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
_WINDOW = {"width": 1500, "height": 950}
_PATIENCE_SECONDS = 30


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's Chromium: $CHROMIUM, else what is on the PATH."""
    wanted = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, [wanted] if wanted else _PROGRAMS)), None)
    if found is None:
        where = f"CHROMIUM={wanted} is none" if wanted else f"none of {', '.join(_PROGRAMS)} is on the PATH"
        pytest.skip(f"no Chromium: {where}")
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator["Browser"]:
    """Chromium, without a window."""
    from playwright.sync_api import expect, sync_playwright  # noqa: PLC0415 - not there unless these tests are to run

    expect.set_options(timeout=_PATIENCE_SECONDS * 1000)
    flags = [*_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else _FLAGS  # root may not have its sandbox
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield started
        started.close()


@pytest.fixture(scope="session")
def site(chromium: str) -> Iterator[Site]:
    """A running `dev`; see site.py. Ends all it has started."""
    _not_over_midnight()
    folder = make_short_folder()
    with running_site(folder) as started:
        yield started
    shutil.rmtree(folder, ignore_errors=True)


def _not_over_midnight() -> None:
    """Partitions are days: those that tests name should not grow by one meanwhile."""
    now = datetime.now(UTC)
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    if (left := (midnight - now).total_seconds()) < 180:
        time.sleep(left + 1)


@contextmanager
def watched_page(browser: "Browser", site: Site) -> Iterator["Page"]:
    """A new page, whose relative addresses are Dagster's.

    Whatever is done there: no request of the page leaves this machine, no dialog opens, nothing fails in its scripts.
    """
    context = browser.new_context(base_url=site.url, viewport=_WINDOW, locale="en-GB", timezone_id="UTC")
    context.set_default_timeout(_PATIENCE_SECONDS * 1000)
    opened = context.new_page()
    complaints = watched(opened)
    try:
        yield opened
    finally:
        context.close()
    assert complaints == []


@pytest.fixture
def page(browser: "Browser", site: Site) -> Iterator["Page"]:
    """A watched page of this test's own."""
    with watched_page(browser, site) as opened:
        yield opened


def watched(page: "Page") -> list[str]:
    """What the page does that it should not; grows as it does."""
    complaints: list[str] = []

    def looked_at(kind: str) -> Callable[[Any], None]:
        def look(request: Any) -> None:
            address = urlsplit(request.url)
            if address.scheme not in ("data", "blob") and address.hostname != "127.0.0.1":
                complaints.append(f"{kind} to {request.url}")

        return look

    def told(message: "ConsoleMessage") -> None:
        if message.type == "error":
            complaints.append(f"console: {message.text}")

    def dismissed(dialog: Any) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("request", looked_at("request"))
    page.on("websocket", looked_at("websocket"))
    page.on("console", told)
    page.on("dialog", dismissed)
    page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
    page.on("popup", lambda other: complaints.append(f"popup: {other.url}"))
    return complaints


class Picture:
    """Keeps pictures of a page, if $SCREENSHOTS names a folder for them."""

    def __init__(self, page: "Page") -> None:
        self._page = page

    def keep(self, name: str) -> None:
        """As NAME.png."""
        if folder := os.environ.get("SCREENSHOTS"):
            self._page.mouse.move(0, 0)
            self._page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")


@pytest.fixture
def picture(page: "Page") -> Picture:
    """picture.keep("assets") keeps what is seen just now."""
    return Picture(page)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A test that failed shows where it was, what `dev` says, and has a picture taken."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and "page" in arguments:
        page, path = arguments["page"], arguments["site"].dev.log.parent.parent / f"tamarin-{item.name}.png"
        page.screenshot(path=path)
        report.sections += [
            ("the page", f"{page.url}\n{path}"),
            ("what dev says", arguments["site"].dev.told()),
        ]
    return report
