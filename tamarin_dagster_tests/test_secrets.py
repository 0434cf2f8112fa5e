"""No secret of a URL is shown: not by a command, not by an error, a log line or a traceback."""

import json
import logging
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

from tamarin_dagster.cli import app
from tamarin_dagster.logstore.errors import summarize_error
from tamarin_dagster.orchestration.patches.instance_storage import SettingsPostgresStorage
from tamarin_dagster.settings import Settings, SettingsError, load_settings
from tamarin_dagster.settings.values import _check_database_url
from tamarin_dagster.urls import describe_url, hide_secrets, hide_userinfo
from tamarin_dagster_tests.examples import at_least

# Parts of the secret, none of which is a word that a message could hold otherwise.
PARTS = ("Zq7Xw", "Kv9Jy", "Qx4Hz")
_A, _B, _C = PARTS
FRAGMENTS = {part[start : start + 3] for part in PARTS for start in range(len(part) - 2)}

# Nothing listens there, which a connection learns at once.
HOST = "127.0.0.1:1"
MALFORMED = [
    f"postgresql://tamarin:{_A}@{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}@{_B}@{_C}@{HOST}/records",
    f"postgresql://tamarin:{_A}/{_B}@{HOST}/records",
    f"postgresql://tamarin:12345/{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}:{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}#{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}?{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}?{_B}={_C}@{HOST}/records",
    f"postgresql://tamarin:{_A}@{_B}/{_C}?a=b@{HOST}/records",
    f"postgresql://tamarin:{_A}@/{_B}@{HOST}/records",
    f"postgresql://tamarin:@{_A}:{_B}@{HOST}/records",
    f"postgresql://tamarin:[{_A}@{HOST}/records",
    f"postgresql://tamarin:{_A}]{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}\u2100{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}é日本{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A} {_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}\t{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}\n{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}%zz{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}%{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}%ff{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}%00{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}%40{_B}@{HOST}/records",
    f"postgresql://tamarin:{_A}@{HOST}",
    f"postgresql://tamarin:{_A}@{HOST}/",
    f"postgresql://tamarin:{_A}@127.0.0.1:{_B}/records",
    f"postgresql://tamarin:{_A}/records",
    f"postgresql:tamarin:{_A}@{HOST}/records",
    f"postgresql//tamarin:{_A}@{HOST}/records",
    f"postgresql:///tamarin:{_A}@{HOST}/records",
    f"tamarin:{_A}@{HOST}/records",
    f"mysql://tamarin:{_A}@{HOST}/records",
    f"://tamarin:{_A}@{HOST}/records",
    f"{_A}",
    f"{_A}@{_B}",
    f"host=127.0.0.1 port=1 user=tamarin password={_A} dbname=records",
    f"'postgresql://tamarin:{_A}@{HOST}/records'",
    f"postgresql://{HOST}/records?user=tamarin&password={_A}",
    f"postgresql://{HOST}/records?password={_A}@{_B}",
    f"postgresql://tamarin@{HOST}/records?pass={_A}",
    f"postgresql://tamarin@{HOST}/records?no_such_option={_B}",
    f"postgresql://tamarin@{HOST}/records?{_A}",
    f"postgresql://tamarin@{HOST}/records?sslmode={_A}",
    f"postgresql://tamarin@{HOST}/records?sslmode={_A}%20{_B}",
    f"postgresql://tamarin@{HOST}/records?sslmode={_A}+{_B}",
    f"postgresql://tamarin@{HOST}/records?sslmode={_A}%zz",
    f"postgresql://tamarin@{HOST}/records?connect_timeout={_A}",
    f"postgresql://tamarin@{HOST}/records?keepalives={_A}",
    f"postgresql://tamarin@{HOST}/records?target_session_attrs={_A}",
    f"postgresql://tamarin@{HOST}/records?prepare_threshold={_A}",
    f"postgresql://tamarin@{HOST}/records?autocommit={_A}",
    f"postgresql://tamarin@{HOST}/records?plugin={_A}",
    f"postgresql://tamarin@{HOST}/records?sslpassword={_A}&sslkey=/{_B}&sslcert=/{_C}&sslmode=require",
    f"postgresql://tamarin@{HOST}/records?options=-c%20{_A}={_B}",
]  # fmt: skip
COMMANDS = [
    ("pull",),
    ("doctor",),
    ("doctor", "--json"),
    ("sql", "SELECT 1"),
    ("sql",),
    ("migrate",),
    ("buckets", "--no-list"),
    ("stop",),
    ("grant-reader", "analysts"),
]


def leaked(text: str) -> set[str]:
    """Return the parts of the secret that the text shows."""
    return {fragment for fragment in FRAGMENTS if fragment in text}


