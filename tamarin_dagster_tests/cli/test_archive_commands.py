"""Commands with an archive: each says what was done, what was not, and why."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from tamarin_dagster.cli import app
from tamarin_dagster.logstore import LogStoreError
from tamarin_dagster.logstore.folder import FolderLogStore
from tamarin_dagster_tests.lines import lines

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def run(tmp_path: Path, database_url: str, log_folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return run("pull", …), which runs a command on a folder of log keys with an archive."""
    config = tmp_path / "tamarin.yaml"
    config.write_text(
        f"archive: '{archive}'\nbuckets:\n  - {{name: media, log_bucket_name: '{log_folder.as_uri()}',"
        " log_prefix: logs/, start_date: 2026-01-01}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAMARIN_CONFIG", str(config))
    monkeypatch.setenv("TAMARIN_DATABASE_URL", database_url)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(app, arguments, env=environment)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run


def reported(done: subprocess.CompletedProcess[str]) -> Any:
    (bucket,) = json.loads(done.stdout)
    return bucket


def test_a_pull_whose_archive_fails_still_reports_what_it_loaded(
    run: Run, put_key: Any, archive: Path, log_folder: Path
) -> None:
    archive.write_text("no folder")
    put_key(lines(3))
    put_key(lines(2), day="2026-03-06")

    done = run("pull", "--json")

    found = reported(done)
    assert done.returncode == 1
    assert [(day["day"], day["keys"], day["records"]) for day in found["days"]] == [
        ("2026-03-05", 1, 3),
        ("2026-03-06", 1, 2),
    ]
    assert (found["error"], found["archived"], found["purged"]) == (None, None, None)
    assert found["archive_error"].startswith(f"archive {archive}: ")
    assert "2 keys loaded" in done.stderr
    assert f"bucket media: archive {archive}: " in done.stderr
    assert len(list(log_folder.glob("logs/*"))) == 2


