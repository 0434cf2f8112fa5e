"""What Dagster loads: the definitions for the settings in tamarin.yaml, in a code location of their own.

To have them in a code location with other things, merge `tamarin_dagster.definitions.build_definitions` instead.
"""

import gc
import sys
import warnings

import dagster as dg

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.settings import Settings, SettingsError, load_settings

# Said of what build_definitions uses; in this process, nothing else is meant.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def _configured() -> Settings:
    try:
        return load_settings()
    except SettingsError:
        # The message says all there is to say; Dagster would show the stack of this import below it.
        sys.tracebacklimit = 0
        raise


# What is built here stays as long as the process: to look through it for garbage takes a tenth of the time to load.
gc.disable()
try:
    # All steps of a run in its one process: to start one for each takes longer than what most of them do.
    defs = dg.Definitions.merge(build_definitions(_configured()), dg.Definitions(executor=dg.in_process_executor))
finally:
    gc.enable()
gc.freeze()
