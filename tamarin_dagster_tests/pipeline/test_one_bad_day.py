"""One bad day, or one bad bucket, stops only itself: it is named, with a remedy, and the command ends with status 1."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from psycopg import sql
from typer.testing import CliRunner

from tamarin_dagster.analytics.report import tops
from tamarin_dagster.analytics.rollups import roll_up
from tamarin_dagster.cli import app
from tamarin_dagster.pipeline.export import columnar
from tamarin_dagster.pipeline.retain import find_first_kept_day
from tamarin_dagster.recordstore.extracts import Extract
from tamarin_dagster.recordstore.schema.answer_views import ANSWERS
from tamarin_dagster.recordstore.schema.cost_views import COST_VIEWS
from tamarin_dagster_tests.analytics.records import record

LARGEST = 2**63 - 1
DAY = date(2026, 3, 5)


@pytest.fixture
def world(tmp_path: Path, database_url: str, monkeypatch) -> Path:
    """A folder with the settings of three buckets, and a log bucket for each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMARIN_CONFIG", "")
    buckets = []
    for name in ("aaa", "huge", "innocent"):
        (tmp_path / name).mkdir()
        buckets.append({"name": name, "log_bucket_name": (tmp_path / name).as_uri(), "start_date": "2026-03-01"})
    settings = {"database_url": database_url, "home": str(tmp_path / "home"), "buckets": buckets}
    (tmp_path / "tamarin.yaml").write_text(json.dumps(settings))
    return tmp_path


@pytest.fixture
def put(world: Path) -> Callable[..., None]:
    def put(bucket: str, *bodies: bytes, day: date = DAY) -> None:
        for number, body in enumerate(bodies):
            (world / bucket / f"{day}-10-00-00-{number:016X}").write_bytes(body)

    return put


@pytest.fixture
def run(world: Path) -> Callable[..., Result]:
    def run(*arguments: str, status: int = 0, **environment: str) -> Result:
        done = CliRunner().invoke(app, arguments, env={"COLUMNS": "400"} | environment)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == status, done.output
        return done

    return run


def refuse(rows: Callable[..., object], table: str, condition: str) -> None:
    rows(f"ALTER TABLE {table} ADD CONSTRAINT refuse CHECK ({condition})")


def test_two_records_with_the_most_bytes_of_all_stop_no_command(put, run, rows, world, engine) -> None:
    """`database: bigint out of range` ended roll-up, pull and expire for good; the next bucket's report showed 0."""
    huge = record(
        bucket="huge", key="k", sent=str(LARGEST), size=str(LARGEST), took=str(LARGEST), referrer="https://a.b/"
    )
    put("huge", huge + huge)
    put("aaa", record(bucket="aaa"))
    put("innocent", record(bucket="innocent") * 3)

    run("pull", "--no-purge")
    run("roll-up", "--from", "2026-03-01")

    found = rows("SELECT bucket, requests, bytes_sent FROM traffic_day ORDER BY 1")
    assert found == [("aaa", 1, 100), ("huge", 2, 2 * LARGEST), ("innocent", 3, 300)]
    said = run("report", "--month", "2026-03", "--out", str(world / "reports")).stderr
    assert "innocent, March 2026: 3 requests, 300 bytes sent" in said
    assert f"huge, March 2026: 2 requests, {2 * LARGEST:,} bytes sent" in said
    (found,) = json.loads(run("hogs", "--bucket", "huge", "--since", "2026-03-01", "--format", "json").stdout)
    assert (found["bytes"], found["hogs"][0]["bytes"], found["hogs"][0]["share"]) == (2 * LARGEST, 2 * LARGEST, 1.0)
    answer = run(
        "sql", "SELECT sum(bytes_sent) AS n FROM traffic_daily_by_key WHERE bucket = 'huge'", "--format", "json"
    )
    assert json.loads(answer.stdout) == [{"n": 2 * LARGEST}]
    run("buckets", "--no-list")
    run("export", "--format", "parquet", "--out", str(world / "records"))
    run("export", "--format", "csv", "--out", str(world / "records.csv"))

    for view in (*ANSWERS, *COST_VIEWS):
        rows(f"SELECT * FROM {view.name}")
    columns = "requests, bytes_sent"
    assert rows("SELECT bytes_sent FROM s3_hotlink WHERE bucket = 'huge'") == [(2 * LARGEST,)]
    assert rows("SELECT bytes_sent FROM s3_cost_daily WHERE bucket = 'huge'") == [(2 * LARGEST,)]
    assert rows("SELECT bytes_sent FROM s3_download WHERE bucket = 'huge'") == [(2 * LARGEST,)]
    assert rows(f"SELECT {columns} FROM s3_hogs('huge', '2026-03-01', '2026-03-31') WHERE kind = 'remote_ip'") == [
        (2, 2 * LARGEST)
    ]
    causes = f"SELECT {columns} FROM s3_spike_causes('huge', '2026-03-05 09:00Z') WHERE kind = 'key'"
    assert rows(causes) == [(2, 2 * LARGEST)]
    assert rows("SELECT internet_bytes FROM s3_monthly_price WHERE bucket = 'huge'") == [(2 * LARGEST + 400,)]

    run("expire", TAMARIN_RETENTION_MONTHS="1")
    kept = find_first_kept_day(1, datetime.now(UTC).date()) <= DAY
    assert rows("SELECT count(*) FROM s3_log_record") == [(6 if kept else 0,)]


