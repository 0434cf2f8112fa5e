"""One `dev` and one browser for all these tests; a page for each, whose every request is watched."""

import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from tamarin_dagster_tests.browser.site import Site
from tamarin_dagster_tests.browser.site import site as running_site
from tamarin_dagster_tests.browser.watching import PATIENCE_SECONDS, Picture, watched_page
from tamarin_dagster_tests.folders import make_short_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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

    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
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


@pytest.fixture
def page(browser: "Browser", site: Site) -> Iterator["Page"]:
    """A watched page of this test's own."""
    with watched_page(browser, site) as opened:
        yield opened


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
            ("what dev says", arguments["site"].dev.reported()),
        ]
    return report
