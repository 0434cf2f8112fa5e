"""The demo's home: a folder of its own, so that its records never lie among those of real buckets."""

import os
from pathlib import Path

# Names the settings' file.
CONFIG_VARIABLE = "TAMARIN_CONFIG"
# Written by `make dev` into the demo's home, and the sign of one.
DEMO_CONFIG = "demo.yaml"
_BESIDE_SETTINGS = ".tamarin-demo"
_INSIDE_HOME = "demo"


def demo_home(home: Path, *, is_set: bool) -> Path:
    """Return the demo's home: inside the user's `home` if that is set, otherwise next to the default one."""
    return home / _INSIDE_HOME if is_set else home.with_name(_BESIDE_SETTINGS)


def is_demo_home(home: Path) -> bool:
    """Tell whether `make dev` has set the demo up in this home."""
    # Unlike Path.is_file this is False, and no error, where the folder above may not be entered.
    return home.name in {_BESIDE_SETTINGS, _INSIDE_HOME} and os.path.isfile(home / DEMO_CONFIG)  # noqa: PTH113
