"""kill -9: at each fail point, and at moments that nobody chose."""

import random
import time

from tamarin_dagster.failpoints import FailPoint
from tamarin_dagster_tests.chaos.matrix import SAME, SCENARIOS, Scenario, UnexpectedError, require, same, scenario
from tamarin_dagster_tests.chaos.worlds import Bench, World
from tamarin_dagster_tests.logstore.faulty import Fault, Request

_GROUP = "kill -9"
_REDUCED = {
    (FailPoint.COPY_AFTER, 2),
    (FailPoint.COMMIT_BEFORE, 1),
    (FailPoint.COMMIT_AFTER, 2),
    (FailPoint.DELETE_AFTER, 1),
    (FailPoint.MARK_PURGED_BEFORE, 2),
}


def _killed_at(point: FailPoint, nth: int, kind: str) -> Scenario:
    def play(bench: Bench) -> str:
        with bench.world(kind=kind) as world:
            first = world.pull(failpoint=f"{point}:kill:{nth}")
            require(first.how == "killed", f"the fail point was not reached: {first.how}, {first.said}")
            return f"killed; {_and_again(world)}"

    name, _, place = point.partition(".")
    where = f"{place} {name.replace('_', ' ')}, the {'1st' if nth == 1 else '2nd'} time ({kind})"
    return Scenario(_GROUP, where, f"killed; the next pull ends 0: {SAME}", play, (point, nth) in _REDUCED)


def _and_again(world: World) -> str:
    again = world.pull()
    require(again.status == 0, f"the next pull ended {again.how}: {again.said}")
    return f"the next pull ends 0: {same(world, world.bench.undisturbed())}"


for _number, _point in enumerate(point for point in FailPoint if not point.is_of_archive):
    SCENARIOS.append(_killed_at(_point, 1, ("s3", "folder")[_number % 2]))
    SCENARIOS.append(_killed_at(_point, 2, ("folder", "s3")[_number % 2]))


@scenario(_GROUP, "among the deletions of a page, after the 5th", f"killed; the next pull ends 0: {SAME}")
def _among_deletions(bench: Bench) -> str:
    with bench.world() as world:
        program = world.start()
        deletions = iter(range(1000))

        def kill_at_the_fifth(request: Request) -> Fault | None:
            if request.method == "DELETE" and "probe" not in request.path and next(deletions) == 5:
                program.kill()
            return None

        bench.faulty.rule = kill_at_the_fifth
        require(program.ended().how == "killed", "it was not killed")
        bench.faulty.reset()
        return f"killed; {_and_again(world)}"


@scenario(_GROUP, "three times in a row, each at another place", f"killed three times; then a pull ends 0: {SAME}")
def _three_times(bench: Bench) -> str:
    with bench.world() as world:
        for point in (FailPoint.COMMIT_AFTER, FailPoint.COPY_AFTER, FailPoint.MARK_PURGED_BEFORE):
            require(world.pull(failpoint=f"{point}:kill").how == "killed", f"{point} was not reached")
        return f"killed three times; {_and_again(world)}".replace("the next", "then a")


def random_kills(bench: Bench, count: int, seed: int) -> tuple[int, int]:
    """Kill this number of pulls at random moments, each in a new world, every second one with an archive. Return how
    many were killed before their end, and how many worlds were equal to an undisturbed one after the next pull.
    """
    draws = random.Random(seed)
    expected = bench.undisturbed()
    kinds = [(kind, archives) for archives in (False, True) for kind in ("s3", "folder")]
    seconds = {each: _undisturbed_seconds(bench, *each) for each in kinds}
    killed = equal = 0
    for number in range(count):
        kind, archives = kinds[number % len(kinds)]
        with bench.world(kind=kind) as world:
            if archives:
                world.configure(archive=world.archive_url)
            program = world.start()
            time.sleep(draws.uniform(0.0, seconds[kind, archives]))
            program.kill()
            killed += program.ended().how == "killed"
            again = world.pull()
            if again.status == 0 and not world.state().differences(expected) and not (archives and unarchived(world)):
                equal += 1
    return killed, equal


def unarchived(world: World) -> str:
    """Return what is wrong with a world's archive. Each record must be in it once, unless its key is not purged."""
    found = world.archived_rows()
    records = set(world.rows("SELECT log_key_id, line_number FROM s3_log_record"))
    purged = set(
        world.rows(
            "SELECT log_key_id, line_number FROM s3_log_record JOIN s3_log_key ON id = log_key_id"
            " WHERE purged_at IS NOT NULL"
        )
    )
    if lost := purged - set(found):
        return f"{len(lost)} records of purged keys are not in the archive"
    if twice := [row for row, times in found.items() if times > 1]:
        return f"{len(twice)} records are in the archive twice"
    if foreign := set(found) - records:
        return f"{len(foreign)} records in the archive are not in the table"
    return ""


def _undisturbed_seconds(bench: Bench, kind: str, archives: bool) -> float:
    """Return how long a pull takes when nobody kills it."""
    with bench.world(kind=kind) as world:
        if archives:
            world.configure(archive=world.archive_url)
        started = time.monotonic()
        world.pull()
        return time.monotonic() - started


@scenario(_GROUP, "at 10 random moments", "10 times: the next pull leaves the same tables and log bucket")
def _random_moments(bench: Bench) -> str:
    killed, equal = random_kills(bench, 10, seed=2026)
    if equal < 10:
        raise UnexpectedError(f"only {equal} of 10 are equal")
    return f"{killed} killed before their end, {equal} of 10 equal"
