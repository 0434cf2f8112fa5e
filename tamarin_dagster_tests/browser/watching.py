"""A page whose every request is watched, and pictures of it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tamarin_dagster_tests.browser.site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

_WINDOW = {"width": 1500, "height": 950}
PATIENCE_SECONDS = 30


@contextmanager
def watched_page(browser: "Browser", site: Site) -> Iterator["Page"]:
    """A new page, whose relative addresses are Dagster's.

    Whatever is done there: no request of the page leaves this machine, no dialog opens, nothing fails in its scripts.
    """
    context = browser.new_context(base_url=site.url, viewport=_WINDOW, locale="en-GB", timezone_id="UTC")
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    opened = context.new_page()
    complaints = watched(opened)
    try:
        yield opened
    finally:
        context.close()
    assert complaints == []


def watched(page: "Page") -> list[str]:
    """A list of the page's faults, which grows while the page is open."""
    complaints: list[str] = []

    def looked_at(kind: str) -> Callable[[Any], None]:
        def look(request: Any) -> None:
            address = urlsplit(request.url)
            if address.scheme not in ("data", "blob") and address.hostname != "127.0.0.1":
                complaints.append(f"{kind} to {request.url}")

        return look

    def reported(message: "ConsoleMessage") -> None:
        if message.type == "error":
            complaints.append(f"console: {message.text}")

    def dismissed(dialog: Any) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("request", looked_at("request"))
    page.on("websocket", looked_at("websocket"))
    page.on("console", reported)
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
