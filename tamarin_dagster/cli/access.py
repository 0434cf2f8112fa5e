"""Commands about access: diagnose, switch logging on, print IAM policies."""

import json
import platform
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from tamarin_dagster.cli.app import (
    EXIT_INCOMPLETE,
    PROGRAM,
    BucketOption,
    JsonOption,
    command,
    explain_interrupt,
    flag,
)
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import DoctorFinding, show_documents
from tamarin_dagster.cli.terminal import complain, err, out, printable
from tamarin_dagster.logstore.arns import PROBE_NAME
from tamarin_dagster.logstore.opening import open_client, open_log_store
from tamarin_dagster.operations.doctor import Finding, Status
from tamarin_dagster.operations.iam import archive_policy, doctor_policy, purge_policy, reading_policy
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION
from tamarin_dagster.settings import SettingsError

if TYPE_CHECKING:
    from tamarin_dagster.logstore.enabling import Plan

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@command(
    "doctor",
    ("doctor", "when something seems wrong, and after you change the settings"),
    ("doctor --bucket media.example.org --json", "one bucket, for a monitoring script"),
)
def doctor(bucket: BucketOption = None, as_json: JsonOption = False) -> None:
    """Check the settings, the database and the log buckets, and say what to do.

    The command migrates, loads and purges nothing. Where log keys are purged, it writes, reads and deletes one probe
    object of its own. The exit status is 0 if no check fails; warnings do not change it. All checks:
    docs/how-to/troubleshooting.md.
    """
    from tamarin_dagster.operations.doctor.examination import examine  # noqa: PLC0415 - boto3 takes a quarter of a second

    settings = load_settings()
    chosen = [settings.bucket(bucket)] if bucket else None
    if not as_json:
        out.print(_versions(), highlight=False, soft_wrap=True)
    findings: list[Finding] = []
    with explain_interrupt(f"A probe object (its name contains {PROBE_NAME}) may remain in a log bucket."):
        for finding in examine(settings, open_store=open_log_store, client_of=open_client, buckets=chosen):
            findings.append(finding)
            if not as_json:
                _show(finding)
    if as_json:
        show_documents([DoctorFinding.model_validate(finding) for finding in findings])
    if any(finding.status is Status.fail for finding in findings):
        raise typer.Exit(EXIT_INCOMPLETE)


def _versions() -> str:
    """Return the versions that a bug report needs; the findings add those of the database."""
    system = f"{platform.system()} {platform.machine()}"
    return (
        f"{PROGRAM} {version('tamarin-dagster')} (schema revision {SCHEMA_REVISION}), Python"
        f" {platform.python_version()}, Dagster {version('dagster')}, {system}"
    )


def _show(finding: Finding) -> None:
    label = f"[{_COLOURS[finding.status]}]{finding.status:<4}[/]"
    out.print(f"{label}  {printable(finding.subject)}: {printable(finding.text)}", highlight=False, soft_wrap=True)
    if finding.remedy:
        out.print(f"      {printable(finding.remedy)}", highlight=False, soft_wrap=True)


@command(
    "enable-logging",
    ("enable-logging media.example.org --dry-run", "show the requests, and send nothing"),
    ("enable-logging media.example.org", "send them after you confirm"),
)
def enable_logging(
    bucket: Annotated[str, typer.Argument(help="The logged bucket, as named in the settings.", metavar="BUCKET")],
    replace: Annotated[bool, flag("--replace", "Proceed even if the bucket logs to another place now.")] = False,
    yes: Annotated[bool, flag("--yes", "Do not ask for confirmation.")] = False,
    dry_run: Annotated[bool, flag("--dry-run", "Only show what would be done.")] = False,
) -> None:
    """Switch on a bucket's server access logging, as configured in the settings.

    Run it once, for a bucket that S3 does not log yet. The command shows two requests and asks before it sends them: a
    statement for the log bucket's policy, and the place that the requests are logged to. The exit status is 0 if
    logging is on, also if it was on before, and 1 if you answer no.
    """
    logged = load_settings().bucket(bucket)
    if logged.log_folder is not None:
        raise SettingsError(f"bucket '{bucket}': its log bucket is a folder; S3 can deliver logs only to a bucket")
    from tamarin_dagster.logstore import enabling, inspection  # noqa: PLC0415 - boto3 takes a fifth of a second

    try:
        with inspection.asking(logged.log_bucket_name, "s3:ListBucket"):
            client = open_client(logged)
        wanted = inspection.LoggingTarget(logged.log_bucket_name, logged.log_prefix)
        plan = enabling.plan_logging(client, logged.name, wanted, enabling.find_account(client), replace=replace)
        _show_plan(plan)
        if not plan.steps or dry_run:
            return
        if not yes and not typer.confirm("Do this?", err=True):
            raise typer.Exit(EXIT_INCOMPLETE)
        enabling.carry_out(client, plan)
    except inspection.InspectionError as error:
        complain(f"bucket {bucket}: {error}" + (f" - {error.remedy}" if error.remedy else ""))
        raise typer.Exit(EXIT_INCOMPLETE) from None
    err.print("Done. S3 delivers the first log keys within a few hours.")


def _show_plan(plan: "Plan") -> None:
    for text, body in plan.steps:
        out.print(printable(text), style="bold", highlight=False, soft_wrap=True)
        for line in body.splitlines():
            out.print(printable(line), highlight=False, soft_wrap=True)
    for note in plan.notes:
        err.print(printable(f"Note: {note}"), style="yellow", highlight=False)
    if not plan.steps:
        err.print("Nothing to do: logging is already on, as configured in the settings.")


@command(
    "iam-policy",
    ("iam-policy > read.json", "for the role that loads"),
    ("iam-policy --purge > purge.json", "for the role that deletes, in addition to the first"),
)
def iam_policy(
    bucket: BucketOption = None,
    purge: Annotated[bool, flag("--purge", "What a purge needs in addition to reading.")] = False,
    for_archive: Annotated[bool, flag("--archive", "What archiving needs in addition to reading.")] = False,
    for_doctor: Annotated[bool, flag("--doctor", "What the doctor needs in addition to both.")] = False,
) -> None:
    """Print the IAM policy for reading the configured log buckets, or for purging, archiving or examining them.

    The policy is JSON, made from the settings without asking S3. It grants the minimum, under each bucket's log_prefix.
    """
    chosen = [
        make
        for make, wanted in ((purge_policy, purge), (archive_policy, for_archive), (doctor_policy, for_doctor))
        if wanted
    ]
    if len(chosen) > 1:
        raise SettingsError("--purge, --archive and --doctor are separate policies: ask for one at a time")
    make = chosen[0] if chosen else reading_policy
    sys.stdout.write(json.dumps(make(load_settings(), bucket), indent=2) + "\n")