@pytest.fixture
def run(tmp_path: Path, log_folder: Path, monkeypatch, caplog):
    """run(arguments, environment): all that a command shows, logs and raises, in this process; and its status."""
    config = tmp_path / "tamarin.yaml"
    config.write_text(f"buckets:\n  - {{name: media, log_bucket_name: '{log_folder.as_uri()}', log_prefix: logs/}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMARIN_CONFIG", str(config))
    monkeypatch.setenv("TAMARIN_HOME", str(tmp_path / "home"))
    caplog.set_level(logging.DEBUG)

    def run(arguments: tuple[str, ...], **environment: str) -> tuple[int, str]:
        caplog.clear()
        done = CliRunner().invoke(app, arguments, env=environment)
        assert isinstance(done.exception, SystemExit | None), f"{arguments}: a traceback"
        raised = "".join(traceback.format_exception(*done.exc_info)) if done.exc_info else ""
        return done.exit_code, done.stdout + done.stderr + caplog.text + raised

    return run


@pytest.mark.parametrize("url", MALFORMED)
def test_no_command_shows_a_part_of_the_secret_of_a_url(run, url):
    for arguments in COMMANDS:
        status, said = run(arguments, TAMARIN_DATABASE_URL=url)
        assert status in (1, 2), arguments
        assert leaked(said) == set(), arguments


@pytest.mark.parametrize("url", MALFORMED)
def test_what_may_be_shown_of_a_url_holds_no_part_of_the_secret(url):
    assert leaked(describe_url(url)) == set()
    assert leaked(hide_secrets(f"connection to {url} failed", url)) == set()


@pytest.mark.parametrize("url", MALFORMED)
def test_no_error_of_dagsters_storage_shows_a_part_of_the_secret_of_its_url(tmp_path, monkeypatch, url, caplog):
    monkeypatch.setattr("dagster_postgres.utils.time.sleep", lambda _: None)  # it would try for six seconds
    monkeypatch.setenv("TAMARIN_CONFIG", str(tmp_path / "tamarin.yaml"))
    (tmp_path / "tamarin.yaml").write_text(json.dumps({"dagster_database_url": url, "home": str(tmp_path)}))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of Dagster or of ours; the test is about its text
        SettingsPostgresStorage.from_config_value(None, {})
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert leaked(shown) == set()


@pytest.mark.parametrize(
    ("url", "program"),
    [
        (MALFORMED[0], "tamarin_dagster.cli"),
        pytest.param(MALFORMED[42], "tamarin_dagster.cli", marks=pytest.mark.slow),
        pytest.param(MALFORMED[51], "tamarin_dagster.cli", marks=pytest.mark.slow),
        (MALFORMED[0], "tamarin_dagster.code_location"),
    ],
)
def test_no_process_shows_a_part_of_the_secret_either(tmp_path, url, program):
    arguments = ["migrate"] if program.endswith("cli") else []
    environment = os.environ | {"TAMARIN_DATABASE_URL": url, "TAMARIN_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert leaked(done.stdout + done.stderr) == set()


@pytest.mark.parametrize("character", ["@", "/", "?", "#"])
def test_a_password_that_is_not_encoded_gets_a_hint_how_to_encode_it(monkeypatch, tmp_path, character):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMARIN_DATABASE_URL", f"postgresql://tamarin:{_A}{character}{_B}@db/records")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value) == (
        "TAMARIN_DATABASE_URL: database_url: must be a URL like postgresql://user:password@host:5432/database;"
        " a password with / @ : # ? must be percent-encoded: / is %2F, @ is %40, : is %3A, # is %23, ? is %3F"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://tamarin:x@db.example:5433/records?sslmode=require", "postgresql://tamarin:***@db.example:5433/records"),
        ("postgres://tamarin@db/records", "postgresql://tamarin@db/records"),
        ("postgresql+psycopg://postgres@/tamarin?host=/run/x&password=y", "postgresql://postgres@/tamarin"),
        ("postgresql://[::1]:5432/records", "postgresql://[::1]:5432/records"),
        ("postgresql://a:b@c@db/records", "a database URL"),
        ("https://store.example:9000/path", "https://store.example:9000"),
        ("https://key:secret@store.example", "an endpoint URL"),
    ],
)  # fmt: skip
def test_user_host_port_and_database_are_shown_of_a_url(url, shown):
    assert describe_url(url) == shown


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("pa:ss", "pa:ss"),
        ("p%40ss", "p@ss"),
        ("100%", "100%"),
        ("50%zz", "50%zz"),
        ("two words", "two words"),
        ("pä%C3%9F", "päß"),
    ],
)
def test_a_password_means_the_same_to_every_client(written, password):
    """SQLAlchemy takes a `%` or a blank as it is, libpq refuses it with an error that repeats the password."""
    url = Settings(database_url=f"postgresql://tamarin:{written}@db/records").database_url
    assert conninfo_to_dict(url)["password"] == password
    assert sa.make_url(url).password == password


