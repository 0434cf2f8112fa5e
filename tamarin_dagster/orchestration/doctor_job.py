"""The job `doctor`: whether settings, database and log buckets are fit for use, on the page and on a schedule."""

from collections import Counter
from functools import partial

import dagster as dg

from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.operations.doctor import Finding, Status
from tamarin_dagster.orchestration.naming import named
from tamarin_dagster.orchestration.resources import LogBuckets
from tamarin_dagster.settings import Settings


def build_doctor_job(settings: Settings, prefix: str = "") -> dg.JobDefinition:
    """Examines all; fails with the first finding that does. It loads, migrates and purges nothing."""

    @dg.op(
        name=named(prefix, "examine_all"),
        out=dg.Out(dg.Nothing),
        description="Looks at database and log buckets; where log keys are purged, with an object of its own.",
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
        name=named(prefix, "doctor"),
        description="Looks whether settings, database and log buckets are fit for use, and says what to do if not.",
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
