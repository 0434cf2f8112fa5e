"""Homes: the demo has its own, our tools destroy none, and only the owner can read what is in them."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tamarin_dagster.analytics.report import Month, write_report
from tamarin_dagster.logstore.archiving import FolderArchive
from tamarin_dagster.logstore.copies import Copies
from tamarin_dagster.operations import dev
from tamarin_dagster.private_files import make_home, write_whole_file
from tamarin_dagster.settings import Settings, SettingsError, load_settings
from tamarin_dagster_tests.docs.blocks import PAGES
from tamarin_dagster_tests.lines import lines

PROJECT = Path(__file__).parents[2]
BUCKETS = "buckets: [{name: media, log_bucket_name: my-logs}]\n"


@pytest.fixture
def home_of(tmp_path, monkeypatch):
    """home_of(text, …): return the home in use with these settings, below the folder of their file."""

    def home_of(text: str, *, for_demo: bool = False, **environment: str) -> str:
        (tmp_path / "tamarin.yaml").write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            home = load_settings(tmp_path / "tamarin.yaml", for_demo=for_demo).home
        return str(home.relative_to(tmp_path))

    return home_of


def set_up_demo(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "demo.yaml").write_text(
        f"home: {home}\nbuckets: [{{name: media-example-org, log_bucket_name: media-example-org-logs}}]\n"
    )


@pytest.mark.parametrize(
    ("text", "environment", "own", "demo"),
    [
        ("", {}, ".tamarin", ".tamarin-demo"),
        ("home: state\n", {}, "state", "state/demo"),
        ("", {"TAMARIN_HOME": "state"}, "state", "state/demo"),
        ("home: .tamarin\n", {}, ".tamarin", ".tamarin/demo"),
    ],
)
def test_the_demo_and_real_buckets_never_share_a_home(home_of, tmp_path, text, environment, own, demo) -> None:
    assert home_of(text, **environment) == own, "no demo was ever set up here"
    assert home_of(text, for_demo=True, **environment) == demo
    set_up_demo(tmp_path / demo)
    assert home_of(text, **environment) == demo, "every other command sees the demo"
    assert home_of(text + BUCKETS, **environment) == own
    assert home_of(text + BUCKETS, for_demo=True, **environment) == own
    assert (tmp_path / demo / "demo.yaml").exists()


def test_a_home_with_records_of_an_earlier_demo_stays_and_real_buckets_keep_it(home_of, tmp_path) -> None:
    """An earlier version wrote the demo's settings and records into the default home."""
    set_up_demo(tmp_path / ".tamarin")
    assert home_of("") == ".tamarin"
    assert home_of(BUCKETS) == ".tamarin"
    assert home_of("", for_demo=True) == ".tamarin-demo"


def test_buckets_of_ones_own_are_refused_in_the_demos_home_and_the_demo_itself_is_not(home_of, tmp_path) -> None:
    demo = tmp_path / ".tamarin-demo"
    set_up_demo(demo)
    with pytest.raises(SettingsError, match=r"is the demo's home; set another home for your own buckets"):
        home_of("home: .tamarin-demo\n" + BUCKETS)
    assert load_settings(demo / "demo.yaml").home == demo


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_home_that_may_not_be_entered_is_no_demos(home_of, tmp_path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o000)
    assert home_of("home: closed\n") == "closed"


