"""A run that somebody cancels ends: Dagster 1.13 would take the interrupt for a failure, and try the step again."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def cancellable() -> Iterator[None]:
    """Around the work of a step that has a retry policy (dagster #15026). The run is CANCELED then.

    Who cancels a run to stop its deletions must not see them begin again after some seconds.
    """
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt) as error:
        raise dg.Failure("interrupted: what was committed stays", allow_retries=False) from error
