"""Generations: versioned buckets, keys that are overwritten and purged while a pull holds them, keys that return."""

import threading
import time
from collections.abc import Mapping

from tamarin_dagster.failpoints import FailPoint
from tamarin_dagster_tests.chaos.histories import STRAYS, body, history, name
from tamarin_dagster_tests.chaos.matrix import SAME, SCENARIOS, Scenario, require, same, scenario
from tamarin_dagster_tests.chaos.worlds import Bench, World
from tamarin_dagster_tests.logstore.faulty import Request

_GROUP = "Generations"
_KEY = name(2, 3)
_OTHER = body(2, 3, 33, "B")
_KILLS = (FailPoint.COMMIT_BEFORE, FailPoint.COMMIT_AFTER, FailPoint.DELETE_AFTER, FailPoint.MARK_PURGED_BEFORE)


def _wait_for_another_second(world: World) -> None:
    """S3 counts in seconds, and these times give the order of two generations."""
    if world.kind == "s3":
        time.sleep(1.1)


def _overwritten(objects: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every second log key, with two more records."""
    keys = sorted(key for key in objects if key not in STRAYS and not key.endswith(".gz"))
    return {key: objects[key] + body(2, 5, 2, "C") for key in keys[::2]}


def _same_tables(world: World, expected: Mapping[str, bytes], bench: Bench) -> str:
    """Say that the tables are those of one pull of the newest generations. Raises UnexpectedError."""
    differences = {
        table: (rows[0], bench.undisturbed(expected).tables[table][0])
        for table, rows in world.state().tables.items()
        if rows != bench.undisturbed(expected).tables[table]
    }
    require(not differences, f"tables differ: {differences}")
    return "the tables of the newest generations"


def _versioned(point: FailPoint, *, before: bool) -> Scenario:
    when = "before the first pull" if before else "after it was loaded"

    def play(bench: Bench) -> str:
        with bench.world() as world:
            versioning = {"Status": "Enabled"}
            if before:  # what was there before versioning has the version "null"
                bench.s3.put_bucket_versioning(Bucket=world.s3_bucket, VersioningConfiguration=versioning)
            else:
                require(world.pull("--no-purge").status == 0, "the first pull failed")
                bench.s3.put_bucket_versioning(Bucket=world.s3_bucket, VersioningConfiguration=versioning)
            _wait_for_another_second(world)
            newer = _overwritten(history())
            world.put_all(newer)
            first = world.pull(failpoint=f"{point}:kill:1")
            require(first.how == "killed", f"the fail point was not reached: {first.how}, {first.said}")
            ended = [world.pull() for _ in range(4)]
            require({each.status for each in ended[1:]} == {0}, ended[-1].said)
            reported = _same_tables(world, history() | newer, bench)
            require("skipped as outdated" in ended[-1].said, ended[-1].said)
            shown = [line for line in ended[-1].said.splitlines() if "skipped as outdated" in line]
            return f"killed; then {reported};{shown[0].split(' skipped')[0].replace(' were', '')} are shown as outdated"

    where = point.partition(".")[2] + " " + point.partition(".")[0].replace("_", " ")
    return Scenario(
        _GROUP,
        f"keys of a versioned bucket are overwritten {when}, and a pull is killed {where}",
        "killed; then the tables of the newest generations; older versions are shown as outdated",
        play,
        reduced=before and point is FailPoint.DELETE_AFTER,
    )


SCENARIOS += [_versioned(point, before=True) for point in _KILLS]
SCENARIOS += [_versioned(point, before=False) for point in _KILLS[::3]]


@scenario(
    _GROUP,
    "a key is overwritten, loaded and purged by another pull while one holds its old bytes",
    "the old bytes are skipped and shown; the 33 rows of the newer ones, exit 0",
    reduced=True,
)
def _supersede_race(bench: Bench) -> str:
    with bench.world({_KEY: body(2, 3)}) as world:
        read = threading.Event()

        def note(request: Request) -> None:
            if request.method == "GET" and request.path == _KEY:
                read.set()

        bench.faulty.rule = note
        slow = world.start(failpoint="fetch.after:sleep,parse.before:sleep,parse.after:sleep")
        require(read.wait(60), "the key was not read")
        _wait_for_another_second(world)
        world.put(_KEY, _OTHER)
        fast = world.pull()
        require(fast.status == 0, fast.said)
        ended = slow.ended()
        require(ended.status == 0 and "1 log key was skipped as outdated" in ended.said, ended.said)
        require(world.rows("SELECT count(*) FROM s3_log_record") == [(33,)], "rows are doubled or missing")
        require(not world.state().objects, "the key is still there")
        return "the old bytes are skipped and shown; 33 rows, exit 0"


def _returned(kind: str) -> Scenario:
    def play(bench: Bench) -> str:
        with bench.world(kind=kind) as world:
            require(world.pull().status == 0, "the first pull failed")
            back = {key: content for key, content in history().items() if "/2026-03-02-" in key}
            gone = set(back) - set(world.state().objects)
            _wait_for_another_second(world)
            world.put_all(back)
            killed = world.pull(failpoint="delete.after:kill:1")
            require(killed.how == "killed", f"the fail point was not reached: {killed.how}, {killed.said}")
            ended = world.pull()
            require(ended.status == 0, ended.said)
            found = world.rows("SELECT count(*) FROM s3_log_key WHERE returned_at IS NOT NULL")
            require(found == [(len(gone),)], f"{found[0][0]} of {len(gone)} keys have returned")
            return f"{len(gone)} keys have returned and are deleted; {same(world, bench.undisturbed())}"

    return Scenario(
        _GROUP,
        f"a day's keys are put back after their purge, and a pull is killed after it deleted them ({kind})",
        f"they are counted as returned and deleted, nothing is loaded twice: {SAME}",
        play,
        reduced=kind == "folder",
    )


SCENARIOS += [_returned(kind) for kind in ("s3", "folder")]
