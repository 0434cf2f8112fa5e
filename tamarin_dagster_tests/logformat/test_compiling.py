import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tamarin_dagster.logformat import machine_code
from tamarin_dagster.logformat.compiled import compiling
from tamarin_dagster.logformat.compiled.compiling import compiled
from tamarin_dagster_tests.logformat.pointer_steps import steps


@pytest.fixture
def fresh_folder():
    """Look for the folder of machine code again, before the test and after it."""
    machine_code.machine_code_folder.cache_clear()
    yield
    machine_code.machine_code_folder.cache_clear()


def twice(number):
    return 2 * number


def test_machine_code_is_kept_in_a_folder_named_after_all_sources(tmp_path, monkeypatch, fresh_folder):
    """numba only checks a function's own file, and would run code that the edit of another file has made stale."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert machine_code.should_compile()
    assert compiled(twice)(21) == 42
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("machine-code-")
    assert list(folder.rglob("*twice*.nbc"))
    assert str(compiling._config.CACHE_DIR) == str(tmp_path)
    assert not machine_code.should_compile()


LINE_ENDS = """
import logging, numpy
logging.basicConfig(format="%(message)s")
from tamarin_dagster.logformat.compiled import find_line_ends
print(find_line_ends(numpy.frombuffer(b"a\\nb\\n", numpy.uint8), 9).tolist())
"""


@pytest.mark.slow
def test_the_first_use_says_that_it_compiles_and_a_later_one_is_silent(tmp_path):
    """A first run was silent for half a minute."""
    said = []
    for _ in range(2):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", LINE_ENDS], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == "[1, 3]\n"
        said.append(done.stderr)
    (folder,) = tmp_path.iterdir()
    expected = (
        "Compiling the parser to machine code, which takes about half a minute, only now; the machine code is kept in"
    )
    assert said == [f"{expected} {folder}\n", ""]


def test_where_nothing_may_be_written_the_message_says_that_each_process_compiles(monkeypatch, caplog):
    monkeypatch.setattr(compiling, "machine_code_folder", lambda: None)
    compiling._Announcer().on_start(SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=compiled)}))
    assert "half a minute, in each process, because there is no folder to keep the machine code in" in caplog.text


def test_another_source_is_another_folder(tmp_path, monkeypatch, fresh_folder):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    first = machine_code.machine_code_folder()
    machine_code.machine_code_folder.cache_clear()
    copy = tmp_path / "logformat"
    copy.mkdir()
    monkeypatch.setattr(machine_code, "__file__", str(copy / "machine_code.py"))
    (copy / "fields.py").write_text("FIELDS = ()\n")
    assert machine_code.machine_code_folder() != first


def test_without_a_place_to_write_all_is_compiled_anew(tmp_path, monkeypatch, fresh_folder):
    nowhere = tmp_path / "file"
    nowhere.touch()
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(machine_code, "__file__", str(nowhere / "machine_code.py"))
    monkeypatch.setenv("HOME", str(nowhere))
    assert machine_code.machine_code_folder() is None
    assert not machine_code.should_compile()
    assert compiled(twice)(21) == 42


EIGHT = int.from_bytes(bytes(range(1, 9)), "little")
COPIED = [0, 0, 2, 3, 4, 0, 0, 0]


def test_pointers_in_machine_code():
    source, target = np.arange(16, dtype=np.uint8).reshape(4, 4), np.zeros(8, np.uint8)
    assert (steps(source, target), target.tolist()) == (EIGHT, COPIED)


def test_pointers_in_plain_python():
    code = (
        "import numpy as np; from tamarin_dagster_tests.logformat.pointer_steps import steps\n"
        "target = np.zeros(8, np.uint8)\n"
        "print(int(steps(np.arange(16, dtype=np.uint8).reshape(4, 4), target)), target.tolist())"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"{EIGHT} {COPIED}"
