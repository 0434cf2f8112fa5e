"""End a run when somebody cancels it. Dagster 1.13 treats the interrupt as a failure and retries the step."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def cancellable() -> Iterator[None]:
    """Wrap the work of a step that has a retry policy, so that a cancelled run ends as CANCELED (dagster #15026).

    A person who cancels a run to stop its deletions must not see them begin again some seconds later.
    """
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt) as error:
        raise dg.Failure("interrupted: what was committed stays", allow_retries=False) from error
