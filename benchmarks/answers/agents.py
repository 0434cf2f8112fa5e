"""Measure the classification of user agents: distinct ones of a million records, hostile ones, and all of them.

    .venv/bin/python -m benchmarks.answers.agents [--records 1000000] [--hostile 20000] [--rounds 3]

Each round classifies into an empty dimension. The first round also compiles the rules, like a new process.
"""

import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from benchmarks.command_line import command_line, show
from benchmarks.sheet import Sheet
from tamarin_dagster.analytics.agent_kinds import classify_agent
from tamarin_dagster.analytics.agents import classify
from tamarin_dagster.demo import DemoSite, make_lines_between
from tamarin_dagster.logformat import parse_log
from tamarin_dagster.recordstore.database import migrate
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_daily_by_user_agent, traffic_day
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres

DAYS = 7
PIECE_LINES = 100_000
AGENT_BYTES = 8000
_FIRST_DAY = date(2026, 3, 1)
_BAITS = ("(", "a-", "bot ", "Mozilla/5.0 (", "é", "\x01", "Android ;", "spider/")


def demo_agents(records: int) -> dict[date, Counter[str]]:
    """Return the number of records of each agent in the demo's traffic, by day."""
    site = DemoSite(broken_share=0.0)
    found: dict[date, Counter[str]] = {}
    for index in range(DAYS):
        day = _FIRST_DAY + timedelta(days=index)
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        lines = make_lines_between(site, start, start + timedelta(days=1), records // DAYS)
        counts: Counter[str] = Counter()
        for piece in range(0, len(lines), PIECE_LINES):
            frame = parse_log("\n".join(lines[piece : piece + PIECE_LINES]).encode()).records
            counts.update(frame["user_agent"].dropna().tolist())
        found[day] = counts
    return found


def hostile_agents(count: int) -> dict[date, Counter[str]]:
    """Return distinct agents of one day: bait for regular expressions, control characters, up to 8,000 bytes."""
    draws = random.Random(2011)
    made = Counter(
        f"{number} {draws.choice(_BAITS) * draws.randrange(1, AGENT_BYTES // 8)}"[:AGENT_BYTES]
        for number in range(count)
    )
    return {_FIRST_DAY: made}


def fill(engine: sa.Engine, agents: Mapping[date, Counter[str]]) -> None:
    """Replace the rollup by that of these days."""
    zeros = dict.fromkeys(
        ("bytes_sent", "error_count", "put_requests", "unbilled_requests", "unbilled_bytes", "interregion_bytes"), 0
    )
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE traffic_daily_by_user_agent, traffic_day")
        for day, counts in agents.items():
            place = {"bucket": "media", "request_date": day}
            rows = [place | zeros | {"user_agent": agent, "requests": n} for agent, n in counts.items()]
            connection.execute(sa.insert(traffic_daily_by_user_agent), rows)
            made = {"requests": counts.total(), "bytes_sent": 0, "rolled_up_at": datetime.now(UTC), "seconds": 0.0}
            connection.execute(sa.insert(traffic_day), place | made)


def measured(engine: sa.Engine, rounds: int) -> list[float]:
    """Return the seconds of each round."""
    taken = []
    for _ in range(rounds):
        with engine.begin() as connection:
            connection.exec_driver_sql("TRUNCATE user_agent_kind, dimension_day")
        taken.append(classify(engine).seconds)
    return taken


def row(name: str, agents: Mapping[date, Counter[str]], taken: list[float]) -> list[str]:
    """Return a row of the table."""
    records = sum(counts.total() for counts in agents.values())
    distinct = len(set().union(*agents.values()))
    seconds = [f"{each:.2f}" for each in (statistics.median(taken), min(taken), max(taken))]
    return [name, f"{records:,}", f"{distinct:,}", *seconds]


@contextmanager
def _server() -> Iterator[sa.Engine]:
    with tempfile.TemporaryDirectory(prefix="tamarin-bench-agents-") as folder:
        # The server may run under another account.
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder)) as server:
            engine = sa.create_engine(server.url("postgres"))
            migrate(engine)
            yield engine
            engine.dispose()


def main() -> None:
    """Measure, and print a table."""
    parser = command_line(__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--hostile", type=int, default=20_000, help="distinct agents of the hostile day")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    ordinary, hostile = demo_agents(options.records), hostile_agents(options.hostile)
    rows = []
    with _server() as engine:
        for name, agents in (("distinct agents", ordinary), ("distinct agents, hostile", hostile)):
            fill(engine, agents)
            rows.append(row(name, agents, measured(engine, options.rounds)))
    start = time.perf_counter()
    for counts in ordinary.values():
        for agent in counts.elements():
            classify_agent(agent)
    rows.append(row("the agent of each record, nothing written", ordinary, [time.perf_counter() - start]))
    headings = ("what is classified", "records", "distinct agents", "seconds", "min", "max")
    title = f"Classifying user agents; {options.rounds} rounds"
    show([Sheet(title, headings, rows, texts=headings[:1])], options.markdown)


if __name__ == "__main__":
    main()
