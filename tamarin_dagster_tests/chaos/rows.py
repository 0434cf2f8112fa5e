"""All rows of the matrix: each of these modules adds its own to `SCENARIOS`."""

from tamarin_dagster_tests.chaos import (
    archives,
    dagster_runs,
    generations,
    hostile,
    kills,
    objects,
    races,
    servers,
    stores,
)
from tamarin_dagster_tests.chaos.matrix import SCENARIOS

__all__ = [
    "SCENARIOS",
    "archives",
    "dagster_runs",
    "generations",
    "hostile",
    "kills",
    "objects",
    "races",
    "servers",
    "stores",
]
