"""The watchdog of `make dev`: it asks Dagster to load our code again when the code server has died.

When a code server is killed, for example because the machine is short of memory, Dagster reports an error for its code
location until somebody reloads the location in the UI. No sensor ticks until then.
"""

import json
import logging
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)

# As in pyproject.toml and workspace.yaml.
LOCATION = "tamarin_dagster"
# Seconds between two checks of the code location. It counts as gone only when two checks in a row agree.
LOOK_SECONDS = 15
# A reload answers when the code is loaded, which takes longer with more buckets; Dagster itself waits this long.
RELOAD_SECONDS = 600
# Seconds to wait after a reload that did not help; doubled each time, up to the maximum.
MIN_PATIENCE_SECONDS = 30
MAX_PATIENCE_SECONDS = 600

RELOAD = f'mutation {{ reloadRepositoryLocation(repositoryLocationName: "{LOCATION}") {{ __typename }} }}'
LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename } } } } }
"""


class Watchdog:
    """Decides when to load the code again. It gets the result of each check, and never runs two reloads at once."""

    def __init__(self, reload: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._reload, self._clock = reload, clock
        self._was_loaded = False
        self._looks_gone = 0
        self._patience = MIN_PATIENCE_SECONDS
        self._patient_until = 0.0
        self._reloading: threading.Thread | None = None

    def note(self, is_loaded: bool | None) -> None:
        """Note what a check found (None: unknown at the moment), and start a reload if one is due."""
        if is_loaded:
            self._was_loaded, self._looks_gone, self._patience = True, 0, MIN_PATIENCE_SECONDS
            return
        if is_loaded is None or not self._was_loaded or self.is_reloading:
            self._looks_gone = 0
            return
        self._looks_gone += 1
        if self._looks_gone >= 2 and self._clock() >= self._patient_until:
            _log.warning("the code server is gone; it is started again")
            self._looks_gone = 0
            self._reloading = threading.Thread(target=self._reload_now, name="reload", daemon=True)
            self._reloading.start()

    @property
    def is_reloading(self) -> bool:
        """Whether a reload that was started here has not answered yet."""
        return self._reloading is not None and self._reloading.is_alive()

    def _reload_now(self) -> None:
        try:
            self._reload()
        finally:
            # The answer may come before the location shows as loaded.
            self._patient_until = self._clock() + self._patience
            self._patience = min(2 * self._patience, MAX_PATIENCE_SECONDS)


def watch(dagster: "subprocess.Popen[bytes]", page: str) -> int:
    """Wait for the end of Dagster and return its exit status; meanwhile, load our code again whenever it is gone."""
    watchdog = Watchdog(lambda: ask(page, RELOAD, RELOAD_SECONDS))
    while True:
        try:
            return dagster.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            watchdog.note(is_loaded(page))


def is_loaded(page: str) -> bool | None:
    """Return whether Dagster has loaded our code; None while it is loading, or if the UI does not answer."""
    for entry in (ask(page, LOCATIONS, LOOK_SECONDS) or {}).get("workspaceOrError", {}).get("locationEntries", []):
        if entry["name"] == LOCATION and entry["loadStatus"] == "LOADED":
            return bool(entry["locationOrLoadError"]["__typename"] == "RepositoryLocation")
    return None


def ask(page: str, query: str, seconds: float) -> dict[str, Any] | None:
    """Return the answer of the UI's GraphQL; None if there is none within so many seconds."""
    request = urllib.request.Request(  # noqa: S310 - our own http URL
        f"{page}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
            data: dict[str, Any] | None = json.load(answer)["data"]
    except (OSError, ValueError, KeyError):
        return None
    return data