def test_a_bucket_that_cannot_be_rolled_up_is_named_and_the_others_are_done(put, run, rows) -> None:
    for name in ("aaa", "huge", "innocent"):
        put(name, record(bucket=name))
    refuse(rows, "traffic_daily_by_key", "bucket <> 'huge'")

    for command in ("pull", "roll-up"):
        said = run(command, status=1).stderr
        assert 'bucket huge, day 2026-03-05: cannot roll up: new row for relation "traffic_daily_by_key"' in said
        assert "fix the cause, then run `tamarin-dagster roll-up`" in said
    assert rows("SELECT bucket, requests FROM traffic_day ORDER BY 1") == [("aaa", 1), ("innocent", 1)]

    rows("ALTER TABLE traffic_daily_by_key DROP CONSTRAINT refuse")
    run("roll-up")
    assert rows("SELECT sum(requests) FROM traffic_day") == [(3,)]


def test_a_bucket_that_the_database_refuses_does_not_stop_the_pulls_of_the_others(put, run, rows) -> None:
    for name in ("aaa", "huge", "innocent"):
        put(name, record(bucket=name))
    rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'block is damaged'; END$$;"
        " CREATE TRIGGER refuse BEFORE UPDATE ON s3_log_key FOR EACH ROW WHEN (OLD.bucket = 'huge')"
        " EXECUTE FUNCTION refuse()"
    )

    done = run("pull", "--json", status=1)

    assert {each["bucket"]: each["purge_error"] for each in json.loads(done.stdout)} == {
        "aaa": None,
        "huge": "database: block is damaged",
        "innocent": None,
    }
    assert rows("SELECT bucket FROM s3_log_key WHERE purged_at IS NOT NULL ORDER BY 1") == [("aaa",), ("innocent",)]


def test_answers_name_the_days_that_they_lack_instead_of_showing_zeros(put, run, rows, world, engine) -> None:
    put("innocent", record(bucket="innocent"), record("06/Mar/2026:10:00:00 +0000", bucket="innocent"))
    run("pull", "--bucket", "innocent", "--no-rollups")

    lacking = (
        "bucket innocent: totals are incomplete: records of 2026-03-05, 2026-03-06 are not in the rollups yet; run"
        " `tamarin-dagster roll-up`, then ask again"
    )
    asked = ("--bucket", "innocent")
    page = world / "page.html"
    assert lacking in run("report", *asked, "--month", "2026-03", "--out", str(page)).stderr
    assert "Totals are incomplete" in page.read_text()
    assert "Records of days 5, 6 are not in the rollups yet." in page.read_text()
    assert "No records of this month are loaded." not in page.read_text()
    done = run("hogs", *asked, "--since", "2026-03-01", "--format", "json")
    assert lacking in done.stderr
    assert json.loads(done.stdout)[0]["pending_days"] == ["2026-03-05", "2026-03-06"]

    roll_up(engine)
    assert "incomplete" not in run("report", *asked, "--month", "2026-03", "--out", str(page)).stderr
    assert "Totals are incomplete" not in page.read_text()
    done = run("hogs", *asked, "--since", "2026-03-01", "--format", "json")
    assert "incomplete" not in done.stderr
    assert json.loads(done.stdout)[0]["pending_days"] == []


