"""The archive: killed at each of its fail points, full, unwritable, not mounted, or of another database."""

import contextlib
import json
import time
from collections.abc import Iterator

from tamarin_dagster.failpoints import SLEEP_SECONDS, FailPoint
from tamarin_dagster_tests.chaos.histories import body, name
from tamarin_dagster_tests.chaos.kills import unarchived
from tamarin_dagster_tests.chaos.matrix import SAME, SCENARIOS, Scenario, UnexpectedError, require, same, scenario
from tamarin_dagster_tests.chaos.servers import small_disk
from tamarin_dagster_tests.chaos.worlds import Bench, World
from tamarin_dagster_tests.logstore.faulty import Fault, Request

_GROUP = "The archive"
_WHOLE = "each record is in the archive once"
_NEXT = f"the next pull ends 0: {SAME}, {_WHOLE}"
_REDUCED = {
    (FailPoint.ARCHIVE_NOTE_AFTER, 1),
    (FailPoint.ARCHIVE_FILE_AFTER, 2),
    (FailPoint.ARCHIVE_COMMIT_BEFORE, 1),
}


@contextlib.contextmanager
def _archiving(bench: Bench, kind: str) -> Iterator[World]:
    with bench.world(kind=kind) as world:
        world.configure(archive=world.archive_url)
        yield world


def _is_safe(world: World) -> None:
    """At each moment: nothing is purged that is not in the archive."""
    if wrong := unarchived(world):
        raise UnexpectedError(wrong)


def _whole(world: World) -> str:
    """All is as without the fault, and the archive has each record once."""
    _is_safe(world)
    records = world.rows("SELECT count(*) FROM s3_log_record")[0][0]
    require(len(world.archived_rows()) == records, f"{len(world.archived_rows())} of {records} are in the archive")
    return f"{same(world, world.bench.undisturbed())}, {_WHOLE}"


def _again(world: World) -> str:
    again = world.pull()
    require(again.status == 0, f"the next pull ended {again.how}: {again.said}")
    return f"the next pull ends 0: {_whole(world)}"


def _killed_at(point: FailPoint, nth: int, kind: str) -> Scenario:
    def play(bench: Bench) -> str:
        with _archiving(bench, kind) as world:
            first = world.pull(failpoint=f"{point}:kill:{nth}")
            require(first.how == "killed", f"the fail point was not reached: {first.how}, {first.said}")
            _is_safe(world)
            return f"killed; {_again(world)}"

    place, _, where = point.partition(".")
    what = place.replace("_", " ")
    fault = f"kill -9 {where} {what}, the {'1st' if nth == 1 else '2nd'} time ({kind})"
    return Scenario(_GROUP, fault, f"killed; {_NEXT}", play, (point, nth) in _REDUCED)


for _number, _point in enumerate(point for point in FailPoint if point.is_of_archive):
    SCENARIOS.append(_killed_at(_point, 1, ("s3", "folder")[_number % 2]))
    SCENARIOS.append(_killed_at(_point, 2, ("folder", "s3")[_number % 2]))


def _late_keys(kind: str) -> None:
    @scenario(
        _GROUP, f"kill -9 while a day is written again for late keys, twice in a row ({kind})", f"killed; {_NEXT}"
    )
    def play(bench: Bench) -> str:
        with _archiving(bench, kind) as world:
            late = {name(1, 2): body(1, 2), name(2, 3): body(2, 3)}
            for key in late:
                world.remove(key)
            require(world.pull().status == 0, "the first pull failed")
            world.put_all(late)
            # so that they need not wait for others
            world.pull("--no-purge")
            world.rows(
                "UPDATE s3_log_key SET loaded_at = loaded_at - interval '7 hours' WHERE archived_at IS NULL RETURNING 1"
            )
            for point in ("archive_file.after", "archive_record.before"):
                require(world.pull(failpoint=f"{point}:kill").how == "killed", f"{point} was not reached")
                _is_safe(world)
            return f"killed; {_again(world)}"


_late_keys("s3")
_late_keys("folder")


@scenario(_GROUP, "its disk (a tmpfs of 1 MB) is full", f"exit 1, named, nothing of those days is purged; {_NEXT}")
def _full(bench: Bench) -> str:
    with bench.world(kind="folder") as world, small_disk(world.archive_folder, 1):
        world.configure(archive=world.archive_url)
        filler = world.archive_folder / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        first = world.pull("--json")
        require(first.status == 1 and "No space left" in first.said and "Traceback" not in first.said, first.said)
        require('"keys": 0' not in first.said.partition('"days"')[2][:100], "what was loaded is not reported")
        _is_safe(world)
        require(world.rows("SELECT count(*) FROM s3_log_key WHERE purged_at IS NOT NULL") == [(0,)], "purged")
        filler.unlink()
        return f"exit 1, named, what was loaded is reported, nothing is purged; {_again(world)}"


