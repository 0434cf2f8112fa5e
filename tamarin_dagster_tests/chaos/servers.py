"""Postgres that dies, is away, or has no room."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from tamarin_dagster.failpoints import SLEEP_SECONDS
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster_tests.chaos.histories import history
from tamarin_dagster_tests.chaos.matrix import SAME, UnexpectedError, require, same, scenario
from tamarin_dagster_tests.chaos.worlds import Bench, World

_GROUP = "Postgres"


@contextlib.contextmanager
def _own_server(world: World, home: Path) -> Iterator[EmbeddedPostgres]:
    """The world's database in a server of its own."""
    with EmbeddedPostgres(home) as server:
        server.ensure_databases("tamarin")
        bench_url, world.url = world.url, sa.make_url(server.url("tamarin"))
        world.configure()
        yield server
    world.url = bench_url


def _kill(server: EmbeddedPostgres) -> None:
    """kill -9 to the server and all its processes, as the kernel does when memory is short or power is gone."""
    postmaster = int((server.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in (postmaster, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _killed(point: str) -> None:
    @scenario(
        _GROUP,
        f"the server is killed -9 {point.replace('.', ' ')}, and started again",
        f"exit 1, in a line; after recovery the next pull ends 0: {SAME}",
    )
    def play(bench: Bench) -> str:
        with bench.world() as world, _own_server(world, world.folder / "own") as server:
            program = world.start(failpoint=f"{point}:sleep:2")
            time.sleep(SLEEP_SECONDS / 2)
            _kill(server)
            first = program.ended()
            require(first.status == 1 and "Traceback" not in first.said, f"{first.how}: {first.said}")
            server.ensure_running()
            again = world.pull()
            require(again.status == 0, again.said)
            return f"exit 1, in a line; after recovery the next pull ends 0: {same(world, bench.undisturbed())}"


_killed("copy.after")
_killed("commit.after")
_killed("delete.after")


@scenario(
    _GROUP, "its connections are cut (pg_terminate_backend) midway", f"exit 1, in a line; the next pull ends 0: {SAME}"
)
def _cut(bench: Bench) -> str:
    with bench.world() as world:
        program = world.start(failpoint="copy.after:sleep:2")
        time.sleep(SLEEP_SECONDS / 2)
        world.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        first = program.ended()
        require(first.status == 1 and "Traceback" not in first.said, f"{first.how}: {first.said}")
        require(world.pull().status == 0, "the next pull failed")
        return f"exit 1, in a line; the next pull ends 0: {same(world, bench.undisturbed())}"


@scenario(_GROUP, "it cannot be reached", f"exit 1, with what to do; nothing is deleted; later: {SAME}")
def _unreachable(bench: Bench) -> str:
    with bench.world() as world:
        settings = world.config.read_text()
        world.config.write_text(settings.replace(world.settings["database_url"], "postgresql://a:s3cret@127.0.0.1:9/b"))
        first = world.pull()
        require(first.status == 1 and "is the server up" in first.said, first.said)
        require("s3cret" not in first.said and "Traceback" not in first.said, first.said)
        require(set(world.state().objects) == set(history()), "something was deleted")
        world.config.write_text(settings)
        require(world.pull().status == 0, "the next pull failed")
        return f"exit 1, with what to do, no password in it; later: {same(world, bench.undisturbed())}"


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=711", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        raise UnexpectedError("not played: to mount a small tmpfs takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@scenario(
    _GROUP,
    "its disk (a tmpfs of 160 MB) is full midway",
    f"exit 1, in a line, nothing is deleted that is not loaded; with room again: {SAME}",
)
def _disk_full(bench: Bench) -> str:
    with (
        bench.world() as world,
        small_disk(world.folder / "disk", 160),
        _own_server(world, world.folder / "disk" / "own") as server,
    ):
        require(world.start("migrate").ended().status == 0, "migrate failed")
        filler = world.folder / "disk" / "filler"
        program = world.start(failpoint="copy.before:sleep:2")
        time.sleep(SLEEP_SECONDS / 2)
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(65536))
                file.flush()
        first = program.ended()
        require(first.status == 1 and "Traceback" not in first.said, f"{first.how}: {first.said}")
        require("No space left" in first.said or "database" in first.said, first.said)
        filler.unlink()
        server.ensure_running()
        again = world.pull()
        require(again.status == 0, again.said)
        return f"exit 1, in a line; with room again: {same(world, bench.undisturbed())}"