def test_a_bucket_whose_report_cannot_be_asked_for_does_not_stop_the_others(put, run, world, monkeypatch) -> None:
    for name in ("aaa", "huge", "innocent"):
        put(name, record(bucket=name))
    run("pull")
    files = tops.files

    def divided(connection: sa.Connection, bucket: str, *rest: object) -> object:
        if bucket == "huge":
            connection.execute(sa.text("SELECT 1 / 0"))
        return files(connection, bucket, *rest)

    monkeypatch.setattr(tops, "files", divided)

    done = run("report", "--month", "2026-03", "--out", str(world / "reports"), status=1)

    assert "bucket huge: database: division by zero" in done.stderr
    assert sorted(path.name for path in (world / "reports").iterdir()) == [
        "aaa-2026-03.html",
        "innocent-2026-03.html",
    ]


def test_a_day_that_cannot_be_exported_is_named_and_the_other_files_are_written(put, run, world, monkeypatch) -> None:
    for name in ("aaa", "huge", "innocent"):
        put(name, record(bucket=name))
        put(name, record("06/Mar/2026:10:00:00 +0000", bucket=name), day=date(2026, 3, 6))
    run("pull", "--no-rollups")
    copy, delivered = Extract.copy, columnar.delivered_records

    def divided(extract: Extract, *rest: sql.Composable) -> sql.Composed:
        if extract.day == DAY and extract.buckets in {("huge",), None}:
            return sql.SQL("COPY (SELECT 1 / 0) TO STDOUT").format()
        return copy(extract, *rest)

    def divided_day(connection: sa.Connection, bucket: str, day: date, **options: bool) -> Any:
        if (bucket, day) == ("huge", DAY):
            connection.execute(sa.text("SELECT 1 / 0"))
        return delivered(connection, bucket, day, **options)

    monkeypatch.setattr(Extract, "copy", divided)
    monkeypatch.setattr(columnar, "delivered_records", divided_day)

    said = run("export", "--format", "parquet", "--out", str(world / "records"), status=1).stderr
    assert "bucket huge, day 2026-03-05: cannot export: division by zero" in said
    files = {path.parent.relative_to(world / "records").as_posix() for path in (world / "records").rglob("*.parquet")}
    days = ("2026-03-05", "2026-03-06")
    wanted = {f"logged_bucket={name}/delivery_day={day}" for name in ("aaa", "huge", "innocent") for day in days}
    assert files == wanted - {"logged_bucket=huge/delivery_day=2026-03-05"}

    # Nobody would notice a missing day within one text.
    text = world / "records.csv"
    said = run("export", "--format", "csv", "--out", str(text), status=1).stderr
    assert "day 2026-03-05: cannot export: division by zero - what is written ends before that day" in said
    assert not text.exists()


def test_expire_needs_no_other_day_than_those_that_it_drops(put, run, rows) -> None:
    """A day that cannot be rolled up ended `expire`, although it was to stay."""
    first_kept = find_first_kept_day(1, datetime.now(UTC).date())
    old = first_kept - timedelta(days=10)
    put("aaa", record(f"{old:%d/%b/%Y}:10:00:00 +0000", bucket="aaa"), day=old)
    put("huge", record(f"{first_kept:%d/%b/%Y}:10:00:00 +0000", bucket="huge"), day=first_kept)
    run("pull", "--from", str(old), "--no-rollups", "--no-purge")
    refuse(rows, "traffic_daily_by_key", "bucket <> 'huge'")

    run("expire", TAMARIN_RETENTION_MONTHS="1")

    assert rows("SELECT DISTINCT bucket FROM s3_log_record") == [("huge",)]
    assert rows("SELECT bucket, expired_at IS NOT NULL FROM traffic_day") == [("aaa", True)]


def test_a_month_whose_days_cannot_be_rolled_up_is_named_by_expire_and_stays(put, run, rows) -> None:
    old = find_first_kept_day(1, datetime.now(UTC).date()) - timedelta(days=10)
    put("huge", record(f"{old:%d/%b/%Y}:10:00:00 +0000", bucket="huge"), day=old)
    run("pull", "--from", str(old), "--no-rollups", "--no-purge")
    refuse(rows, "traffic_daily_by_key", "bucket <> 'huge'")

    done = run("expire", "--json", status=1, TAMARIN_RETENTION_MONTHS="1")

    name = f"s3_log_record_{old:%Y_%m}"
    assert f"{name} is not dropped: bucket huge, day {old} must be rolled up first" in done.stderr
    reported = json.loads(done.stdout)
    assert (reported["partitions"], len(reported["kept_back"]), reported["keys"]) == ([], 1, 0)
    assert rows("SELECT count(*) FROM s3_log_record") == [(1,)]
