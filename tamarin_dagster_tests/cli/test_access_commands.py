"""Run doctor, enable-logging and iam-policy as a shell does, and check their output and exit status."""

import json
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tamarin_dagster.cli import app
from tamarin_dagster.homes import CONFIG_VARIABLE
from tamarin_dagster.operations.iam import doctor_policy, purge_policy, reading_policy
from tamarin_dagster.settings import load_settings
from tamarin_dagster_tests.lines import lines


@pytest.fixture
def configure(tmp_path, monkeypatch):
    """Return configure("{name: …}", …), which writes a tamarin.yaml with these buckets and its own home."""

    def configure(*buckets: str) -> None:
        config = tmp_path / "tamarin.yaml"
        config.write_text("home: state\nbuckets:\n" + "".join(f"  - {bucket}\n" for bucket in buckets))
        monkeypatch.setenv(CONFIG_VARIABLE, str(config))

    return configure


@pytest.fixture
def run():
    """Return run("doctor", …), which runs the command in this process."""
    return lambda *arguments, answer=None: CliRunner().invoke(app, arguments, input=answer)


@pytest.fixture
def folder(configure, log_folder):
    configure(f"{{name: media, log_bucket_name: '{log_folder.as_uri()}', log_prefix: logs/}}")
    return log_folder


@pytest.fixture
def source(configure, s3, s3_bucket, s3_endpoint, monkeypatch):
    """Return the name of a bucket in S3 whose log keys go to `s3_bucket`."""
    name = f"source-of-{s3_bucket}"
    s3.create_bucket(Bucket=name)
    configure(f"{{name: {name}, log_bucket_name: {s3_bucket}, log_prefix: logs/, endpoint_url: '{s3_endpoint}'}}")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3_endpoint)
    return name


def test_the_doctor_says_what_it_finds_line_by_line_in_a_shell(tmp_path, folder, put_key, database_url):
    put_key(lines(1))
    (folder / "logs" / "[bold]x").write_bytes(b"x")
    environment = os.environ | {"TAMARIN_DATABASE_URL": database_url, "COLUMNS": "60"}
    done = subprocess.run(
        [sys.executable, "-m", "tamarin_dagster.cli", "doctor"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = [re.sub("Postgres [0-9.]+|by [0-9]+ s", "…", line) for line in done.stdout.splitlines()]
    assert re.fullmatch(
        r"tamarin-dagster [0-9.]+ \(schema revision \d{4}\), Python 3[0-9.]+, Dagster 1[0-9.]+, Linux \w+", said[0]
    )
    assert said[1] == "ok    settings: read; buckets configured: 1"
    assert said[2] == "ok    database: … answers"
    assert said[3] == "ok    database rights: the user may create tables, and owns the existing ones"
    assert said[6:] == [
        "ok    media: log bucket: the folder exists",
        "ok    media: list: the folders can be read",
        "ok    media: get: a log key was read",
        "ok    media: name: no contradiction was found",
        "warn  media: strays: names that are not log keys: 1, for example 'logs/[bold]x'",
        "      they are never read nor deleted; if they should be log keys, check log_prefix",
        "ok    media: quiet files: no file of the last days may still be written",
        "ok    media: delete: the folders can be written to",
    ]


def test_what_fails_gives_status_1(run, folder):
    folder.rmdir()
    done = run("doctor")
    assert done.exit_code == 1
    assert "fail  media: log bucket: the folder" in done.stdout
    assert "does not exist" in done.stdout


def test_findings_come_as_json(run, folder):
    done = run("doctor", "--json")
    found = json.loads(done.stdout)
    assert found[0] == {
        "subject": "settings",
        "status": "ok",
        "text": "read; buckets configured: 1",
        "remedy": "",
    }
    assert [finding["subject"] for finding in found if "media" in finding["subject"]] == [
        "media: log bucket",
        "media: list",
        "media: get",
        "media: name",
        "media: strays",
        "media: quiet files",
        "media: delete",
    ]


def test_a_bucket_that_is_not_configured_is_told(run, folder):
    done = run("doctor", "--bucket", "flims")
    assert (done.exit_code, "bucket 'flims' is not configured" in done.stderr) == (2, True)


def test_the_doctor_examines_a_bucket_in_s3_and_tells_how_to_switch_logging_on(run, source):
    done = run("doctor", "--bucket", source)
    assert done.exit_code == 0, "the endpoint is none of AWS"
    assert f"warn  {source}: logging: the store says that it is not switched on" in done.stdout
    assert f"`tamarin-dagster enable-logging {source}` tries S3's way" in done.stdout


def test_logging_is_switched_on_after_a_yes_and_once(run, source, s3, s3_bucket):
    asked = run("enable-logging", source, answer="n\n")
    assert asked.exit_code == 1
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=source)

    shown = run("enable-logging", source, "--dry-run")
    assert shown.exit_code == 0
    assert f"PutBucketPolicy on {s3_bucket}: S3's logging service may write to it" in shown.stdout
    assert '"aws:SourceAccount": "123456789012"' in shown.stdout
    assert f'    "TargetBucket": "{s3_bucket}",\n    "TargetPrefix": "logs/"' in shown.stdout
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=source)

    done = run("enable-logging", source, answer="y\n")
    assert (done.exit_code, "Done." in done.stderr) == (0, True)
    target = s3.get_bucket_logging(Bucket=source)["LoggingEnabled"]
    assert (target["TargetBucket"], target["TargetPrefix"]) == (s3_bucket, "logs/")

    again = run("enable-logging", source)
    assert (again.exit_code, again.stdout) == (0, "")
    assert "Nothing to do" in again.stderr


def test_logging_to_another_place_is_replaced_only_if_told(run, source, configure, s3, s3_bucket, s3_endpoint):
    run("enable-logging", source, "--yes")
    configure(f"{{name: {source}, log_bucket_name: {s3_bucket}, log_prefix: new/, endpoint_url: '{s3_endpoint}'}}")

    refused = run("enable-logging", source, "--yes")
    assert refused.exit_code == 1
    assert "already logs to" in refused.stderr
    assert "or use --replace" in refused.stderr
    assert s3.get_bucket_logging(Bucket=source)["LoggingEnabled"]["TargetPrefix"] == "logs/"

    assert run("enable-logging", source, "--yes", "--replace").exit_code == 0
    assert s3.get_bucket_logging(Bucket=source)["LoggingEnabled"]["TargetPrefix"] == "new/"


def test_nothing_can_be_delivered_to_a_folder(run, folder):
    done = run("enable-logging", "media")
    assert (done.exit_code, "its log bucket is a folder" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("option", "make"), [((), reading_policy), (("--purge",), purge_policy), (("--doctor",), doctor_policy)]
)
def test_the_policy_is_printed_as_json(run, configure, option, make):
    configure("{name: media, log_bucket_name: all-logs, log_prefix: media/}", "{name: zoo, log_bucket_name: zoo-logs}")
    done = run("iam-policy", *option, "--bucket", "media")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == make(load_settings(), "media")
    assert json.loads(run("iam-policy", *option).stdout) == make(load_settings())


def test_one_policy_is_printed_at_a_time(run, folder):
    done = run("iam-policy", "--purge", "--doctor")
    assert (done.exit_code, "ask for one at a time" in done.stderr) == (2, True)
