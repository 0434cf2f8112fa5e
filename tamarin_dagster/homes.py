"""Find the demo's home. The demo has its own home, so that its records never mix with those of real buckets.

The module also has the environment of a client of the demo's S3 endpoint. It imports nothing heavy, since every command
looks for the demo.
"""

import os
from pathlib import Path

# The variable that names the settings file.
CONFIG_VARIABLE = "TAMARIN_CONFIG"
# `make dev` writes this file into the demo's home; a home that has it is the demo's.
DEMO_CONFIG = "demo.yaml"
# The demo's S3 endpoint takes any credentials.
LOOPBACK = "127.0.0.1"
DEMO_REGION = "us-east-1"
ACCESS_KEY_ID = "demo"
SECRET_ACCESS_KEY = "demo-secret"  # noqa: S105 - a placeholder
_BESIDE_SETTINGS = ".tamarin-demo"
_INSIDE_HOME = "demo"


def demo_home(home: Path, *, is_set: bool) -> Path:
    """Return the demo's home: inside the user's `home` if that is set, otherwise next to the default one."""
    return home / _INSIDE_HOME if is_set else home.with_name(_BESIDE_SETTINGS)


def is_demo_home(home: Path) -> bool:
    """Return whether `make dev` has set the demo up in this home."""
    # Unlike Path.is_file, this returns False instead of failing when the folder above cannot be entered.
    return home.name in {_BESIDE_SETTINGS, _INSIDE_HOME} and os.path.isfile(home / DEMO_CONFIG)  # noqa: PTH113


def demo_environment() -> dict[str, str]:
    """Return the environment variables with which any S3 client can talk to the demo endpoint.

    They bypass a proxy that the environment sets, because a proxy cannot reach this machine's loopback interface.
    """
    present = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    no_proxy = f"{present},{LOOPBACK}" if present else LOOPBACK
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_DEFAULT_REGION": DEMO_REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }
