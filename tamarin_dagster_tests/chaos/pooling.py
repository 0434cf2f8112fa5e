"""All through PgBouncer in transaction mode, with fewer connections of the server than there are processes.

    .venv/bin/python -m tamarin_dagster_tests.chaos.pooling [--rounds 5]

Each round: two pulls and three roll-ups at once of a new world; all must end 0, with the tables and rollups of an
undisturbed run. Then once, one after the other: archive and purge, report, `hogs`, export, sql, expire.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from tamarin_dagster.recordstore.schema.traffic_tables import ROLLUPS
from tamarin_dagster_tests.chaos.matrix import require, same
from tamarin_dagster_tests.chaos.worlds import Bench, State, World, bench
from tamarin_dagster_tests.pgbouncer import pgbouncer

# Two pulls and three roll-ups share so many connections of the server.
POOL_SIZE = 3
_Rollups = Mapping[str, list[tuple[object, ...]]]


def main() -> int:
    """Plays the rounds, and says how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with bench() as shared:
        expected = undisturbed(shared)
        for number in range(1, options.rounds + 1):
            started = time.monotonic()
            said = at_once(shared, expected)
            print(f"round {number} of {options.rounds}: {said} ({time.monotonic() - started:.1f} s)")  # noqa: T201
        print(one_after_the_other(shared))  # noqa: T201
    return 0


def undisturbed(shared: Bench) -> tuple[State, _Rollups]:
    """Return the state of a world after one pull without a pooler."""
    with shared.world() as world:
        ended = world.pull()
        require(ended.status == 0, ended.said)
        return world.state(), _rollups(world)


def at_once(shared: Bench, expected: tuple[State, _Rollups]) -> str:
    """Two pulls and three roll-ups at once. Raises UnexpectedError."""
    with (
        shared.world() as world,
        pgbouncer(world.url, world.folder / "pgbouncer", pool_size=POOL_SIZE) as url,
    ):
        _through(world, url)
        programs = [world.start(command) for command in ("pull", "roll-up", "pull", "roll-up", "roll-up")]
        ended = [program.ended() for program in programs]
        require({each.status for each in ended} <= {0}, "; ".join(f"{e.how}: {e.said}" for e in ended))
        reported = same(world, expected[0])
        rollups = _rollups(world)
        different = [name for name, rows in expected[1].items() if rows != rollups[name]]
        require(not different, f"other rollups: {different}")
        left = world.rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        require(left == [(0,)], f"{left} advisory locks are left")
        return (
            f"two pulls and three roll-ups at once through {POOL_SIZE} connections exit 0; {reported}, the same rollups"
        )


def one_after_the_other(shared: Bench) -> str:
    """Each command that asks or changes the database, through the pooler. Raises UnexpectedError."""
    today = datetime.now(UTC).date()
    with (
        shared.world() as world,
        pgbouncer(world.url, world.folder / "pgbouncer", pool_size=POOL_SIZE) as url,
    ):
        _through(world, url, archive=str(world.folder / "archive"), retention_months=1, reports=str(world.folder / "r"))
        commands = (
            ("pull", "--from", "2026-03-01"),
            ("purge",),
            ("buckets", "--no-list"),
            ("report", "--month", "2026-03"),
            ("hogs", "--since", "2026-03-01"),
            ("export", "--format", "csv", "--out", str(world.folder / "records.csv")),
            ("export", "--format", "parquet", "--out", str(world.folder / "records")),
            ("reparse",),
            ("sql", "SELECT count(*) FROM s3_log_record; SELECT now() - now()"),
            ("grant-reader", f"reader_{world.folder.name.replace('-', '_')}"),
            ("expire",),
        )
        for command in commands:
            ended = world.start(*command).ended()
            require(ended.status == 0, f"{' '.join(command)}: {ended.how}: {ended.said}")
        ((archived, purged),) = world.rows("SELECT count(archived_at), count(purged_at) FROM s3_log_key")
        require(archived and purged, f"{archived} keys archived, {purged} purged")
        ((records,),) = world.rows("SELECT count(*) FROM s3_log_record")
        require(records == 0 or today.year * 12 + today.month <= 2026 * 12 + 4, f"{records} records are left")
        return f"{len(commands)} commands exit 0: {', '.join(command[0] for command in commands)}"


def _through(world: World, pooler: sa.URL, **settings: object) -> None:
    """Has the world's commands go through the pooler; what the test asks goes past it."""
    direct, world.url = world.url, pooler.set(database=world.url.database)
    world.configure(**settings)
    world.url = direct


def _rollups(world: World) -> _Rollups:
    names = [table.name for table in ROLLUPS]
    found = {name: sorted(world.rows(f"SELECT * FROM {name}"), key=repr) for name in names}
    days = world.rows("SELECT bucket, request_date, requests, bytes_sent FROM traffic_day ORDER BY 1, 2")
    return found | {"traffic_day": days, "pending": world.rows("SELECT * FROM traffic_pending_day")}


if __name__ == "__main__":
    sys.exit(main())
