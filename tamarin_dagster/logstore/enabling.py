"""Enable a bucket's server access logging: first make a plan that can be shown, then carry it out.

The log bucket's policy lets S3's logging service write, which buckets without ACLs need (S3 user guide, "Enabling
Amazon S3 server access logging"). Then the logged bucket is configured to deliver there.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError

from tamarin_dagster.logstore.arns import bucket_arn, escape_literal
from tamarin_dagster.logstore.errors import get_code
from tamarin_dagster.logstore.inspection import (
    InspectionError,
    LoggingTarget,
    NotOfferedError,
    asking,
    get_logging_target,
    is_aws,
    reach,
)
from tamarin_dagster.urls import describe_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OTHER_MEANS = "enable logging with the store's own tools, if it has any; otherwise nothing delivers log keys"

SID = "TamarinS3ServerAccessLogs"


@dataclass(frozen=True, slots=True)
class Plan:
    """What enabling will send.

    Attributes:
        source, log_bucket: the logged bucket, and where its log keys will be delivered.
        policy: the log bucket's new policy, as JSON; None if it needs no change.
        logging: the logged bucket's new BucketLoggingStatus, as JSON; None if it needs no change.
        notes: what a person should know before.
    """

    source: str
    log_bucket: str
    policy: str | None
    logging: str | None
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Return each step as a line of text, and the JSON that it sends."""
        found = []
        if self.policy is not None:
            found.append((f"PutBucketPolicy on {self.log_bucket}: S3's logging service may write to it", self.policy))
        if self.logging is not None:
            found.append((f"PutBucketLogging on {self.source}: its requests are logged", self.logging))
        return found


def find_account(client: "S3Client") -> str | None:
    """Return the account that the client acts for; None for a store other than AWS. Raises InspectionError.

    Credentials of another store are never sent to AWS, unless the environment names an STS endpoint as well.
    """
    with asking("any bucket", "sts:GetCallerIdentity"):
        # A client has no public name for its credentials; see logstore.getting.
        credentials = client._request_signer._credentials  # type: ignore[attr-defined]
        if credentials is None:
            raise InspectionError("no AWS credentials found", "set a profile or AWS_ACCESS_KEY_ID")
        frozen = credentials.get_frozen_credentials()
        sts = boto3.client(
            "sts",
            region_name=_find_region(client),
            aws_access_key_id=frozen.access_key,
            aws_secret_access_key=frozen.secret_key,
            aws_session_token=frozen.token,
        )
        if is_aws(sts) and not is_aws(client):
            return None
        return str(sts.get_caller_identity()["Account"])


def plan_logging(
    client: "S3Client", source: str, wanted: LoggingTarget, account: str | None, *, replace: bool = False
) -> Plan:
    """Return what it takes to log the requests of `source` as wanted. Changes nothing.

    Without an account the plan has no policy, because the store then decides who may deliver.

    Raises InspectionError, also if it must not be done: into itself without a prefix, into another region, or in place
    of logging to another target without `replace`.
    """
    if source == wanted.bucket and not wanted.prefix:
        raise InspectionError(
            f"{source} would log into itself, and its log keys would lie among its own objects",
            "set a log_prefix that only log keys have, or choose another log bucket",
        )
    here, there = (reach(client, name).region for name in (source, wanted.bucket))
    if here and there and here != there:
        raise InspectionError(
            f"{source} is in {here}, but its log bucket {wanted.bucket} is in {there}",
            "choose a log bucket in the same region, as S3 requires",
        )
    try:
        present = get_logging_target(client, source)
    except NotOfferedError as error:
        raise _explain_no_logging(client, error) from error
    if present and present != wanted and not replace:
        raise InspectionError(
            f"{source} already logs to {present.bucket!r} under {present.prefix!r}",
            "correct log_bucket_name and log_prefix, or use --replace",
        )
    policy: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    if account is not None:
        policy, merged = _merge_policy(client, source, wanted, account, here or _find_region(client))
    status = {"LoggingEnabled": {"TargetBucket": wanted.bucket, "TargetPrefix": wanted.prefix}}
    return Plan(
        source,
        wanted.bucket,
        policy=None if merged == policy else json.dumps(merged, indent=2),
        logging=None if present == wanted else json.dumps(status, indent=2),
        notes=_make_notes(
            merged, source, wanted.bucket, present if present != wanted else None, knows_account=account is not None
        ),
    )


