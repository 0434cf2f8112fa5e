"""Store the kind of each distinct user agent in the rollups; classify again when the rules have changed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from tamarin_dagster.analytics.agent_kinds import classify_agent, rules_version
from tamarin_dagster.analytics.unseen_days import (
    REMEDY,
    UnseenDay,
    is_unseen,
    list_unseen_days,
    lock_dimensions,
    note_days,
)
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.recordstore.failures import DayFailure, isolate_failure
from tamarin_dagster.recordstore.schema.dimension_tables import user_agent_kind
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_daily_by_user_agent

DIMENSION = "user_agent"
# A user agent has at most 8 KB. Pages of twice this size were no faster.
PAGE_AGENTS = 2000

_KINDS = user_agent_kind.c
_INSERT = sa.text("""
INSERT INTO user_agent_kind (user_agent, kind, name, rules, classified_at)
SELECT given.user_agent, given.kind, given.name, :rules, now()
FROM unnest(CAST(:agents AS text[]), CAST(:kinds AS text[]), CAST(:names AS text[])) AS given (user_agent, kind, name)
ON CONFLICT DO NOTHING
""")
_UPDATE = sa.text("""
UPDATE user_agent_kind k
SET kind = given.kind, name = given.name, rules = :rules, classified_at = now()
FROM unnest(CAST(:agents AS text[]), CAST(:kinds AS text[]), CAST(:names AS text[])) AS given (user_agent, kind, name)
WHERE k.user_agent = given.user_agent
""")


@dataclass(slots=True)
class Classified:
    """The result of a classification.

    Attributes:
        days: number of buckets' days whose rollups were read.
        agents: number of distinct agents that were new.
        again: number of agents that were classified again because other rules had classified them.
        failures: days whose agents could not be classified; they stay pending.
        seconds: duration.
    """

    days: int = 0
    agents: int = 0
    again: int = 0
    failures: list[DayFailure] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return one line for a person."""
        return (
            f"{count_noun(self.agents, 'user agent')} classified, {self.again:,} classified again, from"
            f" {count_noun(self.days, 'day')}; {self.seconds:.1f} s"
        )


def classify(engine: sa.Engine) -> Classified:
    """Classify the agents of days with new rollups, and those that other rules have classified.

    Each day is a transaction: if the process is interrupted, the next one continues with that day. One connection is
    used at a time, because processes that each hold one and wait for a second would wait for each other.

    Raises MissingExtraError if the extra `agents` is not installed.
    """
    rules_version()  # a missing extra must not be reported as the failure of a day
    done = Classified()
    start = time.perf_counter()
    with engine.connect() as connection:
        days = list_unseen_days(connection, DIMENSION)
    for day in days:
        with isolate_failure(done.failures, "classify the user agents", day.bucket, day.request_date, REMEDY):
            with lock_dimensions(engine) as connection:
                if not is_unseen(connection, DIMENSION, day):
                    continue
                agents = _classify(connection, _find_unknown(day), _INSERT)
                note_days(connection, DIMENSION, [day])
            done.agents += agents
            done.days += 1
    with lock_dimensions(engine) as connection:
        outdated = sa.select(_KINDS.user_agent).where(_KINDS.rules != rules_version())
        done.again = _classify(connection, outdated, _UPDATE)
    done.seconds = time.perf_counter() - start
    return done


def is_outdated(connection: sa.Connection) -> bool:
    """Return whether other rules than today's have classified any agent."""
    return bool(connection.scalar(sa.select(sa.exists().where(_KINDS.rules != rules_version()))))


def _find_unknown(day: UnseenDay) -> sa.Select[str]:
    seen = traffic_daily_by_user_agent.c
    return sa.select(seen.user_agent).where(
        seen.bucket == day.bucket,
        seen.request_date == day.request_date,
        seen.user_agent.is_not(None),
        seen.folded_values.is_(None),
        ~sa.exists().where(_KINDS.user_agent == seen.user_agent),
    )


def _classify(connection: sa.Connection, agents: sa.Select[str], statement: sa.TextClause) -> int:
    """Write the kinds of these agents, a page at a time; return their number."""
    count = 0
    found = connection.scalars(agents, execution_options={"yield_per": PAGE_AGENTS})
    for page in found.partitions():
        connection.execute(statement, _parameters(page))
        count += len(page)
    return count


def _parameters(agents: Sequence[str]) -> dict[str, object]:
    kinds = [classify_agent(agent) for agent in agents]
    return {
        "agents": list(agents),
        "kinds": [each.kind.value for each in kinds],
        "names": [each.name for each in kinds],
        "rules": rules_version(),
    }
