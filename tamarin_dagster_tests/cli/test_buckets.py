"""The command buckets: the settings, with what the ledger and the log buckets know of them."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from tamarin_dagster.cli import app
from tamarin_dagster.pipeline import backlog
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster_tests.lines import lines


@pytest.fixture
def configured(tmp_path, database_url, monkeypatch, folder_bucket, s3_logged_bucket, engine):
    """Make a folder whose log keys are purged, a bucket in S3 whose keys stay, and a log bucket that does not exist."""
    config = tmp_path / "tamarin.yaml"
    config.write_text(
        "buckets:\n"
        f"- {{name: media, log_bucket_name: '{folder_bucket.log_bucket_name}', log_prefix: logs/,"
        " start_date: 2026-01-01}\n"
        f"- {{name: films, log_bucket_name: {s3_logged_bucket.log_bucket_name}, log_prefix: logs/,"
        f" start_date: 2026-01-01, endpoint_url: '{s3_logged_bucket.endpoint_url}', purge_parsed_keys: false,"
        " monitor_bucket: false}\n"
        f"- {{name: gone, log_bucket_name: nowhere-at-all, endpoint_url: '{s3_logged_bucket.endpoint_url}'}}\n"
    )
    monkeypatch.setenv("TAMARIN_CONFIG", str(config))
    monkeypatch.setenv("TAMARIN_DATABASE_URL", database_url)
    return config


@pytest.fixture
def states():
    """Return states("--no-list", …), which returns the exit status, and the JSON by bucket."""

    def states(*arguments: str):
        done = CliRunner().invoke(app, ["buckets", "--json", *arguments])
        return done.exit_code, {state["bucket"]: state for state in json.loads(done.stdout)}

    return states


def test_each_bucket_is_shown_with_its_state_and_one_that_fails_disturbs_no_other(
    configured, folder_bucket, folder_place, s3_place, put_key, engine, rows, states
):
    put_key(lines(3), day="2026-03-04")
    newest = put_key(lines(4) + b"no record\n", day="2026-03-05", time="10-30-00", suffix=".gz")
    put_key(lines(2), day="2026-03-05", time="10-00-00")
    pull_bucket(folder_bucket, folder_place.store, engine, first=folder_bucket.start_date)
    put_key(lines(1), day="2026-03-06")
    s3_place.put("logs/2026-03-05-10-00-00-0123456789ABCDEF", lines(1))
    s3_place.put("logs/2026-03-05-11-00-00-0123456789ABCDEF", lines(1))

    status, found = states()

    assert status == 1
    media, films, gone = found["media"], found["films"], found["gone"]
    assert [media[name] for name in ("loaded_keys", "records", "rejected_lines", "to_purge_keys")] == [3, 9, 1, 2]
    assert media["last_key"]["key"] == newest
    assert media["last_key"]["delivered_at"] == "2026-03-05T10:30:00Z"
    assert [media["unloaded"][name] for name in ("keys", "listed_keys", "is_complete")] == [1, 4, True]
    assert [media[name] for name in ("is_configured", "monitored", "purges", "error")] == [True, True, True, None]
    assert [films["unloaded"][name] for name in ("keys", "listed_keys", "is_complete")] == [2, 2, True]
    assert [films[name] for name in ("loaded_keys", "last_key", "monitored", "purges")] == [0, None, False, False]
    assert (gone["unloaded"], gone["loaded_keys"]) == (None, 0)
    assert "there is no such bucket; check log_bucket_name" in gone["error"]


def test_a_table_of_80_columns_holds_it_all(configured, folder_bucket, folder_place, put_key, engine):
    put_key(lines(3))
    pull_bucket(folder_bucket, folder_place.store, engine, first=folder_bucket.start_date)

    done = CliRunner().invoke(app, ["buckets", "--bucket", "media"])

    assert done.exit_code == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines() if line.strip()][:2] == [
        ["Bucket", "Last", "key", "Keys", "Not", "loaded", "Rejected", "To", "purge"],
        ["its", "log", "keys", "(UTC)", "records", "keys", "lines", "failing"],
    ]
    cells = [word for line in done.stdout.splitlines() for word in line.split()]
    assert cells[cells.index("media") :][:6] == ["media", "2026-03-05", "1", "0", "0", "1"]
    assert "monitored, purged" in done.stdout


def test_without_listing_the_database_alone_is_asked(configured, states):
    status, found = states("--no-list")

    assert status == 0
    assert {state["unloaded"] for state in found.values()} == {None}
    assert {state["error"] for state in found.values()} == {None}


def test_a_bucket_that_the_settings_no_longer_name_is_shown_as_long_as_the_ledger_knows_it(
    configured, folder_bucket, folder_place, put_key, engine, states
):
    put_key(lines(3))
    pull_bucket(folder_bucket, folder_place.store, engine, first=folder_bucket.start_date)
    configured.write_text(configured.read_text().replace("name: media", "name: renamed"))

    _, found = states("--no-list")
    status, alone = states("--bucket", "media")

    assert [found["media"][name] for name in ("is_configured", "loaded_keys", "records", "purges")] == [
        False,
        1,
        3,
        False,
    ]
    assert (found["renamed"]["is_configured"], found["renamed"]["loaded_keys"]) == (True, 0)
    assert (status, list(alone)) == (0, ["media"])


def test_deletions_that_fail_and_keys_that_expired_or_were_superseded_are_told_apart(
    configured, folder_bucket, folder_place, put_key, engine, rows, states
):
    keys = [put_key(lines(2)) for _ in range(5)]
    pull_bucket(folder_bucket, folder_place.store, engine, first=folder_bucket.start_date)
    rows("UPDATE s3_log_key SET purge_failed_at = now(), purge_error = 'denied' WHERE key = :key", key=keys[0])
    rows("UPDATE s3_log_key SET expired_at = now(), purge_failed_at = now() WHERE key = :key", key=keys[1])
    rows("UPDATE s3_log_key SET superseded_at = now() WHERE key = :key", key=keys[2])
    rows("UPDATE s3_log_key SET purged_at = now() WHERE key = :key", key=keys[3])

    _, found = states("--no-list")

    media = found["media"]
    names = ("loaded_keys", "records", "purged_keys", "expired_keys", "to_purge_keys", "failing_purge_keys")
    assert [media[name] for name in names] == [4, 8, 1, 1, 2, 1]


def test_keys_with_rejected_lines_are_to_be_purged_if_the_settings_say_so(
    configured, folder_bucket, folder_place, put_key, engine, states, monkeypatch
):
    put_key(lines(2))
    put_key(b"no record\n")
    pull_bucket(folder_bucket, folder_place.store, engine, first=folder_bucket.start_date)

    assert states("--no-list")[1]["media"]["to_purge_keys"] == 1
    monkeypatch.setenv("TAMARIN_PURGE_REJECTED", "true")
    assert states("--no-list")[1]["media"]["to_purge_keys"] == 2


def test_a_look_ends_when_its_time_is_up_and_says_that_there_may_be_more(folder_bucket, folder_place, put_key, engine):
    """If nothing is purged, a log bucket holds millions of keys, and listing all would take many minutes."""
    for day in ("2026-01-02", "2026-01-03", "2026-03-04", "2026-03-05"):
        put_key(lines(1), day=day)
    first, last = folder_bucket.start_date, datetime(2026, 3, 5, tzinfo=UTC).date()

    def look(steps: int) -> backlog.Backlog:
        """Let a second pass at each look at the clock."""
        ticks = iter(range(1000))
        return backlog.count_backlog(
            folder_bucket, folder_place.store, engine, first, last, seconds=steps, clock=lambda: float(next(ticks))
        )

    newest, some, all_ = look(1), look(10), look(100)

    assert (newest.unloaded, newest.is_complete) == (1, False)
    assert (some.unloaded, some.is_complete) == (3, False)
    assert (all_.unloaded, all_.listed, all_.is_complete) == (4, 4, True)


def test_a_look_that_was_cut_short_is_shown_as_at_least(configured, put_key, monkeypatch):
    put_key(lines(1), day=datetime.now(UTC).date().isoformat())
    monkeypatch.setattr(backlog, "LOOK_SECONDS", -1.0)

    done = CliRunner().invoke(app, ["buckets", "--bucket", "media"])

    assert done.exit_code == 0
    assert "at least" in done.stdout
