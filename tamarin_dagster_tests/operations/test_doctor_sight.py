"""The doctor and the commands on settings, stores and databases whose faults look right."""

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from tamarin_dagster.cli import app
from tamarin_dagster.pipeline.discover import MAX_STRAYS_NAMED
from tamarin_dagster.recordstore.bucket_names import SAMPLED_RECORDS, find_foreign_records
from tamarin_dagster.recordstore.database import DatabaseError, migrate, open_database
from tamarin_dagster.recordstore.rights import get_rights
from tamarin_dagster.settings import Settings
from tamarin_dagster_tests.lines import line

NAME = "2026-03-05-10-00-00-{:016X}"
DAY = datetime(2026, 3, 5, 9, 58, 1, tzinfo=UTC)


class Cli:
    """Runs tamarin-dagster in this process, with its own settings."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._config = folder / "tamarin.yaml"
        self._environment = {
            "TAMARIN_CONFIG": str(self._config),
            "TAMARIN_DATABASE_URL": database_url,
            "TAMARIN_HOME": str(folder / "home"),
            "TAMARIN_PURGE_PARSED_KEYS": "false",
            "COLUMNS": "500",
        }

        self.configure()

    def configure(self, *buckets: dict[str, object]) -> None:
        self._config.write_text(json.dumps({"buckets": buckets}))

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, arguments, env=self._environment | environment)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    def findings(self, **environment: str) -> dict[str, tuple[str, str, str]]:
        """Return the doctor's findings: status, text and remedy by subject without the bucket's name."""
        _, answer, _ = self("doctor", "--json", **environment)
        found = json.loads(answer)
        return {each["subject"].rpartition(": ")[2]: (each["status"], each["text"], each["remedy"]) for each in found}


@pytest.fixture
def run(tmp_path: Path, database_url: str) -> Cli:
    return Cli(tmp_path, database_url)


def records_of(bucket: str, count: int) -> bytes:
    times = (f"{DAY + timedelta(seconds=number % 60):%d/%b/%Y:%H:%M:%S +0000}" for number in range(count))
    return b"".join(line(time, bucket=bucket, request_id=f"{n:016X}") for n, time in enumerate(times))


@pytest.fixture
def misnamed(run: Cli, log_folder: Path, put_key: Callable[..., str]) -> Cli:
    """Load 20,000 records of media-example-org for a bucket that is configured as media.example.org."""
    run.configure({"name": "media.example.org", "log_bucket_name": log_folder.as_uri(), "log_prefix": "logs/"})
    for _ in range(4):
        put_key(records_of("media-example-org", 5000))
    return run


SAID = (
    "media.example.org: none of the newest records is of media.example.org: 20,000 of 20,000 are of"
    " media-example-org - check the bucket's name in the settings (name: media-example-org?), and its log_prefix"
)


def test_pull_report_hogs_and_export_say_that_a_buckets_name_matches_no_record(misnamed, tmp_path):
    assert SAID in misnamed("pull")[2]
    assert SAID in misnamed("pull")[2], "also where nothing was left to load"
    report = tmp_path / "report.html"
    assert SAID in misnamed("report", "--month", "2026-03", "--out", str(report))[2]
    assert (
        "none of the newest records is of media.example.org: 20,000 of 20,000 are of media-example-org"
        in report.read_text()
    )
    assert SAID in misnamed("hogs", "--since", "2026-03-01")[2]
    assert SAID in misnamed("export", "--format", "csv", "--bucket", "media.example.org")[2]
    assert "none of" not in misnamed("export", "--format", "csv")[2], "what is of any bucket lacks nothing"


FORMER = (
    "log keys under its log prefix were loaded under the name media.example.org, which is not configured: 4 of those"
    " that are still there"
)


def test_after_a_name_is_corrected_pull_purge_and_doctor_say_under_which_name_the_log_keys_are_loaded(
    misnamed, log_folder
):
    misnamed("pull", "--no-purge", "--no-rollups")
    misnamed.configure({"name": "media-example-org", "log_bucket_name": log_folder.as_uri(), "log_prefix": "logs/"})
    for command in (["pull", "--no-purge"], ["purge", "--dry-run"]):
        said = misnamed(*command, TAMARIN_PURGE_PARSED_KEYS="true")[2]
        assert f"media-example-org: {FORMER} - a log key is loaded once: set name to media.example.org again" in said
    status, text, _ = misnamed.findings()["name"]
    assert (status, text) == ("warn", FORMER)


def test_the_doctor_says_that_a_buckets_name_matches_no_record(misnamed):
    misnamed("pull", "--no-rollups")
    status, text, remedy = misnamed.findings()["name"]
    assert (status, f"media.example.org: {text} - {remedy}") == ("warn", SAID)


def test_a_bucket_with_any_record_of_its_own_is_not_complained_of(run, log_folder, put_key):
    """Two buckets may log under one prefix, so that the newest log keys may be of the other by chance."""
    run.configure({"name": "media", "log_bucket_name": log_folder.as_uri(), "log_prefix": "logs/"})
    put_key(records_of("media", 1), day="2026-03-04")
    for _ in range(30):
        put_key(records_of("films", 3))
    assert "none of" not in run("pull")[2]
    assert run.findings()["name"][0] == "ok"


def test_the_name_is_looked_at_in_a_bounded_sample(run, engine, log_folder, put_key):
    run.configure({"name": "media", "log_bucket_name": log_folder.as_uri(), "log_prefix": "logs/"})
    put_key(records_of("films", SAMPLED_RECORDS + 500))
    put_key(records_of("zoo", 3))
    run("pull", "--no-rollups")
    with engine.connect() as connection:
        found = find_foreign_records(connection, "media")
        assert find_foreign_records(connection, "other") is None
    assert found is not None
    assert found.records == SAMPLED_RECORDS
    assert {name for name, _ in found.others} <= {"films", "zoo"}


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_name_that_is_no_folder_of_the_partitioned_layout_is_said_with_those_that_are(request, run, kind):
    place = request.getfixturevalue(f"{kind}_place")
    bucket = json.loads(place.bucket.model_dump_json(exclude_unset=True)) | {"name": "media.example.org"}
    run.configure(bucket)
    for source in ("films-example-org", "media-example-org"):
        root = f"logs/123456789012/eu-west-1/{source}/2026/03/05/"
        place.put(root + NAME.format(1), records_of(source, 2))
    status, text, remedy = run.findings()["name"]
    assert (status, remedy.partition(" (")[0]) == ("warn", "check the bucket's name in the settings")
    assert text == (
        "there is no folder of media.example.org under 'logs/', but there are folders of"
        " 'films-example-org', 'media-example-org'"
    )
    assert run("pull")[2].splitlines()[-1] == (
        "media.example.org: there is no folder of it under 'logs/', but there are folders of films-example-org,"
        " media-example-org -"
        " check the bucket's name in the settings"
    )
    run.configure(bucket | {"name": "media-example-org"})
    assert run.findings()["name"][0] == "ok"
    assert "no folder" not in run("pull")[2]


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_prefix_that_matches_nothing_is_said_with_those_that_have_log_keys(request, run, kind):
    place = request.getfixturevalue(f"{kind}_place")
    bucket = json.loads(place.bucket.model_dump_json(exclude_unset=True)) | {"log_prefix": "wrong/"}
    run.configure(bucket)
    for number in range(3):
        place.put("logs/media/" + NAME.format(number), records_of("media", 1))
        place.put("zoo-" + NAME.format(number), records_of("zoo", 1))
        place.put(f"notes/{number}", b"x")
    place.put("old/123456789012/eu-west-1/media/2026/03/05/" + NAME.format(1), records_of("media", 1))
    log_bucket = place.bucket.log_bucket_name
    status, text, remedy = run.findings()["get"]
    places = "'logs/media/', 'old/', 'zoo-'"
    assert text == f"there are no log keys under 'wrong/'; in {log_bucket} there are log keys under {places}"
    assert (status, remedy) == ("warn", "correct log_prefix, if one of these belongs to the bucket")
    status, _, said = run("pull")
    assert status == 0
    assert (
        f"media: there are no log keys under 'wrong/'; in {log_bucket} there are log keys under {places} - check"
        in said
    )
    # a prefix of another bucket is no candidate
    other = bucket | {"name": "zoo", "log_prefix": "zoo-"}
    run.configure(bucket, other)
    assert "there are log keys under 'logs/media/', 'old/' -" in run("pull", "--bucket", "media")[2]
    run.configure(bucket | {"log_prefix": "logs/media/"})
    assert "lie under" not in run("pull")[2]


def test_a_prefix_that_matches_nothing_is_said_with_the_folders_of_another_store_too(folder_place, run):
    bucket = json.loads(folder_place.bucket.model_dump_json(exclude_unset=True)) | {"log_prefix": "wrong/"}
    run.configure(bucket)
    for year in (2025, 2026):
        folder_place.put(f"zone/user/media/{year}/03/05/" + NAME.format(1).replace("2026", str(year)), b"")
    folder_place.put("saved/" + NAME.format(1) + ".txt.gz", b"")
    assert "there are log keys under 'saved/', 'zone/user/media/'" in run.findings()["get"][1]
    run.configure(bucket | {"log_prefix": "zone/user/media/"})
    assert run.findings()["get"][1] == "a log key was read"


def test_a_prefix_whose_log_keys_were_purged_is_right(s3_place, run):
    bucket = json.loads(s3_place.bucket.model_dump_json(exclude_unset=True))
    run.configure(bucket)
    s3_place.put("logs/" + NAME.format(1), records_of("media", 1))
    s3_place.put("other/" + NAME.format(1), records_of("media", 1))
    purges = {"TAMARIN_PURGE_PARSED_KEYS": "true"}
    assert run("pull", **purges)[0] == 0
    assert s3_place.names() == ["other/" + NAME.format(1)]
    assert "lie under" not in run("pull", **purges)[2]
    assert run.findings()["get"][:2] == ("ok", "there is no log key yet, so nothing to read")


@pytest.fixture
def other_store(faulty, s3, s3_bucket, run, monkeypatch) -> Cli:
    """A store that says that nothing is logged and refuses PutBucketLogging, as MinIO does."""
    name = f"source-of-{s3_bucket}"
    s3.create_bucket(Bucket=name)
    run.configure({"name": name, "log_bucket_name": s3_bucket, "log_prefix": "logs/", "endpoint_url": faulty.url})
    faulty.deny("PUT", "logging", code="NotImplemented", status=501)
    for variable in ("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(variable, raising=False)
    return run


def test_a_store_that_cannot_log_is_a_warning_that_says_so(other_store):
    status, text, remedy = other_store.findings()["logging"]
    assert status == "warn"
    assert text.startswith("the store says that it is not switched on; some stores say so because they have no")
    assert "tries S3's way, and reports if the store has none" in remedy


@pytest.mark.parametrize(
    ("code", "status"),
    [("NotImplemented", 501), ("MethodNotAllowed", 405), ("XNotImplemented", 400), ("Whatever", 501)],
)
def test_a_store_that_does_not_know_of_logging_is_no_failure(other_store, faulty, code, status):
    faulty.deny("GET", "logging", code=code, status=status)
    found = other_store.findings()["logging"]
    assert found[0] == "ok"
    assert found[1].startswith(
        "cannot be checked, and enable-logging cannot switch it on: the store does not support it"
    )


def test_enable_logging_says_that_a_store_cannot(other_store, faulty, s3_bucket):
    status, _, said = other_store("enable-logging", f"source-of-{s3_bucket}", "--yes")
    assert status == 1
    assert f"{faulty.url} does not let S3's requests enable server access logging: the store does not" in said
    assert "enable logging with the store's own tools" in said
    faulty.deny("GET", "logging", code="NotImplemented", status=501)
    status, _, said = other_store("enable-logging", f"source-of-{s3_bucket}", "--dry-run")
    assert (status, "does not let S3's requests enable server access logging" in said) == (1, True)


@contextmanager
def recording_proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that refuses everything, and notes the first line of each request."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.requestline)
            self.send_error(403)

        do_GET = do_POST = do_CONNECT  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--yes",)])
def test_the_credentials_of_a_store_are_never_sent_to_aws(other_store, faulty, s3_bucket, monkeypatch, arguments):
    with recording_proxy() as (proxy, asked):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        boto3.client("sts", region_name="us-east-1")
        status, shown, said = other_store("enable-logging", f"source-of-{s3_bucket}", *arguments)
        assert asked == []
    assert status == (0 if arguments == ("--dry-run",) else 1)
    assert f"PutBucketLogging on source-of-{s3_bucket}" in shown
    assert "PutBucketPolicy" not in shown
    assert f"no policy is sent, and the store decides who may write to {s3_bucket}" in said


@pytest.fixture
def role(empty_url: str) -> Iterator[Callable[[str], str]]:
    """Return role(purpose), which makes a role that may log in; it owns objects only in the empty database."""
    made: list[str] = []

    def role(purpose: str) -> str:
        made.append(f"{purpose}_{uuid4().hex[:8]}")
        administer(empty_url, f"CREATE ROLE {made[-1]} LOGIN PASSWORD 's3cret'")
        return made[-1]

    yield role
    for each in made:
        administer(empty_url, f"DROP OWNED BY {each} CASCADE", f"DROP ROLE {each}")


def as_user(url: str, user: str) -> str:
    return sa.make_url(url).set(username=user, password="s3cret").render_as_string(hide_password=False)


def administer(url: str, *statements: str) -> None:
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def remedy_in(said: str) -> list[str]:
    """Return the statements that a message asks an administrator to run."""
    return said.partition("let an administrator run: ")[2].splitlines()[0].split("; ")


def test_a_missing_create_on_the_schema_public_is_said_and_its_remedy_works(empty_url, role, run):
    user = role("writer")
    administer(empty_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(DatabaseError) as caught:
        open_database(Settings(database_url=as_user(empty_url, user)))
    said = str(caught.value)
    assert "permission denied for schema public" in said
    assert f"the user {user} may not create tables in the schema public" in said
    found = run.findings(TAMARIN_DATABASE_URL=as_user(empty_url, user))
    assert found["database rights"] == (
        "fail",
        f"the user {user} may not create tables in the schema public",
        f'let an administrator run: GRANT USAGE, CREATE ON SCHEMA public TO "{user}"',
    )
    administer(empty_url, *remedy_in(said))
    open_database(Settings(database_url=as_user(empty_url, user))).dispose()
    assert run.findings(TAMARIN_DATABASE_URL=as_user(empty_url, user))["database rights"][0] == "ok"


def test_tables_of_another_role_are_not_taken_for_a_missing_create(empty_url, role, run):
    owner, user = role("owner"), role("writer")
    administer(empty_url, f"GRANT USAGE, CREATE ON SCHEMA public TO {owner}, {user}")
    engine = sa.create_engine(
        sa.make_url(as_user(empty_url, owner)).set(drivername="postgresql+psycopg"), isolation_level="READ COMMITTED"
    )
    migrate(engine)
    engine.dispose()
    url = as_user(empty_url, user)
    with pytest.raises(DatabaseError) as caught:
        open_database(Settings(database_url=url))
    said = str(caught.value)
    assert f"its tables belong to {owner}, and the user {user} is not a member of that role" in said
    assert "CREATE ON SCHEMA" not in said
    found = run.findings(TAMARIN_DATABASE_URL=url)
    assert found["database rights"][0] == "fail"
    assert found["database rights"][2] == (
        f'connect as {owner}, or let an administrator run: GRANT "{owner}" TO "{user}"'
    )
    assert found["database"][0] == "ok"
    administer(empty_url, *remedy_in(said))
    open_database(Settings(database_url=url)).dispose()
    assert run.findings(TAMARIN_DATABASE_URL=url)["database schema"][0] == "ok"


def test_a_missing_schema_public_is_said_and_its_remedy_works(empty_url, role):
    user = role("writer")
    administer(empty_url, "ALTER SCHEMA public RENAME TO private")
    url = as_user(empty_url, user)
    with pytest.raises(DatabaseError, match="there is no schema public") as caught:
        open_database(Settings(database_url=url))
    administer(empty_url, *remedy_in(str(caught.value)))
    open_database(Settings(database_url=url)).dispose()


def test_a_superuser_has_all_rights(engine):
    with engine.connect() as connection:
        assert (get_rights(connection).problem, get_rights(connection).remedy) == ("", "")


@pytest.mark.parametrize("remedy", [0, 1], ids=["CREATE ROLE by an administrator", "CREATEROLE"])
def test_grant_reader_without_createrole_names_two_remedies_that_work(empty_url, role, run, server_url, remedy):
    user = role("writer")
    reader = f'analysts "{uuid4().hex[:8]}"'
    administer(empty_url, f"GRANT USAGE, CREATE ON SCHEMA public TO {user}")
    url = as_user(empty_url, user)
    status, _, said = run("grant-reader", reader, TAMARIN_DATABASE_URL=url)
    assert status == 1
    assert f"the user {user} may not create the role {reader}" in said
    quoted = '"' + reader.replace('"', '""') + '"'
    statements = [f"CREATE ROLE {quoted} NOLOGIN", f'ALTER ROLE "{user}" CREATEROLE']
    assert all(statement in said for statement in statements)
    administer(empty_url, statements[remedy])
    status, _, said = run("grant-reader", reader, TAMARIN_DATABASE_URL=url)
    assert (status, "may read." in said) == (0, True)
    administer(empty_url, f"DROP OWNED BY {quoted}", f"DROP ROLE {quoted}")


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_log_keys_in_an_archive_are_named_with_a_remedy(run, s3, s3_place, storage_class):
    run.configure(json.loads(s3_place.bucket.model_dump_json(exclude_unset=True)))
    bucket = s3_place.bucket.log_bucket_name
    for number in (1, 2):
        key = "logs/" + NAME.format(number)
        s3.put_object(Bucket=bucket, Key=key, Body=records_of("media", 1), StorageClass=storage_class)
    s3.put_object(Bucket=bucket, Key="logs/" + NAME.format(3), Body=records_of("media", 1), StorageClass="GLACIER_IR")
    s3.put_object(Bucket=bucket, Key="logs/notes", Body=b"x", StorageClass=storage_class)
    status, text, remedy = run.findings()["archived"]
    first = "logs/" + NAME.format(1)
    assert text == f"2 log keys that are not loaded are in GLACIER or DEEP_ARCHIVE, for example '{first}'"
    assert status == "warn"
    assert "aws s3api restore-object" in remedy
    status, _, said = run("pull")
    assert status == 1
    assert "1 key loaded" in said
    assert f"key {first}: GET failed: 403 Forbidden (InvalidObjectState) - it is archived" in said
    assert "restore it (aws s3api restore-object), and exclude the log prefix from the lifecycle rule" in said


def test_log_keys_that_were_loaded_before_they_were_archived_are_no_finding(run, s3, s3_place, rows):
    """purge_parsed_keys: false, and a lifecycle rule: both are fine."""
    run.configure(json.loads(s3_place.bucket.model_dump_json(exclude_unset=True)))
    bucket, key = s3_place.bucket.log_bucket_name, "logs/" + NAME.format(1)
    s3.put_object(Bucket=bucket, Key=key, Body=records_of("media", 1))
    run("pull")
    s3.put_object(Bucket=bucket, Key=key, Body=records_of("media", 1), StorageClass="GLACIER")
    assert run.findings()["archived"] == ("ok", "no log key that is not loaded is archived", "")


def test_a_count_of_strays_that_was_cut_says_at_least(run, log_folder, put_key, tmp_path):
    run.configure({"name": "media", "log_bucket_name": log_folder.as_uri(), "log_prefix": "logs/"})
    put_key(records_of("media", 1))
    (log_folder / "logs" / "2026-03-05-notes").write_bytes(b"x")
    for number in range(MAX_STRAYS_NAMED - 2):
        (log_folder / "logs" / f"x{number}").write_bytes(b"x")
    assert f"  {MAX_STRAYS_NAMED - 1} strays were skipped, for example" in run("pull")[2]
    for number in range(100):
        (log_folder / "logs" / f"y{number}").write_bytes(b"x")
    assert f"  at least {MAX_STRAYS_NAMED + 1} strays were skipped, for example" in run("pull")[2]
    assert f"  at least {MAX_STRAYS_NAMED + 1} strays were skipped" in run("mirror", "--out", str(tmp_path / "m"))[2]
    assert run.findings()["strays"][1].startswith(f"names that are not log keys: at least {MAX_STRAYS_NAMED}")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@contextmanager
def tls_server(certificate: Path, refusal: bytes) -> Iterator[int]:
    """A server that speaks TLS; to plain http it answers with the refusal, or hangs up without one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=[connection], daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            try:
                if connection.recv(1, socket.MSG_PEEK) == b"\x16":
                    with context.wrap_socket(connection, server_side=True) as wrapped:
                        wrapped.recv(1)
                else:
                    connection.recv(65536)
                    connection.sendall(refusal)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


