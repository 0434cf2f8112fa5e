"""The imports of commands. A shell or cron starts many commands, and each pays for its imports."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.cli import setup
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster_tests.lines import lines

# Libraries that are slow to import and that only some commands need.
HEAVY = {"alembic", "altair", "boto3", "botocore", "dagster", "dagster_aws", "dagster_postgres", "jinja2", "llvmlite"}
HEAVY |= {"moto", "numba", "numpy", "obstore", "pandas", "pyarrow", "vl_convert"}
S3 = {"boto3", "botocore", "obstore"}
MAX_MODULES_OF_HELP = 400
# What loading and rolling up records needs: a command that has nothing to load does not wait for it.
LOADING = {"numpy", "pyarrow"}
# What only settings with an archive or with retention_months need.
ARCHIVING = {"tamarin_dagster.recordstore.archived", "tamarin_dagster.pipeline.retain"}

_RUN = """
import json, sys
from tamarin_dagster.cli import main
status = 0
try:
    main()
except SystemExit as end:
    status = end.code or 0
names = sorted(sys.modules)
with open({found!r}, "w") as file:
    json.dump([status, names], file)
"""


@pytest.fixture
def imported(tmp_path, database_url):
    """Return imported("pull"), which runs the command in `tmp_path` and returns the modules that it imported."""

    def imported(*arguments: str) -> list[str]:
        found = tmp_path / "found.json"
        done = subprocess.run(
            [sys.executable, "-c", _RUN.format(found=str(found)), *arguments],
            cwd=tmp_path,
            env=os.environ | {"TAMARIN_DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        status, names = json.loads(found.read_text())
        assert status == 0, done.stderr
        return names

    return imported


@pytest.fixture
def shell_command(tmp_path):
    """Return shell_command("pull", NAME="value"), which runs the command in `tmp_path` with a variable."""

    def shell_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tamarin_dagster.cli", *arguments],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return shell_command


def heavy(names: list[str]) -> set[str]:
    return HEAVY & {name.partition(".")[0] for name in names}


def write_settings(folder: Path, bucket) -> None:
    entry = bucket.model_dump(mode="json", exclude_defaults=True)
    (folder / "tamarin.yaml").write_text(json.dumps({"buckets": [entry]}))


def test_the_help_imports_no_heavy_library_and_few_modules(imported) -> None:
    names = imported("--help")

    assert heavy(names) == set()
    assert {"sqlalchemy", "psycopg", "pydantic"} & set(names) == set()
    assert len(names) <= MAX_MODULES_OF_HELP


def test_the_version_is_shown_without_settings(shell_command) -> None:
    done = shell_command("--config", "missing.yaml", "--version")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"tamarin-dagster {version('tamarin-dagster')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("pull", "--from"),
        pytest.param(("export", "--format", "csv", "--to"), marks=pytest.mark.slow),
        pytest.param(("hogs", "--since"), marks=pytest.mark.slow),
    ],
)
def test_a_day_that_does_not_exist_gets_a_plain_sentence(shell_command, arguments) -> None:
    done = shell_command(*arguments, "2026-13-01")

    assert done.returncode == 2
    said = " ".join(re.sub(r"[^\w' ;,:.-]", " ", done.stderr).split())
    assert "'2026-13-01' is not a day; write it as year-month-day, like 2026-01-31" in said
    assert "Value error" not in said


@pytest.mark.slow
def test_a_shell_completes_commands_and_options(shell_command) -> None:
    def complete(words: str, number: int) -> list[str]:
        return shell_command(
            _TAMARIN_DAGSTER_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(number)
        ).stdout.split()

    assert complete("tamarin-dagster pu", 1) == ["pull", "purge"]
    assert complete("tamarin-dagster pull --fr", 2) == ["--from"]


def test_sql_imports_what_the_database_needs(imported) -> None:
    assert heavy(imported("sql", "SELECT 1")) == set()


def test_buckets_of_a_folder_imports_no_heavy_library(imported, tmp_path, folder_bucket, put_key) -> None:
    put_key(lines(1))
    write_settings(tmp_path, folder_bucket)

    names = imported("buckets")
    assert heavy(names) == set()
    assert ARCHIVING & set(names) == set()


def test_a_pull_of_few_lines_does_not_load_the_machine_code(imported, tmp_path, folder_bucket, put_key, rows) -> None:
    write_settings(tmp_path, folder_bucket)
    put_key(lines(20))
    assert {"numba", "llvmlite"}.isdisjoint(imported("pull", "--no-purge"))
    assert rows("SELECT count(*) FROM s3_log_record") == [(20,)]


def test_a_pull_of_a_folder_with_nothing_new_imports_no_client_of_s3(
    imported, tmp_path, folder_bucket, put_key, engine
) -> None:
    put_key(lines(1))
    write_settings(tmp_path, folder_bucket)
    assert pull_bucket(folder_bucket, open_log_store(folder_bucket), engine).failures == []
    roll_up(engine)

    assert heavy(imported("pull", "--no-purge")) == set()
    assert heavy(imported("roll-up")) == set()


def test_a_pull_from_s3_with_nothing_new_imports_the_client_of_s3_and_no_dagster(
    imported, tmp_path, s3, s3_logged_bucket, engine
) -> None:
    s3.put_object(
        Bucket=s3_logged_bucket.log_bucket_name, Key="logs/2026-03-05-10-00-00-000000000000AAAA", Body=lines(1)
    )
    write_settings(tmp_path, s3_logged_bucket)
    assert pull_bucket(s3_logged_bucket, open_log_store(s3_logged_bucket), engine).failures == []
    roll_up(engine)

    assert heavy(imported("pull", "--no-purge")) == S3
    assert heavy(imported("buckets")) == S3


@pytest.mark.parametrize(
    "command", ["doctor", *(pytest.param(each, marks=pytest.mark.slow) for each in ("hogs", "roll-up", "migrate"))]
)
def test_no_command_imports_dagster_or_draws_charts_unasked(imported, tmp_path, folder_bucket, command) -> None:
    write_settings(tmp_path, folder_bucket)

    assert heavy(imported(command)) - LOADING - S3 == set()


def test_byte_code_is_made_also_where_python_is_told_to_write_none(tmp_path, monkeypatch) -> None:
    """With PYTHONDONTWRITEBYTECODE set, every process compiled all modules again, which took two seconds."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "cache"))
    monkeypatch.setattr(setup, "_IMPORT_ALL", "import tamarin_dagster.homes")

    with setup._compile_byte_code():
        pass

    compiled = {path.name.partition(".")[0] for path in (tmp_path / "cache").rglob("*.pyc")}
    assert "homes" in compiled


@pytest.mark.slow
def test_compile_leaves_byte_code_of_what_runs_import_also_where_python_is_told_to_write_none(
    shell_command, tmp_path
) -> None:
    done = shell_command("compile", PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX=str(tmp_path / "cache"))

    assert done.returncode == 0, done.stderr
    compiled = {path.name.partition(".")[0] for path in (tmp_path / "cache").rglob("*.pyc")}
    assert {"definitions", "s3_resource", "sensors"} <= compiled
    named = {path.parent.name for path in (tmp_path / "cache").rglob("*.pyc")}
    assert {"dagster", "dagster_webserver", "sqlalchemy", "pydantic", "boto3"} <= named
