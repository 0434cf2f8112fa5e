"""Make the boto3 client of a log bucket: its credentials, and its timeouts and retries.

Importing boto3 takes a quarter of a second, so import this module only where a bucket in S3 is opened.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

from tamarin_dagster.logstore.deleting import DELETE_THREADS
from tamarin_dagster.logstore.getting import CONNECT_TIMEOUT_SECONDS, STALL_TIMEOUT_SECONDS
from tamarin_dagster.logstore.store import LogStoreError
from tamarin_dagster.settings import LoggedBucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """Credentials that are given instead of looked up. They are never part of a text."""

    key_id: str | None = None
    secret: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return "AccessKeys(…)"


_LOOKED_UP = AccessKeys()


def client_of(bucket: LoggedBucket) -> "S3Client":
    """Return a client for the bucket's log bucket, with the profile, role, endpoint and region of the settings.

    Raises what `make_client` raises.
    """
    return make_client(
        region=bucket.region, endpoint_url=bucket.endpoint_url, profile=bucket.profile, role_arn=bucket.role_arn
    )


def make_client(
    *,
    region: str | None = None,
    endpoint_url: str | None = None,
    profile: str | None = None,
    role_arn: str | None = None,
    keys: AccessKeys = _LOOKED_UP,
    max_attempts: int = MAX_ATTEMPTS,
) -> "S3Client":
    """Return a client. If there is a role, it acts as the role, and renews the role's credentials by itself.

    Raises BotoCoreError (a profile that does not exist), ValueError (a URL that botocore refuses) and LogStoreError.
    """
    config = Config(
        # The client retries by itself, and has a connection for each thread that deletes.
        retries={"mode": "standard", "total_max_attempts": max_attempts},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=STALL_TIMEOUT_SECONDS,
        max_pool_connections=DELETE_THREADS,
    )
    session = boto3.Session(botocore_session=_make_session(profile, role_arn, keys), region_name=region)
    client: S3Client = session.client("s3", endpoint_url=endpoint_url, config=config)
    if "@" in client.meta.endpoint_url:  # the settings refuse one, so this comes from AWS_ENDPOINT_URL or a profile
        raise LogStoreError(
            "the endpoint in AWS_ENDPOINT_URL or in the profile holds a user or a password: set AWS_ACCESS_KEY_ID"
            " and AWS_SECRET_ACCESS_KEY, or put the credentials into the profile"
        )
    return client


def _make_session(profile: str | None, role_arn: str | None, keys: AccessKeys) -> botocore.session.Session:
    base = botocore.session.Session(profile=profile)
    if keys.key_id and keys.secret:
        base.set_credentials(keys.key_id, keys.secret, keys.token)
    if not role_arn:
        return base
    fetcher = AssumeRoleCredentialFetcher(
        base.create_client, base.get_credentials(), role_arn, extra_args={"RoleSessionName": "tamarin"}
    )
    acting = botocore.session.Session()
    # There is no public way to give a session credentials that renew themselves; setting this attribute is common
    # practice.
    vars(acting)["_credentials"] = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    return acting
