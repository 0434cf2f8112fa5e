"""Switching a bucket's server access logging on: a plan first, that can be shown, and then what it says.

The log bucket's policy lets S3's logging service write, which buckets without ACLs need (S3 user guide, "Enabling
Amazon S3 server access logging"); then the logged bucket is told where to.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError

from tamarin_dagster.logstore.arns import bucket_arn, literal
from tamarin_dagster.logstore.errors import code_of
from tamarin_dagster.logstore.inspection import (
    InspectionError,
    LoggingTarget,
    NotOfferedError,
    asking,
    is_aws,
    logging_of,
    reach,
)
from tamarin_dagster.urls import describe_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OTHER_MEANS = "switch logging on by the store's own means, if it has any; nothing else delivers log keys"

SID = "TamarinS3ServerAccessLogs"


@dataclass(frozen=True, slots=True)
class Plan:
    """What switching on will send.

    Attributes:
        source, log_bucket: the logged bucket, and where its log keys will be delivered.
        policy: the log bucket's new policy, as JSON; None if it needs no change.
        logging: the logged bucket's new BucketLoggingStatus, as JSON; None if it needs no change.
        notes: what a person should know.
    """

    source: str
    log_bucket: str
    policy: str | None
    logging: str | None
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Each step as a line of text, and the JSON it sends."""
        found = []
        if self.policy is not None:
            found.append((f"PutBucketPolicy on {self.log_bucket}: S3's logging service may write to it", self.policy))
        if self.logging is not None:
            found.append((f"PutBucketLogging on {self.source}: its requests are logged", self.logging))
        return found


def account_of(client: "S3Client") -> str | None:
    """The account that the client acts for; None for a store of another make. Raises InspectionError.

    Credentials of another store are never sent to AWS: not unless the environment names an endpoint for STS too.
    """
    with asking("any bucket", "sts:GetCallerIdentity"):
        # As in logstore.getting: a client has no public name for its credentials.
        credentials = client._request_signer._credentials  # type: ignore[attr-defined]
        if credentials is None:
            raise InspectionError("no AWS credentials found", "set a profile or AWS_ACCESS_KEY_ID")
        frozen = credentials.get_frozen_credentials()
        sts = boto3.client(
            "sts",
            region_name=_region(client),
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
    """What it takes to have the requests of `source` logged as wanted. Changes nothing.

    Without an account no policy is sent: who may deliver is the store's own matter then.

    Raises InspectionError, also where it must not be done: into itself without a prefix, into another region, or over
    logging to another place unless `replace`.
    """
    if source == wanted.bucket and not wanted.prefix:
        raise InspectionError(
            f"{source} would log into itself, and its log keys would lie among its own objects",
            "set a log_prefix of their own, or choose another log bucket",
        )
    here, there = (reach(client, name).region for name in (source, wanted.bucket))
    if here and there and here != there:
        raise InspectionError(
            f"{source} is in {here}, its log bucket {wanted.bucket} in {there}", "S3 wants both in one region"
        )
    try:
        present = logging_of(client, source)
    except NotOfferedError as error:
        raise _no_logging(client, error) from error
    if present and present != wanted and not replace:
        raise InspectionError(
            f"{source} logs to {present.bucket!r} under {present.prefix!r} already",
            "correct log_bucket_name and log_prefix, or say --replace",
        )
    policy: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    if account is not None:
        policy, merged = _merged_policy(client, source, wanted, account, here or _region(client))
    status = {"LoggingEnabled": {"TargetBucket": wanted.bucket, "TargetPrefix": wanted.prefix}}
    return Plan(
        source,
        wanted.bucket,
        policy=None if merged == policy else json.dumps(merged, indent=2),
        logging=None if present == wanted else json.dumps(status, indent=2),
        notes=_notes(
            merged, source, wanted.bucket, present if present != wanted else None, knows_account=account is not None
        ),
    )


def carry_out(client: "S3Client", plan: Plan) -> None:
    """Does what the plan says: the policy first, since S3 wants it to be there. Raises InspectionError."""
    if plan.policy is not None:
        with asking(plan.log_bucket, "s3:PutBucketPolicy"):
            client.put_bucket_policy(Bucket=plan.log_bucket, Policy=plan.policy)
    if plan.logging is not None:
        try:
            with asking(plan.source, "s3:PutBucketLogging"):
                client.put_bucket_logging(Bucket=plan.source, BucketLoggingStatus=json.loads(plan.logging))
        except NotOfferedError as error:
            raise _no_logging(client, error) from error


def _no_logging(client: "S3Client", error: NotOfferedError) -> NotOfferedError:
    """What is said where a store has no server access logging that S3's requests could switch on."""
    place = describe_url(client.meta.endpoint_url)
    return NotOfferedError(f"{place} cannot switch server access logging on by S3's requests: {error}", OTHER_MEANS)


def _merged_policy(
    client: "S3Client", source: str, wanted: LoggingTarget, account: str, region: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The log bucket's policy as it is, and with our statement in its place, or behind the others."""
    policy = _policy_of(client, wanted.bucket)
    ours = {
        "Sid": _sid(source),
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"{bucket_arn(wanted.bucket, region)}/{literal(wanted.prefix)}*",
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


def _policy_of(client: "S3Client", bucket: str) -> dict[str, Any]:
    with asking(bucket, "s3:GetBucketPolicy"):
        try:
            policy: dict[str, Any] = json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])
        except ClientError as error:
            if code_of(error) != "NoSuchBucketPolicy":
                raise
            return {}
        return policy


def _sid(source: str) -> str:
    """The name of our statement for a source; a Sid has letters, digits and dashes only."""
    plain = re.sub(r"[^A-Za-z0-9-]", "-", source)
    # So that the statement of `a-b` is not taken for that of `a.b`.
    return f"{SID}-{plain}" + (f"-{hashlib.sha256(source.encode()).hexdigest()[:8]}" if plain != source else "")


def _notes(
    policy: dict[str, Any], source: str, log_bucket: str, replaced: LoggingTarget | None, *, knows_account: bool
) -> tuple[str, ...]:
    notes = []
    if source == log_bucket:
        notes.append(f"{source} logs into itself: each delivery of a log key is a PUT that is logged in turn")
    if not knows_account:
        notes.append(f"this is no store of AWS: no policy is sent, and the store decides who may write to {log_bucket}")
    if replaced:
        notes.append(f"its logging to {replaced.bucket!r} under {replaced.prefix!r} ends")
    if any(statement.get("Effect") == "Deny" for statement in policy.get("Statement", ())):
        notes.append(f"the policy of {log_bucket} has Deny statements: see that none meets logging.s3.amazonaws.com")
    return tuple(notes)


def _region(client: "S3Client") -> str:
    region = client.meta.region_name
    return region if region and region != "aws-global" else "us-east-1"
