"""deploy/celery for real: Redis, two workers, and a backfill of 60 days that loses one of them (`make test-celery`)."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from benchmarks.scaling.cluster import REDIS, Cluster, Service, cluster
from tamarin_dagster.failpoints import VARIABLE
from tamarin_dagster_tests.chaos.worlds import Bench, World, bench
from tamarin_dagster_tests.lines import line

pytestmark = [
    pytest.mark.celery,
    pytest.mark.timeout(600),
    pytest.mark.skipif(REDIS is None, reason="redis-server is not installed: apt-get install redis-server"),
]

DAYS = [(date(2026, 3, 1) + timedelta(days)).isoformat() for days in range(60)]
DAYS_PER_RUN = 10
SLUG = "media"
KEYS_PER_DAY = 4
LINES_PER_KEY = 25
# A run sleeps once in the transaction of its first batch.
DAWDLES = {VARIABLE: "copy.before:sleep"}
# A worker that is gone is found out within the second and a look of run monitoring's.
PATIENCE_SECONDS = 6
POLL_SECONDS = 2
# Shorter than some runs here take under load: the broker gives those out twice, and that must do no harm.
REDELIVERY_SECONDS = 20
LOADING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tamarin'"
    " AND state = 'idle in transaction' AND query ~* '(insert|copy|s3_log_key)'"
    " AND now() - state_change > interval '1 s'"
)


def log_keys(days: list[str], name: str) -> dict[str, bytes]:
    """So many log keys of each day, no line like another."""
    return {
        f"logs/{day}-{hour:02}-10-00-{name:0>16}": b"".join(
            line(request_id=f"{name}{day.replace('-', '')}{hour:02}{number:04}") for number in range(LINES_PER_KEY)
        )
        for day in days
        for hour in range(KEYS_PER_DAY)
    }


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    with bench() as made:
        yield made


@pytest.fixture(scope="module")
def world(shared: Bench) -> Iterator[World]:
    """A folder of log keys and a database, and another for Dagster."""
    with shared.world({}, kind="folder") as made:
        name = f"{made.url.database}_dagster"
        engine = sa.create_engine(shared.server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        url = made.url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
        bucket = made.settings["buckets"][0] | {"monitor_bucket": False}
        made.configure(buckets=[bucket], days_per_run=DAYS_PER_RUN, dagster_database_url=url)
        yield made
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        engine.dispose()


def _quick(config: dict[str, Any]) -> None:
    redelivery = {"broker_transport_options": {"visibility_timeout": REDELIVERY_SECONDS}}
    config["run_launcher"]["config"]["config_source"] = redelivery
    config["run_monitoring"]["poll_interval_seconds"] = POLL_SECONDS
    config["run_launcher"]["config"]["patience_seconds"] = PATIENCE_SECONDS


@pytest.fixture(scope="module")
def started(world: World) -> Iterator[Cluster]:
    before = dict(os.environ)
    os.environ["TAMARIN_CONFIG"] = str(world.config)
    with cluster(world.folder, change=_quick) as made:
        yield made
    os.environ.clear()
    os.environ |= before


@pytest.fixture
def runs_before(started: Cluster) -> int:
    return len(started.page.runs())


@pytest.fixture
def worker(started: Cluster, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A worker whose first run dawdles."""
    made = started.start_worker(f"slow-{request.node.name.replace('_', '-')[-20:]}", **DAWDLES)
    yield made
    made.stop()


def ended(started: Cluster, at_least: int) -> list[dict[str, Any]]:
    """All runs, once so many are there and none is under way."""
    return started.wait_for(f"the ends of {at_least} runs", lambda: started.all_ended(at_least), 240)


def statuses(runs: list[dict[str, Any]]) -> list[str]:
    return sorted(run["status"] for run in runs)


def put(world: World, objects: dict[str, bytes], everything: dict[str, bytes]) -> None:
    everything |= objects
    world.put_all(objects)


@pytest.fixture(scope="module")
def everything() -> dict[str, bytes]:
    """All log keys that were ever put down here."""
    return {}


