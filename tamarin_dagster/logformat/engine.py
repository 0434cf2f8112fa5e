"""The rules of this package as machine code, where numba is installed.

Without numba everything works by the written rules, only slower.
"""

import logging
from functools import cache
from types import ModuleType
from typing import Literal

_log = logging.getLogger(__name__)

ParserName = Literal["compiled", "regex"]
"""The reader of the lines. Both give the same records."""


@cache
def compiled_engine() -> ModuleType | None:
    """Return the package `compiled`; None, with a warning, if numba is not installed."""
    try:
        from tamarin_dagster.logformat import compiled  # noqa: PLC0415 - takes half a second, and is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        _log.warning(
            "numba is not installed: the regex reader reads the lines, which is several times slower. To install"
            " it: pip install 'tamarin-dagster[fast]'"
        )
        return None
    return compiled
