"""Runs of Dagster that overlap, are cancelled or killed: each in a `tamarin-dagster dev` of its own."""

import contextlib
import os
import signal
import time

from tamarin_dagster.operations.watchdog import LOOK_SECONDS
from tamarin_dagster_tests.chaos.dagster_page import PARTITIONS, Page, dagster_page
from tamarin_dagster_tests.chaos.matrix import SAME, require, same, scenario
from tamarin_dagster_tests.chaos.worlds import Bench, World
from tamarin_dagster_tests.dev_process import descendants

_GROUP = "Dagster"
# A process sleeps once at each of these, in the transaction of a load.
_LONG = "copy.before:sleep,copy.after:sleep,commit.before:sleep"
_SHORT = "copy.before:sleep"
_SENSOR_MINUTES = 0.05


def _without_sensor(world: World) -> None:
    """The sensor is off at first, and quick once it is on."""
    bucket = world.settings["buckets"][0] | {"monitor_bucket": False}
    world.configure(buckets=[bucket], pull_parse_interval=_SENSOR_MINUTES)


def _halves(world: World) -> list[object]:
    """Keys whose rows are not as many as the ledger says, and rows without a key."""
    return [
        *world.rows(
            "SELECT key FROM s3_log_key k"
            " WHERE record_count <> (SELECT count(*) FROM s3_log_record r WHERE r.log_key_id = k.id)"
            " OR rejected_count <> (SELECT count(*) FROM s3_rejected_line r WHERE r.log_key_id = k.id)"
        ),
        *world.rows("SELECT log_key_id FROM s3_log_record WHERE log_key_id NOT IN (SELECT id FROM s3_log_key)"),
        *world.rows("SELECT log_key_id FROM s3_rejected_line WHERE log_key_id NOT IN (SELECT id FROM s3_log_key)"),
    ]


def _loaded(page: Page) -> str:
    """All days, by a run of a person's; what became of it."""
    run = page.wait_until_ended(page.launch(PARTITIONS[0], PARTITIONS[-1]))
    require(run.status == "SUCCESS", page.why(run))
    page.wait_for("the ends of all runs", lambda: all(run.ended for run in page.runs()))
    return "a run of all days succeeds"


@scenario(
    _GROUP,
    "a backfill over days that the sensor is loading just then",
    f"all runs succeed, no check fails but those that warn; {SAME}",
)
def _overlapping(bench: Bench) -> str:
    expected = bench.undisturbed()
    with bench.world() as world:
        _without_sensor(world)
        with dagster_page(world, _LONG) as page:
            page.backfill(PARTITIONS)  # which the daemon looks at each 30 s
            page.wait_for("the backfill's run", page.runs)
            page.start_sensor()
            page.wait_for("the sensor's runs", lambda: sum(run.by == "sensor" for run in page.runs()) == 3)
            page.wait_for(
                "the ends of all",
                lambda: {run.by for run in page.runs()} >= {"backfill", "sensor"} and all(r.ended for r in page.runs()),
                180,
            )
            runs = page.runs()
            require({run.status for run in runs} == {"SUCCESS"}, "; ".join(page.why(run) for run in runs))
            back, *sensors = sorted(runs, key=lambda run: run.by)
            overlapping = sum(run.overlaps(back) for run in sensors)
            require(overlapping, f"they did not overlap: {[(run.by, run.loading) for run in runs]}")
            results = [result for day in PARTITIONS for result in page.check_results(day)]
            require(len(results) >= 15, f"only {len(results)} results of checks")
            wrong = [result for result in results if not result.fine]
            require(not wrong, f"checks: {wrong}")
            return (
                f"{len(runs)} runs succeed, {overlapping} of the sensor's {len(sensors)} while the backfill's loads; of"
                f" {len(results)} results of checks none fails that does not only warn; {same(world, expected)}"
            )


@scenario(
    _GROUP,
    "a run is cancelled in the Dagster UI while it loads",
    f"CANCELED, no key is loaded by halves; a run of all days afterwards succeeds: {SAME}",
)
def _cancelled(bench: Bench) -> str:
    expected = bench.undisturbed()
    with bench.world(kind="folder") as world:
        _without_sensor(world)
        with dagster_page(world, _SHORT) as page:
            run_id = page.launch(PARTITIONS[1])
            page.wait_until_loading()
            page.terminate(run_id)
            run = page.wait_until_ended(run_id)
            require(run.status == "CANCELED", page.why(run))
            require(not (halves := _halves(world)), f"loaded by halves: {halves}")
            keys = world.rows("SELECT count(*) FROM s3_log_key")[0][0]
            after = _loaded(page)
            return f"CANCELED, {keys} keys are loaded, none by halves; {after}: {same(world, expected)}"