@at_least(300)
@given(st.text("Zq7:/@?#%[]& =+\\'\"é\n", min_size=4, max_size=30), st.text("Zq7:/@?#%&=", max_size=10))
def test_whatever_a_password_holds_no_error_about_the_url_shows_three_characters_of_it(password, more):
    secret = f"Kv9Jy{password}Qx4Hz"
    url = f"postgresql://user:{secret}@host/db{more}"
    shown = [describe_url(url)]
    try:
        shown.append(describe_url(_check_database_url(url)))
    except ValueError as error:
        shown.append(str(error))
    assert not re.search("Kv9|v9J|9Jy|Qx4|x4H|4Hz", " ".join(shown))


@pytest.mark.parametrize(
    "url",
    [
        f"https://{_A}:{_B}@store.example",
        f"https://{_A}@store.example",
        f"https://{_A}:{_B}/{_C}@store.example",
        f"https://{_A}:{_B}?{_C}@store.example:9000/x",
        f"http://{_A}:@store.example",
        f"//{_A}:{_B}@store.example",
    ],
)
def test_credentials_in_an_endpoint_are_refused_and_not_shown(tmp_path, monkeypatch, url):
    (tmp_path / "tamarin.yaml").write_text(
        json.dumps({"buckets": [{"name": "media", "log_bucket_name": "logs", "endpoint_url": url}]})
    )
    monkeypatch.setenv("TAMARIN_CONFIG", str(tmp_path / "tamarin.yaml"))
    with pytest.raises(
        SettingsError, match="endpoint_url: must hold no user or password: set AWS_ACCESS_KEY_ID"
    ) as caught:
        load_settings()
    assert leaked("".join(traceback.format_exception(caught.value))) == set()


def test_a_query_in_an_endpoint_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="must be a URL without a query") as caught:
        Settings(buckets=({"name": "media", "log_bucket_name": "logs", "endpoint_url": f"https://host/?t={_A}"},))
    assert "must be a URL without a query" in str(caught.value)


@pytest.mark.parametrize("place", [f"{_A}:{_B}@127.0.0.1:1", f"{_A}:{_B}?{_C}@127.0.0.1:1", f"{_A}@{_B}@127.0.0.1:1"])
def test_no_error_shows_credentials_of_an_endpoint_that_the_environment_names(
    run, tmp_path, monkeypatch, place, s3_endpoint, caplog
):
    """AWS_ENDPOINT_URL is boto3's own setting: nobody checks it before the errors of its client repeat it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{place}")
    caplog.set_level(logging.WARNING)  # what botocore itself logs for its developers is not ours
    (tmp_path / "tamarin.yaml").write_text("buckets: [{name: media, log_bucket_name: some-logs}]\n")
    for arguments in (("doctor",), ("enable-logging", "media")):
        status, said = run(arguments)
        assert status == 1
        assert leaked(said) == set()


@pytest.mark.parametrize(
    "text", [f"at http://{_A}:{_B}@host/k", f'"https://{_A}/{_B}@host"', f"x://{_A}?{_B}@{_C}@host"]
)
def test_userinfo_is_left_out_of_any_error(text):
    assert leaked(hide_userinfo(text)) == set()
    assert leaked(summarize_error(ValueError(text))) == set()
    assert "host" in summarize_error(ValueError(text))


@pytest.mark.parametrize(
    "text",
    [
        f"database_url: *{_A}\n",
        f"database_url: !{_A} x\n",
        f'database_url: "postgresql://tamarin:\\{_A}@host/db"\n',
        f"database_url: @{_A}\n",
        f"database_url: %{_A}\n",
        f"database_url: `{_A}\n",
        f"{{database_url:postgresql://tamarin:{_A}@host/db: 1}}\n",
        f"postgresql://tamarin:{_A}@host/db: 1\n",
        f"a: 1\npostgresql://tamarin:{_A}@host/db: 1\npostgresql://tamarin:{_A}@host/db: 2\n",
        f"database_url: [postgresql://tamarin:{_A}@host/db]\n",
        f"database_url: {{postgresql://tamarin:{_A}@host/db: x}}\n",
        f"buckets: [{{name: media, log_bucket_name: 's3://{_A}:{_B}@logs'}}]\n",
        f"archive: s3://{_A}:{_B}@archive/records\n",
        f"archive: file://{_A}:{_B}@host/records\n",
        f"buckets: postgresql://tamarin:{_A}@host/db\n",
        f"anonymize_key: {_A}\n",
    ],
)
def test_no_error_of_the_settings_shows_a_value(tmp_path, monkeypatch, text):
    (tmp_path / "tamarin.yaml").write_text(text, "utf-8")
    monkeypatch.setenv("TAMARIN_CONFIG", str(tmp_path / "tamarin.yaml"))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert leaked("".join(traceback.format_exception(caught.value))) == set()
