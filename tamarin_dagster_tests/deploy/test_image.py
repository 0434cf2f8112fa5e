"""The Dockerfile, as far as it can be checked without building it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DOCKERFILE = PROJECT / "deploy" / "docker" / "Dockerfile"
HADOLINT = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed; `make test-deploy` installs it")
def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run([HADOLINT, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_what_is_copied_is_in_the_context() -> None:
    """.dockerignore leaves out all but what it names."""
    ignored, *named = [
        line for line in (PROJECT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"
    ]
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    sources = {source for copy in copies for source in copy.split()}
    assert ignored == "*"
    assert sources == {name.removeprefix("!") for name in named if name.startswith("!")}
    assert all((PROJECT / source).exists() for source in sources)


def test_nothing_runs_as_root_and_the_versions_are_the_projects_own() -> None:
    text = DOCKERFILE.read_text("utf-8")
    final = text.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)", final, re.MULTILINE) == ["10001"]
    assert "--constraint constraints.txt" in text
    (python,) = re.findall(r"^ARG PYTHON=(\S+)", text, re.MULTILINE)
    assert f"Python :: {python}" in (PROJECT / "setup.cfg").read_text("utf-8")


def test_machine_code_that_the_image_holds_is_for_any_processor() -> None:
    """numba keeps it by the processor's name and features, and would compile again on another one."""
    code = (
        "import os; os.environ |= dict(NUMBA_CPU_NAME='generic', NUMBA_CPU_FEATURES='');"
        "from numba.core.registry import cpu_target; print(cpu_target.target_context.codegen().magic_tuple())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("'generic', '')")
