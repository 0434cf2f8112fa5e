"""Commands about access: look what is wrong, switch logging on, print the policies to grant."""

import json
import platform
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from tamarin_dagster.cli.app import (
    EXIT_LEFT_UNDONE,
    PROGRAM,
    BucketOption,
    JsonOption,
    command,
    flag,
    told_if_interrupted,
)
from tamarin_dagster.cli.configured import load_settings
from tamarin_dagster.cli.documents import found_thing, show_documents
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
    ("doctor", "whenever something seems wrong, and after a change of settings"),
    ("doctor --bucket media.example.org --json", "one bucket, for a monitoring script"),
)
def doctor(bucket: BucketOption = None, as_json: JsonOption = False) -> None:
    """Looks whether settings, database and log buckets are fit for use, and says what to do.

    Nothing is migrated, loaded or purged; where log keys are purged it writes, reads and deletes an object of its own.
    The status is 0 if nothing fails; warnings do not change it. All that it looks at: docs/how-to/troubleshooting.md.
    """
    from tamarin_dagster.operations.doctor.examination import examine  # noqa: PLC0415 - boto3 takes a quarter of a second

    settings = load_settings()
    chosen = [settings.bucket(bucket)] if bucket else None
    if not as_json:
        out.print(_versions(), highlight=False, soft_wrap=True)
    findings: list[Finding] = []
    with told_if_interrupted(f"A probe object (its name has {PROBE_NAME} in it) may be left in a log bucket."):
        for finding in examine(settings, open_store=open_log_store, client_of=open_client, buckets=chosen):
            findings.append(finding)
            if not as_json:
                _show(finding)
    if as_json:
        show_documents([found_thing(finding) for finding in findings])
    if any(finding.status is Status.fail for finding in findings):
        raise typer.Exit(EXIT_LEFT_UNDONE)


def _versions() -> str:
    """Return the versions that a report of a mistake needs; the findings name those of the database."""
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
    ("enable-logging media.example.org --dry-run", "see what would be sent to S3"),
    ("enable-logging media.example.org", "send it, after a yes"),
)
def enable_logging(
    bucket: Annotated[str, typer.Argument(help="The logged bucket, as in the settings.", metavar="BUCKET")],
    replace: Annotated[bool, flag("--replace", "Even if it logs to another place now.")] = False,
    yes: Annotated[bool, flag("--yes", "Do not ask.")] = False,
    dry_run: Annotated[bool, flag("--dry-run", "Only show what would be done.")] = False,
) -> None:
    """Switches a bucket's server access logging on, as the settings say.

    Once, for a bucket that S3 does not log yet. It shows what it will send, and asks: a statement for the log bucket's
    policy, and where the requests are logged to. The status is 0 if it is switched on, or was; 1 after a no, too.
    """
    logged = load_settings().bucket(bucket)
    if logged.log_folder is not None:
        raise SettingsError(f"bucket '{bucket}': its log bucket is a folder, and S3 delivers to a bucket only")
    from tamarin_dagster.logstore import enabling, inspection  # noqa: PLC0415 - boto3 takes a fifth of a second

    try:
        with inspection.asking(logged.log_bucket_name, "s3:ListBucket"):
            client = open_client(logged)
        wanted = inspection.LoggingTarget(logged.log_bucket_name, logged.log_prefix)
        plan = enabling.plan_logging(client, logged.name, wanted, enabling.account_of(client), replace=replace)
        _show_plan(plan)
        if not plan.steps or dry_run:
            return
        if not yes and not typer.confirm("Do this?", err=True):
            raise typer.Exit(EXIT_LEFT_UNDONE)
        enabling.carry_out(client, plan)
    except inspection.InspectionError as error:
        complain(f"bucket {bucket}: {error}" + (f" - {error.remedy}" if error.remedy else ""))
        raise typer.Exit(EXIT_LEFT_UNDONE) from None
    err.print("Done. S3 delivers the first log keys within some hours.")


def _show_plan(plan: "Plan") -> None:
    for text, body in plan.steps:
        out.print(printable(text), style="bold", highlight=False, soft_wrap=True)
        for line in body.splitlines():
            out.print(printable(line), highlight=False, soft_wrap=True)
    for note in plan.notes:
        err.print(printable(f"Note: {note}"), style="yellow", highlight=False)
    if not plan.steps:
        err.print("Nothing to do: it is switched on, as the settings say.")


@command(
    "iam-policy",
    ("iam-policy > read.json", "for who loads"),
    ("iam-policy --purge > purge.json", "for who deletes, beside the first"),
)
def iam_policy(
    bucket: BucketOption = None,
    purge: Annotated[bool, flag("--purge", "What a purge takes, beside reading.")] = False,
    for_archive: Annotated[bool, flag("--archive", "What archiving takes, beside reading.")] = False,
    for_doctor: Annotated[bool, flag("--doctor", "What the doctor takes, beside both.")] = False,
) -> None:
    """Prints the IAM policy that reading the configured log buckets takes, or purging, or examining them.

    JSON, made of the settings alone: the least that is needed, under each bucket's log_prefix. S3 is not asked.
    """
    chosen = [
        make
        for make, wanted in ((purge_policy, purge), (archive_policy, for_archive), (doctor_policy, for_doctor))
        if wanted
    ]
    if len(chosen) > 1:
        raise SettingsError("--purge, --archive and --doctor are policies of their own: ask for one at a time")
    make = chosen[0] if chosen else reading_policy
    sys.stdout.write(json.dumps(make(load_settings(), bucket), indent=2) + "\n")
