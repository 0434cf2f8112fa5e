"""The module that Dagster loads: the definitions for the settings in tamarin.yaml, as a separate code location.

To add the definitions to your own code location, merge the result of `tamarin_dagster.definitions.build_definitions`.
"""

import gc
import sys
import warnings

import dagster as dg

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.settings import Settings, SettingsError, load_settings

# Dagster warns about the preview features that build_definitions uses. This process uses no others.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def _load_definitions() -> Settings:
    try:
        return load_settings()
    except SettingsError:
        # The message is complete. Dagster would show the stack trace of this import below it.
        sys.tracebacklimit = 0
        raise


# The definitions live as long as the process. Searching them for garbage takes a tenth of the time to load them.
gc.disable()
try:
    # All steps of a run share its process, because starting a process takes longer than most steps.
    defs = dg.Definitions.merge(build_definitions(_load_definitions()), dg.Definitions(executor=dg.in_process_executor))
finally:
    gc.enable()
gc.freeze()
