"""Ask S3 about a bucket itself: whether it answers, and how it is configured. Nothing is changed here."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from tamarin_dagster.logkey import LogObject
from tamarin_dagster.logstore.endpoints import explain_protocol
from tamarin_dagster.logstore.errors import RESTORE, get_code, get_status, summarize_error
from tamarin_dagster.logstore.store import LogStoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import LifecycleRuleOutputTypeDef

# How many pages of 1,000 names are searched for archived objects.
MAX_ARCHIVE_PAGES = 3
# The storage classes whose objects must be restored before they can be read; GLACIER_IR is readable at once.
_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
_DENIED = ("AccessDenied", "403")
_NOT_OFFERED = (
    *("NotImplemented", "XNotImplemented", "MethodNotAllowed", "UnsupportedOperation", "NotSupported"),
    *("501", "405"),
)
_NOT_OFFERED_STATUSES = (405, 501)
# The remedy, by S3's error code or the client's error class.
_REMEDIES = {
    "NoSuchBucket": "check the bucket's name, region and endpoint_url",
    "404": "check the bucket's name, region and endpoint_url",
    "InvalidAccessKeyId": "check profile or AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check profile or AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "renew the credentials",
    "RequestTimeTooSkewed": "correct this machine's clock",
    "301": "set the bucket's region",
    "PermanentRedirect": "set the bucket's region",
    "AuthorizationHeaderMalformed": "set the bucket's region",
    "InvalidObjectState": RESTORE,
    "NoCredentialsError": "set a profile or AWS_ACCESS_KEY_ID",
    "ProfileNotFound": "name a profile that exists in ~/.aws/config",
    "SSLError": "make the endpoint's certificate trusted: AWS_CA_BUNDLE names a file of authorities",
    "EndpointConnectionError": "check endpoint_url and the network",
    "ConnectTimeoutError": "check endpoint_url and the network",
}


class InspectionError(LogStoreError):
    """A bucket does not answer a question. `remedy` says what to do."""

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.remedy = remedy


class NotPermittedError(InspectionError):
    """The credentials lack a permission; `remedy` names the permission to grant."""


class NotOfferedError(InspectionError):
    """The store does not support this; not every S3-compatible store supports everything."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A bucket's answer.

    Attributes:
        permitted: false if the bucket only refused permission: a policy that limits s3:ListBucket to a prefix does not
            allow HeadBucket.
        region: its region; None if the store does not say.
        clock_seconds: our clock minus the store's; None if the store does not say.
    """

    permitted: bool
    region: str | None
    clock_seconds: float | None


@dataclass(frozen=True, slots=True)
class LoggingTarget:
    """Where S3 delivers the log keys of a bucket."""

    bucket: str
    prefix: str


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """What an enabled rule does with current objects, in days after an object was written; 0 for a rule with a date."""

    name: str
    expires_after_days: int | None
    archives_after_days: int | None


def reach(client: "S3Client", bucket: str, clock: Callable[[], float] = time.time) -> Reached:
    """Find out whether the bucket exists, and its region. Raises InspectionError."""
    with asking(bucket, "s3:ListBucket", client.meta.endpoint_url):
        try:
            answer: Any = client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if wrong := explain_protocol(error, client.meta.endpoint_url):
                raise InspectionError(*wrong) from error
            # The response to a HEAD has only a status; the response to a listing says more.
            if get_status(error) not in (400, 403) or error.operation_name != "HeadBucket":
                raise
            answer = error.response
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return Reached(
        "Error" not in answer, headers.get("x-amz-bucket-region"), _count_seconds_ahead(headers.get("date"), clock())
    )


def _count_seconds_ahead(date: str | None, now: float) -> float | None:
    """Return how many seconds `now` is ahead of a Date header."""
    try:
        return now - parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def check_listing(client: "S3Client", bucket: str, prefix: str) -> None:
    """List one name under the prefix. Raises InspectionError."""
    with asking(bucket, "s3:ListBucket", client.meta.endpoint_url):
        client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)


def find_archived_objects(client: "S3Client", bucket: str, prefix: str) -> tuple[list[LogObject], bool]:
    """Return the objects that must be restored before they can be read, and whether all objects were searched.

    Only the first MAX_ARCHIVE_PAGES pages, which have the oldest names, are searched. Raises InspectionError.
    """
    found: list[LogObject] = []
    marker = ""
    for _ in range(MAX_ARCHIVE_PAGES):
        with asking(bucket, "s3:ListBucket", client.meta.endpoint_url):
            # Not ListObjectsV2, from whose answers the clients of log stores drop the storage class; see listing.py.
            page = client.list_objects(Bucket=bucket, Prefix=prefix, Marker=marker)
        objects = page.get("Contents", [])
        found += [
            LogObject(each["Key"], each["ETag"].strip('"'), each["Size"], each["LastModified"])
            for each in objects
            if each.get("StorageClass") in _ARCHIVES
        ]
        if not page.get("IsTruncated") or not objects:
            return found, True
        marker = objects[-1]["Key"]
    return found, False


def is_aws(client: "S3Client") -> bool:
    """Return whether the client talks to AWS itself, not to a compatible store."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def check_reading(client: "S3Client", bucket: str, item: LogObject) -> None:
    """Read the first byte of exactly this generation. Raises InspectionError."""
    with asking(bucket, "s3:GetObject"):
        wanted = {"Range": "bytes=0-0"} if item.size else {}
        client.get_object(Bucket=bucket, Key=item.key, IfMatch=f'"{item.etag}"', **wanted)["Body"].read()  # type: ignore[arg-type]


