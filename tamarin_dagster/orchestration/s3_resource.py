"""Dagster's side of S3: the S3Resource of dagster-aws, filled from the settings of each bucket.

Importing dagster-aws takes half a second, so this module is imported only if a log bucket or an archive is in S3.
"""

from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource
from pydantic import Field

from tamarin_dagster.logstore.client import AccessKeys, make_client
from tamarin_dagster.logstore.store import LogStoreError
from tamarin_dagster.orchestration.resources import LogBuckets
from tamarin_dagster.settings import LoggedBucket

# Fields of S3Resource that change the boto3 client, but not the client that reads the log keys.
_UNSUPPORTED = ("use_unsigned_session", "use_ssl", "verify")


class LogBucketS3Resource(S3Resource):
    """The S3Resource of dagster-aws with a client for log buckets, which may act as a role.

    Its fields apply to all buckets. A bucket's own settings (region, endpoint_url, profile, role_arn) override them.
    """

    role_arn: str | None = Field(default=None, description="ARN of a role that the client acts as.")

    def get_object_to_set_on_execution_context(self) -> Any:
        """Return the resource itself. S3Resource would return its client, which does not know the bucket."""
        return self

    def get_client(self) -> Any:
        """Return a boto3 client. Raises BotoCoreError, ValueError and LogStoreError."""
        for name in _UNSUPPORTED:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise LogStoreError(f"resource s3: {name} is not supported; leave it out, and set endpoint_url instead")
        return make_client(
            region=self.region_name,
            endpoint_url=self.endpoint_url,
            profile=self.profile_name,
            role_arn=self.role_arn,
            keys=AccessKeys(self.aws_access_key_id, self.aws_secret_access_key, self.aws_session_token),
            max_attempts=self.max_attempts,
        )

    def get_client_of(self, bucket: LoggedBucket) -> Any:
        """Return a boto3 client for the bucket's log bucket. Raises what `get_client` raises."""
        own = {
            "region_name": bucket.region,
            "endpoint_url": bucket.endpoint_url,
            "profile_name": bucket.profile,
            "role_arn": bucket.role_arn,
        }
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return LogBucketS3Resource(**given | {name: value for name, value in own.items() if value}).get_client()


class S3LogBuckets(LogBuckets):
    """The stores of the configured buckets, with clients of the resource `s3`."""

    s3: dg.ResourceDependency[S3Resource]

    def client(self, bucket: LoggedBucket) -> Any:
        """Return a boto3 client: with the bucket's settings from a LogBucketS3Resource, unchanged from any other."""
        s3: object = self.s3
        if isinstance(s3, LogBucketS3Resource):
            return s3.get_client_of(bucket)
        # Dagster replaces an S3Resource that is configured at launch with the client that it has made.
        return s3.get_client() if isinstance(s3, S3Resource) else s3

    def _identity(self) -> object:
        s3: object = self.s3
        return (type(s3), s3.model_dump_json()) if isinstance(s3, S3Resource) else id(s3)


# Shared, so that two sets of definitions can be merged: Dagster refuses different resources of one key.
S3_CREDENTIALS = LogBucketS3Resource.configure_at_launch()
S3_LOG_BUCKETS = S3LogBuckets(s3=S3_CREDENTIALS)  # type: ignore[arg-type]
