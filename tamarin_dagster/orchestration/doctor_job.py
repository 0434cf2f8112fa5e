"""The job `doctor`, which examines settings, database and log buckets. Run it in the UI or on a schedule."""

from collections import Counter
from functools import partial

import dagster as dg

from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.operations.doctor import Finding, Status
from tamarin_dagster.orchestration.naming import make_name
from tamarin_dagster.orchestration.resources import LogBuckets
from tamarin_dagster.settings import Settings


def build_doctor_job(settings: Settings, prefix: str = "") -> dg.JobDefinition:
    """Build the job that runs all examinations and fails with the first failed finding.

    It loads, migrates and purges nothing.
    """

    @dg.op(
        name=make_name(prefix, "examine_all"),
        out=dg.Out(dg.Nothing),
        description="Examines database and log buckets. If log keys are purged, it writes and deletes a test object.",
    )
    def examine_all(context: dg.OpExecutionContext, tamarin_log_buckets: LogBuckets) -> None:
        from tamarin_dagster.operations.doctor.examination import examine  # noqa: PLC0415 - boto3 takes a fifth of a second

        say = {Status.ok: context.log.info, Status.warn: context.log.warning, Status.fail: context.log.error}
        findings = []
        client_of = tamarin_log_buckets.client
        open_store = partial(open_log_store, client_of=client_of)
        for finding in examine(settings, open_store=open_store, client_of=client_of):
            findings.append(finding)
            say[finding.status](str(finding))
        counts = Counter(finding.status for finding in findings)
        metadata = {status.value: counts[status] for status in Status} | {"findings": _table(findings)}
        failed = [finding for finding in findings if finding.status is Status.fail]
        if failed:
            raise dg.Failure(str(failed[0]), metadata=metadata, allow_retries=False)
        context.add_output_metadata(metadata)

    @dg.job(
        name=make_name(prefix, "doctor"),
        description="Checks that settings, database and log buckets are fit for use, and says what to do if they are"
        " not.",
        executor_def=dg.in_process_executor,
    )
    def doctor() -> None:
        examine_all()

    return doctor


def _table(findings: list[Finding]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {"status": each.status.value, "subject": each.subject, "text": each.text, "remedy": each.remedy}
            )
            for each in findings
        ]
    )
