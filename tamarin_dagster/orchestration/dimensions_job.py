"""The job `classify_user_agents`, which classifies, prices and looks up the values in new rollups.

It may run at any time.
"""

import dagster as dg

from tamarin_dagster.analytics.dimension_refresh import refresh_dimensions
from tamarin_dagster.orchestration.assets import RETRY_POLICY
from tamarin_dagster.orchestration.cancelling import cancellable
from tamarin_dagster.orchestration.naming import make_name
from tamarin_dagster.orchestration.resources import RecordDatabase
from tamarin_dagster.orchestration.step_failures import fail_for
from tamarin_dagster.settings import Settings, SettingsError


def build_dimensions_job(settings: Settings, prefix: str = "") -> dg.JobDefinition:
    """Build the job that classifies, prices and looks up all pending values, each distinct value once."""

    @dg.op(
        name=make_name(prefix, "refresh"),
        out=dg.Out(dg.Nothing),
        retry_policy=RETRY_POLICY,
        description="Classifies user agents, estimates the cost of a month's requests and bytes, and looks up"
        " addresses.",
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
                "user agents classified again": classified.again if classified else 0,
                "priced months": done.priced.months,
                "price date": done.priced.price_date.isoformat(),
                "addresses": looked_up.addresses if looked_up else 0,
                "addresses looked up again": looked_up.again if looked_up else 0,
            }
        )
        fail_for(context.log, done.failures)

    @dg.job(
        name=make_name(prefix, "classify_user_agents"),
        description="Classifies user agents, prices days, and looks up addresses that are new or whose rules have"
        " changed.",
        executor_def=dg.in_process_executor,
    )
    def classify_user_agents() -> None:
        refresh()

    return classify_user_agents
