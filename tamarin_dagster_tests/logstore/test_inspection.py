"""Questions to a bucket, the probe that leaves no object, and how logging is enabled."""

import json
import time
from datetime import UTC, datetime

import boto3
import pytest

from tamarin_dagster.logstore import inspection
from tamarin_dagster.logstore.enabling import carry_out, find_account, plan_logging
from tamarin_dagster.logstore.inspection import (
    InspectionError,
    LifecycleRule,
    LoggingTarget,
    NotOfferedError,
    NotPermittedError,
    get_logging_target,
)
from tamarin_dagster.logstore.probing import probe
from tamarin_dagster_tests.logstore.faulty import SIGNATURE

ACCOUNT = "123456789012"
PAYER = b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>"


@pytest.fixture(scope="module")
def client(faulty_server):
    return boto3.client("s3", endpoint_url=faulty_server.url)


@pytest.fixture
def versioned(s3, s3_bucket):
    s3.put_bucket_versioning(Bucket=s3_bucket, VersioningConfiguration={"Status": "Enabled"})
    return s3_bucket


def put_rules(s3, bucket, *rules) -> None:
    filled = [{"ID": f"rule-{number}", "Status": "Enabled"} | rule for number, rule in enumerate(rules)]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": filled})


def test_a_bucket_tells_its_region_and_time(s3, s3_bucket):
    reached = inspection.reach(s3, s3_bucket, lambda: time.time() + 100)
    assert (reached.permitted, reached.region) == (True, "us-east-1")
    assert 98 < reached.clock_seconds < 105


def test_a_bucket_that_is_not_there_is_said_with_a_remedy(s3):
    with pytest.raises(InspectionError) as raised:
        inspection.reach(s3, "no-such-bucket")
    assert "Not Found" in str(raised.value)
    assert raised.value.remedy == "check the bucket's name, region and endpoint_url"


def test_a_bucket_that_may_not_be_asked_is_there_nevertheless(faulty, client, s3_bucket):
    """The README's own policy limits s3:ListBucket to a prefix, which forbids HeadBucket."""
    faulty.deny("HEAD")
    assert inspection.reach(client, s3_bucket).permitted is False


def test_a_new_bucket_has_none_of_it(s3, s3_bucket):
    assert inspection.get_versioning(s3, s3_bucket) == ""
    assert inspection.has_object_lock(s3, s3_bucket) is False
    assert inspection.has_requester_pays(s3, s3_bucket) is False
    assert inspection.get_logging_target(s3, s3_bucket) is None
    assert inspection.get_lifecycle_rules(s3, s3_bucket, "logs/") == []


def test_versioning_object_lock_and_requester_pays_are_told(s3, versioned, faulty, client):
    assert inspection.get_versioning(s3, versioned) == "Enabled"
    s3.create_bucket(Bucket="locking-bucket", ObjectLockEnabledForBucket=True)
    assert inspection.has_object_lock(s3, "locking-bucket") is True
    faulty.answers["GET", "requestPayment"] = PAYER
    assert inspection.has_requester_pays(client, versioned) is True


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 2}}, LifecycleRule("rule-0", 2, None)),
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}, LifecycleRule("rule-0", 30, None)),
        ({"Prefix": "lo", "Expiration": {"Days": 30}}, LifecycleRule("rule-0", 30, None)),
        ({"Filter": {"Prefix": "logs/2026"}, "Expiration": {"Days": 5}}, LifecycleRule("rule-0", 5, None)),
        (
            {"Filter": {"Prefix": "logs/"}, "Expiration": {"Date": datetime(2030, 1, 1, tzinfo=UTC)}},
            LifecycleRule("rule-0", 0, None),
        ),
        (
            {
                "Filter": {"Prefix": "logs/"},
                "Transitions": [
                    {"Days": 3, "StorageClass": "STANDARD_IA"},
                    {"Days": 9, "StorageClass": "DEEP_ARCHIVE"},
                    {"Days": 7, "StorageClass": "GLACIER"},
                ],
            },
            LifecycleRule("rule-0", None, 7),
        ),
        ({"Filter": {"Prefix": "logs/archive/"}, "Expiration": {"Days": 1}}, None),
        ({"Filter": {"Prefix": "other/"}, "Expiration": {"Days": 1}}, None),
        ({"Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}, "Status": "Disabled"}, None),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 1}}, None),
        (
            {"Filter": {"And": {"Prefix": "logs/", "Tags": [{"Key": "a", "Value": "b"}]}}, "Expiration": {"Days": 1}},
            None,
        ),
    ],
)
def test_of_lifecycle_rules_those_are_told_that_may_touch_log_keys(s3, s3_bucket, rule, found):
    put_rules(s3, s3_bucket, rule)
    assert inspection.get_lifecycle_rules(s3, s3_bucket, "logs/") == ([found] if found else [])


