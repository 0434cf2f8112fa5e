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
    """Return the folder for the machine code of these sources; None if there is nowhere to write.

    It is named after the sources: numba looks at a function's own file alone, and would go on with machine code that
    holds an older form of what other files gave to it.
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
    """Tell whether the parser's machine code is missing and can be made and kept."""
    if importlib.util.find_spec("numba") is None:
        return False
    folder = machine_code_folder()
    return folder is not None and not any(folder.rglob("*.nbi"))
