"""A run that is cancelled ends; no step of it is tried again."""

import dagster as dg
import pytest

from tamarin_dagster.orchestration import assets, jobs, purging
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.runs import job_of


def interrupted(*_: object, **__: object) -> None:
    raise dg.DagsterExecutionInterruptedError


@pytest.mark.parametrize(
    ("job", "module", "work"),
    [
        ("load", assets, "pull_bucket"),
        ("load", purging, "purge_bucket"),
        ("purge_pending_log_keys", purging, "purge_bucket"),
        ("reparse_rejected_lines", jobs, "reparse_bucket"),
    ],
)
def test_a_cancelled_step_is_not_tried_again(definitions, instance, put_key, monkeypatch, job, module, work) -> None:
    """Dagster took the interrupt for a failure that a retry policy covers: the deletions went on (dagster #15026)."""
    put_key(lines(3))
    monkeypatch.setattr(module, work, interrupted)
    partition = "2026-03-05" if job == "load" else None

    chosen = job_of(definitions, job) if job == "load" else definitions.resolve_job_def(job)
    done = chosen.execute_in_process(instance=instance, partition_key=partition, raise_on_error=False)

    assert not done.success
    retried = [event for event in done.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert retried == []
