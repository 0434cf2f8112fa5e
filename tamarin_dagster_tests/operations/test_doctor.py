"""The doctor's findings on the settings, the database, and log buckets of both kinds."""

import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
import sqlalchemy as sa

from tamarin_dagster.logstore.client import client_of as default_client_of
from tamarin_dagster.logstore.inspection import InspectionError
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.logstore.s3 import S3LogStore
from tamarin_dagster.operations.doctor import Finding, Status
from tamarin_dagster.operations.doctor.backup_findings import backup_findings
from tamarin_dagster.operations.doctor.database_findings import space_finding
from tamarin_dagster.operations.doctor.examination import examine
from tamarin_dagster.operations.doctor.key_findings import stray_finding
from tamarin_dagster.operations.doctor.s3_findings import Scene, examine_s3
from tamarin_dagster.pipeline.discover import Survey
from tamarin_dagster.recordstore.schema.tables import SCHEMA_REVISION
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster.settings import LoggedBucket, Settings
from tamarin_dagster_tests.lines import lines
from tamarin_dagster_tests.logstore.faulty import SIGNATURE
from tamarin_dagster_tests.operations.delivery import log_to

KEY = "logs/2026-03-05-10-00-00-0000000000000001"
GIB = 1024**3
PAYER = b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>"
OK, WARN, FAIL = Status.ok, Status.warn, Status.fail


@pytest.fixture(scope="module")
def clients():
    """Return clients by endpoint; making one takes longer than most tests."""
    return {}


@pytest.fixture
def found(tmp_path, clients):
    """Return found(bucket, …): the findings on buckets, by subject without `media: `; by default without a database."""

    def client_of(bucket):
        if bucket.profile or bucket.role_arn:
            return default_client_of(bucket)
        if bucket.endpoint_url not in clients:
            clients[bucket.endpoint_url] = boto3.client("s3", endpoint_url=bucket.endpoint_url)
        return clients[bucket.endpoint_url]

    def open_store(bucket):
        if bucket.log_folder or bucket.profile:
            return open_log_store(bucket)
        return S3LogStore(client_of(bucket), bucket.log_bucket_name)

    def found(*buckets, clock=time.time, **more):
        settings = Settings(**{"home": tmp_path / "home", "buckets": buckets} | more)
        findings = list(examine(settings, open_store=open_store, client_of=client_of, clock=clock))
        for finding in findings:
            assert bool(finding.remedy) == (finding.status is not OK), finding
            assert SIGNATURE not in str(finding)
        return {finding.subject.removeprefix("media: "): finding for finding in findings}

    return found


@pytest.fixture
def media(s3, s3_logged_bucket, faulty):
    """Make a bucket that is set up well, through the endpoint that denies. It has one log key."""
    media = s3_logged_bucket.model_copy(update={"name": f"media-{s3_logged_bucket.log_bucket_name}"})
    s3.create_bucket(Bucket=media.name)
    log_to(s3, media.name, media.log_bucket_name, "logs/")
    s3.put_object(Bucket=media.log_bucket_name, Key=KEY, Body=lines(1))
    return media.model_copy(update={"endpoint_url": faulty.url})


@pytest.fixture
def findings_on(found, media):
    """Return findings_on(…), which returns the findings on `media`, by subject."""

    def findings_on(**more):
        named = found(media, **more)
        return {subject.removeprefix(f"{media.name}: "): finding for subject, finding in named.items()}

    return findings_on


def seen(finding: Finding) -> tuple[Status, str]:
    return finding.status, finding.text


def probes(s3, bucket) -> list[str]:
    """Return what probes left. The endpoint delivers log keys of its own, as S3 does."""
    listing = s3.list_object_versions(Bucket=bucket)
    found = [item["Key"] for kind in ("Versions", "DeleteMarkers") for item in listing.get(kind, [])]
    return [name for name in found if "probe" in name]


