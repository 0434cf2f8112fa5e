"""The clients of log buckets: their credentials, timeouts and retries."""

import pytest

from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.client import client_of
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.settings import LoggedBucket

ROLE = "arn:aws:iam::123456789012:role/reads-logs"


def bucket(**place: str) -> LoggedBucket:
    return LoggedBucket(name="media", log_bucket_name="log-bucket", region="eu-central-1", **place)


@pytest.fixture
def two_profiles(tmp_path, monkeypatch) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text(
        "[default]\naws_access_key_id = ours\naws_secret_access_key = s\n"
        "[theirs]\naws_access_key_id = theirs\naws_secret_access_key = s\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def access_key(place: LoggedBucket) -> str:
    return client_of(place)._request_signer._credentials.get_frozen_credentials().access_key


@pytest.mark.parametrize("place", [{}, {"role_arn": ROLE}])
def test_a_client_tries_again_and_has_a_connection_for_each_thread(two_profiles, place):
    config = client_of(bucket(**place)).meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 5}
    assert config.max_pool_connections == 16
    assert config.region_name == "eu-central-1"


def test_a_client_uses_the_profile_of_its_bucket(two_profiles):
    assert access_key(bucket()) == "ours"
    assert access_key(bucket(profile="theirs")) == "theirs"


def test_a_profile_that_is_not_there_is_named(two_profiles):
    with pytest.raises(LogStoreError, match=r"log bucket log-bucket \(bucket 'media'\): .*nobody"):
        open_log_store(bucket(profile="nobody"))


def test_a_client_acts_as_the_role_of_its_bucket(two_profiles, s3_endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3_endpoint)
    assumed = access_key(bucket(role_arn=ROLE))
    assert assumed not in ("ours", "theirs")
    assert assumed.startswith("ASIA")
