"""What assets, checks and sensors are handed: the records' database, and the log buckets' stores.

Nothing connects before its first use: definitions must load without a database and without S3.
"""

import threading
from typing import Any

import boto3
import botocore.session
import sqlalchemy as sa
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError
from dagster_aws.s3 import S3Resource

from tamarin_dagster.logstore import FolderLogStore, LogStore, LogStoreError
from tamarin_dagster.logstore.s3 import CLIENT_CONFIG, S3LogStore
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.settings import LoggedBucket, Settings


class RecordDatabase:
    """The database of the records. One engine per process, opened (and migrated) at first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._engine: sa.Engine | None = None

    @property
    def engine(self) -> sa.Engine:
        """A working engine; a database that has gone away is opened again. Raises DatabaseError."""
        with self._lock:
            if self._engine is None or not _answers(self._engine):
                self._engine = open_database(self._settings)
            return self._engine


class LogBuckets:
    """The stores of the configured buckets, each made at first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[LoggedBucket, LogStore] = {}

    def store(self, bucket: LoggedBucket) -> LogStore:
        """The store that holds the bucket's log keys."""
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = open_log_store(bucket)
            return self._stores[bucket]


class LogBucketS3Resource(S3Resource):
    """dagster-aws's S3Resource, with a client made for a log store; and perhaps with a role to assume.

    The role's credentials are renewed by themselves.
    """

    role_arn: str | None = None

    def get_client(self) -> Any:
        """A boto3 client, that acts as the role if there is one."""
        session = boto3.Session(botocore_session=self._session(), region_name=self.region_name)
        return session.client("s3", endpoint_url=self.endpoint_url, config=CLIENT_CONFIG)

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


def open_log_store(bucket: LoggedBucket) -> LogStore:
    """The store of the bucket's log keys: a folder, or a bucket in S3. Raises LogStoreError."""
    if bucket.log_folder is not None:
        return FolderLogStore(bucket.log_folder, bucket.log_bucket_name)
    try:
        return S3LogStore(s3_resource(bucket).get_client(), bucket.log_bucket_name)
    except (BotoCoreError, ValueError) as error:  # a profile that is not there, a URL that botocore refuses
        raise LogStoreError(f"log bucket {bucket.log_bucket_name} (bucket '{bucket.name}'): {error}") from error


def _answers(engine: sa.Engine) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(sa.select(1))
    except sa.exc.OperationalError:
        return False
    return True
