"""Find out whether log keys could be deleted, on an object of our own and on nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from tamarin_dagster.logstore.arns import PROBE_NAME
from tamarin_dagster.logstore.errors import get_status
from tamarin_dagster.logstore.inspection import InspectionError, explain_error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_WRONG_ETAG = '"00000000000000000000000000000000"'
_PRECONDITION_FAILED = 412


@dataclass(frozen=True, slots=True)
class Probe:
    """The result for a probe object.

    Attributes:
        key: its name.
        not_written, not_read, not_deleted: the error of that step; None if it succeeded.
        wrong_pin_refused: whether the store refused a deletion pinned to another generation; None if that is unknown.
        left: whether any of it may still exist.
    """

    key: str
    not_written: InspectionError | None = None
    not_read: InspectionError | None = None
    not_deleted: InspectionError | None = None
    wrong_pin_refused: bool | None = None
    left: bool = False


def probe(client: "S3Client", bucket: str, log_prefix: str) -> Probe:
    """Write an object with a new name, read it, and delete it: pinned to a wrong generation, then to the right one.

    In a versioned bucket, its version and its delete markers are deleted too.
    """
    key = f"{log_prefix}{PROBE_NAME}{uuid4().hex}"
    versions: list[str] = []
    etag = ""

    def write() -> None:
        nonlocal etag
        answer = client.put_object(Bucket=bucket, Key=key, Body=b"written by tamarin-dagster doctor\n")
        etag = answer["ETag"]
        if version := answer.get("VersionId"):
            versions.append(version)

    def read() -> None:
        client.get_object(Bucket=bucket, Key=key, IfMatch=etag)["Body"].read()

    def delete(pin: str) -> None:
        answer = client.delete_object(Bucket=bucket, Key=key, IfMatch=pin)
        if (version := answer.get("VersionId")) and version not in versions:
            versions.append(version)

    def delete_version(version: str) -> None:
        client.delete_object(Bucket=bucket, Key=key, VersionId=version)

    if error := _try(write):
        return Probe(key, not_written=explain_error(error, bucket, "s3:PutObject"))
    unread = _try(read)
    wrong = _try(lambda: delete(_WRONG_ETAG))
    undeleted = _unless_gone(_try(lambda: delete(etag)), ignored_pin=wrong is None)
    kept = [error for version in versions if (error := _try(partial(delete_version, version)))]
    left = bool(kept)
    if undeleted and not versions:  # a store that supports no pin at all may accept this
        left = _try(lambda: client.delete_object(Bucket=bucket, Key=key)) is not None
    # In a versioned bucket, a purge deletes a version.
    failed = next(iter(kept), None) if versions else undeleted
    return Probe(
        key,
        not_read=explain_error(unread, bucket, "s3:GetObject") if unread else None,
        not_deleted=explain_error(failed, bucket, _action(versions)) if failed else None,
        wrong_pin_refused=_was_refused(wrong),
        left=left,
    )


def _try(step: Callable[[], object]) -> Exception | None:
    """Return how the step failed; None if it succeeded."""
    try:
        step()
    except (ClientError, BotoCoreError, ValueError) as error:
        return error
    return None


def _unless_gone(error: Exception | None, *, ignored_pin: bool) -> Exception | None:
    """Return the error, unless it says that the object is gone and the store ignored the wrong pin."""
    if ignored_pin and isinstance(error, ClientError) and get_status(error) in (404, _PRECONDITION_FAILED):
        return None
    return error


def _was_refused(error: Exception | None) -> bool | None:
    if error is None:
        return False
    return True if isinstance(error, ClientError) and get_status(error) == _PRECONDITION_FAILED else None


def _action(versions: list[str]) -> str:
    return "s3:DeleteObject and s3:DeleteObjectVersion" if versions else "s3:DeleteObject"
