"""Several at once, and keys that change, come and go while they are at it."""

import time

from tamarin_dagster_tests.chaos.histories import DAYS, PREFIX, STRAYS, body, history, name
from tamarin_dagster_tests.chaos.matrix import SAME, SCENARIOS, Scenario, require, same, scenario
from tamarin_dagster_tests.chaos.worlds import Bench
from tamarin_dagster_tests.logstore.faulty import Fault, Request

_AT_ONCE = "Several at once"
_CHANGES = "A log bucket that changes"
_KEY = name(2, 3)
_OTHER = body(2, 3, 33, "B")


def _at_once(count: int, kind: str) -> Scenario:
    def play(bench: Bench) -> str:
        with bench.world(kind=kind) as world:
            programs = [world.start() for _ in range(count)]
            ended = [program.ended() for program in programs]
            require({each.status for each in ended} <= {0}, "; ".join(f"{e.how}: {e.said}" for e in ended))
            return f"all exit 0; {same(world, bench.undisturbed())}"

    return Scenario(
        _AT_ONCE, f"{count} pulls of the same days ({kind})", f"all exit 0; {SAME}", play, count == 2 and kind == "s3"
    )


SCENARIOS += [_at_once(count, kind) for count in (2, 4) for kind in ("s3", "folder")]


@scenario(_AT_ONCE, "a pull of all days while three pull a day each", f"all exit 0; {SAME}")
def _overlapping(bench: Bench) -> str:
    with bench.world() as world:
        days = [f"2026-03-{day:02}" for day in DAYS]
        programs = [world.start(), *(world.start("pull", "--from", day, "--to", day) for day in days)]
        ended = [program.ended() for program in programs]
        require({each.status for each in ended} <= {0}, "; ".join(f"{e.how}: {e.said}" for e in ended))
        return f"all exit 0; {same(world, bench.undisturbed())}"


@scenario(_AT_ONCE, "a purge while a pull loads and purges", f"both exit 0; {SAME}")
def _purge_beside(bench: Bench) -> str:
    with bench.world() as world:
        require(world.pull("--no-purge").status == 0, "the first pull failed")
        ended = [program.ended() for program in [world.start(), world.start("purge"), world.start("purge")]]
        require({each.status for each in ended} <= {0}, "; ".join(f"{e.how}: {e.said}" for e in ended))
        return f"both exit 0; {same(world, bench.undisturbed())}"


def _with_other() -> dict[str, bytes]:
    return history() | {_KEY: _OTHER}


@scenario(
    _CHANGES,
    "a key is overwritten between list and get",
    f"exit 1, named, all others are loaded; the next pull takes what is there: {SAME}",
    reduced=True,
)
def _overwritten_before_get(bench: Bench) -> str:
    with bench.world() as world:
        once = iter([1])

        def overwrite(request: Request) -> Fault | None:
            if request.method == "GET" and request.path == _KEY and next(once, None):
                world.put(_KEY, _OTHER)
            return None

        bench.faulty.rule = overwrite
        first = world.pull()
        require(first.status == 1 and f"key {_KEY}: it was deleted or overwritten" in first.said, first.said)
        require(world.rows("SELECT count(*) FROM s3_log_key") == [(31,)], "others are missing")
        require(world.pull().status == 0, "the next pull failed")
        return f"exit 1, named, all others are loaded; the next pull: {same(world, bench.undisturbed(_with_other()))}"


def _overwritten_before_delete(honours: str, *, reduced: bool) -> None:
    @scenario(
        _CHANGES,
        f"a key is overwritten between load and purge (the store honours conditions {honours})",
        f"exit 1, it stays; the next pull puts the new generation in its place: {SAME}",
        reduced=reduced,
    )
    def play(bench: Bench) -> str:
        with bench.world() as world:
            bench.faulty.honours_batches = honours == "in batches too"
            bench.faulty.honours_conditions = honours != "nowhere"
            once = iter([1])

            def overwrite(request: Request) -> Fault | None:
                if request.method in ("DELETE", "POST") and next(once, None):
                    world.put(_KEY, _OTHER)
                return None

            bench.faulty.rule = overwrite
            first = world.pull()
            require(first.status == 1 and f"key {_KEY}: it was overwritten after" in first.said, first.said)
            require(world.rows("SELECT count(*) FROM s3_log_key WHERE purged_at IS NULL") == [(4,)], "not purged")
            require(world.pull().status == 0, "the next pull failed")
            return f"exit 1, it stays; the next pull: {same(world, bench.undisturbed(_with_other()))}"