def test_a_backfill_whose_worker_is_killed_ends_complete_and_exact(
    shared, world, started, worker, runs_before, everything
) -> None:
    """Its whole machine at once. Dagster's own launcher believes forever that the run goes on."""
    put(world, log_keys(DAYS, "A"), everything)
    other = started.start_worker("other")
    backfill = started.page.backfill("media", DAYS)
    started.wait_for("a load under way", lambda: world.rows(LOADING))
    worker.kill()
    killed = time.time()
    started.wait_for("the backfill's end", lambda: started.page.status(backfill) != "REQUESTED", 240)
    runs = started.page.runs()[runs_before:]

    assert started.page.status(backfill) == "COMPLETED_SUCCESS"
    assert statuses(runs) == ["FAILURE"] + ["SUCCESS"] * (len(DAYS) // DAYS_PER_RUN)
    (failed,) = (run for run in runs if run["status"] == "FAILURE")
    (again,) = (run for run in runs if run["tags"].get("dagster/parent_run_id") == failed["runId"])
    assert again["tags"]["dagster-celery/task_id"] != failed["tags"]["dagster-celery/task_id"]
    assert "no worker has it" in started.page.why(failed["runId"])
    assert failed["endTime"] - killed < PATIENCE_SECONDS + 10 * POLL_SECONDS
    assert world.state().differences(shared.undisturbed(everything)) == []
    assert world.rows("SELECT count(*) FROM s3_log_record") == [(len(everything) * LINES_PER_KEY,)]
    assert world.rows("SELECT count(*) FROM s3_log_key WHERE purged_at IS NULL") == [(0,)]
    other.stop()


def test_a_run_whose_process_is_killed_is_tried_again_by_the_same_worker(
    shared, world, started, worker, runs_before, everything
) -> None:
    put(world, log_keys(DAYS[:2], "B"), everything)
    started.page.launch(SLUG, *DAYS[:2])
    started.wait_for("a load under way", lambda: world.rows(LOADING))
    (process,) = psutil.Process(worker.process.pid).children()
    process.send_signal(signal.SIGKILL)
    runs = ended(started, runs_before + 2)[runs_before:]
    assert statuses(runs) == ["FAILURE", "SUCCESS"]
    assert world.state().differences(shared.undisturbed(everything)) == []


def test_a_run_that_is_cancelled_ends_and_its_worker_goes_on(
    shared, world, started, worker, runs_before, everything
) -> None:
    """With Dagster's own launcher it fails: nobody has said that it is being cancelled."""
    put(world, log_keys(DAYS[:2], "C"), everything)
    run_id = started.page.launch(SLUG, *DAYS[:2])
    started.wait_for("a load under way", lambda: world.rows(LOADING))
    started.page.terminate(run_id)
    assert statuses(ended(started, runs_before + 1)[runs_before:]) == ["CANCELED"]

    started.page.launch(SLUG, *DAYS[:2])
    assert statuses(ended(started, runs_before + 2)[runs_before:]) == ["CANCELED", "SUCCESS"]
    assert world.state().differences(shared.undisturbed(everything)) == []


def test_a_run_goes_on_while_the_broker_is_started_again(
    shared, world, started, worker, runs_before, everything
) -> None:
    """It does not need the broker; nor is it taken for dead while nobody can be asked."""
    put(world, log_keys(DAYS[:2], "D"), everything)
    started.page.launch(SLUG, *DAYS[:2])
    started.wait_for("a load under way", lambda: world.rows(LOADING))
    started.services["redis"].kill()
    time.sleep(2 * POLL_SECONDS)
    started.start_redis()
    assert statuses(ended(started, runs_before + 1)[runs_before:]) == ["SUCCESS"]
    assert world.state().differences(shared.undisturbed(everything)) == []


def test_a_run_that_a_worker_took_and_did_not_start_is_given_to_another(
    shared, world, started, runs_before, everything
) -> None:
    """Nobody is asked for a run that is STARTING, since it may wait for a worker: the broker has kept it."""
    put(world, log_keys(DAYS[:2], "E"), everything)
    first = started.start_worker("first")
    (process,) = psutil.Process(first.process.pid).children()
    process.suspend()
    started.page.launch(SLUG, *DAYS[:2])
    started.wait_for("the run was taken", lambda: "received" in first.reported())
    first.kill()
    assert [run["status"] for run in started.page.runs()[runs_before:]] == ["STARTING"]
    second = started.start_worker("second")
    assert statuses(ended(started, runs_before + 1)[runs_before:]) == ["SUCCESS"]
    second.stop()
    assert world.state().differences(shared.undisturbed(everything)) == []


def test_the_brokers_password_stands_nowhere(started) -> None:
    reported = "".join(log.read_text("utf-8", "replace") for log in started.folder.glob("*.log"))
    reported += "".join(started.page.why(run["runId"]) for run in started.page.runs())
    assert "media: looking at" in reported
    assert started.redis_password not in reported
