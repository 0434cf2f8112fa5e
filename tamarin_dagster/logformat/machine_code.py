"""Where the machine code of the parser is kept. This module does not import numba."""

import contextlib
import hashlib
import importlib.util
import os
import tempfile
from functools import cache
from pathlib import Path


@cache
def machine_code_folder() -> Path | None:
    """Return the folder for the machine code of these sources; None if none is writable.

    It is named after a digest of all sources: numba only checks a function's own file, and would keep machine code that
    contains an older version of another file's code.
    """
    here = Path(__file__).parent
    paths = sorted([*here.joinpath("compiled").glob("*.py"), *here.glob("*.py")])
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in paths))
    places = [here / "compiled" / "__pycache__", Path("~/.cache/tamarin_dagster").expanduser()]
    if configured := os.environ.get("NUMBA_CACHE_DIR"):
        places.insert(0, Path(configured))
    for place in places:
        folder = place / f"machine-code-{sources.hexdigest()[:16]}"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    return None


def should_compile() -> bool:
    """Return whether the parser's machine code is missing, and can be made and kept."""
    if importlib.util.find_spec("numba") is None:
        return False
    folder = machine_code_folder()
    return folder is not None and not any(folder.rglob("*.nbi"))
