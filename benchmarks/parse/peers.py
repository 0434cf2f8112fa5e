"""The ways to read a log that are compared, and how each is timed and examined."""

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
    """One way to read a log."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def reads_all(self) -> bool:
        """It is timed on the whole file; else on its beginning."""

    def is_installed(self) -> bool:
        """It can be run here."""

    def seconds(self, path: Path) -> float:
        """CPU seconds of reading the file once, in a process of its own."""

    def mistakes(self, mix: Mix) -> Mistakes:
        """What it gets wrong in the whole mix."""


@dataclass(frozen=True)
class PythonPeer:
    """A reader of `worker`: timed without the interpreter's start and the imports."""

    name: str
    reads_all: bool
    package: str
    """The package that it needs."""

    def is_installed(self) -> bool:
        """The package can be imported."""
        return importlib.util.find_spec(self.package) is not None

    def seconds(self, path: Path) -> float:
        """CPU seconds of reading."""
        printed = one_core.python("benchmarks.parse.worker", "seconds", self.name, str(path))
        return float(json.loads(printed)["seconds"])

    def mistakes(self, mix: Mix) -> Mistakes:
        """Its answer to each line, held against the truth."""
        answers = mix.path.with_suffix(".answers.npy")
        one_core.python("benchmarks.parse.worker", "answers", self.name, str(mix.path), str(answers))
        return mistakes(mix.truth, np.load(answers))


@dataclass(frozen=True)
class Gawk:
    """gawk: the whole process is timed."""

    name: str = "gawk, FPAT"
    reads_all: bool = False

    def is_installed(self) -> bool:
        """It is on the path."""
        return shutil.which("gawk") is not None

    def seconds(self, path: Path) -> float:
        """CPU seconds from start to end."""
        return programs.gawk_seconds(path, path.parent)

    def mistakes(self, mix: Mix) -> Mistakes:
        """The rows that it prints, held against the truth."""
        return programs.gawk_mistakes(mix.path, mix.truth)


@dataclass(frozen=True)
class GoAccess:
    """GoAccess: the whole process, its report included, is timed."""

    name: str = "GoAccess"
    reads_all: bool = False

    def is_installed(self) -> bool:
        """It is on the path."""
        return shutil.which("goaccess") is not None

    def seconds(self, path: Path) -> float:
        """CPU seconds from start to end."""
        return programs.goaccess_seconds(path, path.parent)

    def mistakes(self, mix: Mix) -> Mistakes:
        """By its own counts."""
        return programs.goaccess_mistakes(mix.path, mix.truth, mix.path.parent)


OURS = PythonPeer("ours", reads_all=True, package="tamarin_dagster")
PEERS: dict[str, tuple[Peer, ...]] = {
    "ours": (OURS, PythonPeer("ours, regex reader", reads_all=False, package="tamarin_dagster")),
    "re": (PythonPeer("re", reads_all=False, package="re"), PythonPeer("re, typed", reads_all=False, package="re")),
    "duckdb": (PythonPeer("duckdb", reads_all=True, package="duckdb"),),
    "goaccess": (GoAccess(),),
    "gawk": (Gawk(),),
}