QUESTIONS = [
    ("versioning", "s3:GetBucketVersioning", inspection.get_versioning),
    ("object-lock", "s3:GetBucketObjectLockConfiguration", inspection.has_object_lock),
    ("requestPayment", "s3:GetBucketRequestPayment", inspection.has_requester_pays),
    ("logging", "s3:GetBucketLogging", inspection.get_logging_target),
    ("lifecycle", "s3:GetLifecycleConfiguration", lambda c, b: inspection.get_lifecycle_rules(c, b, "")),
    ("list-type", "s3:ListBucket", lambda c, b: inspection.check_listing(c, b, "")),
]


@pytest.mark.parametrize(("subresource", "action", "ask"), QUESTIONS)
def test_a_denied_question_names_the_permission_and_no_signature(faulty, client, s3_bucket, subresource, action, ask):
    faulty.deny("GET", subresource)
    with pytest.raises(NotPermittedError) as raised:
        ask(client, s3_bucket)
    assert raised.value.remedy == f"grant {action} on {s3_bucket}"
    assert SIGNATURE not in str(raised.value)


def test_a_store_that_lacks_a_thing_is_told_from_one_that_denies_it(faulty, client, s3_bucket):
    faulty.deny("GET", "logging", code="NotImplemented", status=501)
    with pytest.raises(NotOfferedError):
        inspection.get_logging_target(client, s3_bucket)


def left_in(s3, bucket) -> list[str]:
    listing = s3.list_object_versions(Bucket=bucket)
    return [item["Key"] for kind in ("Versions", "DeleteMarkers") for item in listing.get(kind, [])]


def test_the_probe_is_read_refuses_a_wrong_pin_and_leaves_nothing(s3, s3_bucket):
    s3.put_object(Bucket=s3_bucket, Key="logs/k", Body=b"x")
    tried = probe(s3, s3_bucket, "logs/")
    assert tried.key.startswith("logs/.tamarin-probe-")
    assert (tried.not_written, tried.not_read, tried.not_deleted) == (None, None, None)
    assert (tried.wrong_pin_refused, tried.left) == (True, False)
    assert left_in(s3, s3_bucket) == ["logs/k"]


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("status", ["", "Enabled", "Suspended"])
def test_the_probe_leaves_neither_version_nor_marker(faulty, client, s3, s3_bucket, status, deaf):
    if status:
        for each in ("Enabled", status):
            s3.put_bucket_versioning(Bucket=s3_bucket, VersioningConfiguration={"Status": each})
    faulty.honours_conditions = not deaf
    tried = probe(client, s3_bucket, "logs/")
    assert (tried.not_deleted, tried.left, tried.wrong_pin_refused) == (None, False, not deaf)
    assert left_in(s3, s3_bucket) == []


def test_nothing_but_the_probe_is_ever_deleted(faulty, client, s3, s3_bucket):
    s3.put_object(Bucket=s3_bucket, Key="logs/2026-03-05-10-00-00-0000000000000001", Body=b"x")
    faulty.honours_conditions = False
    deleted = set()
    faulty.rule = lambda request: deleted.add(request.path) if request.method == "DELETE" else None
    tried = probe(client, s3_bucket, "logs/")
    assert deleted == {tried.key}


def test_a_probe_that_may_not_be_written_says_so_and_deletes_nothing(faulty, client, s3_bucket):
    faulty.deny("PUT")
    tried = probe(client, s3_bucket, "logs/")
    assert tried.not_written.remedy == f"grant s3:PutObject on {s3_bucket}"
    assert faulty.methods == {"PUT": 1}


def test_a_probe_that_may_not_be_deleted_says_that_it_is_left(faulty, client, s3, s3_bucket):
    faulty.deny("DELETE")
    tried = probe(client, s3_bucket, "logs/")
    assert tried.not_deleted.remedy == f"grant s3:DeleteObject on {s3_bucket}"
    assert (tried.wrong_pin_refused, tried.left) == (None, True)
    assert left_in(s3, s3_bucket) == [tried.key]


def test_a_version_that_may_not_be_deleted_names_the_permission(faulty, client, versioned):
    faulty.deny("DELETE", "versionId")
    tried = probe(client, versioned, "logs/")
    assert tried.not_deleted.remedy == f"grant s3:DeleteObject and s3:DeleteObjectVersion on {versioned}"
    assert tried.left is True


@pytest.fixture
def source(s3, s3_bucket):
    s3.create_bucket(Bucket=f"source-of-{s3_bucket}")
    return f"source-of-{s3_bucket}"


def statements(s3, bucket) -> list[dict]:
    return json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]


