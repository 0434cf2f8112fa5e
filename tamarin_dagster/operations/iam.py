"""IAM policies of least privilege for the configured log buckets, made from the settings without asking AWS.

Reading needs s3:ListBucket under the log prefix, and s3:GetObject (each GET is pinned by If-Match, so it does not need
s3:GetObjectVersion). A purge needs s3:DeleteObject and, on versioned buckets, s3:DeleteObjectVersion. If-Match on a
DELETE also needs s3:GetObject (S3 user guide, "How to perform conditional deletes"), which the reading policy grants.
"""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from tamarin_dagster.logstore.arns import PROBE_NAME, bucket_arn, escape_literal
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError

_INSPECTIONS = (
    "s3:GetBucketLogging",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketRequestPayment",
    "s3:GetBucketVersioning",
    "s3:GetLifecycleConfiguration",
)


def reading_policy(settings: Settings, bucket: str | None = None) -> dict[str, Any]:
    """Return the policy for listing and reading log keys of that bucket or of all. Raises SettingsError."""
    prefixes = _prefixes(_in_s3(settings, bucket))
    listed = [
        _statement("s3:ListBucket", [log_bucket], sid=f"ListLogKeys{number}")
        | (
            {}
            if "" in found
            else {"Condition": {"StringLike": {"s3:prefix": [f"{escape_literal(p)}*" for p in found]}}}
        )
        for number, (log_bucket, found) in enumerate(prefixes.items(), start=1)
    ]
    return _policy(*listed, _statement("s3:GetObject", _keys(prefixes), sid="ReadLogKeys"))


def purge_policy(settings: Settings, bucket: str | None = None) -> dict[str, Any]:
    """Return the policy that a purge of that bucket, or of all, needs in addition to reading. Raises SettingsError."""
    keys = _keys(_prefixes(_purging(settings, bucket)))
    if not keys:
        raise SettingsError("no log bucket in S3 is purged (purge_parsed_keys is false), so no policy is needed")
    return _policy(_statement(["s3:DeleteObject", "s3:DeleteObjectVersion"], keys, sid="PurgeLogKeys"))


def archive_policy(settings: Settings, bucket: str | None = None) -> dict[str, Any]:
    """Return the policy that archiving to S3 needs in addition to reading, of that bucket or all. Raises SettingsError.

    It has s3:ListBucket, because without it S3 answers 403, not 404, for a list of files that does not exist yet.
    """
    chosen = [settings.bucket(bucket)] if bucket else settings.buckets
    prefixes: dict[str, set[str]] = {}
    for each in chosen:
        parts = urlsplit(settings.archive_of(each) or "")
        if parts.scheme == "s3":
            prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
            prefixes.setdefault(bucket_arn(parts.netloc, each.region), set()).add(prefix)
    if not prefixes:
        raise SettingsError("no bucket has an archive in S3, so no policy is needed")
    found = {arn: sorted(filter(_drop_covered(each), each)) for arn, each in sorted(prefixes.items())}
    actions = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject", "s3:DeleteObject"]
    return _policy(
        _statement("s3:ListBucket", list(found), sid="ListArchives"),
        _statement(actions, _keys(found), sid="WriteArchives"),
    )


def doctor_policy(settings: Settings, bucket: str | None = None) -> dict[str, Any]:
    """Return the policy that the doctor needs in addition to those, of one bucket or all. Raises SettingsError."""
    chosen = _in_s3(settings, bucket)
    sources = sorted({bucket_arn(each.name, each.region) for each in chosen})
    statements = [
        _statement(list(_INSPECTIONS), list(_prefixes(chosen)), sid="InspectLogBuckets"),
        _statement("s3:GetBucketLogging", sources, sid="InspectLoggedBuckets"),
    ]
    if probes := _keys(_prefixes(_purging(settings, bucket)), PROBE_NAME):
        statements.append(_statement("s3:PutObject", probes, sid="WriteProbeObjects"))
    return _policy(*statements)


def _in_s3(settings: Settings, name: str | None) -> list[LoggedBucket]:
    chosen = [settings.bucket(name)] if name else settings.buckets
    found = [bucket for bucket in chosen if bucket.log_folder is None]
    if not found:
        raise SettingsError("no log bucket in S3 is configured; a file:// folder needs no policy")
    return found


def _purging(settings: Settings, name: str | None) -> list[LoggedBucket]:
    return [bucket for bucket in _in_s3(settings, name) if settings.should_purge(bucket)]


def _prefixes(buckets: Iterable[LoggedBucket]) -> dict[str, list[str]]:
    """Return the log prefixes in each log bucket, by its ARN, without those that another prefix covers."""
    found: dict[str, set[str]] = {}
    for bucket in buckets:
        found.setdefault(bucket_arn(bucket.log_bucket_name, bucket.region), set()).add(bucket.log_prefix)
    return {arn: sorted(filter(_drop_covered(prefixes), prefixes)) for arn, prefixes in sorted(found.items())}


def _drop_covered(prefixes: set[str]) -> Callable[[str], bool]:
    return lambda prefix: not any(prefix != other and prefix.startswith(other) for other in prefixes)


def _keys(prefixes: dict[str, list[str]], name: str = "") -> list[str]:
    return [f"{arn}/{escape_literal(prefix)}{name}*" for arn, found in prefixes.items() for prefix in found]


def _statement(action: str | list[str], resources: list[str], *, sid: str) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resources}


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}
