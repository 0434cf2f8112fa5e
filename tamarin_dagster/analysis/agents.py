"""classify: the kind of each distinct user agent in the rollups, once; again when the rules have changed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from tamarin_dagster.analysis.agent_kinds import kind_of, rules_version
from tamarin_dagster.analysis.unseen_days import UnseenDay, alone, note_days, unseen_days
from tamarin_dagster.recordstore.dimension_tables import user_agent_kind
from tamarin_dagster.recordstore.traffic_tables import traffic_daily_by_user_agent

DIMENSION = "user_agent"
# Of 8 KB each at the most; twice as many are no faster.
PAGE_AGENTS = 2000

_KINDS = user_agent_kind.c
_INSERT = sa.text("""
INSERT INTO user_agent_kind (user_agent, kind, name, rules, classified_at)
SELECT told.user_agent, told.kind, told.name, :rules, now()
FROM unnest(CAST(:agents AS text[]), CAST(:kinds AS text[]), CAST(:names AS text[])) AS told (user_agent, kind, name)
ON CONFLICT DO NOTHING
""")
_UPDATE = sa.text("""
UPDATE user_agent_kind k
SET kind = told.kind, name = told.name, rules = :rules, classified_at = now()
FROM unnest(CAST(:agents AS text[]), CAST(:kinds AS text[]), CAST(:names AS text[])) AS told (user_agent, kind, name)
WHERE k.user_agent = told.user_agent
""")


@dataclass(slots=True)
class Classified:
    """What a classification did.

    Attributes:
        days: buckets' days of rollups that were looked at.
        agents: distinct agents that were new.
        again: those that other rules had classified.
        seconds: how long it took.
    """

    days: int = 0
    agents: int = 0
    again: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """In a line, for a person."""
        return (
            f"{self.agents:,} user agents classified, {self.again:,} once more, of {self.days:,} days;"
            f" {self.seconds:.1f} s"
        )


def classify(engine: sa.Engine) -> Classified:
    """Classifies the agents of days that are rolled up anew, and those that other rules have classified.

    A page of agents is a transaction: what is interrupted goes on where it was.
    """
    done = Classified()
    start = time.perf_counter()
    with alone(engine) as reading, engine.connect() as writing:
        outdated = sa.select(_KINDS.user_agent).where(_KINDS.rules != rules_version())
        done.again = _classify(reading, writing, outdated, _UPDATE)
        for day in unseen_days(reading, DIMENSION):
            done.agents += _classify(reading, writing, _unknown_of(day), _INSERT)
            with writing.begin():
                note_days(writing, DIMENSION, [day])
            done.days += 1
    done.seconds = time.perf_counter() - start
    return done


def is_outdated(connection: sa.Connection) -> bool:
    """Whether agents are there that other rules have classified."""
    return bool(connection.scalar(sa.select(sa.exists().where(_KINDS.rules != rules_version()))))


def _unknown_of(day: UnseenDay) -> sa.Select[str]:
    seen = traffic_daily_by_user_agent.c
    return sa.select(seen.user_agent).where(
        seen.bucket == day.bucket,
        seen.request_date == day.request_date,
        seen.user_agent.is_not(None),
        ~sa.exists().where(_KINDS.user_agent == seen.user_agent),
    )


def _classify(reading: sa.Connection, writing: sa.Connection, agents: sa.Select[str], statement: sa.TextClause) -> int:
    """Writes the kinds of these agents, a page at a time; says of how many."""
    count = 0
    found = reading.scalars(agents, execution_options={"yield_per": PAGE_AGENTS})
    for page in found.partitions():
        with writing.begin():
            writing.execute(statement, _told(page))
        count += len(page)
    return count


def _told(agents: Sequence[str]) -> dict[str, object]:
    kinds = [kind_of(agent) for agent in agents]
    return {
        "agents": list(agents),
        "kinds": [each.kind.value for each in kinds],
        "names": [each.name for each in kinds],
        "rules": rules_version(),
    }
