"""The place of a home's server files if the account that runs it for root cannot enter the home."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tamarin_dagster.recordstore.server import place as server_place
from tamarin_dagster.recordstore.server.account import server_account
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tamarin_dagster.recordstore.server.place import OWNER, POINTER, find_folder, has_cluster
from tamarin_dagster_tests.clusters import copy_data, give_cluster
from tamarin_dagster_tests.folders import make_short_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the account that replaces root")


@pytest.fixture
def base() -> Iterator[Path]:
    folder = make_short_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def closed(base: Path) -> Path:
    """Return a folder that only root may enter."""
    folder = base / "closed"
    folder.mkdir(0o700)
    return folder


@pytest.fixture
def state(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that replaces the one below /var/lib; it does not exist yet."""
    monkeypatch.setattr(server_place, "STATE_FOLDER", base / "lib/state")
    return base / "lib/state"


def modes(folder: Path) -> dict[Path, int]:
    """Return the modes of a folder, of all above it and of all in it."""
    return {path: stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.parents, *folder.rglob("*")]}


def keep_a_row(home: Path, value: int) -> Path:
    """Store a row in the home's database; return the folder of its server."""
    folder = find_folder(home)
    if folder.parent != home and not (folder / "data").exists():
        server_place.claim_folder(home, folder, server_account(folder / "data"))
        copy_data(folder)
    with EmbeddedPostgres(home) as server:
        run(server, f"CREATE TABLE kept AS SELECT {value} AS g")
        return server.folder


def kept(home: Path) -> list[tuple]:
    with EmbeddedPostgres(home) as server:
        return run(server, "SELECT g FROM kept")


