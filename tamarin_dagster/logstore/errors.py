"""Explain the errors of boto3's client."""

from botocore.exceptions import ClientError

from tamarin_dagster.urls import hide_userinfo

# The remedy for an object in GLACIER or DEEP_ARCHIVE.
RESTORE = (
    "it is archived (GLACIER or DEEP_ARCHIVE): restore it (aws s3api restore-object), and exclude the log prefix"
    " from the lifecycle rule that archives it"
)


def get_status(error: ClientError) -> int:
    """Return the HTTP status of the response; 0 if it had none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def get_code(error: ClientError) -> str:
    """Return S3's error code, such as `NoSuchKey`."""
    return error.response.get("Error", {}).get("Code", "")


def summarize_error(error: Exception) -> str:
    """Return the first line of an error, without URL queries, because they may hold signatures.

    An endpoint from the environment (AWS_ENDPOINT_URL) may hold a password; that is removed too.
    """
    return hide_userinfo(str(error).strip().split("\n", 1)[0]).split("?", 1)[0][:300]
