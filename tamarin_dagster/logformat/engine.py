"""The rules of this package as machine code, where numba is installed and there is enough to read.

Without it everything works by the written rules, only slower. Loading it takes half a second, in which the written
rules read a megabyte. So a process that reads a few small log keys is done earlier without it.
"""

import logging
from functools import cache
from types import ModuleType
from typing import Literal

LOADING_PAYS_BYTES = 2**20
"""A process that reads fewer bytes of log lines does not load the machine code."""

ParserName = Literal["compiled", "regex"]
"""The reader of the lines. Both give the same records. `compiled` is used from LOADING_PAYS_BYTES on."""

_log = logging.getLogger(__name__)
_engines: list[ModuleType] = []
_read_bytes = 0


def compiled_engine() -> ModuleType | None:
    """Return the package `compiled` if it is loaded."""
    return _engines[0] if _engines else None


def compiled_engine_for(size: int) -> ModuleType | None:
    """Return the package `compiled` if it is loaded, or if it pays to load it now.

    Args:
        size: bytes that will be read with it, or without it. They are added to those of earlier calls.
    """
    global _read_bytes  # noqa: PLW0603 - of the process, as what it decides
    _read_bytes += size
    return compiled_engine() or (load_engine() if _read_bytes >= LOADING_PAYS_BYTES else None)


@cache
def load_engine() -> ModuleType | None:
    """Load the package `compiled`; return None, with a warning, if numba is not installed."""
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
    _engines.append(compiled)
    return compiled