def run(server: EmbeddedPostgres, statement: str) -> list[tuple]:
    with psycopg.connect(server.url("postgres", "postgresql"), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_as_root_nothing_above_a_home_is_opened_and_its_records_are_below_the_state_folder(
    closed: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All folders above the home were opened to every account of the machine."""
    before = modes(closed)
    home = closed / "project" / "home"
    url = EmbeddedPostgres(home).url("tamarin")
    with EmbeddedPostgres(home) as server:
        run(server, "CREATE TABLE kept AS SELECT 1 AS g")
        folder = server.folder
    assert {path: modes(closed)[path] for path in before} == before
    assert folder.parent == state
    assert folder.name.startswith("project-home-")
    assert (home / POINTER).read_text() == f"{folder}\n"
    assert (folder / OWNER).read_text() == f"{home}\n"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
    assert (folder / "data").stat().st_uid != 0
    assert sorted(path.name for path in home.iterdir()) == [POINTER]
    lines = [record.getMessage() for record in caplog.records if str(folder) in record.getMessage()]
    made = f"Made {folder} for the records of {home}, which the account of Postgres cannot reach"
    assert lines == [f"{made}; keep it, and remove it only with the home"]
    assert EmbeddedPostgres(home).url("tamarin") == url
    assert kept(home) == [(1,)]


@pytest.mark.slow
def test_a_home_that_can_be_reached_keeps_its_records_inside(base: Path, state: Path) -> None:
    assert keep_a_row(base / "home", 1) == base / "home/postgres"
    assert not (base / "home" / POINTER).exists()
    assert not state.exists()


def test_a_home_that_only_its_own_mode_closes_keeps_its_records_inside(base: Path, state: Path) -> None:
    (base / "home").mkdir(0o700)
    assert keep_a_row(base / "home", 1) == base / "home/postgres"
    assert stat.S_IMODE((base / "home").stat().st_mode) == 0o701
    assert not state.exists()


def test_the_records_stay_where_they_are_when_the_folders_above_are_opened_later(closed: Path, state: Path) -> None:
    folder = keep_a_row(closed / "home", 1)
    closed.chmod(0o755)
    assert kept(closed / "home") == [(1,)]
    assert find_folder(closed / "home") == folder


def test_records_in_a_home_that_can_no_longer_be_reached_are_not_replaced_by_an_empty_database(
    closed: Path, state: Path
) -> None:
    home = closed / "home of mine"
    give_cluster(home)
    with pytest.raises(EmbeddedPostgresError, match="root may not run Postgres") as raised:
        EmbeddedPostgres(home).ensure_running()
    assert f"chmod o+x {closed}`" in str(raised.value)
    assert not state.exists()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    closed.chmod(0o711)
    with EmbeddedPostgres(home) as server:
        assert server.folder == home / "postgres"


def test_a_moved_home_takes_its_records_along(closed: Path, state: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = keep_a_row(closed / "home", 1)
    (closed / "home").rename(closed / "moved")
    assert kept(closed / "moved") == [(1,)]
    assert (folder / OWNER).read_text() == f"{closed / 'moved'}\n"
    assert f"The home {closed / 'home'} was moved to {closed / 'moved'}: its records stay in {folder}" in caplog.text
    # Also to a folder that the account could reach.
    (closed / "moved").rename(closed.parent / "open")
    assert kept(closed.parent / "open") == [(1,)]


def test_a_home_may_be_moved_while_its_server_runs(closed: Path, state: Path) -> None:
    with EmbeddedPostgres(closed / "home") as server:
        run(server, "CREATE TABLE kept AS SELECT 1 AS g")
        (closed / "home").rename(closed / "moved")
        assert EmbeddedPostgres(closed / "moved").is_running()
        assert kept(closed / "moved") == [(1,)]
    assert not EmbeddedPostgres(closed / "moved").is_running()


def test_a_home_in_the_place_of_a_moved_one_gets_a_database_of_its_own(closed: Path, state: Path) -> None:
    first = keep_a_row(closed / "home", 1)
    (closed / "home").rename(closed / "moved")
    second = keep_a_row(closed / "home", 2)
    assert second == first.with_name(f"{first.name}-2")
    assert kept(closed / "moved") == [(1,)]
    assert kept(closed / "home") == [(2,)]


@pytest.mark.slow
def test_a_copied_home_shares_no_database_and_gets_no_empty_one_unasked(closed: Path, state: Path) -> None:
    home, copy = closed / "home", closed / "copy"
    keep_a_row(home, 1)
    subprocess.run(["cp", "-a", home, copy], check=True)
    with EmbeddedPostgres(home), pytest.raises(EmbeddedPostgresError, match=f"it is a copy of {home}") as raised:
        EmbeddedPostgres(copy)
    assert f"remove {copy / POINTER}" in str(raised.value)
    # As the message says.
    (copy / POINTER).unlink()
    assert keep_a_row(copy, 2) != find_folder(home)
    assert (kept(home), kept(copy)) == ([(1,)], [(2,)])


def test_a_copy_takes_the_records_over_once_the_first_home_is_gone_and_never_gives_them_back_unasked(
    closed: Path, state: Path
) -> None:
    """A home that was copied to another disk and then removed counts as moved."""
    home, copy = closed / "home", closed / "copy"
    keep_a_row(home, 1)
    subprocess.run(["cp", "-a", home, copy], check=True)
    home.rename(closed / "away")
    assert kept(copy) == [(1,)]
    (closed / "away").rename(home)
    with pytest.raises(EmbeddedPostgresError, match=f"it is a copy of {copy}"):
        EmbeddedPostgres(home)


def test_a_home_whose_folder_is_missing_says_so(closed: Path, state: Path) -> None:
    """In a container, for example, the home may be on a volume and the state folder not."""
    home = closed / "home"
    folder = keep_a_row(home, 1)
    folder.rename(closed / "away")
    with pytest.raises(EmbeddedPostgresError, match="which is missing") as raised:
        EmbeddedPostgres(home)
    assert str(folder) in str(raised.value)
    assert not folder.exists()
    (closed / "away").rename(folder)
    assert kept(home) == [(1,)]


def test_a_restored_folder_that_belongs_to_root_still_works(closed: Path, state: Path) -> None:
    home = closed / "home"
    folder = keep_a_row(home, 1)
    subprocess.run(["cp", "-r", folder, closed / "backup"], check=True)
    shutil.rmtree(folder)
    subprocess.run(["cp", "-r", closed / "backup", folder], check=True)
    assert (folder / "data").stat().st_uid == 0
    assert kept(home) == [(1,)]


@pytest.mark.slow
def test_a_home_with_two_databases_is_refused(closed: Path, state: Path) -> None:
    home = closed / "home"
    folder = keep_a_row(home, 1)
    give_cluster(home)
    with pytest.raises(EmbeddedPostgresError, match="there is a database in") as raised:
        EmbeddedPostgres(home)
    assert str(folder) in str(raised.value)


def test_a_removed_home_leaves_its_records_and_the_next_one_says_where_they_are(
    closed: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = closed / "home"
    first = keep_a_row(home, 1)
    shutil.rmtree(home)
    second = keep_a_row(home, 2)
    assert second != first
    assert f"{first} holds the database of an earlier home of this path" in caplog.text
    assert kept(home) == [(2,)]
    # A user who wants them back names them.
    shutil.rmtree(second)
    (home / POINTER).write_text(f"{first}\n")
    assert kept(home) == [(1,)]


@pytest.mark.parametrize("cut", ["folder", pytest.param(OWNER, marks=pytest.mark.slow)])
def test_a_start_that_was_cut_off_before_there_was_a_database_is_taken_up(closed: Path, state: Path, cut: str) -> None:
    home = closed / "home"
    folder = find_folder(home)
    folder.mkdir(parents=True)
    if cut == OWNER:
        (folder / OWNER).write_text(f"{home}\n")
    assert keep_a_row(home, 1) == folder


def test_commands_that_look_whether_there_is_a_database_find_it_elsewhere(closed: Path, state: Path) -> None:
    home = closed / "home"
    assert not has_cluster(home)
    keep_a_row(home, 1)
    assert has_cluster(home)


@pytest.mark.slow
def test_programs_that_the_account_cannot_reach_are_copied_beside_the_records(
    closed: Path, state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The environment of a project below /root is as closed as its home."""
    installed = EmbeddedPostgres(closed / "home").bin_dir.parents[1]
    package = closed / "site-packages" / installed.name
    shutil.copytree(installed, package, symlinks=True)
    libraries = installed.with_name(f"{installed.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, package.with_name(libraries.name))
    monkeypatch.setattr(EmbeddedPostgres, "bin_dir", property(lambda _: package / "pginstall/bin"))
    before = modes(package)
    folder = keep_a_row(closed / "home", 1)
    assert modes(package) == before
    assert "Copied the programs of Postgres" in caplog.text
    (first,) = (folder / "programs").iterdir()
    # The programs differ after an upgrade.
    os.utime(package / "pginstall/bin/postgres", (1, 1))
    assert kept(closed / "home") == [(1,)]
    (second,) = (folder / "programs").iterdir()
    assert second != first


@pytest.mark.slow
def test_make_dev_and_other_commands_as_root_put_the_records_below_var_lib(closed: Path) -> None:
    """The real folder of the system, with the real command."""
    assert str(server_place.STATE_FOLDER).startswith("/var/")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAMARIN_")}
    command = [sys.executable, "-m", "tamarin_dagster.cli"]
    said = []
    try:
        for arguments in (["migrate"], ["sql", "SELECT count(*) AS n FROM s3_log_record"], ["doctor"]):
            done = subprocess.run(
                [*command, *arguments], cwd=closed, env=environment, capture_output=True, text=True, check=False
            )
            said.append(done.stdout + done.stderr)
        (home,) = closed.glob(".tamarin*")
        folder = Path((home / POINTER).read_text().strip())
        assert folder.parent == server_place.STATE_FOLDER
        assert said[0].count(f"Made {folder}") == 1
        assert not any("Made" in text for text in said[1:])
        assert "0" in said[1].split()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        for pointer in closed.glob(f".tamarin*/{POINTER}"):
            shutil.rmtree(pointer.read_text().strip())


# Root first: the interpreter may be in a folder that no other account can enter; after this it has all it needs.
ORDINARY = """
import os, pwd, sys
from pathlib import Path
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
root, ordinary = map(Path, sys.argv[1:])
with EmbeddedPostgres(root):
    pass
account = pwd.getpwnam("nobody")
os.chown(ordinary.parent, account.pw_uid, account.pw_gid)
os.setgroups([]), os.setgid(account.pw_gid), os.setuid(account.pw_uid)
with EmbeddedPostgres(ordinary) as server:
    print(server.folder, server.is_running())
"""


@pytest.mark.slow
def test_an_ordinary_account_has_its_records_in_its_home_which_stays_closed(base: Path, closed: Path) -> None:
    give_cluster(base / "home")
    command = [sys.executable, "-c", ORDINARY, str(base / "home"), str(closed / "home")]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{closed / 'home/postgres'} True\n", "")
    assert {modes(closed)[each] for each in (closed, closed / "home", closed / "home/postgres")} == {0o700}
