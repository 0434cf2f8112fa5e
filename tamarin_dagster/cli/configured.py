"""The settings that a command works with: those of the folder, or while they name no bucket those of the demo there."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from tamarin_dagster import settings as files
from tamarin_dagster.cli.app import PROGRAM
from tamarin_dagster.cli.terminal import err, printable
from tamarin_dagster.homes import CONFIG_VARIABLE, DEMO_CONFIG, demo_environment, is_demo_home
from tamarin_dagster.settings import Settings

_CONNECT_SECONDS = 1.0


def load_settings() -> Settings:
    """Return the settings. Those of the demo are announced in a line on standard error. Raises SettingsError.

    The demo's are used when no bucket is configured and the demo has run in this folder. Its S3 endpoint takes
    credentials of its own, which replace those of this process.
    """
    chosen = os.environ.get(CONFIG_VARIABLE)
    settings = files.load_settings(with_demo=True)
    config = settings.home / DEMO_CONFIG
    if not (settings.buckets and is_demo_home(settings.home)) or (chosen and Path(chosen).samefile(config)):
        return settings
    os.environ.update(demo_environment())
    os.environ.pop("AWS_PROFILE", None)
    remedy = (
        ""
        if _listens(settings.buckets[0].endpoint_url or "")
        else f" It is not running: start it with `{PROGRAM} demo`."
    )
    err.print(
        printable(f"No bucket is configured: this is the demo ({config}).{remedy}"),
        style="yellow",
        highlight=False,
    )
    return settings


def _listens(url: str) -> bool:
    """Tell whether something answers at the port of that URL."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), _CONNECT_SECONDS):
            return True
    except OSError:
        return False
