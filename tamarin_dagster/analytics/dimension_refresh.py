"""Refresh what is known about the values in new rollups: kinds of user agents, prices, networks."""

from dataclasses import dataclass

import sqlalchemy as sa

from tamarin_dagster.analytics import agent_kinds, agents, networks, prices
from tamarin_dagster.analytics.agents import Classified, classify
from tamarin_dagster.analytics.networks import LookedUp, look_up
from tamarin_dagster.analytics.prices import Priced, price, read_prices
from tamarin_dagster.analytics.unseen_days import list_unseen_days
from tamarin_dagster.extras import why_missing
from tamarin_dagster.recordstore.failures import DayFailure
from tamarin_dagster.settings import Settings


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The result of a refresh, by dimension.

    Attributes:
        classified: user agents; None without the extra `agents`.
        priced: months.
        looked_up: addresses; None without a geoip_database.
        lacking: what to install for the user agents that wait to be classified; None if none waits.
    """

    classified: Classified | None
    priced: Priced
    looked_up: LookedUp | None
    lacking: str | None = None

    @property
    def failures(self) -> list[DayFailure]:
        """Return the days that could not be refreshed."""
        return [failure for each in (self.classified, self.looked_up) if each is not None for failure in each.failures]

    def __str__(self) -> str:
        """Return a line for each dimension, for a person."""
        done = (self.classified, self.priced, self.looked_up, self.lacking)
        return "\n".join(str(each) for each in done if each is not None)


def refresh_dimensions(engine: sa.Engine, settings: Settings) -> Refreshed:
    """Classify new user agents, price new months, and look up new addresses: only what is pending.

    Without the extra `agents`, no user agent is classified. Once it is installed, the next call classifies all.

    Several processes may call it at once. Raises SettingsError if a file of prices or networks cannot be used; the
    agents are classified by then.
    """
    lacking = _agents_missing()
    classified = None if lacking else classify(engine)
    priced = price(engine, read_prices(settings.prices))
    paths = settings.geoip_database
    looked_up = look_up(engine, paths) if paths else None
    return Refreshed(classified, priced, looked_up, lacking if lacking and _agents_wait(engine) else None)


def _agents_missing() -> str | None:
    return why_missing("agents", agent_kinds.FEATURE)


def _agents_wait(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        return bool(list_unseen_days(connection, agents.DIMENSION))


def pending_dimensions(engine: sa.Engine, settings: Settings) -> str:
    """Return why `refresh_dimensions` has work to do, for a person; empty if it has none. Raises SettingsError."""
    paths = settings.geoip_database
    reasons = []
    with engine.connect() as connection:
        dimensions = [prices.DIMENSION, *([networks.DIMENSION] if paths else [])]
        has_agents = _agents_missing() is None
        if has_agents:
            dimensions.append(agents.DIMENSION)
        days = {day for dimension in dimensions for day in list_unseen_days(connection, dimension)}
        if days:
            reasons.append("1 day of rollups is new" if len(days) == 1 else f"{len(days):,} days of rollups are new")
        if has_agents and agents.is_outdated(connection):
            reasons.append("user agents were classified by other rules")
        if prices.is_outdated(connection, read_prices(settings.prices)):
            reasons.append("prices, or buckets' regions, have changed")
        if paths:
            with networks.open_networks(paths) as databases:
                if networks.is_outdated(connection, databases):
                    reasons.append("addresses were looked up in other databases")
    return "; ".join(reasons)