@scenario(
    _GROUP,
    "a run's process is killed -9 while it loads",
    f"FAILURE, nothing of it is loaded; Dagster tries it again by itself, and succeeds: {SAME}",
)
def _killed(bench: Bench) -> str:
    expected = bench.undisturbed()
    with bench.world(kind="folder") as world:
        _without_sensor(world)
        with dagster_page(world, _SHORT) as page:
            run_id = page.launch(PARTITIONS[0], PARTITIONS[-1])
            page.wait_until_loading()
            os.kill(page.process_id(run_id), signal.SIGKILL)
            run = page.wait_until_ended(run_id)
            require(run.status == "FAILURE", page.why(run))
            keys = world.rows("SELECT count(*) FROM s3_log_key")[0][0]
            require(not keys, f"{keys} keys are in the ledger")
            again = page.wait_for(
                "a second attempt's end", lambda: [run for run in page.runs() if run.by == "retry" and run.ended]
            )
            require([run.status for run in again] == ["SUCCESS"], "; ".join(page.why(run) for run in page.runs()))
            return f"FAILURE, nothing is loaded; tried again by itself: SUCCESS, {same(world, expected)}"


@scenario(
    _GROUP,
    "the daemon is killed -9 while the sensor's runs load, and `dev` started again",
    f"`dev` ends, no key is loaded by halves; started again: {SAME}",
)
def _daemon_killed(bench: Bench) -> str:
    expected = bench.undisturbed()
    with bench.world(kind="folder") as world:
        world.configure(pull_parse_interval=_SENSOR_MINUTES)
        with dagster_page(world, _SHORT) as page:
            page.wait_until_loading()
            os.kill(page.daemon_process_id(), signal.SIGKILL)
            status = page.process.wait(60)
            require(not (halves := _halves(world)), f"loaded by halves: {halves}")
            keys = world.rows("SELECT count(*) FROM s3_log_key")[0][0]
        with dagster_page(world) as page:
            after = _loaded(page)
            return (
                f"`dev` ends with status {status}, {keys} keys are loaded, none by halves; started again, {after}:"
                f" {same(world, expected)}"
            )


@scenario(
    _GROUP,
    "the code server is killed -9",
    f"`dev` starts it again by itself; a run of all days succeeds: {SAME}",
)
def _code_server_killed(bench: Bench) -> str:
    expected = bench.undisturbed()
    with bench.world(kind="folder") as world:
        _without_sensor(world)
        with dagster_page(world) as page:
            time.sleep(2 * LOOK_SECONDS)  # until it has been seen alive
            (killed,) = page.code_servers()
            os.kill(killed, signal.SIGKILL)
            started = time.monotonic()
            page.wait_for("another code server", lambda: set(page.code_servers()) - {killed})
            seconds = time.monotonic() - started
            time.sleep(LOOK_SECONDS)  # until it has loaded all
            after = _loaded(page)
            return f"it is there again after {seconds:.0f} s; {after}: {same(world, expected)}"


@scenario(
    _GROUP,
    "all of Dagster is killed -9 while the sensor's runs load, as when the machine goes down, and started again",
    f"no key is loaded by halves; by itself all is loaded soon: {SAME}",
)
def _all_killed(bench: Bench) -> str:
    expected = bench.undisturbed()
    with bench.world(kind="folder") as world:
        world.configure(pull_parse_interval=_SENSOR_MINUTES)
        with dagster_page(world, _LONG) as page:
            page.wait_until_loading()
            for pid in [page.process.pid, *descendants(page.process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            page.process.wait()
            require(not (halves := _halves(world)), f"loaded by halves: {halves}")
            keys = world.rows("SELECT count(*) FROM s3_log_key")[0][0]
        with dagster_page(world) as page:
            started = time.monotonic()
            page.wait_for(
                "all that was there to be loaded and purged", lambda: not world.state().differences(expected), 240
            )
            seconds = time.monotonic() - started
            return f"{keys} keys are loaded, none by halves; by itself after {seconds:.0f} s: {same(world, expected)}"
