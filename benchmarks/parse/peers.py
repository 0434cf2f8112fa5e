"""The compared parsers, and how each is timed and examined."""

import importlib.util
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.parse import one_core, programs
from benchmarks.parse.mixes import Mix
from benchmarks.parse.truth import Mistakes, mistakes


class Peer(Protocol):
    """A parser of logs."""

    @property
    def name(self) -> str:
        """Its name in the table."""

    @property
    def reads_all(self) -> bool:
        """Whether it is timed on the whole file, and not only on its beginning."""

    def is_installed(self) -> bool:
        """Return whether it can run here."""

    def seconds(self, path: Path) -> float:
        """Return the CPU seconds of reading the file once, in a separate process."""

    def mistakes(self, mix: Mix) -> Mistakes:
        """Return its errors in the whole mix."""


@dataclass(frozen=True)
class PythonPeer:
    """A reader of `worker`: timed without the interpreter's start and the imports."""

    name: str
    reads_all: bool
    package: str
    """The package that it needs."""

    def is_installed(self) -> bool:
        """Return whether the package can be imported."""
        return importlib.util.find_spec(self.package) is not None

    def seconds(self, path: Path) -> float:
        """Return the CPU seconds of reading."""
        printed = one_core.python("benchmarks.parse.worker", "seconds", self.name, str(path))
        return float(json.loads(printed)["seconds"])

    def mistakes(self, mix: Mix) -> Mistakes:
        """Compare its result for each line with the truth."""
        answers = mix.path.with_suffix(".answers.npy")
        one_core.python("benchmarks.parse.worker", "answers", self.name, str(mix.path), str(answers))
        return mistakes(mix.truth, np.load(answers))


@dataclass(frozen=True)
class Gawk:
    """gawk: the whole process is timed."""

    name: str = "gawk, FPAT"
    reads_all: bool = False

    def is_installed(self) -> bool:
        """Return whether it is on the PATH."""
        return shutil.which("gawk") is not None

    def seconds(self, path: Path) -> float:
        """Return the CPU seconds from start to end."""
        return programs.gawk_seconds(path, path.parent)

    def mistakes(self, mix: Mix) -> Mistakes:
        """Compare the rows that it prints with the truth."""
        return programs.gawk_mistakes(mix.path, mix.truth)


@dataclass(frozen=True)
class GoAccess:
    """GoAccess: the whole process, its report included, is timed."""

    name: str = "GoAccess"
    reads_all: bool = False

    def is_installed(self) -> bool:
        """Return whether it is on the PATH."""
        return shutil.which("goaccess") is not None

    def seconds(self, path: Path) -> float:
        """Return the CPU seconds from start to end."""
        return programs.goaccess_seconds(path, path.parent)

    def mistakes(self, mix: Mix) -> Mistakes:
        """Return its errors by its own counts."""
        return programs.goaccess_mistakes(mix.path, mix.truth, mix.path.parent)


OURS = PythonPeer("ours", reads_all=True, package="tamarin_dagster")
PEERS: dict[str, tuple[Peer, ...]] = {
    "ours": (OURS, PythonPeer("ours, regex reader", reads_all=False, package="tamarin_dagster")),
    "re": (PythonPeer("re", reads_all=False, package="re"), PythonPeer("re, typed", reads_all=False, package="re")),
    "duckdb": (PythonPeer("duckdb", reads_all=True, package="duckdb"),),
    "goaccess": (GoAccess(),),
    "gawk": (Gawk(),),
}