_overwritten_before_delete("of single deletions", reduced=True)
_overwritten_before_delete("in batches too", reduced=False)
_overwritten_before_delete("nowhere", reduced=False)


@scenario(_CHANGES, "a folder's file is overwritten between load and purge", f"the new generation is loaded: {SAME}")
def _file_overwritten(bench: Bench) -> str:
    with bench.world(kind="folder") as world:
        require(world.pull("--no-purge").status == 0, "the first pull failed")
        world.put(_KEY, _OTHER)
        refused = world.start("purge").ended()
        require(refused.status == 1 and "overwritten after it was loaded" in refused.said, refused.said)
        require(world.pull().status == 0, "the next pull failed")
        return f"the purge leaves it; the new generation is loaded: {same(world, bench.undisturbed(_with_other()))}"


@scenario(
    _CHANGES, "a key is deleted by somebody else between list and get", f"exit 1, named; all others as usual: {SAME}"
)
def _deleted_before_get(bench: Bench) -> str:
    with bench.world() as world:
        once = iter([1])

        def remove(request: Request) -> Fault | None:
            if request.path == _KEY and next(once, None):
                world.remove(_KEY)
            return None

        bench.faulty.rule = remove
        first = world.pull()
        require(first.status == 1 and f"key {_KEY}: it was deleted" in first.said, first.said)
        require(world.pull().status == 0, "the next pull failed")
        rest = {key: content for key, content in history().items() if key != _KEY}
        return f"exit 1, named; the others: {same(world, bench.undisturbed(rest))}"


@scenario(_CHANGES, "a key is deleted by somebody else between load and purge", f"exit 0: {SAME}")
def _deleted_before_purge(bench: Bench) -> str:
    with bench.world() as world:
        require(world.pull("--no-purge").status == 0, "the first pull failed")
        world.remove(_KEY)
        require(world.pull().status == 0, "the next pull failed")
        return f"exit 0: {same(world, bench.undisturbed())}"


@scenario(_CHANGES, "keys come late and out of order, days after their day was loaded", f"each pull ends 0: {SAME}")
def _late(bench: Bench) -> str:
    with bench.world(STRAYS) as world:
        rest = sorted((key, content) for key, content in history().items() if key not in STRAYS)
        for part in (rest[20:], rest[:7], rest[7:20]):
            world.put_all(dict(part))
            ended = world.pull()
            require(ended.status == 0, ended.said)
        return f"each pull ends 0: {same(world, bench.undisturbed())}"


@scenario(
    _CHANGES,
    "S3 delivers a record twice, in two keys",
    "both are kept, and s3_duplicate_record shows each; exit 0",
)
def _duplicates(bench: Bench) -> str:
    with bench.world(history() | {name(2, 20): body(2, 3, 5)}) as world:
        ended = world.pull()
        require(ended.status == 0, ended.said)
        require(world.rows("SELECT count(*) FROM s3_log_record") == [(943,)], "rows are missing")
        found = world.rows("SELECT count(*), sum(copies) FROM s3_duplicate_record")
        require(found == [(5, 5)], f"the view shows {found}")
        return "both are kept, and s3_duplicate_record shows 5 of 5; exit 0"


@scenario(_CHANGES, "a key comes back under a name that was purged", "it is another generation, and loaded too")
def _name_again(bench: Bench) -> str:
    with bench.world() as world:
        require(world.pull().status == 0, "the first pull failed")
        time.sleep(1.1)  # S3 counts in seconds
        world.put(_KEY, _OTHER)
        ended = world.pull()
        require(ended.status == 0, ended.said)
        require(world.rows("SELECT count(*) FROM s3_log_record") == [(938 + 33,)], "rows are missing")
        return "it is loaded too, and purged; exit 0"


@scenario(_CHANGES, f"{len(STRAYS)} strays, some of which look like log keys", "never read, never deleted; exit 0")
def _strays(bench: Bench) -> str:
    with bench.world(STRAYS) as world:
        ended = world.pull()
        require(ended.status == 0, ended.said)
        require(world.rows("SELECT count(*) FROM s3_log_key") == [(0,)], "a stray was read")
        require(set(world.state().objects) == set(STRAYS), "a stray was deleted")
        require(f"{len(STRAYS)} strays were skipped" in ended.said, ended.said)
        require(all(key.startswith(PREFIX) for key in STRAYS), "they lie elsewhere")
        return f"{len(STRAYS)} are reported, none read, none deleted; exit 0"