def test_logging_is_switched_on_with_the_policy_it_needs(s3, s3_bucket, source):
    wanted = LoggingTarget(s3_bucket, "media*/")
    plan = plan_logging(s3, source, wanted, ACCOUNT)
    assert [text for text, _ in plan.steps] == [
        f"PutBucketPolicy on {s3_bucket}: S3's logging service may write to it",
        f"PutBucketLogging on {source}: its requests are logged",
    ]
    assert inspection.get_logging_target(s3, source) is None
    assert json.loads(plan.policy) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": f"TamarinS3ServerAccessLogs-{source}",
                "Effect": "Allow",
                "Principal": {"Service": "logging.s3.amazonaws.com"},
                "Action": "s3:PutObject",
                "Resource": f"arn:aws:s3:::{s3_bucket}/media${{*}}/*",
                "Condition": {
                    "ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{source}"},
                    "StringEquals": {"aws:SourceAccount": ACCOUNT},
                },
            }
        ],
    }
    assert json.loads(plan.logging) == {"LoggingEnabled": {"TargetBucket": s3_bucket, "TargetPrefix": "media*/"}}


def test_what_is_carried_out_needs_no_second_time(s3, s3_bucket, source):
    wanted = LoggingTarget(s3_bucket, "media/")
    carry_out(s3, plan_logging(s3, source, wanted, ACCOUNT))
    assert inspection.get_logging_target(s3, source) == wanted
    assert plan_logging(s3, source, wanted, ACCOUNT).steps == []


def test_statements_of_others_are_kept_and_ours_is_replaced(s3, s3_bucket, source):
    other = {
        "Sid": "Other",
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "s3:DeleteBucket",
        "Resource": f"arn:aws:s3:::{s3_bucket}",
    }
    s3.put_bucket_policy(Bucket=s3_bucket, Policy=json.dumps({"Version": "2012-10-17", "Id": "x", "Statement": other}))
    carry_out(s3, plan_logging(s3, source, LoggingTarget(s3_bucket, "old/"), ACCOUNT))
    plan = plan_logging(s3, source, LoggingTarget(s3_bucket, "new/"), ACCOUNT, replace=True)
    assert plan.notes == (
        f"its logging to {s3_bucket!r} under 'old/' ends",
        f"the policy of {s3_bucket} has Deny statements: check that none applies to logging.s3.amazonaws.com",
    )
    carry_out(s3, plan)
    assert [statement["Sid"] for statement in statements(s3, s3_bucket)] == [
        "Other",
        f"TamarinS3ServerAccessLogs-{source}",
    ]
    assert statements(s3, s3_bucket)[1]["Resource"] == f"arn:aws:s3:::{s3_bucket}/new/*"
    assert json.loads(s3.get_bucket_policy(Bucket=s3_bucket)["Policy"])["Id"] == "x"


def test_the_statement_of_one_source_never_replaces_anothers(s3, s3_bucket):
    names = [f"a.{s3_bucket}", f"a-{s3_bucket}"]
    for name in names:
        s3.create_bucket(Bucket=name)
        carry_out(s3, plan_logging(s3, name, LoggingTarget(s3_bucket, "logs/"), ACCOUNT))
    found = [statement["Condition"]["ArnLike"]["aws:SourceArn"] for statement in statements(s3, s3_bucket)]
    assert found == [f"arn:aws:s3:::{name}" for name in names]


def test_logging_to_another_place_is_not_replaced_unasked(s3, s3_bucket, source):
    carry_out(s3, plan_logging(s3, source, LoggingTarget(s3_bucket, "old/"), ACCOUNT))
    with pytest.raises(InspectionError, match=f"already logs to '{s3_bucket}' under 'old/'") as raised:
        plan_logging(s3, source, LoggingTarget(s3_bucket, "new/"), ACCOUNT)
    assert "--replace" in raised.value.remedy


def test_a_bucket_logs_into_itself_only_under_a_prefix_and_with_a_note(s3, s3_bucket):
    plan = plan_logging(s3, s3_bucket, LoggingTarget(s3_bucket, "access-logs/"), ACCOUNT)
    assert plan.notes == (f"{s3_bucket} logs into itself: each delivery of a log key is a PUT that is logged in turn",)
    carry_out(s3, plan)
    assert get_logging_target(s3, s3_bucket) == LoggingTarget(s3_bucket, "access-logs/")
    with pytest.raises(InspectionError, match="would log into itself"):
        plan_logging(s3, s3_bucket, LoggingTarget(s3_bucket, ""), ACCOUNT)


def test_buckets_of_two_regions_are_refused(s3, s3_bucket):
    s3.create_bucket(Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    with pytest.raises(
        InspectionError, match=r"far-away is in eu-central-1, but its log bucket log-bucket-.* is in us-east-1"
    ):
        plan_logging(s3, "far-away", LoggingTarget(s3_bucket, ""), ACCOUNT)


def test_a_denied_step_names_its_permission(faulty, client, s3_bucket, source):
    faulty.deny("PUT", "policy")
    with pytest.raises(NotPermittedError) as raised:
        carry_out(client, plan_logging(client, source, LoggingTarget(s3_bucket, ""), ACCOUNT))
    assert raised.value.remedy == f"grant s3:PutBucketPolicy on {s3_bucket}"


def test_the_account_is_that_of_the_clients_own_credentials(s3, s3_endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3_endpoint)
    assert find_account(s3) == ACCOUNT
