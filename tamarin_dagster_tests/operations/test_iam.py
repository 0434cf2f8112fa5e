"""The policies grant what each log bucket needs, and nothing more."""

from pathlib import Path

import pytest

from tamarin_dagster.logstore.arns import escape_literal
from tamarin_dagster.operations.iam import archive_policy, doctor_policy, purge_policy, reading_policy
from tamarin_dagster.settings import LoggedBucket, Settings, SettingsError


def bucket(name: str, log_bucket: str = "logs", prefix: str = "", **more) -> LoggedBucket:
    return LoggedBucket(name=name, log_bucket_name=log_bucket, log_prefix=prefix, **more)


def settings(*buckets: LoggedBucket, **more) -> Settings:
    return Settings(buckets=buckets, **more)


MEDIA = bucket("media", prefix="media/")
FOLDER = bucket("old", "file:///old")


def test_reading_takes_listing_under_the_prefix_and_getting() -> None:
    assert reading_policy(settings(MEDIA, FOLDER)) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "ListLogKeys1",
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": ["arn:aws:s3:::logs"],
                "Condition": {"StringLike": {"s3:prefix": ["media/*"]}},
            },
            {
                "Sid": "ReadLogKeys",
                "Effect": "Allow",
                "Action": "s3:GetObject",
                "Resource": ["arn:aws:s3:::logs/media/*"],
            },
        ],
    }


def test_without_a_prefix_the_whole_log_bucket_is_listed() -> None:
    listing, reading = reading_policy(settings(bucket("media")))["Statement"]
    assert "Condition" not in listing
    assert reading["Resource"] == ["arn:aws:s3:::logs/*"]


def test_buckets_that_share_a_log_bucket_share_a_statement() -> None:
    shared = settings(
        MEDIA,
        bucket("films", prefix="films/"),
        bucket("shorts", prefix="films/short/"),
        bucket("zoo", "zoo-logs", "z/"),
    )
    first, second, reading = reading_policy(shared)["Statement"]
    assert (first["Resource"], first["Condition"]["StringLike"]["s3:prefix"]) == (
        ["arn:aws:s3:::logs"],
        ["films/*", "media/*"],
    )
    assert second["Resource"] == ["arn:aws:s3:::zoo-logs"]
    assert reading["Resource"] == [
        "arn:aws:s3:::logs/films/*",
        "arn:aws:s3:::logs/media/*",
        "arn:aws:s3:::zoo-logs/z/*",
    ]


def test_an_empty_prefix_covers_all_others_of_its_log_bucket() -> None:
    listing, reading = reading_policy(settings(MEDIA, bucket("all")))["Statement"]
    assert "Condition" not in listing
    assert reading["Resource"] == ["arn:aws:s3:::logs/*"]


def test_one_bucket_alone_can_be_asked_for() -> None:
    both = settings(MEDIA, bucket("films", prefix="films/"))
    assert reading_policy(both, "films") == reading_policy(settings(bucket("films", prefix="films/")))
    with pytest.raises(SettingsError, match="bucket 'flims' is not configured"):
        reading_policy(both, "flims")


def test_a_purge_takes_deletion_where_log_keys_are_purged_only() -> None:
    kept = bucket("films", prefix="films/", purge_parsed_keys=False)
    assert purge_policy(settings(MEDIA, kept))["Statement"] == [
        {
            "Sid": "PurgeLogKeys",
            "Effect": "Allow",
            "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
            "Resource": ["arn:aws:s3:::logs/media/*"],
        }
    ]
    with pytest.raises(SettingsError, match="no log bucket in S3 is purged"):
        purge_policy(settings(MEDIA, kept), "films")


def test_the_doctor_takes_looks_and_a_probe_object_where_log_keys_are_purged() -> None:
    kept = bucket("films", prefix="films/", purge_parsed_keys=False)
    looks, sources, probes = doctor_policy(settings(MEDIA, kept))["Statement"]
    assert looks["Action"] == [
        "s3:GetBucketLogging",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetBucketRequestPayment",
        "s3:GetBucketVersioning",
        "s3:GetLifecycleConfiguration",
    ]
    assert looks["Resource"] == ["arn:aws:s3:::logs"]
    assert sources["Resource"] == ["arn:aws:s3:::films", "arn:aws:s3:::media"]
    assert (probes["Action"], probes["Resource"]) == (
        "s3:PutObject",
        ["arn:aws:s3:::logs/media/.tamarin-probe-*"],
    )
    assert len(doctor_policy(settings(kept))["Statement"]) == 2


@pytest.mark.parametrize(
    ("prefix", "written"), [("a*b?", "a${*}b${?}"), ("$x", "${$}x"), ("${*}", "${$}{${*}}"), ("plain/", "plain/")]
)
def test_a_wildcard_in_a_prefix_means_itself(prefix, written) -> None:
    """A prefix `*` would have granted access to every key of the log bucket."""
    assert escape_literal(prefix) == written
    listing, reading = reading_policy(settings(bucket("media", prefix=prefix)))["Statement"]
    assert listing["Condition"]["StringLike"]["s3:prefix"] == [f"{written}*"]
    assert reading["Resource"] == [f"arn:aws:s3:::logs/{written}*"]


@pytest.mark.parametrize(
    ("region", "partition"),
    [(None, "aws"), ("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_the_partition_is_that_of_the_region(region, partition) -> None:
    _, reading = reading_policy(settings(bucket("media", region=region)))["Statement"]
    assert reading["Resource"] == [f"arn:{partition}:s3:::logs/*"]


@pytest.mark.parametrize("make", [reading_policy, purge_policy, doctor_policy])
@pytest.mark.parametrize("configured", [settings(), settings(FOLDER)])
def test_without_a_log_bucket_in_s3_there_is_no_policy(make, configured) -> None:
    with pytest.raises(SettingsError, match="no log bucket in S3 is configured"):
        make(configured)


def test_readings_never_ask_for_a_version() -> None:
    """The reading policy does not grant s3:GetObjectVersion, so no GET of ours may name a version."""
    package = Path(__file__).parents[2] / "tamarin_dagster" / "logstore"
    for name in ("getting.py", "inspection.py"):
        assert "VersionId=" not in (package / name).read_text("utf-8")


def test_an_archive_takes_writing_under_its_prefix_and_listing_of_its_bucket() -> None:
    shared = settings(
        bucket("media", prefix="media/", archive="s3://kept/records/"), FOLDER, archive="s3://kept/records/old"
    )
    listing, writing = archive_policy(shared)["Statement"]
    assert (listing["Action"], listing["Resource"]) == ("s3:ListBucket", ["arn:aws:s3:::kept"])
    assert writing["Resource"] == ["arn:aws:s3:::kept/records/*"]
    assert set(writing["Action"]) == {"s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject", "s3:DeleteObject"}
    with pytest.raises(SettingsError, match="no bucket has an archive in S3"):
        archive_policy(settings(MEDIA, archive="/srv/archive"))