def get_versioning(client: "S3Client", bucket: str) -> str:
    """Return `Enabled`, `Suspended`, or "" if the bucket never had versions. Raises InspectionError."""
    with asking(bucket, "s3:GetBucketVersioning"):
        return client.get_bucket_versioning(Bucket=bucket).get("Status", "")


def has_object_lock(client: "S3Client", bucket: str) -> bool:
    """Return whether objects can be locked against deletion. Raises InspectionError."""
    with asking(bucket, "s3:GetBucketObjectLockConfiguration"):
        answer = _ask_unless_none(
            lambda: client.get_object_lock_configuration(Bucket=bucket), "ObjectLockConfigurationNotFoundError"
        )
    return bool(answer) and answer["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"


def has_requester_pays(client: "S3Client", bucket: str) -> bool:
    """Return whether requesters pay. Raises InspectionError."""
    with asking(bucket, "s3:GetBucketRequestPayment"):
        return client.get_bucket_request_payment(Bucket=bucket).get("Payer") == "Requester"


def get_logging_target(client: "S3Client", bucket: str) -> LoggingTarget | None:
    """Return where the requests of this bucket are logged to, or None. Raises InspectionError."""
    with asking(bucket, "s3:GetBucketLogging"):
        target = client.get_bucket_logging(Bucket=bucket).get("LoggingEnabled")
    return LoggingTarget(target["TargetBucket"], target.get("TargetPrefix", "")) if target else None


def get_lifecycle_rules(client: "S3Client", bucket: str, log_prefix: str) -> list[LifecycleRule]:
    """Return the enabled rules that may affect log keys under the prefix. Raises InspectionError."""
    with asking(bucket, "s3:GetLifecycleConfiguration"):
        answer = _ask_unless_none(
            lambda: client.get_bucket_lifecycle_configuration(Bucket=bucket), "NoSuchLifecycleConfiguration"
        )
    return [
        _convert_rule(rule)
        for rule in (answer or {}).get("Rules", [])
        if rule["Status"] == "Enabled" and _touches(rule, log_prefix)
    ]


def _touches(rule: "LifecycleRuleOutputTypeDef", log_prefix: str) -> bool:
    chosen = rule.get("Filter", {})
    both = chosen.get("And", {})
    if "Tag" in chosen or both.get("Tags"):
        return False  # S3 delivers log keys without tags
    prefix = rule.get("Prefix") or chosen.get("Prefix") or both.get("Prefix") or ""
    # After the log prefix, both layouts continue with a digit: of a year or of an account.
    return log_prefix.startswith(prefix) or (prefix.startswith(log_prefix) and prefix[len(log_prefix)].isdigit())


def _convert_rule(rule: "LifecycleRuleOutputTypeDef") -> LifecycleRule:
    archives = [_days(t) for t in rule.get("Transitions", []) if t.get("StorageClass") in _ARCHIVES]
    return LifecycleRule(
        rule.get("ID", ""),
        _days(rule.get("Expiration", {})),
        min((days for days in archives if days is not None), default=None),
    )


def _days(when: Any) -> int | None:
    """Return a rule's days; 0 for a date, from which on the rule applies to all present and future objects."""
    return 0 if when.get("Date") else when.get("Days")


def _ask_unless_none(ask: Callable[[], Any], none: str) -> Any:
    """Return the answer; None if the error code says that there is no such configuration."""
    try:
        return ask()
    except ClientError as error:
        if get_code(error) == none:
            return None
        raise


@contextmanager
def asking(bucket: str, action: str, endpoint_url: str = "") -> Iterator[None]:
    """Convert errors of the client into InspectionErrors; `action` is the permission that is needed."""
    try:
        yield
    except (ClientError, BotoCoreError, ValueError, ResponseParserError) as error:
        if endpoint_url and (wrong := explain_protocol(error, endpoint_url)):
            raise InspectionError(*wrong) from error
        raise explain_error(error, bucket, action) from error


def explain_error(error: Exception, bucket: str, action: str) -> InspectionError:
    """Return an error of the client with its cause and remedy."""
    code = get_code(error) if isinstance(error, ClientError) else type(error).__name__
    if isinstance(error, ClientError) and error.operation_name.startswith("AssumeRole"):
        remedy = "check role_arn: its trust policy must name the caller, and the caller needs sts:AssumeRole"
        return InspectionError(f"the role cannot be assumed: {summarize_error(error)}", remedy)
    if code in _DENIED:
        return NotPermittedError(f"access denied: {summarize_error(error)}", f"grant {action} on {bucket}")
    if code in _NOT_OFFERED or (isinstance(error, ClientError) and get_status(error) in _NOT_OFFERED_STATUSES):
        return NotOfferedError(f"the store does not support it: {summarize_error(error)}")
    return InspectionError(summarize_error(error), _REMEDIES.get(code, ""))