def test_all_is_well_with_a_bucket_that_is_set_up_well(s3, findings_on, media, database_url):
    found = findings_on(database_url=database_url)
    assert {subject: finding.text for subject, finding in found.items() if finding.status is not OK} == {}
    assert list(found) == [
        "settings",
        "database",
        "database rights",
        "database schema",
        "database clock",
        "log bucket",
        "log bucket clock",
        "list",
        "get",
        "name",
        "strays",
        "archived",
        "delete",
        "pinned delete",
        "versioning",
        "object lock",
        "requester pays",
        "lifecycle",
        "log bucket's own logging",
        "logging",
    ]
    assert found["log bucket"].text == "answers, in us-east-1"
    assert found["get"].text == "a log key was read"
    assert found["delete"].text == "a probe object was written and deleted"
    assert found["logging"].text == "switched on, as configured in the settings"
    assert probes(s3, media.log_bucket_name) == []


def test_the_page_on_troubleshooting_has_every_subject(findings_on, database_url):
    page = (Path(__file__).parents[2] / "docs/how-to/troubleshooting.md").read_text("utf-8")
    named = set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))
    only_if_wrong = {"probe object", "database encoding", "log loop", "settings: log loop"}
    of_an_archive = {"archive", "archive writing", "archive days"}
    others = {"quiet files", "backup"}  # of a folder, and of an embedded server
    assert named == {*findings_on(), *findings_on(database_url=database_url)} | only_if_wrong | of_an_archive | others


def test_no_bucket_is_a_warning(found):
    assert seen(found()["settings"]) == (WARN, "read, but no bucket is configured")


def test_one_buckets_failure_stops_no_other(found, media, folder_bucket):
    gone = LoggedBucket(name="gone", log_bucket_name="no-such-bucket", endpoint_url=media.endpoint_url)
    dead = LoggedBucket(name="dead", log_bucket_name="some-bucket", profile="no-such-profile")
    named = found(gone, dead, media, folder_bucket)
    assert named["gone: log bucket"].status is FAIL
    assert named["gone: log bucket"].remedy == "check the bucket's name, region and endpoint_url"
    assert named["dead: log bucket"].status is FAIL
    assert "The config profile (no-such-profile) could not be found" in named["dead: log bucket"].text
    assert named[f"{media.name}: logging"].status is OK
    assert named["log bucket"].text == "the folder exists"


def test_only_the_buckets_asked_for_are_looked_at(tmp_path, folder_bucket):
    other = folder_bucket.model_copy(update={"name": "films"})
    settings = Settings(home=tmp_path, buckets=(folder_bucket, other))
    findings = list(examine(settings, open_store=open_log_store, client_of=boto3.client, buckets=[other]))
    assert {finding.subject.partition(":")[0] for finding in findings if ":" in finding.subject} == {"films"}


def test_a_database_that_does_not_answer_fails_without_its_password(found):
    named = found(database_url="postgresql://me:s3cret@127.0.0.1:1/tamarin?application_name=s3cret")
    assert named["database"].status is FAIL
    assert "Connection refused" in named["database"].text
    assert "s3cret" not in str(named)


def test_an_old_schema_is_a_warning_and_is_not_migrated(found, database_url, rows):
    rows("UPDATE alembic_version SET version_num = '0001'")
    text = f"at revision 0001, the current one is {SCHEMA_REVISION}"
    assert seen(found(database_url=database_url)["database schema"]) == (WARN, text)
    assert rows("SELECT version_num FROM alembic_version") == [("0001",)]


def test_an_empty_database_is_a_warning(found, database_url, rows):
    rows("DROP TABLE alembic_version")
    assert seen(found(database_url=database_url)["database schema"]) == (WARN, "has no tables yet")


def test_a_newer_schema_fails(found, database_url, rows):
    rows("UPDATE alembic_version SET version_num = '9999'")
    schema = found(database_url=database_url)["database schema"]
    assert (schema.status, schema.remedy) == (
        FAIL,
        "a newer version of tamarin_dagster has migrated it; upgrade this one",
    )


