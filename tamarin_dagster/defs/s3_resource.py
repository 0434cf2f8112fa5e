"""A log bucket in S3, by dagster-aws's S3Resource. Imported where such a bucket is opened: it takes half a second."""

from typing import Any

import boto3
import botocore.session
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError
from dagster_aws.s3 import S3Resource

from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.archiving import ArchiveError, S3Archive
from tamarin_dagster.logstore.errors import brief
from tamarin_dagster.logstore.s3 import CLIENT_CONFIG, S3LogStore
from tamarin_dagster.settings import LoggedBucket


class LogBucketS3Resource(S3Resource):
    """dagster-aws's S3Resource, with a client made for a log store; and perhaps with a role to assume.

    The role's credentials are renewed by themselves.
    """

    role_arn: str | None = None

    def get_client(self) -> Any:
        """A boto3 client, that acts as the role if there is one. Raises LogStoreError."""
        session = boto3.Session(botocore_session=self._session(), region_name=self.region_name)
        client = session.client("s3", endpoint_url=self.endpoint_url, config=CLIENT_CONFIG)
        if "@" in client.meta.endpoint_url:  # the settings refuse one; this is AWS_ENDPOINT_URL, or a profile's
            raise LogStoreError(
                "the endpoint in AWS_ENDPOINT_URL or in the profile holds a user or a password: put credentials into"
                " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into the profile"
            )
        return client

    def _session(self) -> botocore.session.Session:
        base = botocore.session.Session(profile=self.profile_name)
        if not self.role_arn:
            return base
        fetcher = AssumeRoleCredentialFetcher(
            base.create_client, base.get_credentials(), self.role_arn, extra_args={"RoleSessionName": "tamarin"}
        )
        acting = botocore.session.Session()
        # There is no public way to hand a session credentials that renew themselves; everybody sets this attribute.
        vars(acting)["_credentials"] = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
        return acting


def s3_resource(bucket: LoggedBucket) -> S3Resource:
    """The S3Resource for the bucket's log bucket: profile, role, endpoint and region as in the settings."""
    return LogBucketS3Resource(
        region_name=bucket.region,
        endpoint_url=bucket.endpoint_url,
        profile_name=bucket.profile,
        role_arn=bucket.role_arn,
    )


def open_s3_log_store(bucket: LoggedBucket) -> S3LogStore:
    """The store of the bucket's log keys. Raises LogStoreError."""
    try:
        return S3LogStore(s3_resource(bucket).get_client(), bucket.log_bucket_name)
    except (BotoCoreError, ValueError) as error:  # a profile that is not there, a URL that botocore refuses
        raise LogStoreError(f"log bucket {bucket.log_bucket_name} (bucket '{bucket.name}'): {brief(error)}") from error


def open_s3_archive(bucket: LoggedBucket, url: str) -> S3Archive:
    """The archive of the bucket's records, reached as its log bucket is. Raises ArchiveError."""
    try:
        return S3Archive(s3_resource(bucket).get_client(), url)
    except (BotoCoreError, ValueError) as error:
        raise ArchiveError(f"archive {url} (bucket '{bucket.name}'): {brief(error)}") from error
