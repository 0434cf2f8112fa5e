"""S3 that fails: busy, broken, refusing, gone."""

import itertools
import random
import time

from tamarin_dagster_tests.chaos.histories import name
from tamarin_dagster_tests.chaos.matrix import SAME, SCENARIOS, Scenario, require, same, scenario
from tamarin_dagster_tests.chaos.worlds import Bench
from tamarin_dagster_tests.logstore.faulty import CUT, INTERNAL_ERROR, RESET, SIGNATURE, SLOW_DOWN, Fault, Request

_PASSES = "S3 in trouble that passes"
_STAYS = "S3 that refuses"


def _trouble(fault: str, rule: object, *, reduced: bool = False) -> None:
    """Trouble that retries get over: `rule()` makes what is asked of each request."""

    @scenario(_PASSES, fault, f"exit 0: {SAME}", reduced=reduced)
    def play(bench: Bench) -> str:
        with bench.world() as world:
            bench.faulty.rule = rule()  # type: ignore[operator]
            ended = world.pull()
            require(ended.status == 0, ended.said)
            require(SIGNATURE not in ended.said, "a signature was shown")
            return f"exit 0: {same(world, bench.undisturbed())}"


def _busy_for_a_while() -> object:
    until = time.monotonic() + 3
    return lambda _: SLOW_DOWN if time.monotonic() < until else None


def _at_random(fault: Fault, share: float) -> object:
    draws = random.Random(3)
    return lambda request: fault if request.path and draws.random() < share else None


def _first_of_each(fault: Fault, method: str = "GET") -> object:
    met: set[str] = set()

    def rule(request: Request) -> Fault | None:
        if request.method != method or not request.path or request.path in met:
            return None
        met.add(request.path)
        return fault

    return rule


_trouble("503 SlowDown to all for 3 s", _busy_for_a_while)
_trouble("500 to a fifth of all requests, at random", lambda: _at_random(INTERNAL_ERROR, 0.2), reduced=True)
_trouble("each object's body breaks off at the first attempt", lambda: _first_of_each(CUT))
_trouble("the connection is reset at each object's first GET", lambda: _first_of_each(RESET))
_trouble("a slow drip: each first body takes half a second", lambda: _first_of_each(Fault(drip=0.05)))
_trouble("each DELETE is done, but its answer is lost", lambda: _first_of_each(Fault(lost=True), "DELETE"))


@scenario(
    _PASSES,
    "one object's body is shorter than listed, and nothing says so",
    f"exit 1, that key alone is left, with both sizes; the next pull ends 0: {SAME}",
)
def _wrong_size(bench: Bench) -> str:
    with bench.world() as world:
        bench.faulty.rule = lambda request: Fault(shorter=5) if request.path == name(1, 2) else None
        first = world.pull()
        require(first.status == 1 and " are listed" in first.said and name(1, 2) in first.said, first.said)
        require(world.rows("SELECT count(*) FROM s3_log_key") == [(31,)], "others are missing")
        bench.faulty.reset()
        require(world.pull().status == 0, "the next pull failed")
        return f"exit 1, that key alone is left; the next pull ends 0: {same(world, bench.undisturbed())}"


@scenario(
    _STAYS,
    "credentials expire midway, after 20 requests",
    f"exit 1, with the reason; with new ones the next pull ends 0: {SAME}",
    reduced=True,
)
def _expired(bench: Bench) -> str:
    with bench.world() as world:
        count = itertools.count(1)
        bench.faulty.rule = lambda _: Fault(403, "ExpiredToken") if next(count) > 20 else None
        first = world.pull()
        require(first.status == 1 and "ExpiredToken" in first.said and SIGNATURE not in first.said, first.said)
        bench.faulty.reset()
        require(world.pull().status == 0, "the next pull failed")
        return f"exit 1, with the reason; then: {same(world, bench.undisturbed())}"


def _denied(what: str) -> Scenario:
    def deny(request: Request) -> Fault | None:
        asked = {"GET": "get" if request.path else "list", "HEAD": "get"}.get(request.method, "delete")
        return Fault(403, "AccessDenied") if asked == what else None

    def play(bench: Bench) -> str:
        with bench.world() as world:
            bench.faulty.rule = deny
            first = world.pull()
            require(first.status == 1 and "AccessDenied" in first.said, first.said)
            require("Traceback" not in first.said and SIGNATURE not in first.said, first.said)
            loaded = world.rows("SELECT count(*) FROM s3_log_key")[0][0]
            require(loaded == (32 if what == "delete" else 0), f"{loaded} keys are loaded")
            if what == "delete":
                errors = world.rows("SELECT count(*) FROM s3_log_key WHERE purge_error ~ 'AccessDenied'")
                require(errors == [(29,)], f"purge_error of {errors}")
            bench.faulty.reset()
            require(world.pull().status == 0, "the next pull failed")
            return f"exit 1, with the reason; once permitted: {same(world, bench.undisturbed())}"

    expected = "loaded, purge_error on each key" if what == "delete" else "nothing is loaded"
    return Scenario(_STAYS, f"AccessDenied on {what}", f"exit 1, {expected}; once permitted: {SAME}", play)


SCENARIOS += [_denied(what) for what in ("list", "get", "delete")]


@scenario(_STAYS, "a log bucket that does not exist", "exit 1, with what to do; nothing is loaded, nothing deleted")
def _no_bucket(bench: Bench) -> str:
    with bench.world() as world:
        world.configure(log_bucket_name="nobodys-bucket")
        first = world.pull()
        require(first.status == 1 and "nobodys-bucket" in first.said and "Traceback" not in first.said, first.said)
        require(world.rows("SELECT count(*) FROM s3_log_key") == [(0,)], "something is loaded")
        world.configure()
        require(world.pull().status == 0, "the next pull failed")
        return f"exit 1, named; with the right name: {same(world, bench.undisturbed())}"


@scenario(_STAYS, "nobody listens at the endpoint", "exit 1, with the reason; later: the same tables and log bucket")
def _nobody_listens(bench: Bench) -> str:
    with bench.world() as world:
        settings = world.config.read_text()
        world.config.write_text(settings.replace(bench.faulty.url, "http://127.0.0.1:9"))
        first = world.pull()
        require(first.status == 1 and "Traceback" not in first.said, first.said)
        world.config.write_text(settings)
        require(world.pull().status == 0, "the next pull failed")
        return f"exit 1; later: {same(world, bench.undisturbed())}"


@scenario(
    _STAYS, "a folder that is not there (a disk not mounted)", f"exit 1, named; nothing is marked purged; later: {SAME}"
)
def _no_folder(bench: Bench) -> str:
    with bench.world(kind="folder") as world:
        require(world.pull("--no-purge").status == 0, "the first pull failed")
        away = world.log_folder.rename(world.folder / "away")
        for command in ("pull", "purge"):
            ended = world.start(command).ended()
            require(ended.status == 1 and "there is no" in ended.said, ended.said)
        require(world.rows("SELECT count(*) FROM s3_log_key WHERE purged_at IS NOT NULL") == [(0,)], "marked as purged")
        away.rename(world.log_folder)
        require(world.pull().status == 0, "the next pull failed")
        return f"exit 1, named; nothing is marked purged; later: {same(world, bench.undisturbed())}"
