"""The job `classify_user_agents`: what is to be known of the values in new rollups. It may run at any time."""

import dagster as dg

from tamarin_dagster.analytics.dimensions import refresh_dimensions
from tamarin_dagster.orchestration.assets import RETRY_POLICY
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.failures import fail_for
from tamarin_dagster.orchestration.naming import named
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.settings import Settings, SettingsError


def build_dimensions_job(settings: Settings, prefix: str = "") -> dg.JobDefinition:
    """Classifies, prices and looks up what is pending: each distinct value once."""

    @dg.op(
        name=named(prefix, "refresh"),
        out=dg.Out(dg.Nothing),
        retry_policy=RETRY_POLICY,
        description="Classifies user agents, estimates what a month's requests and bytes cost, and looks up addresses.",
    )
    def refresh(context: dg.OpExecutionContext, tamarin_database: RecordDatabase) -> None:
        try:
            with cancellable():
                done = refresh_dimensions(tamarin_database.open(settings), settings)
        except SettingsError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        (context.log.warning if done.lacking else context.log.info)(str(done))
        classified, looked_up = done.classified, done.looked_up
        context.add_output_metadata(
            {
                "user agents": classified.agents if classified else 0,
                "user agents once more": classified.again if classified else 0,
                "priced months": done.priced.months,
                "price date": done.priced.price_date.isoformat(),
                "addresses": looked_up.addresses if looked_up else 0,
                "addresses once more": looked_up.again if looked_up else 0,
            }
        )
        fail_for(context.log, done.failures)

    @dg.job(
        name=named(prefix, "classify_user_agents"),
        description="Classifies user agents, prices days, and looks up addresses: what is new, or known by old rules.",
        executor_def=dg.in_process_executor,
    )
    def classify_user_agents() -> None:
        refresh()

    return classify_user_agents