@pytest.mark.parametrize(
    ("seconds", "status", "said"),
    [(30, OK, "differs"), (300, WARN, "ahead of"), (-300, WARN, "behind it")],  # codespell:ignore behind
)
def test_clocks_that_differ_are_told(findings_on, database_url, seconds, status, said):
    named = findings_on(clock=lambda: time.time() + seconds, database_url=database_url)
    for subject in ("database clock", "log bucket clock"):
        assert named[subject].status is status
        assert said in named[subject].text


def test_an_embedded_server_that_was_never_used_is_not_made(found, tmp_path):
    home = tmp_path / "home"
    named = found(home=home)
    assert seen(named["database"]) == (OK, "the embedded Postgres is created at its first use")
    assert not home.exists()
    assert f"are free for {home}" in named["database disk"].text


@pytest.fixture
def backup_finding(engine, folder_bucket):
    """Return backup_finding(…): the finding on backups, as if the test's database were the embedded one."""

    def backup_finding(home=Path("/none"), now=None, **settings):
        buckets = settings.pop("buckets", (folder_bucket,))
        found = list(backup_findings(Settings(home=home, buckets=buckets, **settings), engine, now))
        return (found[0].status, found[0].text) if found else None

    return backup_finding


def test_records_that_are_nowhere_else_are_a_warning_until_there_is_a_recent_backup(backup_finding, rows, engine):
    alone = "and there is no archive: records of media, whose log keys"
    assert backup_finding() == (WARN, f"no backup is known, {alone} a purge deletes")
    rows(PURGED_KEY)
    assert backup_finding() == (WARN, f"no backup is known, {alone} were purged, exist nowhere else")
    made = datetime(2026, 3, 5, 4, tzinfo=UTC)
    rows("UPDATE tamarin_database SET backed_up_at = :made", made=made)
    assert backup_finding(now=made + timedelta(days=6, hours=23)) == (OK, "the last backup is from 2026-03-05")
    status, text = backup_finding(now=made + timedelta(days=8))
    assert (status, text.split(",")[0]) == (WARN, "the last backup is 8 days old")


def test_backups_are_not_asked_for_where_nothing_can_be_lost(backup_finding, folder_bucket, tmp_path):
    demo = tmp_path / ".tamarin-demo"
    demo.mkdir()
    assert backup_finding(home=demo)
    (demo / "demo.yaml").touch()
    assert backup_finding(home=demo) is None
    assert backup_finding(purge_parsed_keys=False) is None
    assert backup_finding(archive="/srv/archive") is None
    assert backup_finding(buckets=()) is None
    assert backup_finding(database_url="postgresql://db.example.org/tamarin") is None
    kept = folder_bucket.model_copy(update={"purge_parsed_keys": False})
    assert backup_finding(buckets=(kept,)) is None


PURGED_KEY = """
INSERT INTO s3_log_key (bucket, log_bucket_name, key, etag, size, last_modified, delivery_date, line_count,
    record_count, rejected_count, blank_count, purged_at)
VALUES ('media', 'logs', 'logs/a', 'e', 1, now(), '2026-03-05', 0, 0, 0, 0, now())
"""


