"""`tamarin-dagster report`, as a shell runs it."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tamarin_dagster.cli import app
from tamarin_dagster.recordstore.schema.traffic_tables import traffic_hourly
from tamarin_dagster_tests.analytics.report.months import insert


@pytest.fixture
def run(tmp_path: Path, database_url: str, monkeypatch):
    """Return run("report", …), which runs tamarin-dagster in `tmp_path` on the test's database, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMARIN_CONFIG", "")  # --config sets it for the process, which here outlives the command
    (tmp_path / "tamarin.yaml").write_text(
        "reports: mine\nbuckets:\n  - {name: media, log_bucket_name: logs}\n  - {name: films, log_bucket_name: logs}\n"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(app, arguments, env={"TAMARIN_DATABASE_URL": database_url, "COLUMNS": "200"})
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run


def test_each_bucket_has_a_file_of_the_present_month_and_its_path_is_told(run, today, tmp_path) -> None:
    done = run("report")

    paths = [tmp_path / f"mine/{name}-{today:%Y-%m}.html" for name in ("media", "films")]
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(path) for path in paths]
    assert all("No records of this month are loaded." in path.read_text("utf-8") for path in paths)


def test_where_no_bucket_is_configured_what_is_rolled_up_has_a_report(run, rows, tmp_path) -> None:
    """Only the settings of `make dev` have the demo's bucket."""
    (tmp_path / "tamarin.yaml").write_text("reports: mine\n")
    assert "no buckets are configured" in run("report").stderr
    for name in ("demo", "../../etc/cron.d/x"):
        rows(
            "INSERT INTO traffic_day (bucket, request_date, requests, bytes_sent, rolled_up_at, seconds)"
            " VALUES (:name, '2026-03-05', 1, 1, now(), 0)",
            name=name,
        )

    for arguments in ([], ["--bucket", "demo"]):
        assert run("report", "--month", "2026-03", *arguments).stdout.split() == [f"{tmp_path}/mine/demo-2026-03.html"]
    assert "'films' is not configured" in run("report", "--bucket", "films").stderr


def test_a_month_of_one_bucket_goes_where_it_is_wanted(run, engine, tmp_path) -> None:
    with engine.begin() as connection:
        at = datetime(2026, 3, 5, tzinfo=UTC)
        row = {"bucket": "media", "hour": at, "operation_class": "read", "status_class": 2, "requests": 4321}
        insert(connection, traffic_hourly, [row])

    done = run("report", "--bucket", "media", "--month", "2026-03", "--out", "march.html", "--anonymize-ips")

    assert done.stdout.splitlines() == ["march.html"]
    assert "media, March 2026: 4,321 requests, 0 bytes sent" in done.stderr
    text = (tmp_path / "march.html").read_text("utf-8")
    assert '<dd class="figure">4,321</dd>' in text
    assert "shown as pseudonyms, which are valid within this report" in text
    assert run("report", "--bucket", "media", "--month", "2026-03", "--out", str(tmp_path)).stdout.splitlines() == [
        str(tmp_path / "media-2026-03.html")
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--month", "March"), "--month: 'March' is not a month; write it like 2026-03"),
        (("--out", "tamarin.yaml"), "--out tamarin.yaml is a file, and there are 2 buckets; name one with --bucket"),
        (("--bucket", "press"), "bucket 'press' is not configured; configured buckets: media, films"),
    ],
)
def test_a_wrong_argument_is_told_with_what_to_do(run, arguments, said) -> None:
    done = run("report", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
