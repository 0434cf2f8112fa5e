"""Fail points: armed by a text, passed by nth, without effect and almost without cost when not armed."""

import subprocess
import sys
import time

import pytest

from tamarin_dagster import failpoints
from tamarin_dagster.failpoints import FailPoint, FailPointError, arm, hit
from tamarin_dagster.logstore.archiving import FolderArchive
from tamarin_dagster.pipeline.archive import archive_bucket
from tamarin_dagster.pipeline.pull import pull_bucket
from tamarin_dagster.pipeline.purge import purge_bucket
from tamarin_dagster_tests.lines import lines


@pytest.fixture(autouse=True)
def disarmed():
    yield
    arm("")


def test_what_is_not_armed_does_nothing():
    for point in FailPoint:
        hit(point)


def test_it_strikes_at_its_nth_passing_and_only_then():
    arm("copy.before:raise:3")
    hit(FailPoint.COPY_BEFORE)
    hit(FailPoint.COPY_AFTER)
    hit(FailPoint.COPY_BEFORE)
    with pytest.raises(FailPointError, match=r"copy\.before"):
        hit(FailPoint.COPY_BEFORE)
    hit(FailPoint.COPY_BEFORE)


def test_it_sleeps(monkeypatch):
    monkeypatch.setattr(failpoints, "SLEEP_SECONDS", 0.2)
    arm("list.after:sleep,parse.before:raise")
    started = time.monotonic()
    hit(FailPoint.LIST_AFTER)
    assert time.monotonic() - started >= 0.2
    with pytest.raises(FailPointError):
        hit(FailPoint.PARSE_BEFORE)


def test_the_environment_arms_it_and_kill_is_kill_9():
    program = (
        "from tamarin_dagster.failpoints import FailPoint, hit; hit(FailPoint.COMMIT_AFTER); print('alive')\n"
        "hit(FailPoint.COMMIT_BEFORE); print('still')"
    )
    environment = {"TAMARIN_FAILPOINT": "commit.before:kill"}
    done = subprocess.run([sys.executable, "-uc", program], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-9, b"alive\n")


@pytest.mark.parametrize("text", ["nowhere:kill", "copy.before", "copy.before:explode", "copy.before:kill:soon"])
def test_a_wrong_text_is_an_error_that_names_what_is_right(text):
    with pytest.raises(ValueError, match=r"TAMARIN_FAILPOINT: .* names are list.before, .* actions kill, raise, sleep"):
        arm(text)


def test_a_pull_an_archiving_and_a_purge_come_by_every_place(place, engine, monkeypatch, tmp_path):
    """Otherwise a row of the matrix would kill nothing, and prove nothing."""
    passed = []
    monkeypatch.setattr(failpoints, "_armed", {"some": "thing"})
    monkeypatch.setattr(failpoints, "_pass", passed.append)
    place.put("logs/2026-03-05-10-00-00-0000000000000001", lines(2))
    pull_bucket(place.bucket, place.store, engine)
    kept = FolderArchive(str(tmp_path / "archive"))
    archive_bucket(place.bucket, kept, engine)
    purge_bucket(place.bucket, place.store, engine, archive=kept)
    assert set(passed) == {point for point in FailPoint if not point.is_of_lake}
