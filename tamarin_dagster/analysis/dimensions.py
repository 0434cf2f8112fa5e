"""refresh_dimensions: what is to be known of the values in new rollups. Knows nothing of Dagster."""

from dataclasses import dataclass

import sqlalchemy as sa

from tamarin_dagster.analysis import agents, networks, prices
from tamarin_dagster.analysis.agents import Classified, classify
from tamarin_dagster.analysis.networks import LookedUp, look_up
from tamarin_dagster.analysis.prices import Priced, price, read_prices
from tamarin_dagster.analysis.unseen_days import unseen_days
from tamarin_dagster.recordstore.failures import DayFailure
from tamarin_dagster.settings import Settings


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What was done about each dimension; no networks without a geoip_database."""

    classified: Classified
    priced: Priced
    looked_up: LookedUp | None

    @property
    def failures(self) -> list[DayFailure]:
        """The days of which something is still to be known."""
        return self.classified.failures + (self.looked_up.failures if self.looked_up else [])

    def __str__(self) -> str:
        """A line for each, for a person."""
        return "\n".join(str(each) for each in (self.classified, self.priced, self.looked_up) if each is not None)


def refresh_dimensions(engine: sa.Engine, settings: Settings) -> Refreshed:
    """Classifies new user agents, prices new days, and looks up new addresses: what is pending, and no more.

    Several processes may call it at once. Raises SettingsError for a file of prices or networks that cannot be used;
    the agents are classified by then.
    """
    classified = classify(engine)
    priced = price(engine, read_prices(settings.prices))
    paths = settings.geoip_database
    return Refreshed(classified, priced, look_up(engine, paths) if paths else None)


def pending_dimensions(engine: sa.Engine, settings: Settings) -> str:
    """What `refresh_dimensions` would do, for a person; empty if there is nothing. Raises SettingsError."""
    paths = settings.geoip_database
    reasons = []
    with engine.connect() as connection:
        dimensions = (agents.DIMENSION, prices.DIMENSION, *([networks.DIMENSION] if paths else []))
        days = {day for dimension in dimensions for day in unseen_days(connection, dimension)}
        if days:
            reasons.append(f"{len(days):,} days of rollups are new")
        if agents.is_outdated(connection):
            reasons.append("user agents were classified by other rules")
        if prices.is_outdated(connection, read_prices(settings.prices)):
            reasons.append("prices, or buckets' regions, have changed")
        if paths:
            with networks.open_networks(paths) as databases:
                if networks.is_outdated(connection, databases):
                    reasons.append("addresses were looked up in other databases")
    return "; ".join(reasons)
