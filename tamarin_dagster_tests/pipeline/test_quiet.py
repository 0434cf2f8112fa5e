"""Files that are still being written: a load and a deletion wait until they have been quiet."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from tamarin_dagster.cli import app
from tamarin_dagster.logstore import FolderLogStore
from tamarin_dagster.logstore.opening import open_log_store
from tamarin_dagster.operations.doctor.finding import Status
from tamarin_dagster.operations.doctor.folder_findings import examine_folder
from tamarin_dagster.operations.doctor.name_findings import NOTHING_KNOWN
from tamarin_dagster.pipeline import pull as pulling
from tamarin_dagster.pipeline.backlog import count_backlog
from tamarin_dagster.pipeline.discover import describe_waiting
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster.settings import load_settings
from tamarin_dagster_tests.lines import lines


@pytest.fixture
def config(tmp_path, database_url, monkeypatch, folder_bucket):
    """The settings of a folder, without quiet_seconds."""
    path = tmp_path / "tamarin.yaml"
    path.write_text(
        f"buckets: [{{name: media, log_bucket_name: '{folder_bucket.log_bucket_name}', log_prefix: logs/}}]\n"
    )
    monkeypatch.setenv("TAMARIN_CONFIG", str(path))
    monkeypatch.setenv("TAMARIN_DATABASE_URL", database_url)
    monkeypatch.delenv("TAMARIN_QUIET_SECONDS", raising=False)
    return path


@pytest.fixture
def put(log_folder, today):
    """put(number, age, count): put a log key of today that was written `age` seconds ago; return its name."""

    def put(number: int, age: float = 0, count: int = 2) -> str:
        key = f"logs/{today}-00-00-00-{number:016X}"
        path = log_folder / key
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(lines(count))
        os.utime(path, (time.time() - age,) * 2)
        return key

    return put


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300"})


def test_a_file_that_changed_within_a_minute_is_left_to_the_next_pull(config, put, rows, log_folder):
    old, new = put(1, age=61), put(2, age=30)
    done = run("pull", "--json", "--no-rollups")
    assert done.exit_code == 1
    assert (
        "1 file of bucket media changed less than 60 s ago; the next pull takes it; set quiet_seconds: 0 if it is"
        " complete" in done.stderr
    )
    ((day,),) = [bucket["days"] for bucket in json.loads(done.stdout)]
    assert [day[each] for each in ("listed", "keys", "waiting", "failures")] == [1, 1, 1, []]
    assert rows("SELECT key FROM s3_log_key") == [(old,)]
    assert [path.name for path in (log_folder / "logs").iterdir()] == [new.removeprefix("logs/")]
    os.utime(log_folder / new, (time.time() - 61,) * 2)
    done = run("pull", "--no-rollups")
    assert (done.exit_code, "changed less than" in done.stderr) == (0, False)
    assert rows("SELECT count(*), count(purged_at) FROM s3_log_key") == [(2, 2)]


def test_quiet_seconds_of_0_takes_what_is_known_to_be_complete(config, put, rows):
    put(1)
    config.write_text(config.read_text() + "quiet_seconds: 0\n")
    assert run("pull", "--no-rollups").exit_code == 0
    assert rows("SELECT count(*) FROM s3_log_key") == [(1,)]


def test_a_bucket_may_have_its_own_quiet_seconds(config):
    text = config.read_text().replace("log_prefix", "quiet_seconds: 5, log_prefix")
    for add, expected in (("", 5.0), ("quiet_seconds: 900\n", 5.0)):
        config.write_text(text + add)
        assert load_settings().bucket("media").quiet_seconds == expected
    config.write_text(text.replace("quiet_seconds: 5, ", "") + "quiet_seconds: 900\n")
    assert load_settings().bucket("media").quiet_seconds == 900
    config.write_text(text.replace("quiet_seconds: 5, ", ""))
    assert load_settings().bucket("media").quiet_seconds == 60
    with pytest.raises(ValidationError):
        load_settings().bucket("media").model_validate({"name": "media", "log_bucket_name": "x-y", "quiet_seconds": -1})


def test_a_key_in_s3_does_not_wait(s3_place, engine, today):
    """It is there as a whole or not at all."""
    bucket = s3_place.bucket.model_copy(update={"quiet_seconds": 60})
    s3_place.put(f"logs/{today}-00-00-00-{1:016X}", lines(2))
    pulled = pulling.pull_bucket(bucket, open_log_store(bucket), engine)
    assert [(day.keys, day.waiting) for day in pulled.periods] == [(1, 0)]


@pytest.mark.parametrize(
    ("mtime", "ctime", "quiet"),
    [
        (-61, -61, True),
        (-59, -59, False),
        # copied with its time, as cp -p and rsync do after it is complete
        (-86_400, -1, True),
        # a time in the future was set by somebody; the inode says when the file was really changed
        (86_400, -61, True),
        (86_400, -59, False),
        # a file server's clock that is ahead: waited for, but not forever
        (300, 300, False),
        (86_400, 86_400, True),
    ],
)
def test_a_file_is_quiet_when_it_was_last_changed_long_enough_ago(mtime, ctime, quiet):
    from tamarin_dagster.logstore.tree import is_quiet  # noqa: PLC0415

    now = 1_800_000_000.0
    found = os.stat_result((0o100644, 1, 1, 1, 0, 0, 5, 0, int(now + mtime), int(now + ctime)))
    assert is_quiet(found, 60, now) is quiet
    assert is_quiet(found, 0, now)


def test_a_file_that_is_still_fresh_is_not_deleted(put, folder_bucket, log_folder, engine, rows):
    """For example, it was loaded with quiet_seconds: 0; a later purge deletes it."""
    key = put(1)
    pulling.pull_bucket(folder_bucket, open_log_store(folder_bucket), engine)
    store = FolderLogStore(log_folder, folder_bucket.log_bucket_name, quiet_seconds=60)
    purged = purge_bucket(folder_bucket, store, engine)
    assert [failure.error for failure in purged.failures] == [
        "it was changed less than 60 s ago; a later purge deletes it"
    ]
    assert (log_folder / key).exists()
    assert purge_bucket(folder_bucket, open_log_store(folder_bucket), engine).keys == 1


def test_a_file_that_is_written_line_by_line_is_loaded_whole_and_once(put, folder_bucket, log_folder, engine, rows):
    """It was loaded and deleted at a line boundary; what was written after that was lost."""
    bucket = folder_bucket.model_copy(update={"quiet_seconds": 1})
    store = open_log_store(bucket)
    key = put(1, count=1)
    with (log_folder / key).open("ab", buffering=0) as file:
        for _ in range(4):
            file.write(lines(1))
            (period,) = pulling.pull_bucket(bucket, store, engine).periods
            assert (period.waiting, period.listed) == (1, 0)
            assert purge_bucket(bucket, store, engine).keys == 0
            time.sleep(0.3)
    time.sleep(1.1)
    (period,) = pulling.pull_bucket(bucket, store, engine).periods
    assert (period.waiting, period.records) == (0, 5)
    assert purge_bucket(bucket, store, engine).keys == 1
    assert rows("SELECT count(*) FROM s3_log_record") == [(5,)]


def test_buckets_doctor_and_mirror_mention_files_that_wait(
    config, put, folder_bucket, log_folder, engine, today, tmp_path
):
    put(1, age=61)
    put(2)
    put(3)
    bucket = load_settings().bucket("media")
    found = count_backlog(bucket, open_log_store(bucket), engine, today, today)
    assert (found.unloaded, found.listed, found.waiting) == (1, 1, 2)
    done = run("buckets", "--json")
    (state,) = json.loads(done.stdout)
    assert [state["unloaded"][each] for each in ("keys", "listed_keys", "waiting_files")] == [1, 1, 2]
    assert "2 waiting" in run("buckets").stdout
    examined = examine_folder(bucket, log_folder, open_log_store(bucket), NOTHING_KNOWN, purges=True)
    findings = {each.subject: each for each in examined}
    waiting = findings["media: quiet files"]
    assert (waiting.status, describe_waiting(bucket, 2) in str(waiting)) == (Status.warn, True)
    done = run("mirror", "--out", str(tmp_path / "copies"), "--json")
    (mirrored,) = json.loads(done.stdout)
    assert (done.exit_code, mirrored["keys"], mirrored["waiting"]) == (1, 1, 2)
    assert "2 files of bucket media changed less than 60 s ago; the next mirror takes them" in done.stderr


def test_demo_logs_can_be_pulled_at_once(config, log_folder, rows):
    """Their times are those in their names, and the newest one is old enough, even just after midnight."""
    done = run("demo-logs", "--lines", "300", "--keys", "30", "--days", "2", "--out", str(log_folder))
    assert done.exit_code == 0, done.output
    newest = max(path.stat().st_mtime for path in (log_folder / "logs").iterdir())
    assert datetime.fromtimestamp(newest, UTC) <= datetime.now(UTC) - timedelta(seconds=60)
    assert run("pull", "--no-rollups").exit_code == 0
    assert rows("SELECT count(*) FROM s3_log_record") == [(300,)]