def test_a_pull_whose_rollups_fail_still_reports_what_it_loaded(
    run: Run, put_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_key(lines(3))

    def failing(*_: object) -> None:
        raise sa.exc.DataError("SELECT", {}, Exception("bigint out of range"))

    monkeypatch.setattr("tamarin_dagster.cli.key_commands.roll_up_due", failing)
    done = run("pull", "--json")

    assert (done.returncode, reported(done)["days"][0]["records"]) == (1, 3)
    assert "bigint out of range" in done.stderr


def test_a_pull_whose_purge_fails_still_reports_what_it_loaded(
    run: Run, put_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_key(lines(3))

    def failing(*_: object, **__: object) -> None:
        raise LogStoreError("the store is gone")

    monkeypatch.setattr("tamarin_dagster.cli.key_commands.purge_bucket", failing)
    done = run("pull", "--json")

    found = reported(done)
    assert (done.returncode, found["days"][0]["records"], found["archived"]["rows"]) == (1, 3, 3)
    assert (found["purge_error"], found["purged"]) == ("the store is gone", None)


def test_a_pull_whose_listing_breaks_off_still_reports_what_it_loaded_until_then(
    run: Run, put_key: Any, monkeypatch: pytest.MonkeyPatch, engine: sa.Engine
) -> None:
    for number in range(8):
        put_key(lines(3), day=f"2026-03-{number + 1:02}")
    pages = FolderLogStore.pages
    monkeypatch.setattr("tamarin_dagster.pipeline.pull.BATCH_KEYS", 1)

    def breaking(self: FolderLogStore, prefix: str, *more: Any, **options: Any) -> Any:
        if "2026-03-08" in prefix:
            raise LogStoreError("the folder is gone")
        return pages(self, prefix, *more, **options)

    monkeypatch.setattr(FolderLogStore, "pages", breaking)
    done = run("pull", "--json")

    with engine.connect() as connection:
        loaded = connection.scalar(sa.text("SELECT count(*) FROM s3_log_key"))
    assert (done.returncode, reported(done)["error"]) == (1, "the folder is gone")
    assert sum(day["keys"] for day in reported(done)["days"]) == loaded


def test_nothing_is_purged_and_each_command_says_why_while_the_archive_is_not_mounted(
    run: Run, put_key: Any, archive: Path, tmp_path: Path, log_folder: Path
) -> None:
    put_key(lines(3))
    put_key(lines(3), day="2026-03-06")
    assert run("pull", "--no-purge").returncode == 0
    archive.rename(tmp_path / "away")
    archive.mkdir()

    for command in (("purge", "--dry-run"), ("purge",), ("pull",)):
        done = run(*command, "--json")
        assert done.returncode == 1, command
        assert list(reported(done)["purged"]["archive_problems"]) == ["2026-03-05", "2026-03-06"]
        assert reported(done)["purged"]["keys"] == 0
        assert "bucket media, 2 delivery days, 2026-03-05 to 2026-03-06: nothing is purged: archive " in done.stderr
        assert done.stderr.count("owner.json is missing") == 1
    assert list(archive.iterdir()) == []
    assert len(list(log_folder.glob("logs/*"))) == 2


def test_an_archive_that_was_changed_in_the_settings_gets_the_records_before_a_purge(
    run: Run, put_key: Any, tmp_path: Path, log_folder: Path
) -> None:
    put_key(lines(3))
    assert run("pull", "--no-purge").returncode == 0
    other = str(tmp_path / "other")

    dry = run("purge", "--dry-run", "--json", TAMARIN_ARCHIVE=other)
    done = run("purge", "--json", TAMARIN_ARCHIVE=other)

    assert (reported(dry)["purged"]["keys"], reported(dry)["purged"]["waiting_keys"]) == (0, 1)
    assert "1 key waits for the archive" in dry.stderr
    assert (reported(done)["archived"]["rows"], reported(done)["purged"]["keys"]) == (3, 1)
    assert len(list(Path(other).rglob("*.parquet"))) == 1


def test_expire_drops_no_month_whose_keys_wait_for_the_archive(
    run: Run, put_key: Any, archive: Path, rows: Any
) -> None:
    """Marked as expired, they would never be archived or purged, since nothing can be proved of them any more."""
    put_key(lines(3, "05/Jan/2025:09:58:01 +0000"), day="2025-01-05")
    put_key(lines(2, "05/Feb/2025:09:58:01 +0000"), day="2025-02-05")
    put_key(lines(1, "05/Mar/2025:09:58:01 +0000"), day="2025-03-05")
    rows("SELECT 1")
    assert run("pull", "--from", "2025-01-01", "--no-purge").returncode == 0
    rows("UPDATE s3_log_key SET archived_at = NULL WHERE delivery_date = '2025-02-05'")
    keep = {"TAMARIN_RETENTION_MONTHS": "3"}

    dry = run("expire", "--dry-run", "--json", **keep)
    done = run("expire", "--json", **keep)

    assert done.returncode == 1
    assert [month["name"] for month in json.loads(dry.stdout)["partitions"]] == ["s3_log_record_2025_01"]
    assert [month["name"] for month in json.loads(done.stdout)["partitions"]] == ["s3_log_record_2025_01"]
    assert json.loads(done.stdout)["waiting_keys"] == {"media": 1}
    assert "1 log key of media is not in its archive yet, so no month from 2025-02 on is dropped" in done.stderr
    assert "pull --bucket media --from 2025-02-05 --to 2025-02-05" in done.stderr
    assert rows("SELECT count(*) FROM s3_log_record") == [(3,)]
    (expired,) = rows("SELECT count(*) FROM s3_log_key WHERE expired_at IS NOT NULL")[0]
    assert expired == 1

    assert run("pull", "--bucket", "media", "--from", "2025-02-05", "--to", "2025-02-05").returncode == 0
    assert run("expire", **keep).returncode == 0
    assert rows("SELECT count(*) FROM s3_log_record") == [(0,)]
    assert len(list(archive.rglob("*.parquet"))) == 3


def test_purged_keys_of_the_time_before_the_archive_are_archived_before_they_expire(
    run: Run, put_key: Any, archive: Path, rows: Any
) -> None:
    put_key(lines(3, "05/Jan/2025:09:58:01 +0000"), day="2025-01-05")
    run("pull", "--from", "2025-01-01")
    shutil.rmtree(archive)
    rows("UPDATE s3_log_key SET archived_at = NULL, archive_place = NULL")
    rows("TRUNCATE s3_archived_day")
    keep = {"TAMARIN_RETENTION_MONTHS": "3"}

    assert run("expire", **keep).returncode == 1
    assert run("pull", "--from", "2025-01-05", "--to", "2025-01-05").returncode == 0
    assert run("expire", **keep).returncode == 0
    assert (len(list(archive.rglob("*.parquet"))), rows("SELECT count(*) FROM s3_log_record")) == (1, [(0,)])


def test_buckets_shows_keys_that_wait_for_the_archive_and_not_as_to_purge(run: Run, put_key: Any, today: Any) -> None:
    put_key(lines(3))
    put_key(lines(2), day=str(today))
    put_key(lines(1), day=str(today))
    run("pull", "--no-purge", "--from", "2026-01-01")

    (state,) = json.loads(run("buckets", "--no-list", "--json").stdout)

    assert (state["to_purge_keys"], state["waiting_keys"]) == (1, 2)
    assert "2 wait" in run("buckets", "--no-list").stdout
    run("purge")
    (state,) = json.loads(run("buckets", "--no-list", "--json").stdout)
    assert (state["to_purge_keys"], state["waiting_keys"], state["purged_keys"]) == (0, 2, 1)


def test_the_doctor_looks_at_the_archive(run: Run, put_key: Any, archive: Path, tmp_path: Path, rows: Any) -> None:
    def found() -> dict[str, tuple[str, str]]:
        findings = json.loads(run("doctor", "--json").stdout)
        return {each["subject"]: (each["status"], each["text"]) for each in findings if "archive" in each["subject"]}

    assert found() == {"media: archive": ("ok", f"{archive} is created when the first day is archived")}
    put_key(lines(3))
    run("pull", "--no-purge")
    identity = str(rows("SELECT id FROM tamarin_database")[0][0])
    assert found() == {
        "media: archive": ("ok", f"{archive} belongs to this database, {identity}"),
        "media: archive writing": ("ok", "a file was written, read and deleted"),
        "media: archive days": (
            "ok",
            "delivery days in the archive: 1; the last 1 of them are unchanged; log keys that wait: 0",
        ),
    }
    assert sorted(path.name for path in (archive / "_archived/media").iterdir()) == ["2026-03-05.json", "owner.json"]
    record = archive / "_archived/media/2026-03-05.json"
    text = record.read_text()
    record.unlink()
    assert found()["media: archive days"][0] == "warn"
    record.write_text(text)
    rows("UPDATE tamarin_database SET id = gen_random_uuid()")
    (status, said) = found()["media: archive"]
    assert (status, f"database {identity} archives media there" in said) == ("fail", True)
    archive.rename(tmp_path / "away")
    (status, said) = found()["media: archive"]
    assert (status, "owner.json is missing" in said) == ("fail", True)