@pytest.fixture
def said(tmp_path, database_url):
    """said("buckets", …): run a command in `tmp_path`; return (status, standard output, standard error)."""

    def said(*arguments: str, **environment: str) -> tuple[int, str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TAMARIN_", "AWS_"))}
        done = subprocess.run(
            [sys.executable, "-m", "tamarin_dagster.cli", *arguments],
            cwd=tmp_path,
            env=clean | {"TAMARIN_DATABASE_URL": database_url} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return said


@pytest.mark.slow
def test_a_command_works_on_the_demo_and_says_so_until_a_bucket_is_configured(said, tmp_path, s3_endpoint, s3) -> None:
    """In a second terminal, `doctor`, `hogs` and `buckets` did not find the demo that `make dev` ran."""
    s3.create_bucket(Bucket="demo-logs")
    s3.put_object(Bucket="demo-logs", Key="logs/2026-03-05-10-00-00-000000000000AAAA", Body=lines(2))
    home = tmp_path / ".tamarin-demo"
    home.mkdir()
    entry = {"name": "media-example-org", "log_bucket_name": "demo-logs", "log_prefix": "logs/", "region": "us-east-1"}
    written = {"home": str(home), "buckets": [entry | {"endpoint_url": s3_endpoint, "start_date": "2026-03-01"}]}
    (home / "demo.yaml").write_text(json.dumps(written))
    line = f"No bucket is configured: this is the demo ({home / 'demo.yaml'}).\n"

    status, _, reported = said("pull", "--no-purge")
    assert (status, reported.startswith(line)) == (0, True), reported
    assert "media-example-org: 1 key loaded" in reported
    status, shown, reported = said("buckets", "--json", TAMARIN_HOME="")
    assert (status, reported.startswith(line)) == (0, True)
    assert [(each["bucket"], each["records"], each["unloaded"]["keys"]) for each in json.loads(shown)] == [
        ("media-example-org", 2, 0)
    ]
    assert said("hogs")[2].startswith(line)
    status, shown, reported = said("sql", "SELECT count(*) FROM s3_log_record", "--format", "csv")
    assert (status, shown, reported.startswith(line)) == (0, "count\n2\n", True)
    assert said("sql", "SELECT 1", TAMARIN_CONFIG=str(home / "demo.yaml"))[2] == "", "asked for by name"

    (tmp_path / "tamarin.yaml").write_text(BUCKETS)
    status, shown, reported = said("buckets", "--json", "--no-list")
    assert (status, reported) == (0, "")
    assert [each["bucket"] for each in json.loads(shown) if each["is_configured"]] == ["media"]
    assert said("demo")[0] == 2


@pytest.mark.slow
def test_a_demo_that_does_not_run_is_said_to_and_how_to_start_it(said, tmp_path) -> None:
    set_up_demo(tmp_path / ".tamarin-demo")
    config = tmp_path / ".tamarin-demo" / "demo.yaml"
    config.write_text(config.read_text().replace("-logs}", "-logs, endpoint_url: 'http://127.0.0.1:9'}"))

    status, _, reported = said("buckets", "--no-list")

    assert status == 0
    assert reported.startswith(
        f"No bucket is configured: this is the demo ({config}). It is not running: start it with"
        " `tamarin-dagster demo`.\n"
    )


REMOVES = re.compile(r"\b(?:rm|rmdir|unlink|rmtree|shred)\b[^\n]*")
HOMES = re.compile(r"\.tamarin\b|TAMARIN_HOME|tamarin-demo|\bhome\b|/var/lib/tamarin")


def test_no_target_no_script_and_no_page_removes_a_home() -> None:
    """`.ci/run` began with `rm -rf .venv .tamarin`, and the tutorial asked people to run `rm -r .tamarin`."""
    files = [*PAGES, "Makefile", ".ci/run", "CHANGELOG.md"]
    files += [str(path.relative_to(PROJECT)) for path in (PROJECT / "deploy").rglob("*") if path.is_file()]
    removals = [
        f"{name}: {found}"
        for name in files
        for found in REMOVES.findall((PROJECT / name).read_text("utf-8"))
        if HOMES.search(found)
    ]
    assert removals == []
    script = (PROJECT / ".ci/run").read_text()
    assert REMOVES.findall(script) == ['rm -rf "$work"\' EXIT'], "its own temporary folder"
    assert re.search(r"^work=\$\(mktemp -d\)$", script, re.MULTILINE)
    assert re.search(r'^export TAMARIN_HOME="\$work/home"$', script, re.MULTILINE)


def test_make_clean_touches_no_home(tmp_path) -> None:
    kept = [tmp_path / name for name in (".tamarin", ".tamarin-demo")]
    for home in kept:
        (home / "postgres").mkdir(parents=True)
    (tmp_path / ".venv").mkdir()
    subprocess.run(["make", "-f", PROJECT / "Makefile", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert sorted(tmp_path.iterdir()) == kept


def modes(folder: Path) -> dict[str, str]:
    """Return the mode of each file and folder below."""
    return {str(path.relative_to(folder)): f"{stat.S_IMODE(path.stat().st_mode):03o}" for path in folder.rglob("*")}


@pytest.fixture(params=[0o000, 0o022, 0o277], ids=lambda mask: f"umask {mask:03o}")
def allowed(request):
    """allowed(mode): return the part of the mode that the umask permits."""
    before = os.umask(request.param)
    yield lambda mode: f"{mode & ~request.param:03o}"
    os.umask(before)


def test_a_file_for_a_user_is_never_more_open_than_600_and_its_folders_than_700(tmp_path, allowed) -> None:
    if os.geteuid() and allowed(0o700) == "500":
        pytest.skip("in a folder that may not be written to nothing is made")
    with write_whole_file(tmp_path / "a" / "b" / "file") as file:
        file.write(b"192.0.2.3")
    assert modes(tmp_path) == {"a": allowed(0o700), "a/b": allowed(0o700), "a/b/file": allowed(0o600)}


def test_a_file_that_was_open_is_the_owners_alone_once_it_is_written_again(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o644)
    tmp_path.chmod(0o755)
    with write_whole_file(tmp_path / "file") as file:
        file.write(b"new")
    assert modes(tmp_path) == {"file": "600"}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755, "a folder that was there keeps its mode"


def test_an_archive_a_report_and_a_mirror_are_the_owners_alone(tmp_path, engine) -> None:
    before = os.umask(0)
    try:
        with FolderArchive(str(tmp_path / "archive")).writing("bucket=media/part-0.parquet") as file:
            file.write(b"x")
        write_report(engine, "media", Month(2026, 3), tmp_path / "reports" / "media.html")
        with Copies(tmp_path / "mirror"):
            pass
    finally:
        os.umask(before)
    found = modes(tmp_path)
    assert {"archive/bucket=media/part-0.parquet", "reports/media.html", "mirror/.tamarin-mirror/index.sqlite"} < set(
        found
    )
    assert {
        name: mode for name, mode in found.items() if mode != ("700" if (tmp_path / name).is_dir() else "600")
    } == {}


def test_a_home_lets_nobody_look_into_it(tmp_path) -> None:
    """The account that runs Postgres passes through root's home, because Postgres refuses to run as root."""
    before = os.umask(0)
    try:
        make_home(tmp_path / "a" / "home")
        folder = dev._dagster_home(Settings(home=tmp_path / "a" / "home"))
    finally:
        os.umask(before)
    expected = "711" if os.geteuid() == 0 else "700"
    assert modes(tmp_path) == {
        "a": expected,
        "a/home": expected,
        "a/home/dagster": "700",
        "a/home/dagster/dagster.yaml": "600",
    }
    assert folder == tmp_path / "a" / "home" / "dagster"
