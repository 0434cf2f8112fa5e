"""Parse S3's listings fast, and explain one that fails."""

import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from botocore.exceptions import ClientError

from tamarin_dagster.logstore.endpoints import explain_protocol
from tamarin_dagster.logstore.errors import get_code, summarize_error
from tamarin_dagster.logstore.store import LogStoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The cause and remedy, by S3's error code or the client's error class. Other errors may be transient.
_REMEDIES = {
    "NoSuchBucket": "there is no such bucket; check log_bucket_name, region and endpoint_url",
    "AccessDenied": "access denied; grant s3:ListBucket on the bucket and s3:GetObject on its keys to these"
    " credentials",
    "InvalidAccessKeyId": "the access key is unknown there; check profile or AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is wrong; check profile or AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; renew them",
    "PermanentRedirect": "the bucket is in another region; set its region",
    "NoCredentialsError": "no AWS credentials found; set a profile or AWS_ACCESS_KEY_ID",
}
_NO_ANSWER = "EndpointConnectionError"


def read_listings_fast(client: "S3Client") -> None:
    """Make the client parse a page of 1,000 objects in 11 ms instead of 65 ms, most of which is botocore's parser.

    Its answers then have only Key, LastModified, ETag and Size of each object.
    """
    # Handlers of a wildcard run first, so botocore looks for errors in what little remains.
    client.meta.events.register_first("before-parse.*.ListObjectsV2", _take_contents, unique_id="tamarin-contents")


def _take_contents(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Take the objects out of the response body, if they have the expected form."""
    if response_dict["status_code"] != 200:
        return
    # Botocore parses, or refuses, what this does not recognise.
    with contextlib.suppress(ET.ParseError, ValueError):
        root = ET.fromstring(response_dict["body"])  # noqa: S314 - like botocore
        space = root.tag.removesuffix("ListBucketResult")
        key, modified, etag, size = (space + name for name in ("Key", "LastModified", "ETag", "Size"))
        objects = [
            {
                "Key": item.findtext(key, ""),
                "LastModified": datetime.fromisoformat(item.findtext(modified, "")),
                "ETag": item.findtext(etag, ""),
                "Size": int(item.findtext(size, "")),
            }
            for item in root.iterfind(f"{space}Contents")
        ]
        if objects:
            customized_response_dict["Contents"] = objects
            root[:] = [element for element in root if element.tag != f"{space}Contents"]
            response_dict["body"] = ET.tostring(root)


def explain_listing_error(bucket: str, prefix: str, error: Exception, endpoint_url: str) -> LogStoreError:
    """Return the error for a failed listing, with bucket, cause and remedy."""
    if wrong := explain_protocol(error, endpoint_url):
        return LogStoreError(f"log bucket {bucket} (prefix '{prefix}'): {wrong[0]}; {wrong[1]}")
    code = get_code(error) if isinstance(error, ClientError) else type(error).__name__
    remedy = _REMEDIES.get(code)
    if code == _NO_ANSWER:
        what = "the endpoint does not answer; check endpoint_url and the network"
    else:
        what = remedy or summarize_error(error)
    return LogStoreError(f"log bucket {bucket} (prefix '{prefix}'): {what} ({code})", transient=remedy is None)