def test_a_home_that_is_open_to_others_is_a_warning(found, database_url, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    status, text = seen(found(home=home, database_url=database_url)["home"])
    assert status is WARN
    assert text == f"{home} is open to other users (mode 755); reports in it contain addresses"
    home.chmod(0o700)
    assert "home" not in found(home=home, database_url=database_url)


def test_an_embedded_server_without_a_database_is_given_none(found, short_folder):
    with EmbeddedPostgres(short_folder) as server:
        named = found(home=short_folder)
        assert seen(named["database"]) == (OK, "the embedded Postgres is created at its first use")
        engine = sa.create_engine(server.url("postgres"))
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM pg_database WHERE datname = 'tamarin'")) == 0
        engine.dispose()
        server.ensure_databases("tamarin")
        assert seen(found(home=short_folder)["database schema"]) == (WARN, "has no tables yet")


@pytest.mark.parametrize(
    ("total", "free", "status"),
    [
        (100 * GIB, 50 * GIB, OK),
        (100 * GIB, 9 * GIB, WARN),
        (10 * GIB, int(1.9 * GIB), WARN),
        (100 * GIB, 199_000_000, FAIL),
    ],
)
def test_a_disk_that_fills_is_told(tmp_path, total, free, status):
    assert space_finding(tmp_path, total, free).status is status


def test_an_empty_log_bucket_has_nothing_to_read(s3, findings_on, media):
    s3.delete_object(Bucket=media.log_bucket_name, Key=KEY)
    assert seen(findings_on()["get"]) == (OK, "there is no log key yet, so nothing to read")


def test_a_listing_that_is_denied_fails_and_the_rest_is_looked_at(faulty, findings_on, media):
    faulty.deny("GET", "list-type")
    named = findings_on()
    assert (named["list"].status, named["list"].remedy) == (FAIL, f"grant s3:ListBucket on {media.log_bucket_name}")
    assert "get" not in named
    assert named["logging"].status is OK


def test_a_get_that_is_denied_fails(faulty, findings_on, media):
    faulty.deny("GET")
    named = findings_on()
    assert (named["get"].status, named["get"].remedy) == (FAIL, f"grant s3:GetObject on {media.log_bucket_name}")


def test_strays_are_counted_and_shown_as_text(s3, findings_on, media):
    s3.put_object(Bucket=media.log_bucket_name, Key="logs/\tnotes", Body=b"x")
    s3.put_object(Bucket=media.log_bucket_name, Key="logs/zoo", Body=b"x")
    text = r"names that are not log keys: 2, for example 'logs/\tnotes'"
    assert seen(findings_on()["strays"]) == (WARN, text)


def test_a_role_that_cannot_be_assumed_fails_in_its_own_words(found, media, faulty, monkeypatch):
    """Its AccessDenied is not about s3: permissions."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", faulty.url)
    faulty.deny("POST")
    acting = media.model_copy(update={"role_arn": "arn:aws:iam::123456789012:role/reader"})
    finding = found(acting)[f"{acting.name}: log bucket"]
    assert finding.status is FAIL
    assert finding.text.startswith("the role cannot be assumed: An error occurred (AccessDenied)")
    assert "trust policy" in finding.remedy


def test_an_endpoint_that_does_not_answer_fails(found):
    bucket = LoggedBucket(name="media", log_bucket_name="some-bucket", endpoint_url="http://127.0.0.1:1")
    finding = found(bucket)["log bucket"]
    assert (finding.status, finding.remedy) == (FAIL, "check endpoint_url and the network")


def test_credentials_that_have_expired_are_told_though_a_head_says_only_400(faulty, findings_on):
    faulty.deny("HEAD", status=400)
    faulty.deny("GET", "list-type", code="ExpiredToken", status=400)
    named = findings_on()
    assert (named["log bucket"].status, named["log bucket"].remedy) == (FAIL, "renew the credentials")
    assert "logging" not in named


class InAws:
    """A client that takes the local endpoint for S3 itself."""

    meta = SimpleNamespace(region_name="us-east-1", endpoint_url="https://s3.us-east-1.amazonaws.com")

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)


def test_a_region_that_is_not_the_buckets_fails_before_its_gets_do(s3):
    """boto3 follows S3's redirection and lists; obstore does not, so every GET failed."""
    s3.create_bucket(Bucket="in-frankfurt", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    bucket = LoggedBucket(name="media", log_bucket_name="in-frankfurt")
    scene = Scene(bucket, S3LogStore(s3, "in-frankfurt"), InAws(s3), purges=False, clock=time.time)
    with pytest.raises(InspectionError, match="is in eu-central-1, but was requested in us-east-1") as raised:
        list(examine_s3(scene))
    assert raised.value.remedy == "set its region: eu-central-1"


def test_without_a_purge_nothing_is_written_or_deleted(faulty, findings_on):
    named = findings_on(purge_parsed_keys=False)
    assert {"delete", "pinned delete"}.isdisjoint(named)
    assert set(faulty.methods) == {"GET", "HEAD"}


def test_a_probe_that_may_not_be_written_is_a_warning(faulty, findings_on):
    faulty.deny("PUT")
    delete = findings_on()["delete"]
    assert delete.status is WARN
    assert delete.text.startswith("could not be tried: no s3:PutObject for a probe object")
    assert delete.remedy == "grant it for 'logs/.tamarin-probe-*', or rely on the purge's own report"


def test_a_deletion_that_is_denied_fails(faulty, findings_on, media):
    faulty.deny("DELETE")
    named = findings_on()
    delete = named["delete"]
    remedy = f"grant s3:DeleteObject on {media.log_bucket_name}, or set purge_parsed_keys: false"
    assert (delete.status, delete.remedy) == (FAIL, remedy)
    assert named["probe object"].text.endswith("was not deleted")


def test_a_store_that_ignores_pins_is_a_warning(s3, faulty, findings_on, media):
    faulty.honours_conditions = False
    named = findings_on()
    assert named["delete"].status is OK
    text = "the store ignores If-Match, so it may delete a generation that was not loaded"
    assert seen(named["pinned delete"]) == (WARN, text)
    assert probes(s3, media.log_bucket_name) == []


def test_versions_are_told(s3, findings_on, media):
    s3.put_bucket_versioning(Bucket=media.log_bucket_name, VersioningConfiguration={"Status": "Enabled"})
    on = findings_on()["versioning"]
    s3.put_bucket_versioning(Bucket=media.log_bucket_name, VersioningConfiguration={"Status": "Suspended"})
    suspended = findings_on()["versioning"]
    assert seen(on) == (OK, "on: a purge deletes the version that was loaded")
    assert (suspended.status, suspended.text.partition(":")[0]) == (WARN, "suspended")
    assert probes(s3, media.log_bucket_name) == []


@pytest.fixture
def locked(s3, media):
    """Make the same with a log bucket that has object lock."""
    name = f"locked-{media.log_bucket_name}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return media.model_copy(update={"log_bucket_name": name})


def test_object_lock_is_a_warning_where_log_keys_are_purged_and_no_probe_is_left_in_it(s3, found, locked):
    """A default retention would have kept the probe object for years."""
    named = found(locked)
    lock, delete = named[f"{locked.name}: object lock"], named[f"{locked.name}: delete"]
    assert seen(lock) == (WARN, "on: locked log keys cannot be deleted")
    assert seen(delete) == (WARN, "was not tried: object lock is on, and might keep the probe object")
    assert probes(s3, locked.log_bucket_name) == []
    kept = found(locked, purge_parsed_keys=False)[f"{locked.name}: object lock"]
    assert seen(kept) == (OK, "on; nothing is purged")


def test_no_probe_is_written_where_a_lock_may_be_that_cannot_be_seen(s3, faulty, found, locked):
    faulty.deny("GET", "object-lock")
    delete = found(locked)[f"{locked.name}: delete"]
    text = "was not tried: the bucket is versioned, and its object lock could not be checked"
    assert seen(delete) == (WARN, text)
    assert probes(s3, locked.log_bucket_name) == []


def test_requesters_that_pay_are_a_warning(faulty, findings_on):
    faulty.answers["GET", "requestPayment"] = PAYER
    assert findings_on()["requester pays"].status is WARN


@pytest.mark.parametrize(
    ("rule", "status", "said"),
    [
        ({"Expiration": {"Days": 2}}, FAIL, "rule 'r' deletes log keys after 2 days: it would delete logs before they"),
        ({"Expiration": {"Days": 3}}, WARN, "rule 'r' deletes log keys after 3 days"),
        ({"Expiration": {"Days": 13}}, WARN, "rule 'r' deletes log keys after 13 days"),
        ({"Expiration": {"Days": 14}}, OK, "rule 'r' deletes log keys after 14 days"),
        ({"Expiration": {"Date": datetime(2030, 1, 1, tzinfo=UTC)}}, FAIL, "rule 'r' deletes log keys after 0 days"),
        ({"Transitions": [{"Days": 13, "StorageClass": "GLACIER"}]}, WARN, "rule 'r' archives log keys after 13 days"),
        ({"Transitions": [{"Days": 14, "StorageClass": "GLACIER"}]}, OK, "no rule deletes or archives log keys"),
    ],
)
def test_lifecycle_rules_that_come_too_early_are_told(s3, findings_on, media, rule, status, said):
    rules = [{"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "logs/"}} | rule]
    s3.put_bucket_lifecycle_configuration(Bucket=media.log_bucket_name, LifecycleConfiguration={"Rules": rules})
    lifecycle = findings_on()["lifecycle"]
    assert lifecycle.status is status
    assert lifecycle.text.startswith(said)


@pytest.mark.parametrize(
    ("subresource", "subject", "action"),
    [
        ("versioning", "versioning", "s3:GetBucketVersioning"),
        ("object-lock", "object lock", "s3:GetBucketObjectLockConfiguration"),
        ("requestPayment", "requester pays", "s3:GetBucketRequestPayment"),
        ("lifecycle", "lifecycle", "s3:GetLifecycleConfiguration"),
        ("logging", "logging", "s3:GetBucketLogging"),
        ("logging", "log bucket's own logging", "s3:GetBucketLogging"),
    ],
)
def test_what_may_not_be_looked_at_is_a_warning_that_names_the_permission(
    faulty, findings_on, subresource, subject, action
):
    faulty.deny("GET", subresource)
    finding = findings_on()[subject]
    assert finding.status is WARN
    assert finding.text.startswith("could not be checked: access denied")
    assert finding.remedy.startswith(f"grant {action} on ")


def test_what_a_store_does_not_offer_is_no_complaint(faulty, findings_on, database_url):
    for subresource in ("versioning", "object-lock", "requestPayment", "lifecycle", "logging"):
        faulty.deny("GET", subresource, code="NotImplemented", status=501)
    assert {seen(finding) for finding in findings_on(database_url=database_url).values() if finding.remedy} == set()


def test_logging_that_is_not_switched_on_fails(s3, media):
    s3.put_bucket_logging(Bucket=media.name, BucketLoggingStatus={})
    scene = Scene(media, S3LogStore(s3, media.log_bucket_name), InAws(s3), purges=False, clock=time.time)
    logging = {finding.subject: finding for finding in examine_s3(scene)}[f"{media.name}: logging"]
    assert seen(logging) == (FAIL, "not switched on: nothing is delivered")
    assert logging.remedy == f"tamarin-dagster enable-logging {media.name}"


def test_logging_that_a_store_of_another_make_does_not_have_is_a_warning(s3, findings_on, media):
    """Such a store may say so of every bucket, so that a failure would stay forever."""
    s3.put_bucket_logging(Bucket=media.name, BucketLoggingStatus={})
    assert findings_on()["logging"].status is WARN


def test_logging_to_another_place_fails_and_names_both(s3, findings_on, media):
    log_to(s3, media.name, media.log_bucket_name, "log/")
    place = media.log_bucket_name
    text = f"delivers to '{place}' under 'log/'; the settings say '{place}' under 'logs/'"
    assert seen(findings_on()["logging"]) == (FAIL, text)


@pytest.mark.parametrize(("prefix", "status"), [("logs/", FAIL), ("logs/own/", FAIL), ("", FAIL), ("own/", WARN)])
def test_a_log_bucket_that_logs_into_itself_is_told(s3, findings_on, media, prefix, status):
    log_to(s3, media.log_bucket_name, media.log_bucket_name, prefix)
    finding = findings_on()["log bucket's own logging"]
    assert finding.status is status
    assert finding.text == f"it logs into itself, under {prefix!r}: each delivery is logged again, without end"


def test_a_bucket_that_logs_into_itself_under_a_prefix_of_its_own_is_a_warning_that_says_why(s3, found, media):
    """S3 allows it, but the settings refused it."""
    itself = media.model_copy(update={"log_bucket_name": media.name, "log_prefix": "access-logs/it's/"})
    log_to(s3, media.name, media.name, "access-logs/it's/")
    named = found(itself)
    for subject in ("settings: log loop", f"{media.name}: log bucket's own logging"):
        finding = named[subject]
        assert finding.status is WARN
        assert """logs into itself, under "access-logs/it's/": each delivery of a log key is a PUT""" in finding.text
        assert "there is always something new to load" in finding.text
        assert "let it log to another bucket" in finding.remedy
        assert "WHERE starts_with(key, 'access-logs/it''s/') IS NOT TRUE" in finding.remedy
    assert named[f"{media.name}: logging"].status is OK
    assert [subject for subject, finding in named.items() if finding.status is FAIL] == []


def test_a_folder_that_is_not_searched_to_its_end_is_told_with_the_strays():
    seen = Survey(("logs/",), ("logs/a", "logs/b"), ("logs/x/", "logs/y/"))
    finding = stray_finding("media: strays", seen)
    assert finding.status is WARN
    assert finding.text.startswith(
        "names that are not log keys: 2, for example 'logs/a'; 2 folders were not searched to the"
    )
    assert stray_finding("media: strays", Survey((), (), ("logs/x/",))).text.startswith("1 folder was not searched")


def test_all_is_well_with_a_folder(found, database_url, folder_bucket, put_key):
    put_key(lines(1))
    named = found(folder_bucket, database_url=database_url)
    assert {subject: finding.text for subject, finding in named.items() if finding.status is not OK} == {}
    assert list(named)[5:] == ["log bucket", "list", "get", "name", "strays", "quiet files", "delete"]
    assert named["get"].text == "a log key was read"
    assert "delete" not in found(folder_bucket, purge_parsed_keys=False)


def test_a_folder_that_is_not_there_fails(found, folder_bucket, log_folder):
    log_folder.rmdir()
    named = found(folder_bucket)
    assert seen(named["log bucket"]) == (FAIL, f"the folder {str(log_folder)!r} does not exist")
    assert "list" not in named


def test_strays_of_a_folder_are_told(found, folder_bucket, log_folder):
    (log_folder / "logs").mkdir()
    (log_folder / "logs" / "notes").write_bytes(b"x")
    assert seen(found(folder_bucket)["strays"]) == (WARN, "names that are not log keys: 1, for example 'logs/notes'")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everywhere")
def test_a_folder_below_that_may_not_be_read_fails(found, folder_bucket, put_key, log_folder):
    """os.walk skips such a folder silently."""
    put_key(lines(1))
    (log_folder / "logs" / "closed").mkdir(0o000)
    named = found(folder_bucket)
    assert seen(named["list"]) == (FAIL, f"the folder '{log_folder}/logs/closed' cannot be read")
    assert "get" not in named


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_fails_where_log_keys_are_purged(found, folder_bucket, put_key, log_folder):
    put_key(lines(1))
    (log_folder / "logs").chmod(0o555)
    named = found(folder_bucket)
    assert seen(named["delete"]) == (FAIL, f"the folder '{log_folder}/logs' cannot be written to")
    assert named["list"].status is OK