@scenario(
    _GROUP,
    "S3 refuses each PUT to it (AccessDenied)",
    f"exit 1, with what to do, nothing is purged; {_NEXT}",
    reduced=True,
)
def _denied(bench: Bench) -> str:
    with _archiving(bench, "s3") as world:
        bench.faulty.rule = lambda request: Fault(403, "AccessDenied") if _is_put_to(world, request) else None
        first = world.pull("--json")
        require(first.status == 1 and "s3:PutObject" in first.said and "Traceback" not in first.said, first.said)
        loaded = world.rows("SELECT count(*) FROM s3_log_key")[0][0]
        require(loaded == 32, f"{loaded} keys are loaded")
        reported = json.loads(first.said[first.said.index("[\n") :].rpartition("]")[0] + "]")[0]
        require(sum(day["keys"] for day in reported["days"]) == 32, "what was loaded is not reported")
        require(set(world.state().objects) == set(_names(world)), "something was deleted")
        bench.faulty.reset()
        return f"exit 1, with what to do, the 32 keys that were loaded are reported, nothing is purged; {_again(world)}"


def _names(world: World) -> set[str]:
    return set(world.state().objects) | {row[0] for row in world.rows("SELECT key FROM s3_log_key")}


def _is_put_to(world: World, request: Request) -> bool:
    return request.method == "PUT" and "some/where" in request.path


def _vanishes(kind: str, how: str) -> None:
    @scenario(
        _GROUP,
        f"{how} between archiving and purge ({kind})",
        f"exit 1, with what to do, nothing is purged, no second archive is begun; when it is back {_NEXT}",
        reduced=kind == "folder",
    )
    def play(bench: Bench) -> str:
        with _archiving(bench, kind) as world:
            require(world.pull("--no-purge").status == 0, "the first pull failed")
            give_back = _taken_away(world)
            for command in (("purge", "--dry-run"), ("purge",), ("pull",)):
                ended = world.start(*command).ended()
                require(ended.status == 1 and "mount or restore the archive" in ended.said, f"{command}: {ended.said}")
                require("Traceback" not in ended.said, ended.said)
            require(world.rows("SELECT count(*) FROM s3_log_key WHERE purged_at IS NOT NULL") == [(0,)], "purged")
            require(not world.archived_rows(), "another archive was begun")
            give_back()
            return f"exit 1, with what to do, nothing is purged; when it is back {_again(world)}"


def _taken_away(world: World):  # type: ignore[no-untyped-def]
    if world.kind != "s3":
        away = world.archive_folder.rename(world.folder / "away")
        world.archive_folder.mkdir()  # the mount point

        def back() -> None:
            world.archive_folder.rmdir()
            away.rename(world.archive_folder)

        return back
    s3, bucket = world.bench.s3, world.archive_bucket
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    bodies = {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
    for key in keys:
        s3.delete_object(Bucket=bucket, Key=key)
    return lambda: [s3.put_object(Bucket=bucket, Key=key, Body=data) for key, data in bodies.items()]


_vanishes("folder", "the disk is unmounted")
_vanishes("s3", "its bucket is emptied")


@scenario(
    _GROUP,
    "it vanishes while a purge is under way (folder)",
    f"what was proved before goes, the rest of the days stays with the reason; when it is back {_NEXT}",
)
def _vanishes_midway(bench: Bench) -> str:
    with _archiving(bench, "folder") as world:
        require(world.pull("--no-purge").status == 0, "the first pull failed")
        program = world.start("purge", failpoint="archive_proof.before:sleep:2")
        time.sleep(SLEEP_SECONDS / 2)
        give_back = _taken_away(world)
        ended = program.ended()
        require(ended.status == 1 and "Traceback" not in ended.said, ended.said)
        left = world.rows("SELECT count(*) FROM s3_log_key WHERE purged_at IS NULL")[0][0]
        require(left > 3, f"only {left} keys are left")
        give_back()
        _is_safe(world)
        return f"exit 1, the rest of the days stays; when it is back {_again(world)}"


def _second_database(kind: str) -> None:
    @scenario(
        _GROUP,
        f"a second database with the same bucket name and the same archive ({kind})",
        "exit 1, with both identities, it purges nothing and overwrites nothing; with another archive it ends 0",
        reduced=kind == "s3",
    )
    def play(bench: Bench) -> str:
        with _archiving(bench, kind) as world:
            require(world.pull().status == 0, "the first pull failed")
            before = world.archived_rows()
            with bench.world({name(1, number): body(1, number, 3) for number in range(12, 20)}, kind=kind) as other:
                other.rows("UPDATE tamarin_database SET id = gen_random_uuid() RETURNING 1")
                other.configure(archive=world.archive_url)
                ended = other.pull()
                require(ended.status == 1 and "name another folder or prefix as archive" in ended.said, ended.said)
                require(other.rows("SELECT count(*) FROM s3_log_key WHERE purged_at IS NULL") == [(8,)], "purged")
                require(world.archived_rows() == before, "it wrote something")
                _is_safe(world)
                other.configure(archive=other.archive_url)
                again = other.pull()
                require(again.status == 0, again.said)
                _is_safe(other)
                require(len(other.archived_rows()) == 24, "its records are not in its own archive")
            return "exit 1, with both identities, nothing is purged or overwritten; with another archive it ends 0"


_second_database("folder")
_second_database("s3")