# The answers of Go's server and nginx. OpenSSL's own sends an alert.
REFUSALS = {
    "go": b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
    "nginx": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 80\r\nConnection: close\r\n\r\n"
    b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title>    ",
    "alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "hangs up": b"",
}


def at(url: str) -> dict[str, object]:
    return {"name": "media", "log_bucket_name": "some-logs", "log_prefix": "logs/", "endpoint_url": url}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_an_http_endpoint_that_speaks_https_is_said_in_a_line(run, s3_endpoint, certificate, refusal):
    with tls_server(certificate, REFUSALS[refusal]) as port:
        run.configure(at(f"http://127.0.0.1:{port}"))
        expected = f"http://127.0.0.1:{port} speaks https, not http"
        assert run.findings()["log bucket"] == ("fail", expected, "begin endpoint_url with https://")
        status, _, said = run("pull")
        assert (status, said.count("\n")) == (1, 1)
        assert said.startswith(f"bucket media: log bucket some-logs (prefix 'logs/'): {expected}; begin endpoint_url")


def test_an_https_endpoint_that_speaks_http_is_said_in_a_line(run, s3_endpoint):
    url = s3_endpoint.replace("http:", "https:")
    run.configure(at(url))
    expected = f"{url} speaks http, not https"
    assert run.findings()["log bucket"] == ("fail", expected, "begin endpoint_url with http://")
    for arguments in (("pull",), ("enable-logging", "media", "--dry-run"), ("buckets",)):
        status, shown, said = run(*arguments)
        assert status == 1
        assert expected in re.sub(r"\s+", " ", shown + said)


def test_a_certificate_that_is_not_trusted_is_not_taken_for_http(run, s3_endpoint, certificate):
    with tls_server(certificate, b"") as port:
        run.configure(at(f"https://127.0.0.1:{port}"))
        status, text, remedy = run.findings()["log bucket"]
    assert (status, "certificate" in text.lower(), "AWS_CA_BUNDLE" in remedy) == ("fail", True, True)


def test_an_endpoint_that_answers_with_a_page_is_said_in_a_line(run, s3_endpoint):
    """The port of a console instead of the store's: it answers 200, and HTML."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><title>Console</title><p>hello"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        run.configure(at(url))
        assert run.findings()["log bucket"][0] == "fail"
        status, _, said = run("pull")
        server.shutdown()
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith("bucket media: log bucket some-logs (prefix 'logs/'): ")