def carry_out(client: "S3Client", plan: Plan) -> None:
    """Carry out the plan: the policy first, because S3 requires it. Raises InspectionError."""
    if plan.policy is not None:
        with asking(plan.log_bucket, "s3:PutBucketPolicy"):
            client.put_bucket_policy(Bucket=plan.log_bucket, Policy=plan.policy)
    if plan.logging is not None:
        try:
            with asking(plan.source, "s3:PutBucketLogging"):
                client.put_bucket_logging(Bucket=plan.source, BucketLoggingStatus=json.loads(plan.logging))
        except NotOfferedError as error:
            raise _explain_no_logging(client, error) from error


def _explain_no_logging(client: "S3Client", error: NotOfferedError) -> NotOfferedError:
    """Return the error for a store whose logging S3's requests cannot enable."""
    place = describe_url(client.meta.endpoint_url)
    return NotOfferedError(f"{place} does not let S3's requests enable server access logging: {error}", OTHER_MEANS)


def _merge_policy(
    client: "S3Client", source: str, wanted: LoggingTarget, account: str, region: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the log bucket's policy now, and with our statement replaced or appended."""
    policy = _read_policy(client, wanted.bucket)
    ours = {
        "Sid": _make_sid(source),
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"{bucket_arn(wanted.bucket, region)}/{escape_literal(wanted.prefix)}*",
        "Condition": {
            "ArnLike": {"aws:SourceArn": bucket_arn(source, region)},
            "StringEquals": {"aws:SourceAccount": account},
        },
    }
    statements = policy.get("Statement", [])
    statements = statements if isinstance(statements, list) else [statements]
    if ours in statements:
        return policy, policy
    others = [statement for statement in statements if statement.get("Sid") != ours["Sid"]]
    return policy, {"Version": "2012-10-17"} | policy | {"Statement": [*others, ours]}


def _read_policy(client: "S3Client", bucket: str) -> dict[str, Any]:
    with asking(bucket, "s3:GetBucketPolicy"):
        try:
            policy: dict[str, Any] = json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])
        except ClientError as error:
            if get_code(error) != "NoSuchBucketPolicy":
                raise
            return {}
        return policy


def _make_sid(source: str) -> str:
    """Return the name of our statement for a source. A Sid has only letters, digits and dashes."""
    plain = re.sub(r"[^A-Za-z0-9-]", "-", source)
    # Otherwise the statements of `a-b` and `a.b` would have the same name.
    return f"{SID}-{plain}" + (f"-{hashlib.sha256(source.encode()).hexdigest()[:8]}" if plain != source else "")


def _make_notes(
    policy: dict[str, Any], source: str, log_bucket: str, replaced: LoggingTarget | None, *, knows_account: bool
) -> tuple[str, ...]:
    notes = []
    if source == log_bucket:
        notes.append(f"{source} logs into itself: each delivery of a log key is a PUT that is logged in turn")
    if not knows_account:
        notes.append(f"this store is not AWS: no policy is sent, and the store decides who may write to {log_bucket}")
    if replaced:
        notes.append(f"its logging to {replaced.bucket!r} under {replaced.prefix!r} ends")
    if any(statement.get("Effect") == "Deny" for statement in policy.get("Statement", ())):
        notes.append(
            f"the policy of {log_bucket} has Deny statements: check that none applies to logging.s3.amazonaws.com"
        )
    return tuple(notes)


def _find_region(client: "S3Client") -> str:
    region = client.meta.region_name
    return region if region and region != "aws-global" else "us-east-1"
