"""Objects that are no logs, clocks that are wrong."""

import gzip
import random
import zlib

from tamarin_dagster_tests.chaos.histories import history, name
from tamarin_dagster_tests.chaos.matrix import SAME, require, same, scenario
from tamarin_dagster_tests.chaos.worlds import Bench
from tamarin_dagster_tests.lines import line

_GROUP = "Objects of any bytes"
_CLOCKS = "Clocks"
_ODD = name(2, 22)


def _loaded_beside(bench: Bench, content: bytes, rejected: int, *, stays: bool, suffix: str = "") -> str:
    """The history with an odd object in it: all else is as ever."""
    odd = f"{_ODD}{suffix}"
    with bench.world(history() | {odd: content}) as world:
        ended = world.pull()
        require(ended.status == 0, ended.said)
        found = world.rows(f"SELECT line_count, rejected_count FROM s3_log_key WHERE key = '{odd}'")
        require(found and found[0][1] == rejected, f"lines and rejected lines of it: {found}")
        require((odd in world.state().objects) is stays, "it should stay" if stays else "it should go")
        require(world.rows("SELECT count(*) FROM s3_log_record") == [(938,)], "others are missing")
        return f"exit 0; {found[0][0]} lines, {rejected} rejected; it {'stays' if stays else 'goes'}"


@scenario(_GROUP, "an object of no bytes", "no lines; loaded, and purged")
def _empty(bench: Bench) -> str:
    return _loaded_beside(bench, b"", 0, stays=False)


@scenario(_GROUP, "1 MB of random bytes", "each line is rejected and kept; the key stays", reduced=True)
def _random(bench: Bench) -> str:
    content = random.Random(8).randbytes(1_000_000)
    rejected = sum(bool(part.strip(b" \t\r")) for part in content.split(b"\n"))
    return _loaded_beside(bench, content, rejected, stays=True)


@scenario(_GROUP, "1 GB without a newline, as gzip", "one oversized line, its digest is kept; the key stays")
def _one_line(bench: Bench) -> str:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    block = b"x" * 1_000_000
    content = b"".join([*(packer.compress(block) for _ in range(1000)), packer.flush()])
    return _loaded_beside(bench, content, 1, stays=True, suffix=".gz")


@scenario(_GROUP, "a gzip copy that is cut off", "exit 1, that log key alone is skipped, with the reason")
def _cut_gzip(bench: Bench) -> str:
    odd = f"{_ODD}.gz"
    with bench.world(history() | {odd: gzip.compress(line() * 500)[:-40]}) as world:
        ended = world.pull()
        require(ended.status == 1 and odd in ended.said and "Traceback" not in ended.said, ended.said)
        world.remove(odd)
        return f"exit 1, named; all others: {same(world, bench.undisturbed())}"


@scenario(_GROUP, "every request is a presigned one", "no signature is in the database, in URIs or referrers")
def _presigned(bench: Bench) -> str:
    secret = "5ecret5ecret"
    uri = f"video/a.mp4?X-Amz-Credential={secret}&X-Amz-Signature={secret}&x=1"
    with bench.world({name(1, 1): line(key=uri) * 50}) as world:
        ended = world.pull()
        require(ended.status == 0, ended.said)
        reported = f"request_uri ~ '{secret}' OR referrer ~ '{secret}'"
        found = world.rows(f"SELECT count(*) FILTER (WHERE {reported}), count(*) FROM s3_log_record")
        require(found == [(0, 50)], f"{found[0][0]} of {found[0][1]} rows have it")
        return "0 of 50 rows have it"


def _clock(hours: float, text: str) -> None:
    @scenario(_CLOCKS, text, f"exit 0; {SAME}, once the clock is right again")
    def play(bench: Bench) -> str:
        with bench.world() as world:
            first = world.pull("--from", "2026-03-01", "--to", "2026-03-31", clock_hours=hours)
            require(first.status == 0, first.said)
            for command in ("reparse", "pull"):
                ended = world.start(command).ended()
                require(ended.status == 0, ended.said)
            return f"exit 0; {same(world, bench.undisturbed())}"


_clock(-24 * 300, "ours is 300 days slow: the records seem to come from the future")
_clock(24 * 40, "ours is 40 days fast")


@scenario(_CLOCKS, "ours jumps back by a day between two pulls, with keys in between", f"exit 0; {SAME}")
def _jump(bench: Bench) -> str:
    objects = sorted(history().items())
    with bench.world(dict(objects[:20])) as world:
        require(world.pull(clock_hours=24).status == 0, "the first pull failed")
        world.put_all(dict(objects[20:]))
        require(world.pull().status == 0, "the next pull failed")
        return f"exit 0; {same(world, bench.undisturbed())}"
