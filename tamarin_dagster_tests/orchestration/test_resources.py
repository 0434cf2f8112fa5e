"""The resources: the S3Resource that the log buckets' clients come from can be configured and replaced."""

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from tamarin_dagster.definitions import build_definitions
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.orchestration.resources import LogBuckets
from tamarin_dagster.orchestration.s3_resource import LogBucketS3Resource, S3LogBuckets
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.runs import job_of

NO_KEYS = "http://127.0.0.1:9"


@pytest.fixture
def definitions(database_url, tmp_path):
    """definitions(bucket, s3=…): those of a bucket."""

    def definitions(bucket: LoggedBucket, **resources: object) -> dg.Definitions:
        settings = Settings(
            home=tmp_path / "home", database_url=database_url, buckets=(bucket,), purge_parsed_keys=False
        )
        return build_definitions(settings, resources=resources)

    return definitions


@pytest.fixture
def load(rows):
    """load(definitions, run_config): the records after a load of a day."""

    def load(definitions: dg.Definitions, run_config: dict | None = None) -> int:
        with dg.DagsterInstance.ephemeral() as instance:
            job = job_of(definitions, "load")
            job.execute_in_process(
                instance=instance, partition_key="2026-03-05", run_config=run_config, raise_on_error=False
            )
        return rows("SELECT count(*) FROM s3_log_record")[0][0]

    return load


@pytest.fixture
def delivered(s3, s3_logged_bucket) -> LoggedBucket:
    s3.put_object(
        Bucket=s3_logged_bucket.log_bucket_name, Key="logs/2026-03-05-10-00-00-000000000000AAAA", Body=lines(3)
    )
    return s3_logged_bucket


def test_an_s3_resource_of_dagster_aws_is_registered_and_a_load_goes_through_it(definitions, delivered, load) -> None:
    made = definitions(delivered)

    assert load(made) == 3
    registered = made.get_repository_def().get_top_level_resources()["tamarin_s3"]
    assert issubclass(LogBucketS3Resource, S3Resource)
    assert registered.config_schema is not None


def test_the_s3_resource_can_be_configured_at_launch_and_the_settings_of_the_bucket_win(
    definitions, delivered, load, s3_endpoint
) -> None:
    nowhere = delivered.model_copy(update={"endpoint_url": None})
    s3 = {"endpoint_url": s3_endpoint, "region_name": "us-east-1"}
    config = {"resources": {"tamarin_s3": {"config": s3}}}

    assert load(definitions(nowhere), config) == 3
    s3["endpoint_url"] = NO_KEYS
    assert load(definitions(delivered), config) == 3


def test_another_s3_resource_can_take_its_place_as_it_is(definitions, delivered, load, s3_endpoint) -> None:
    nowhere = delivered.model_copy(update={"endpoint_url": NO_KEYS})

    assert load(definitions(nowhere, tamarin_s3=S3Resource(endpoint_url=s3_endpoint, region_name="us-east-1"))) == 3


def test_another_s3_resource_may_be_configured_at_launch_too(definitions, delivered, load, s3_endpoint) -> None:
    nowhere = delivered.model_copy(update={"endpoint_url": NO_KEYS})
    config = {"resources": {"tamarin_s3": {"config": {"endpoint_url": s3_endpoint, "region_name": "us-east-1"}}}}

    assert load(definitions(nowhere, tamarin_s3=S3Resource.configure_at_launch()), config) == 3


def test_other_log_buckets_can_take_their_place(definitions, delivered, load, folder_bucket, put_key) -> None:
    put_key(lines(5))

    class Elsewhere(LogBuckets):
        def store(self, bucket: LoggedBucket):  # noqa: ARG002
            return open_log_store(folder_bucket)

    assert load(definitions(delivered, tamarin_log_buckets=Elsewhere())) == 5


def test_folders_need_no_s3_resource(definitions, folder_bucket) -> None:
    assert "tamarin_s3" not in definitions(folder_bucket).get_repository_def().get_top_level_resources()


def test_a_store_is_made_once_for_all_runs_of_a_process_and_again_for_another_configuration(delivered) -> None:
    first, same = (S3LogBuckets(s3=LogBucketS3Resource(region_name="us-east-1")) for _ in range(2))
    other = S3LogBuckets(s3=LogBucketS3Resource(region_name="eu-west-1"))

    assert first.store(delivered) is same.store(delivered)
    assert other.store(delivered) is not first.store(delivered)
    assert other.client(delivered).meta.region_name == "eu-west-1"


def test_given_credentials_are_used_and_fields_that_a_get_cannot_honour_are_refused(delivered) -> None:
    s3 = LogBucketS3Resource(aws_access_key_id="given", aws_secret_access_key="s", max_attempts=7)
    client = s3.get_client_of(delivered)

    assert client._request_signer._credentials.get_frozen_credentials().access_key == "given"
    assert client.meta.config.retries == {"mode": "standard", "total_max_attempts": 7}
    with pytest.raises(LogStoreError, match="resource s3: verify is not supported"):
        LogBucketS3Resource(verify=False).get_client()
