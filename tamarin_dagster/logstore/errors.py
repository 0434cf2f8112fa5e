"""What the errors of boto3's client say."""

from botocore.exceptions import ClientError

from tamarin_dagster.urls import hide_userinfo

# What to do with an object in GLACIER or DEEP_ARCHIVE.
RESTORE = (
    "it is archived (GLACIER or DEEP_ARCHIVE): restore it (aws s3api restore-object), and leave the log prefix out of"
    " the lifecycle rule that archives it"
)


def status_of(error: ClientError) -> int:
    """The answer's HTTP status; 0 if it had none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: ClientError) -> str:
    """S3's error code, as `NoSuchKey`."""
    return error.response.get("Error", {}).get("Code", "")


def brief(error: Exception) -> str:
    """The first line of an error, without what stands behind a question mark: URLs may carry signatures.

    An endpoint that the environment names (AWS_ENDPOINT_URL) may hold a password: that is left out too.
    """
    return hide_userinfo(str(error).strip().split("\n", 1)[0]).split("?", 1)[0][:300]
