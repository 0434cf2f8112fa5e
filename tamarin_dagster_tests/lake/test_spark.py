"""Spark loads the days that a pull would load, with the same rows and counts. Kills leave a day as before."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import psutil
import pytest

from tamarin_dagster.lake.query import open_lake
from tamarin_dagster.lake.tables import LEDGER, RECORDS, REJECTED
from tamarin_dagster.pipeline.lake.comparing import compare
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.settings import Settings
from tamarin_dagster_tests.lake.rows import digest_of_lake, digest_of_postgres
from tamarin_dagster_tests.lines import line, lines

pytest.importorskip("pyspark", reason="not installed: make test-spark installs it")
pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(
        shutil.which("java") is None, reason="Java is not installed: apt-get install openjdk-17-jre-headless"
    ),
    pytest.mark.timeout(900),  # Spark starts in seconds on a machine of its own, and in minutes on a busy one
]

PROJECT = Path(__file__).parents[2]
DAY, NEXT = date(2026, 3, 5), date(2026, 3, 6)


def name(day: date = DAY, number: int = 0, suffix: str = "") -> str:
    return f"logs/{day}-10-00-00-{number:016X}{suffix}"


@pytest.fixture
def command(configured, tmp_path, database_url):
    """command("--from", …, TAMARIN_FAILPOINT=…): start lake-load; the settings have a lake that is no archive."""
    with configured.open("a") as file:
        file.write(f"lake: {{warehouse: '{tmp_path}/a lake', archives: false}}\n")

    def start(*arguments, **environment):
        return subprocess.Popen(
            [sys.executable, "-m", "tamarin_dagster.cli", "lake-load", "--json", *arguments],
            cwd=tmp_path,
            env=os.environ
            | {"TAMARIN_DATABASE_URL": database_url, "PYTHONPATH": str(PROJECT), "SPARK_LOCAL_IP": "127.0.0.1"}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def spark_load(command):
    """spark_load("--master", …): run lake-load to its end; return its document."""

    def run(*arguments, status=0, **environment):
        process = command(*arguments, **environment)
        out, said = process.communicate(timeout=250)
        assert process.returncode == status, said
        return json.loads(out)[0] if out else said

    return run


@pytest.fixture
def world(folder_place):
    """Log keys of two days: records, rejected and blank lines, a compressed one, and one that is read in parts."""
    import gzip  # noqa: PLC0415

    for number in range(20):
        folder_place.put(name(number=number), lines(10) + b"no record\n\n")
    folder_place.put(name(NEXT), gzip.compress(lines(300)))
    folder_place.put(name(NEXT, 1), b"")
    folder_place.put(name(NEXT, 2), lines(25_000))
    folder_place.put(name(NEXT, 3), line(key="odd\\xff.mp4", user_agent="a b"))
    return folder_place


ROWS = 20 * 10 + 300 + 25_000 + 1


def test_rows_are_those_of_a_pull_and_a_second_load_changes_nothing(spark_load, world, lake, engine) -> None:
    first = spark_load("--master", "local[2]")
    assert (first["days"], first["keys"], first["records"]) == (["2026-03-05", "2026-03-06"], 24, ROWS)
    assert first["lines"] == first["records"] + first["rejected"] + first["blank"]
    assert (first["rejected"], first["blank"]) == (20, 20)
    assert pull_bucket(world.bucket, world.store, engine).failures == []
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)
    assert compare(["media"], lake.open(engine), engine).differing_keys == 0
    snapshots = len(lake.open(engine).table(RECORDS).snapshots())

    again = spark_load("--master", "local[2]")
    assert (again["days"], again["skipped_days"]) == ([], 2)
    assert len(lake.open(engine).table(RECORDS).snapshots()) == snapshots

    world.put(name(number=99), lines(2))  # late
    world.put(name(number=3), lines(7))  # a newer generation
    third = spark_load("--master", "local[2]", "--from", "2026-03-05", "--to", "2026-03-05")
    assert (third["days"], third["keys"]) == (["2026-03-05"], 21)
    assert pull_bucket(world.bucket, world.store, engine).failures == []
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)

    world.remove(name(number=4))
    world.put(name(number=98), lines(1))
    refused = spark_load("--master", "local[2]", status=1)
    assert "the lake holds 1 log key that would be lost" in refused["problems"]["2026-03-05"]


def test_other_readers_find_the_same_rows(spark_load, world, lake, engine) -> None:
    polars = pytest.importorskip("polars", reason="not installed: make test-spark installs it")
    spark_load("--master", "local[2]")
    table = lake.open(engine).table(RECORDS)
    counts = {
        "pyiceberg": table.scan(row_filter="delivery_day == '2026-03-05'").to_arrow().num_rows,
        "polars": polars.scan_iceberg(table)
        .filter(polars.col("delivery_day") == DAY)
        .select(polars.len())
        .collect()
        .item(),
    }
    with open_lake(lake.open(engine), engine) as found:
        query = "SELECT count(*)::INT FROM s3_log_record WHERE delivery_day = '2026-03-05'"
        (row,) = next(found.ask(query)).rows
        counts["duckdb"] = row[0]
    assert counts == dict.fromkeys(counts, 200)
    sums = polars.scan_iceberg(table).select(polars.col("bytes_sent").sum()).collect().item()
    assert sums == sum(filter(None, table.scan().to_arrow()["bytes_sent"].to_pylist()))


@pytest.mark.parametrize(
    "failpoint", ["lake_parse.after:kill:2", "lake_file.before:kill", "lake_file.after:kill", "lake_commit.before:kill"]
)
def test_a_kill_of_a_task_or_of_the_driver_leaves_the_day_as_before(
    spark_load, command, world, lake, engine, failpoint
) -> None:
    """With local[2], a failed task is not repeated, so the load ends; a driver that is killed says nothing at all."""
    spark_load("--master", "local[2]", "--to", "2026-03-05")
    before = digest_of_lake(lake, engine)
    world.put(name(number=99), lines(2))

    process = command("--master", "local[2]", TAMARIN_FAILPOINT=failpoint)
    _, said = process.communicate(timeout=250)

    assert process.returncode == (-9 if "commit" in failpoint else 1), said
    assert "Traceback" not in said
    assert digest_of_lake(lake, engine) == before
    assert spark_load("--master", "local[2]")["days"] == ["2026-03-05", "2026-03-06"]
    assert pull_bucket(world.bucket, world.store, engine).failures == []
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)


def test_a_killed_executor_is_replaced_and_the_day_is_complete_and_exact(command, world, lake, engine) -> None:
    """Two executors are processes of their own; one is killed while its tasks sleep before they write."""
    process = command("--master", "local-cluster[2,1,1024]", TAMARIN_FAILPOINT="lake_file.before:sleep")
    killed = _kill_an_executor(process.pid)
    out, said = process.communicate(timeout=280)

    assert killed
    assert process.returncode == 0, said
    assert json.loads(out)[0]["records"] == ROWS
    assert pull_bucket(world.bucket, world.store, engine).failures == []
    assert digest_of_lake(lake, engine) == digest_of_postgres(engine)
    tables = lake.open(engine)
    assert [tables.table(each).scan().count() for each in (RECORDS, REJECTED, LEDGER)] == [ROWS, 20, 24]


def _kill_an_executor(driver: int) -> bool:
    """Kill -9 the first executor that has a Python worker at work; return whether there was one."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and psutil.pid_exists(driver):
        for process in psutil.Process(driver).children(recursive=True):
            try:
                is_executor = "CoarseGrainedExecutorBackend" in " ".join(process.cmdline())
                works = is_executor and any("pyspark" in " ".join(each.cmdline()) for each in process.children())
            except psutil.Error:
                continue
            if works:
                time.sleep(3)
                os.kill(process.pid, signal.SIGKILL)
                return True
        time.sleep(0.3)
    return False


def test_an_asset_loads_its_days_through_pipes_and_reports_the_counts(
    world, lake, engine, database_url, monkeypatch
) -> None:
    import dagster as dg  # noqa: PLC0415 - no other test of this file needs it

    from tamarin_dagster.definitions import build_definitions  # noqa: PLC0415

    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    settings = Settings(
        database_url=database_url,
        buckets=(world.bucket,),
        lake=lake.settings.model_copy(update={"spark_master": "local[2]"}),
    )
    definitions = build_definitions(settings)
    key = dg.AssetKey(["media", "lake_records"])
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[key],
            instance=instance,
            partition_key="2026-03-05",
            resources=None,
        )
        (event,) = result.asset_materializations_for_node("media__lake_records")
    metadata = {name: value.value for name, value in event.metadata.items()}
    assert (metadata["log keys"], metadata["records"], metadata["rejected lines"]) == (20, 200, 20)
    assert lake.open(engine).table(RECORDS).scan().count() == 200
    assert database_url not in repr(metadata)
